"""The doctor inside other packages' loops: silent on healthy ones, and the user's own line on sick ones."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import kudari.doctor

ROWS, HELD_OUT, FEATURES, CLASSES, BATCH, EPOCHS = 320, 96, 8, 3, 16, 5


class Net(nn.Module):
    """A classifier with what the modes switch."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(FEATURES, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x):
        return self.head(self.body(x))


class Squashed(Net):
    """The same with a softmax that cross-entropy does not expect."""

    def forward(self, x):
        return torch.softmax(super().forward(x), 1)


class Listed(Net):
    """Layers in a list of Python's, which no optimizer is given."""

    def __init__(self):
        super().__init__()
        self.more = [nn.Linear(FEATURES, FEATURES)]

    def forward(self, x):
        return super().forward(self.more[0](x))


def rows(begin, end):
    gen = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS + HELD_OUT, FEATURES, generator=gen)
    y = (x[:, :CLASSES] + 0.3 * torch.randn(ROWS + HELD_OUT, CLASSES, generator=gen)).argmax(1)
    return x[begin:end], y[begin:end]


def loaders():
    torch.manual_seed(0)
    train, held_out = TensorDataset(*rows(0, ROWS)), TensorDataset(*rows(ROWS, None))
    return DataLoader(train, BATCH, shuffle=True), DataLoader(held_out, 2 * BATCH)


def loud(doctor):
    assert doctor.run.stream.failures == []
    return [f for f in doctor.findings if f.severity != "note" and f.suppressed_by is None]


def found(doctor):
    return [f.fault for f in loud(doctor)]


def line_of(finding):
    assert finding.file == __file__
    return Path(__file__).read_text().splitlines()[finding.line - 1].strip()


# -- Lightning ------------------------------------------------------------------------------------


def lightning_fit(net, folder, lr=1e-2, **kw):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, index):
            x, y = batch
            loss = nn.functional.cross_entropy(self(x), y)
            self.log("loss", loss)
            return loss

        def validation_step(self, batch, index):
            x, y = batch
            scores = self(x)
            self.log("val_loss", nn.functional.cross_entropy(scores, y))
            self.log("val_acc", (scores.argmax(1) == y).float().mean())

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=lr, momentum=0.9)
            scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
            return {"optimizer": optimizer, "lr_scheduler": scheduler}

    trainer = lightning.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, **kw,
    )  # fmt: skip
    with kudari.doctor.watch() as doctor:
        trainer.fit(Module(), *loaders())
    return doctor


@pytest.mark.parametrize(
    "kw", [{"gradient_clip_val": 1.0}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}], ids=str
)
def test_silent_on_lightnings_healthy_loop(tmp_path, kw):
    doctor = lightning_fit(Net(), tmp_path, **kw)
    assert found(doctor) == []
    assert {"softmax-before-cross-entropy", "missing-zero-grad"} <= set(doctor.diagnoses.passed)


def test_a_softmax_in_a_lightning_module_is_found_at_the_loss(tmp_path):
    (finding,) = loud(lightning_fit(Squashed(), tmp_path))
    assert finding.fault == "softmax-before-cross-entropy"
    assert line_of(finding) == "loss = nn.functional.cross_entropy(self(x), y)"


def test_a_list_of_layers_in_a_lightning_module_is_found(tmp_path):
    (finding,) = loud(lightning_fit(Listed(), tmp_path))
    assert finding.fault == "modules-in-python-list"


def test_a_rate_that_is_too_high_in_lightning_is_found(tmp_path):
    assert "lr-too-high" in found(
        lightning_fit(
            nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, CLASSES)), tmp_path, lr=30.0
        )
    )


# -- Accelerate -----------------------------------------------------------------------------------


def accelerate_fit(net, wipe=True, **kw):
    accelerate = pytest.importorskip("accelerate")
    from accelerate.state import AcceleratorState, GradientState, PartialState

    accelerator = accelerate.Accelerator(cpu=True, **kw)
    with kudari.doctor.watch() as doctor:
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.0)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 1e-2, EPOCHS * ROWS // BATCH // kw.get("gradient_accumulation_steps", 1)
        )
        train, held_out = loaders()
        net, optimizer, train, held_out, scheduler = accelerator.prepare(
            net, optimizer, train, held_out, scheduler
        )
        for _ in range(EPOCHS):
            net.train()
            for x, y in train:
                with accelerator.accumulate(net):
                    loss = nn.functional.cross_entropy(net(x), y)
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(net.parameters(), 1.0)
                    optimizer.step()
                    scheduler.step()
                    if wipe:
                        optimizer.zero_grad()
            net.eval()
            with torch.no_grad():
                for x, y in held_out:
                    accelerator.gather_for_metrics((net(x).argmax(1), y))
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    return doctor


@pytest.mark.parametrize("kw", [{}, {"gradient_accumulation_steps": 2}, {"mixed_precision": "bf16"}], ids=str)
def test_silent_on_accelerates_healthy_loop(kw):
    assert found(accelerate_fit(Net(), **kw)) == []


def test_a_missing_wipe_behind_accelerates_wrapper_is_found_at_the_step():
    (finding,) = loud(accelerate_fit(Net(), wipe=False))
    assert finding.fault == "missing-zero-grad"
    assert line_of(finding) == "optimizer.step()"


# -- transformers ---------------------------------------------------------------------------------


class Task(nn.Module):
    """What transformers' Trainer expects: the loss first."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, labels):
        scores = self.net(x)
        return {"loss": nn.functional.cross_entropy(scores, labels), "logits": scores}


class Samples(torch.utils.data.Dataset):
    """Rows as Trainer's collator wants them."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {"x": self.x[index], "labels": self.y[index]}


def trainer_fit(net, folder, held_out=None, **kw):
    transformers = pytest.importorskip("transformers")
    given = {
        "num_train_epochs": EPOCHS, "per_device_train_batch_size": BATCH, "use_cpu": True, "report_to": [],
        "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no", "learning_rate": 1e-2,
        "eval_strategy": "epoch", "warmup_steps": 10, "lr_scheduler_type": "cosine",
    }  # fmt: skip
    args = transformers.TrainingArguments(str(folder), **{**given, **kw})
    with kudari.doctor.watch() as doctor:
        transformers.Trainer(
            Task(net), args, train_dataset=Samples(*rows(0, ROWS)),
            eval_dataset=Samples(*rows(ROWS, None) if held_out is None else held_out),
        ).train()  # fmt: skip
    return doctor


@pytest.mark.parametrize("kw", [{}, {"gradient_accumulation_steps": 2}, {"bf16": True}], ids=str)
def test_silent_on_transformers_healthy_loop(tmp_path, kw):
    doctor = trainer_fit(Net(), tmp_path, **kw)
    assert found(doctor) == []
    assert {"softmax-before-cross-entropy", "missing-zero-grad"} <= set(doctor.diagnoses.passed)


def test_a_softmax_in_a_transformers_model_is_found_at_the_loss(tmp_path):
    (finding,) = loud(trainer_fit(Squashed(), tmp_path))
    assert finding.fault == "softmax-before-cross-entropy"
    assert (
        line_of(finding) == 'return {"loss": nn.functional.cross_entropy(scores, labels), "logits": scores}'
    )


def test_evaluation_on_training_rows_is_found_in_transformers(tmp_path):
    (finding,) = loud(trainer_fit(Net(), tmp_path, held_out=rows(ROWS - HELD_OUT // 2, ROWS + HELD_OUT // 2)))
    assert finding.fault == "train-val-overlap"


# -- skorch ---------------------------------------------------------------------------------------


def skorch_fit(net, **kw):
    skorch = pytest.importorskip("skorch")
    with kudari.doctor.watch() as doctor:
        skorch.NeuralNetClassifier(
            net, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, lr=1e-2, max_epochs=EPOCHS,
            batch_size=BATCH, iterator_train__shuffle=True, verbose=0, **kw,
        ).fit(*rows(0, ROWS))  # fmt: skip
    return doctor


def test_silent_on_skorchs_healthy_loop():
    assert found(skorch_fit(Net())) == []


def test_a_softmax_in_a_skorch_model_is_found():
    assert found(skorch_fit(Squashed())) == ["softmax-before-cross-entropy"]
