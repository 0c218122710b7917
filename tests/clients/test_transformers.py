"""transformers' Trainer with ``optimizers=(ours, our scheduler)``."""

import pytest
import torch
from torch import nn

from tests.clients.common import (
    BATCH,
    EPOCHS,
    SAMPLES,
    STEPS,
    Ours,
    Torchs,
    data,
    model,
    rates,
    same,
    schedule_free,
    watch_rates,
    weights,
)  # fmt: skip

transformers = pytest.importorskip("transformers")


class Task(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = model()

    def forward(self, x, labels):
        logits = self.net(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Samples(torch.utils.data.Dataset):
    def __init__(self):
        self.x, self.y = data()

    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        return {"x": self.x[index], "labels": self.y[index]}


def trainer(folder, task, optimizers, **kw):
    given = {
        "num_train_epochs": EPOCHS, "per_device_train_batch_size": BATCH, "use_cpu": True, "report_to": [],
        "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no", "seed": 3,
    }  # fmt: skip
    args = transformers.TrainingArguments(str(folder), **{**given, **kw})
    return transformers.Trainer(task, args, train_dataset=Samples(), optimizers=optimizers)


@pytest.mark.parametrize("kw", [{}, {"max_grad_norm": 0.1}, {"gradient_accumulation_steps": 2}], ids=str)
def test_the_trainer_ends_where_it_does_with_torchs_and_steps_the_schedule_once_a_step(tmp_path, kw):
    steps, ends = STEPS // kw.get("gradient_accumulation_steps", 1), []
    for side in (Ours, Torchs):
        task = Task()
        optimizer = side.optimizer(task.parameters())
        seen = watch_rates(optimizer)
        trainer(tmp_path, task, (optimizer, side.scheduler(optimizer, steps)), **kw).train()
        assert seen == pytest.approx(rates(steps))
        ends.append(weights(task))
    same(*ends)


def test_a_checkpoint_goes_on_where_it_was(tmp_path):
    def run(resume=None, **kw):
        task = Task()
        optimizer = Ours.optimizer(task.parameters())
        seen = watch_rates(optimizer)
        run = trainer(tmp_path, task, (optimizer, Ours.scheduler(optimizer)), **kw)
        run.train(resume_from_checkpoint=resume)
        return weights(task), seen

    whole, _ = run(save_strategy="steps", save_steps=STEPS // 2)
    resumed, seen = run(resume=str(tmp_path / f"checkpoint-{STEPS // 2}"))
    assert seen == pytest.approx(rates()[STEPS // 2 :])
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))


def test_schedule_free_is_switched_by_the_trainer(tmp_path):
    task = Task()
    optimizer = schedule_free(task.parameters())
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    before = weights(task)
    trainer(tmp_path, task, (optimizer, constant)).train()
    assert optimizer.param_groups[0]["k"] == STEPS
    assert optimizer.param_groups[0]["train_mode"]
    optimizer.eval()
    x, y = data()
    task.eval()
    after = nn.functional.cross_entropy(task.net(x), y)
    for p, value in zip(task.parameters(), before, strict=True):
        p.data = value
    assert after < 0.8 * nn.functional.cross_entropy(task.net(x), y)
