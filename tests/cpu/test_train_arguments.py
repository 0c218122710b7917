"""Whatever the user passes is used as it is, or refused before anything starts."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from kudari import optim
from kudari.data import BatchLoader, TensorData, load_digits
from kudari.errors import ArgumentError, DataError, UnsupportedError
from kudari.models import mlp
from tests.cpu.train_runs import CLASSES, FEATURES, linear, lines, network, points, quiet_fit, same_bits


class Rows(Dataset):
    def __init__(self):
        self.x, self.y = points(20)

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return self.x[index], self.y[index]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(*points(20), strict=True))


SOURCES = {
    "tensors": lambda: points(20),
    "arrays": lambda: tuple(part.numpy() for part in points(20)),
    "float64": lambda: (points(20)[0].numpy().astype(np.float64), points(20)[1].numpy().astype(np.int32)),
    "tensor-data": lambda: TensorData(*points(20)),
    "tensor-dataset": lambda: TensorDataset(*points(20)),
    "dataset": Rows,
    "iterable-dataset": Stream,
    "dataloader": lambda: DataLoader(Rows(), 8),
    "batch-loader": lambda: BatchLoader(TensorData(*points(20)), 8),
    "list": lambda: [points(8), points(8, 1), points(4, 2)],
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_data_trains_and_validates(tmp_path, kind):
    run = quiet_fit(
        network(), SOURCES[kind](), SOURCES[kind](), steps=7, batch_size=8, eval_every=3, out=tmp_path / "r"
    )
    assert run.steps == 7
    assert [line["step"] for line in lines(run, "valid")] == [3, 6, 7]
    assert {"train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "best_step"} < run.metrics.keys()


def test_bundle_brings_its_own_validation_set_names_and_pictures(tmp_path):
    bundle = load_digits()
    run = quiet_fit(mlp(64, [16], 10), bundle, epochs=1, out=tmp_path / "run")
    assert run.facts.title == bundle.title
    assert run.facts.data == bundle.said
    assert run.facts.evaluation.classes == bundle.classes
    assert all(mistake.picture for mistake in run.facts.evaluation.mistakes)


def test_single_pass_iterator_trains_as_far_as_it_reaches(tmp_path):
    def batches():
        for i in range(5):
            yield points(8, i)

    assert quiet_fit(network(), batches(), steps=5, out=tmp_path / "a").steps == 5
    with pytest.raises(DataError, match=r"yielded nothing in epoch 1\..*read once"):
        quiet_fit(network(), batches(), steps=6, out=tmp_path / "b")
    with pytest.raises(DataError, match="valid is an iterator"):
        quiet_fit(network(), points(), batches(), steps=6, out=tmp_path / "c")


def test_own_optimizer_schedule_loss_and_metric_are_used_as_they_are(tmp_path):
    model, seen = linear(), []
    optimizer = torch.optim.SGD([{"params": [model.weight], "lr": 0.3}, {"params": [model.bias], "lr": 0.0}])
    before = model.bias.detach().clone()

    def half_hinge(outputs, targets):
        seen.append(outputs.shape)
        return (outputs - nn.functional.one_hot(targets, CLASSES)).square().mean()

    def largest(outputs, targets):
        return outputs.max()

    run = quiet_fit(
        model, points(20), points(20), loss=half_hinge, optimizer=optimizer, metrics=[largest, "accuracy"],
        schedule=torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5), steps=3, log_every=1,
        out=tmp_path / "run",
    )  # fmt: skip
    assert seen
    assert torch.equal(model.bias, before)
    assert [line["lr"] for line in lines(run, "train")] == [0.3, 0.15, 0.075]
    assert {"valid_largest", "valid_accuracy"} < run.metrics.keys()
    assert "best_valid_loss" in run.metrics  # nobody said which way the own metric is better
    assert run.facts.task == "other"
    assert [d.weight_decay for d in run.facts.decay] == [0.0, 0.0]


@pytest.mark.parametrize("make", [torch.optim.SGD, lambda params: torch.optim.SGD(params, lr=0.1)])
def test_optimizer_class_and_function_are_called_with_the_parameters(tmp_path, make):
    lr = 0.1 if isinstance(make, type) else None
    run = quiet_fit(linear(), points(), optimizer=make, lr=lr, steps=2, out=tmp_path / "run")
    assert run.facts.optimizer.startswith("SGD(lr=0.1)")


def test_decay_by_name_stays_off_biases_and_norms(tmp_path):
    run = quiet_fit(network(), points(), weight_decay=0.1, steps=2, out=tmp_path / "run")
    found = {d.name: (d.weight_decay, d.why) for d in run.facts.decay}
    assert found == {
        "0.weight": (0.1, "weight"), "0.bias": (0.0, "bias"),
        "1.weight": (0.0, "norm"), "1.bias": (0.0, "norm"),
        "4.weight": (0.1, "weight"), "4.bias": (0.0, "bias"),
    }  # fmt: skip
    assert run.facts.formula == optim.describe(optim.AdamW.rule).formula
    assert "weight_decay=0.1)" in run.facts.optimizer


def test_frozen_parameters_stay_and_are_said_to(tmp_path):
    model = linear()
    model.weight.requires_grad_(False)
    before = model.weight.clone()
    run = quiet_fit(model, points(), steps=3, out=tmp_path / "run")
    assert torch.equal(model.weight, before)
    assert [d.why for d in run.facts.decay] == ["not trained", "bias"]


def test_plateau_scheduler_steps_on_validation_loss(tmp_path):
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, mode="max")
    run = quiet_fit(
        model, points(), points(), optimizer=optimizer, schedule=schedule, steps=4, eval_every=1, log_every=1,
        out=tmp_path / "run",
    )  # fmt: skip
    assert lines(run, "train")[-1]["lr"] < 1.0


def test_plateau_of_ours_falls_on_validation_loss_and_goes_on_where_it_was(tmp_path):
    options = {"schedule": "plateau(factor=0.5, patience=1, mode='max')", "eval_every": 1, "log_every": 1}
    whole = quiet_fit(linear(), points(), points(), steps=8, lr=0.1, out=tmp_path / "w", **options)
    rates = [line["lr"] for line in lines(whole, "train")]
    assert rates[0] == 0.1
    assert rates[-1] == 0.1 * 0.5**3
    quiet_fit(linear(), points(), points(), steps=8, lr=0.1, out=tmp_path / "p", save_every=3, **options)
    shutil.rmtree(tmp_path / "p" / "checkpoints" / "step-000008")
    parts = quiet_fit(linear(), points(), points(), steps=8, lr=0.1, resume=tmp_path / "p", **options)
    assert [line["lr"] for line in lines(parts, "train")] == rates


def misfits():
    x, y = points(20)
    net = network()
    stray = torch.optim.SGD(linear().parameters(), lr=0.1)
    yield "both", net, (x, y), {"epochs": 1, "steps": 1}, ArgumentError, "epochs=1 and steps=1"
    yield "optimizer", net, (x, y), {"optimizer": "adamww"}, ArgumentError, "Did you mean 'adamw'"
    yield "loss", net, (x, y), {"loss": "cross_entrpy"}, ArgumentError, "Did you mean 'cross_entropy'"
    yield "schedule", net, (x, y), {"schedule": "warmup_cosin"}, ArgumentError, "Did you mean 'warmup_cosine'"
    yield "metric", net, (x, y), {"metrics": "acuracy"}, ArgumentError, "Did you mean 'accuracy'"
    yield "twice", net, (x, y), {"metrics": ["error", "error"]}, ArgumentError, "used twice"
    yield "precision", net, (x, y), {"precision": "fp16"}, ArgumentError, "fp32, bf16"
    yield "batch size", net, (x, y), {"batch_size": 0}, ArgumentError, "batch_size=0"
    yield "accumulate", net, (x, y), {"accumulate": 1.5}, ArgumentError, "accumulate=1.5"
    yield "threads", net, (x, y), {"threads": 0}, ArgumentError, "threads=0"
    yield "clip", net, (x, y), {"clip_norm": -1}, ArgumentError, "clip_norm=-1"
    yield "seed", net, (x, y), {"seed": -1}, ArgumentError, "seed=-1"
    yield "device", net, (x, y), {"device": "gpu"}, ArgumentError, "no device"
    yield "keep", net, (x, y), {"keep": "bets"}, ArgumentError, "Did you mean 'best'"
    yield "no module", max, (x, y), {}, ArgumentError, "torch.nn.Module"
    yield "nothing to train", nn.ReLU(), (x, y), {}, ArgumentError, "no trainable parameters"
    yield "stray", net, (x, y), {"optimizer": stray, "lr": None}, ArgumentError, "do not belong to the model"
    yield "lr", net, (x, y), {"optimizer": stray, "lr": 1.0}, ArgumentError, "lr would have no effect"
    yield "closure", net, (x, y), {"optimizer": torch.optim.LBFGS}, UnsupportedError, "LBFGS"
    yield "empty", net, (x[:0], y[:0]), {}, DataError, "no samples"
    yield "empty list", net, [], {}, DataError, "yielded nothing"
    yield "no data", net, 3, {}, DataError, "train is a int"
    yield "text", net, (np.array(["a"]), y[:1]), {}, DataError, "dtype <U1"
    yield "nan", net, (torch.where(x > 2, float("nan"), x), y), {}, DataError, "NaN or infinite in"
    yield "length", net, (x, y[:3]), {}, DataError, "20 inputs and 3 targets"
    yield "unknown length", net, (b for b in [(x, y)]), {"epochs": 2}, ArgumentError, "Pass steps="
    yield "no pairs", net, [x], {}, DataError, "no pairs"
    yield "features", net, (x[:, :2], y), {}, DataError, r"does not accept a batch of shape \(20, 2\)"
    yield "classes", net, (x, y + 5), {}, DataError, "hold the class .* the model has 3 outputs"
    yield (
        "late class",
        net,
        (x, torch.cat([y[:-1], torch.tensor([7])])),
        {"batch_size": 2},
        DataError,
        "class 7",
    )
    yield "negative", net, (x, y - 1), {}, DataError, "class -1"
    yield "float classes", net, (x, y.float()), {"loss": "cross_entropy"}, DataError, r"y\.long\(\)"
    yield "column", net, (x, y[:, None]), {"loss": "cross_entropy"}, DataError, r"y\.squeeze\(1\)"
    yield "mse shape", linear(outputs=1), (x, x[:, 0]), {"loss": "mse"}, DataError, r"y\.unsqueeze\(-1\)"
    yield "mse ints", linear(outputs=1), (x, y[:, None]), {"loss": "mse"}, DataError, r"y\.float\(\)"
    yield "bce", linear(outputs=1), (x, 3 * x[:, :1]), {"loss": "bce"}, DataError, r"in \[0, 1\]"
    yield "sum", net, (x, y), {"loss": nn.CrossEntropyLoss(reduction="sum")}, ArgumentError, "reduction='sum'"
    yield "no scalar", net, (x, y), {"loss": lambda o, t: o.sum(1)}, DataError, "not a scalar"
    yield "augment", net, [(x, y)], {"augment": lambda x, y, g: (x, y)}, ArgumentError, "in memory"
    yield "float loss", net, (x, y), {"loss": lambda o, t: o.sum().item()}, DataError, "a float, not a scalar"
    yield "detached", net, (x, y), {"loss": lambda o, t: o.detach().sum()}, DataError, "has no gradient"
    words = nn.Embedding(7, 5)
    tokens = torch.randint(0, 5, (20, 4))
    yield "classes last", words, (tokens, tokens), {}, DataError, r"Return outputs\.movedim\(-1, 1\)"
    yield (
        "scheduler class",
        net,
        (x, y),
        {"schedule": torch.optim.lr_scheduler.StepLR},
        ArgumentError,
        "class",
    )
    yield "optimizer number", net, (x, y), {"optimizer": 3, "lr": None}, ArgumentError, "gave a int"
    yield "plateau", net, (x, y), {"schedule": "warmup(1) >> plateau"}, ArgumentError, "there is no valid"
    yield "best", net, (x, y), {"keep": "best"}, ArgumentError, "there is no valid"
    yield "out and resume", net, (x, y), {"out": "a", "resume": "b"}, ArgumentError, "both given"


@pytest.mark.parametrize("case", list(misfits()), ids=lambda case: case[0].replace(" ", "-"))
def test_bad_input_is_refused_before_anything_starts(tmp_path, monkeypatch, case):
    _, model, train, options, error, message = case
    monkeypatch.chdir(tmp_path)
    state = [p.clone() for p in model.parameters()] if isinstance(model, nn.Module) else []
    with pytest.raises(error, match=message):
        quiet_fit(model, train, **options)
    assert not list(tmp_path.iterdir())
    assert all(torch.equal(a, b) for a, b in zip(state, model.parameters() if state else [], strict=True))


def test_validation_set_is_checked_before_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = points(20)
    with pytest.raises(DataError, match="valid targets hold the class 9"):
        quiet_fit(network(), (x, y), (x, torch.full_like(y, 9)))
    assert not list(tmp_path.iterdir())


def test_loader_that_lies_about_its_length_is_told_so(tmp_path):
    class Liar(list):
        def __len__(self):
            return 5

    with pytest.raises(DataError, match="says its length is 5 batches, and epoch 0 had 2 steps"):
        quiet_fit(network(), Liar([points(8), points(8)]), epochs=2, out=tmp_path / "run")


def test_folder_of_another_run_is_not_written_into(tmp_path):
    quiet_fit(network(), points(), steps=1, out=tmp_path / "run")
    with pytest.raises(ArgumentError, match="already holds a run"):
        quiet_fit(network(), points(), steps=1, out=tmp_path / "run")


def test_run_without_out_gets_a_numbered_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [quiet_fit(network(), points(), steps=1).dir.path.as_posix() for _ in range(2)]
    assert names == ["runs/sequential-1", "runs/sequential-2"]


def test_same_seed_same_run_other_seed_other_run(tmp_path):
    runs = [
        quiet_fit(network(dropout=0.5), points(), epochs=2, batch_size=8, seed=seed, out=tmp_path / str(i))
        for i, seed in enumerate((0, 0, 1))
    ]
    assert same_bits(runs[0].model, runs[1].model)
    assert not same_bits(runs[0].model, runs[2].model)


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_lazy_model_is_trained(tmp_path):
    model = nn.Sequential(nn.LazyLinear(CLASSES))
    run = quiet_fit(model, points(), steps=2, out=tmp_path / "run")
    assert tuple(run.model[0].weight.shape) == (CLASSES, FEATURES)


def test_muon_by_name_leaves_embedding_head_and_vectors_to_adamw():
    from kudari.train.update import build_optimizer

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.letters, self.body, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.body(self.letters(x)))

    model = Reader()
    routed = {
        id(p): group["use_muon"]
        for group in build_optimizer("muon", model, 0.01, 0.1).param_groups
        for p in group["params"]
    }
    assert {name for name, p in model.named_parameters() if routed[id(p)]} == {"body.weight"}


def test_a_last_batch_of_one_sample_for_batch_norm_says_what_to_do():
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.Linear(8, CLASSES))
    with pytest.raises(ValueError, match="more than 1 value per channel") as raised:
        quiet_fit(model, points(17), batch_size=16, epochs=1)
    assert any("drop_last=True" in note for note in raised.value.__notes__)


def test_an_optimizer_is_described_by_the_values_it_was_given():
    from kudari.train.update import describe_optimizer

    optimizer = optim.AdamW([nn.Parameter(torch.ones(2))], lr=0.01)
    assert describe_optimizer(optimizer) == "AdamW(lr=0.01, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01)"
