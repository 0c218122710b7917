"""Lightning's Trainer with our optimizer and our scheduler passed in."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tests.clients.common import (
    BATCH,
    EPOCHS,
    STEPS,
    Ours,
    Torchs,
    data,
    model,
    plain_schedule_free,
    rates,
    same,
    schedule_free,
    watch_rates,
    weights,
)  # fmt: skip

lightning = pytest.importorskip("lightning")


class Module(lightning.LightningModule):
    def __init__(self, side):
        super().__init__()
        self.net, self.side = model(), side

    def training_step(self, batch, index):
        x, y = batch
        return torch.nn.functional.cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        optimizer = self.side.optimizer(self.parameters())
        self.seen = watch_rates(optimizer)
        scheduler = {"scheduler": self.side.scheduler(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


class ScheduleFree(Module):
    """As Schedule-Free's authors ask: train() before training, eval() before evaluating and saving."""

    def configure_optimizers(self):
        return schedule_free(self.parameters())

    def on_train_epoch_start(self):
        self.optimizers().train()

    def on_train_end(self):
        self.optimizers().eval()


def loader():
    return DataLoader(TensorDataset(*data()), batch_size=BATCH)


def trainer(folder, epochs=EPOCHS, **kw):
    return lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, **kw,
    )  # fmt: skip


@pytest.mark.parametrize("kw", [{}, {"gradient_clip_val": 0.1}, {"precision": "bf16-mixed"}], ids=str)
def test_the_trainer_ends_where_it_does_with_torchs_and_steps_the_schedule_once_a_step(tmp_path, kw):
    ends = []
    for side in (Ours, Torchs):
        module = Module(side)
        trainer(tmp_path, **kw).fit(module, loader())
        assert module.seen == pytest.approx(rates())
        ends.append(weights(module))
    same(*ends)


def test_accumulated_batches_are_one_step_of_the_schedule(tmp_path):
    module = Module(Ours)
    run = trainer(tmp_path, accumulate_grad_batches=2)
    run.fit(module, loader())
    assert run.global_step == STEPS // 2
    assert module.seen == pytest.approx(rates()[: STEPS // 2])


def test_a_checkpoint_goes_on_bit_for_bit(tmp_path):
    whole = Module(Ours)
    trainer(tmp_path).fit(whole, loader())
    first = trainer(tmp_path, epochs=1)
    first.fit(Module(Ours), loader())
    first.save_checkpoint(tmp_path / "first.ckpt")
    second = Module(Ours)
    trainer(tmp_path).fit(second, loader(), ckpt_path=tmp_path / "first.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))
    assert second.seen == pytest.approx(rates()[STEPS // EPOCHS :])


def test_schedule_free_ends_at_the_average_of_a_plain_loop(tmp_path):
    module = ScheduleFree(Ours)
    trainer(tmp_path).fit(module, loader())
    same(weights(module), plain_schedule_free())
