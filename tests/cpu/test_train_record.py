"""What a run leaves behind, and the numbers in it."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import load_file
from sklearn.metrics import confusion_matrix, r2_score
from torch import nn

from kudari.record import Facts
from kudari.train import About, Now, fit
from kudari.train.evaluation import finish
from kudari.train.losses import resolve_loss
from kudari.train.metrics import resolve_metrics
from kudari.train.progress import Bar, Lines, Silent, Throttle, describe, duration, make_progress
from tests.cpu.train_runs import linear, lines, network, points, quiet_fit


def test_run_folder_is_complete_and_readable(tmp_path):
    finished = []
    run = quiet_fit(
        network(),
        points(),
        points(20, 1),
        epochs=3,
        batch_size=8,
        out=tmp_path / "run",
        finish=finished.append,
    )
    assert finished == [run.dir]
    assert Facts.read(run.dir.facts) == run.facts
    weights = load_file(run.dir.model)
    assert all(torch.equal(weights[name], value) for name, value in run.model.state_dict().items())
    config = yaml.safe_load(run.dir.config.read_text())
    assert (config["loss"], config["metrics"], config["lr"], config["epochs"]) == (
        "cross_entropy",
        ["accuracy"],
        0.01,
        3,
    )
    assert not any(path.name.startswith(".") or "draft" in path.name for path in run.dir.path.rglob("*"))


def test_facts_say_what_was_decided_and_why(tmp_path):
    run = quiet_fit(network(), points(), points(20, 1), out=tmp_path / "run")
    facts = run.facts
    assert {choice.key for choice in facts.recipe} == {"loss", "epochs", "metrics", "threads", "keep"}
    assert all(choice.why for choice in facts.recipe)
    assert (facts.status, facts.steps, facts.epochs, facts.task) == ("finished", 20, 20.0, "classification")
    assert facts.data == ("50 training samples and 20 validation samples.",)
    assert facts.model == "Sequential, 195 parameters"
    assert "warmup" in facts.optimizer
    assert list(facts.environment)[:4] == ["kudari", "python", "torch", "numpy"]
    assert facts.environment["threads"].startswith("1 (")
    assert facts.samples_per_second > 0


def test_metrics_log_has_one_line_for_each_stride(tmp_path):
    run = quiet_fit(
        network(), points(), points(20, 1), epochs=4, batch_size=8, log_every=5, out=tmp_path / "run"
    )
    assert [line["step"] for line in lines(run, "train")] == [5, 10, 15, 20, 25, 28]
    assert [line["step"] for line in lines(run, "valid")] == [7, 14, 21, 28]
    needed = {"step", "epoch", "seconds", "loss", "accuracy", "lr", "grad_norm", "samples_per_second"}
    assert all(needed < line.keys() for line in lines(run, "train"))
    seconds = [line["seconds"] for line in lines(run, "train")]
    assert seconds == sorted(seconds)


def test_long_runs_log_and_validate_a_limited_number_of_times(tmp_path):
    run = quiet_fit(linear(), points(8), points(4), steps=1000, batch_size=8, out=tmp_path / "run")
    assert len(lines(run, "train")) == len(lines(run, "valid")) == 100


def test_final_evaluation_is_that_of_the_model_on_the_validation_set(tmp_path):
    x, y = points(40, 1)
    names = tuple(f"row {i}" for i in range(40))
    about = About(classes=("a", "b", "c"), valid_names=names, picture=lambda i: b"png" if i % 2 else None)
    run = quiet_fit(network(), points(), (x, y), steps=8, batch_size=8, about=about, out=tmp_path / "run")
    outputs = run.predict(x)
    found = run.facts.evaluation
    assert found.classes == ("a", "b", "c")
    assert np.array_equal(found.confusion, confusion_matrix(y, outputs.argmax(1)))
    losses = F.cross_entropy(outputs, y, reduction="none")
    wrong = [i for i in losses.argsort(descending=True).tolist() if outputs[i].argmax() != y[i]]
    assert [m.index for m in found.mistakes] == [names[i] for i in wrong][:24]
    assert found.mistakes[0].truth == "abc"[y[wrong[0]]]
    assert [bool(m.picture) for m in found.mistakes] == [bool(i % 2) for i in wrong][:24]
    assert run.metrics["valid_accuracy"] == pytest.approx(1 - len(wrong) / 40)


def test_regression_is_reported_in_its_own_units(tmp_path):
    x, _ = points()
    y = x[:, :1] * 2
    run = quiet_fit(
        linear(outputs=1), (x, y), (x, y), steps=50, about=About(units=lambda v: v.double() * 10 + 100),
        out=tmp_path / "run",
    )  # fmt: skip
    outputs = run.predict(x)
    assert run.metrics["valid_rmse"] == pytest.approx(10 * F.mse_loss(outputs, y).sqrt().item(), rel=1e-5)
    assert run.metrics["valid_r2"] == pytest.approx(r2_score(y, outputs), rel=1e-4)
    truth, predicted = run.facts.evaluation.residuals[3]
    assert truth == pytest.approx(float(y[3]) * 10 + 100, rel=1e-6)
    assert predicted == pytest.approx(float(outputs[3]) * 10 + 100, rel=1e-6)
    worst = run.facts.evaluation.mistakes[0]
    assert int(worst.index) == int((outputs - y).abs().argmax())


def value(name, outputs, targets, loss="mse", parts=1):
    """A metric over a set that comes in parts."""
    (metric,) = resolve_metrics(name, resolve_loss(loss))
    size = math.ceil(len(outputs) / parts)
    pairs = zip(outputs.split(size), targets.split(size), strict=True)
    return finish([metric], [sum(metric.sums(o, t) for o, t in pairs)])[metric.name]


@pytest.mark.parametrize("parts", [1, 3])
def test_metrics_equal_their_definitions_for_any_split(parts):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(20, 2, generator=generator), torch.randn(20, 2, generator=generator)
    assert value("mae", a, b, parts=parts) == pytest.approx((a - b).abs().mean().item(), rel=1e-6)
    assert value("rmse", a, b, parts=parts) == pytest.approx((a - b).square().mean().sqrt().item(), rel=1e-6)
    assert value("r2", a, b, parts=parts) == pytest.approx(r2_score(b, a), rel=1e-5)
    logits = torch.randn(20, 8, generator=generator)
    classes = torch.randint(0, 8, (20,), generator=generator)
    best = logits.topk(5).indices
    expected = sum(int(c) in row.tolist() for c, row in zip(classes, best, strict=True)) / 20
    assert value("top5", logits, classes, "cross_entropy", parts) == pytest.approx(expected)
    assert value("perplexity", logits, classes, "cross_entropy", parts) == pytest.approx(
        math.exp(F.cross_entropy(logits, classes)), rel=1e-6
    )
    yes = (b > 0).float()
    assert value("accuracy", a, yes, "bce", parts) == pytest.approx(
        ((a > 0) == (b > 0)).float().mean().item()
    )


def test_ignored_targets_do_not_count_in_metrics():
    logits = torch.eye(4)
    targets = torch.tensor([0, -100, 2, 0])
    assert value("accuracy", logits, targets, "cross_entropy") == pytest.approx(2 / 3)


def test_r2_of_constant_targets_is_not_a_number():
    assert math.isnan(value("r2", torch.randn(5), torch.ones(5)))


def test_named_losses_are_torchs_and_each_is_their_mean():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(6, 3, generator=generator), torch.rand(6, 3, generator=generator)
    references = {
        "mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss, "bce": F.binary_cross_entropy_with_logits,
    }  # fmt: skip
    for name, reference in references.items():
        loss = resolve_loss(name)
        assert torch.equal(loss.compute(a, b), reference(a, b))
        torch.testing.assert_close(loss.each(a, b).mean(), reference(a, b))


def test_targets_choose_the_loss():
    from kudari.train.losses import infer_loss

    assert infer_loss(torch.tensor([0, 1]))[0] == "cross_entropy"
    assert infer_loss(torch.tensor([0.5]))[0] == "mse"
    assert infer_loss(torch.tensor([0, 1]), "regression")[0] == "mse"


NOW = Now(120, 1000, 5.2, 0.314159, ("accuracy", 0.925), 1e-3, 52_000.0, 75.0)


def test_line_has_loss_metric_rate_speed_and_time_left():
    assert describe(NOW) == "loss 0.314 · accuracy 0.925 · lr 0.001 · 52,000 samples/s · 1 min 15 s left"
    assert [duration(s) for s in (0.4, 61, 7260)] == ["0 s", "1 min 1 s", "2 h 1 min"]


def test_drawing_takes_its_share_of_the_time_at_most():
    throttle = Throttle(0.1, share=0.01)
    throttle.drawn(10.0, 10.05)
    assert not throttle.due(10.05 + 4.99)
    assert throttle.due(10.05 + 5.01)
    throttle.drawn(20.0, 20.0001)
    assert not throttle.due(20.05)
    assert throttle.due(20.2)


def test_terminals_get_a_bar_and_files_get_lines():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    assert isinstance(make_progress(True, io.StringIO()), Lines)
    assert isinstance(make_progress(False), Silent)
    stream = Terminal()
    bar = make_progress(True, stream)
    assert isinstance(bar, Bar)
    bar.show(NOW)
    bar.say("a sentence [with] brackets")
    bar.close()
    assert "loss 0.314" in stream.getvalue()
    assert "a sentence [with] brackets" in stream.getvalue()


def test_lines_come_rarely(tmp_path):

    stream = io.StringIO()
    fit(network(), points(), steps=200, lr=0.01, batch_size=8, progress=Lines(stream), out=tmp_path / "run")
    text = stream.getvalue().splitlines()
    assert text[0] == "loss: cross_entropy (the targets are whole numbers: classes)"
    assert text[1:] == [line for line in text if line.startswith("step 200/200")]


def test_predict_takes_arrays_and_leaves_the_model_as_it_was(tmp_path):
    run = quiet_fit(network(dropout=0.5), points(), steps=3, out=tmp_path / "run")
    x = points(10)[0]
    run.model.train()
    first = run.predict(x.numpy().astype(np.float64), batch_size=3)
    assert torch.equal(first, run.predict(x, batch_size=3))
    assert run.model.training
    assert first.shape == (10, 3)


def test_model_with_tied_weights_is_saved_and_resumed(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    options = {"steps": 6, "batch_size": 8, "save_every": 3}
    run = quiet_fit(Tied(), points(), out=tmp_path / "run", **options)
    saved = load_file(run.dir.model)
    assert torch.equal(saved["a.weight"], saved["b.weight"])
    again = quiet_fit(Tied(), points(), resume=tmp_path / "run" / "checkpoints" / "step-000003", **options)
    assert again.model.a.weight is again.model.b.weight
    assert torch.equal(again.model.a.weight, run.model.a.weight)


def test_a_metric_that_is_undefined_on_a_batch_has_no_value_there(tmp_path):
    x, _ = points(9)
    run = quiet_fit(
        linear(outputs=1),
        (x, x[:, :1]),
        epochs=2,
        batch_size=4,
        log_every=1,
        loss="mse",
        out=tmp_path / "run",
    )
    logged = lines(run, "train")
    assert [("r2" in line) for line in logged] == [True, True, False] * 2
    assert "train_r2" not in run.metrics
    assert math.isfinite(run.metrics["train_loss"])
