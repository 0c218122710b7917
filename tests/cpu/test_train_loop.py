"""What a step is, and what it does not do."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kudari.train import evaluation, loop
from kudari.train.backward import choose_backward
from tests.cpu.train_runs import linear, lines, network, points, quiet_fit, same_bits


def test_no_host_synchronisation_between_log_points(tmp_path, monkeypatch):
    reads = []
    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy"):
        original = getattr(Tensor, name)

        def counted(self, *args, original=original, name=name, **kwargs):
            reads.append(name)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(Tensor, name, counted)
    counts = {}
    for steps in (100, 300):
        reads.clear()
        x, y = points(400)
        run = quiet_fit(
            network(),
            (x, y),
            steps=steps,
            batch_size=4,
            log_every=100,
            optimizer="adamw",
            out=tmp_path / str(steps),
        )
        assert len(lines(run, "train")) == steps // 100
        counts[steps] = len(reads)
    more_log_lines = 2
    assert counts[300] - counts[100] <= 4 * more_log_lines


@pytest.mark.parametrize("sizes", [(8, 8, 8), (8, 3, 1), (1, 11, 5, 2)])
@pytest.mark.parametrize(
    "loss", ["cross_entropy", "mse", nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2]))]
)
def test_accumulated_gradient_is_that_of_the_full_batch_for_unequal_micro_batches(tmp_path, sizes, loss):
    x, y = points(sum(sizes))
    if loss == "mse":
        y = F.one_hot(y, 3).float()
    gradients = []

    class Look(torch.optim.SGD):
        def step(self, closure=None):
            gradients.append([p.grad.clone() for g in self.param_groups for p in g["params"]])
            return super().step(closure)

    batches = list(zip(x.split(sizes), y.split(sizes), strict=True))
    for data, accumulate in (([(x, y)], 1), (batches, len(sizes))):
        model = linear()
        optimizer = Look(model.parameters(), lr=0.1)
        quiet_fit(
            model, data, loss=loss, optimizer=optimizer, schedule=None, steps=1, accumulate=accumulate,
            out=tmp_path / str(accumulate),
        )  # fmt: skip
    for full, parts in zip(*gradients, strict=True):
        # The same sums in another order: a few roundings of float32 (2**-24) on values below 1.
        torch.testing.assert_close(parts, full, rtol=0, atol=20 * 2**-24)


def test_ignored_targets_do_not_count_in_accumulation(tmp_path):
    x, y = points(12)
    y[1:6] = -100
    models = []
    for data, accumulate in (([(x, y)], 1), ([(x[:6], y[:6]), (x[6:], y[6:])], 2)):
        model = linear()
        quiet_fit(
            model, data, optimizer=torch.optim.SGD(model.parameters(), lr=1.0), steps=1, schedule=None,
            accumulate=accumulate, out=tmp_path / str(accumulate),
        )  # fmt: skip
        models.append(model)
    torch.testing.assert_close(models[1].weight, models[0].weight, rtol=0, atol=20 * 2**-24)


def test_last_step_of_an_epoch_takes_the_micro_batches_that_are_left(tmp_path):
    run = quiet_fit(
        network(), points(50), epochs=2, batch_size=8, accumulate=3, log_every=1, out=tmp_path / "run"
    )
    assert run.steps == 2 * 3  # 7 micro-batches of 8, 8, 8 | 8, 8, 8 | 2
    assert [line["epoch"] for line in lines(run, "train")][2] == 1.0


def test_direct_backward_gives_the_bits_of_the_public_one():
    x, y = points()
    grads = []
    for direct in (False, True):
        model = network()
        loss = F.cross_entropy(model(x), y)
        backward = choose_backward(model, loss) if direct else Tensor.backward
        backward(loss, torch.ones_like(loss))
        grads.append([p.grad for p in model.parameters()])
    assert choose_backward(model, loss).__name__ == "_direct_unless_watched"
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_backward_that_somebody_watches_is_not_passed_by(tmp_path, monkeypatch):
    calls = []
    original = Tensor.backward

    def watched(self, *args, **kwargs):
        calls.append(self)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Tensor, "backward", watched)
    quiet_fit(network(), points(), steps=3, out=tmp_path / "run")
    assert len(calls) == 3


def test_loss_that_is_not_finite_stops_the_run_at_its_step(tmp_path):
    x, y = points(80)

    class Breaks(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.steps = network(), 0

        def forward(self, x):
            self.steps += self.training
            return self.net(x) * (math.inf if self.steps == 13 else 1.0)

    run = quiet_fit(
        Breaks(), (x, y), steps=40, batch_size=8, save_every=10, log_every=10, out=tmp_path / "run"
    )
    assert run.status == run.facts.status == "failed"
    assert "at step 13" in run.message
    assert "learning rate ten times lower" in run.message
    assert str(run.dir.checkpoints) in run.message
    assert [path.name for path in run.dir.checkpoints.iterdir()] == ["step-000010"]
    assert run.facts.diagnoses[0].fault == "loss-not-finite"
    assert lines(run, "event")[0]["name"] == "failed"


def test_clipping_limits_the_gradient_and_the_log_has_the_norm_before(tmp_path):
    norms = []

    class Look(torch.optim.SGD):
        def step(self, closure=None):
            norms.append(
                nn.utils.get_total_norm([p.grad for g in self.param_groups for p in g["params"]]).item()
            )
            return super().step(closure)

    model = linear()
    run = quiet_fit(
        model, points(), optimizer=Look(model.parameters(), lr=0.1), steps=5, clip_norm=0.01, log_every=1,
        out=tmp_path / "run",
    )  # fmt: skip
    assert all(norm == pytest.approx(0.01, rel=1e-3) for norm in norms)
    assert all(line["grad_norm"] > 0.1 for line in lines(run, "train"))


def test_logged_gradient_norm_is_that_of_the_whole_gradient(tmp_path):
    x, y = points()
    model = linear()
    F.cross_entropy(model(x), y).backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
    run = quiet_fit(linear(), [(x, y)], steps=1, out=tmp_path / "run")
    assert lines(run, "train")[0]["grad_norm"] == pytest.approx(expected, rel=1e-5)


def test_logged_loss_is_the_mean_over_samples_since_the_line_before(tmp_path):
    x, y = points(20)
    model, seen = linear(), []

    def loss(outputs, targets):
        value = F.cross_entropy(outputs, targets)
        if outputs.requires_grad:
            seen.append((value.item(), len(targets)))
        return value

    run = quiet_fit(model, (x, y), loss=loss, batch_size=8, epochs=2, log_every=3, out=tmp_path / "run")
    seen = seen[-6:]  # the check before training came first
    expected = [sum(v * n for v, n in part) / sum(n for _, n in part) for part in (seen[:3], seen[3:])]
    assert [line["loss"] for line in lines(run, "train")] == pytest.approx(expected)


def test_learning_rate_follows_the_schedule_by_step(tmp_path):
    run = quiet_fit(
        linear(), points(), lr=0.5, schedule=lambda step, total: (step + 1) / total, steps=4, batch_size=8,
        log_every=1, out=tmp_path / "run",
    )  # fmt: skip
    assert [line["lr"] for line in lines(run, "train")] == [0.125, 0.25, 0.375, 0.5]


def test_bf16_computes_in_bfloat16_and_keeps_weights_in_float32(tmp_path):
    dtypes = set()

    class Look(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, x):
            outputs = self.net(x)
            dtypes.add(outputs.dtype)
            return outputs

    run = quiet_fit(Look(), points(), points(20), precision="bf16", steps=5, out=tmp_path / "run")
    assert dtypes == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in run.model.parameters())
    assert run.facts.environment["precision"] == "bf16"


def test_augmentation_changes_training_and_not_validation(tmp_path):
    x, y = points(16)
    seen = {True: [], False: []}

    class Look(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = linear()

        def forward(self, x):
            seen[self.training].append(x.clone())
            return self.net(x)

    quiet_fit(
        Look(), (x, y), (x, y), augment=lambda x, y, generator: (x + 100, y), steps=2, eval_every=1,
        out=tmp_path / "run",
    )  # fmt: skip
    assert all(float(batch.min()) > 50 for batch in seen[True])
    assert torch.equal(seen[False][-1], x)


def test_checkpoints_by_the_clock_stay_within_their_share(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    clock = iter(range(10**9))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(clock)))
    saves = []
    original = loop.Loop.save
    monkeypatch.setattr(loop.Loop, "save", lambda self: (saves.append(self.state.step), original(self)))
    quiet_fit(linear(), points(), steps=200, batch_size=8, log_every=1, out=tmp_path / "run")
    # Every look at the clock is a second; a save looks three times, so about 150 seconds pass until the next.
    assert 1 < len(saves) < 200 / 20


def test_evaluation_is_the_same_for_any_batch_size():
    from kudari.train.losses import resolve_loss
    from kudari.train.metrics import loss_metric, resolve_metrics

    x, y = points(50)
    loss = resolve_loss("cross_entropy")
    metrics = (loss_metric(loss), *resolve_metrics(["accuracy", "error", "top5", "perplexity"], loss))
    found = [
        evaluation.evaluate(
            network(), metrics, list(zip(x.split(n), y.split(n), strict=True)), precision=torch.no_grad
        )
        for n in (50, 7)
    ]
    # Means in float64 of float32 losses that differ by rounding at most.
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    assert found[0]["accuracy"] == pytest.approx(1 - found[0]["error"])
    assert found[0]["perplexity"] == pytest.approx(math.exp(found[0]["loss"]), rel=1e-6)


def test_best_weights_are_those_of_the_best_validation(tmp_path):
    x, y = points(20, 5)

    def swing(step, total):
        return 1.0 if step < 5 else -3.0  # climbs after five steps

    options = {"schedule": swing, "optimizer": "sgd", "lr": 0.1, "eval_every": 1, "batch_size": 50}
    best = quiet_fit(
        network(), points(), (x, y), steps=15, keep="best", metrics=[], out=tmp_path / "b", **options
    )
    last = quiet_fit(network(), points(), (x, y), steps=15, metrics=[], out=tmp_path / "l", **options)
    until = quiet_fit(
        network(),
        points(),
        (x, y),
        steps=int(best.metrics["best_step"]),
        metrics=[],
        out=tmp_path / "u",
        **options,
    )
    assert same_bits(best.model, until.model)
    assert best.metrics["valid_loss"] == best.metrics["best_valid_loss"] < last.metrics["valid_loss"]
    from safetensors.torch import load_file

    assert torch.equal(load_file(best.dir.model)["0.weight"], best.model[0].weight)
