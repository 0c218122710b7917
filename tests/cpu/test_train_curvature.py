"""Optimizers that ask for the curvature are given it by the loop."""

import pytest
import torch
from torch import nn

import kudari.optim
from kudari.errors import ArgumentError
from tests.cpu.test_train_resume import stopped_and_resumed
from tests.cpu.train_runs import CLASSES, FEATURES, linear, lines, points, quiet_fit, same_bits

NAMES = ["sophiag", "sophiah"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Keeping:
    """Builds an optimizer and keeps it."""

    def __init__(self, name):
        self.name = name

    def __call__(self, params):
        self.made = kudari.optim.get(self.name)(list(params), lr=0.01)
        return self.made


def curvature(optimizer):
    return [optimizer.state[p]["hessian"] for group in optimizer.param_groups for p in group["params"]]


@pytest.mark.parametrize("name", NAMES)
def test_curvature_is_taken_at_every_tenth_step(name):
    for steps, taken in ((9, False), (10, True)):
        build = Keeping(name)
        quiet_fit(linear(), points(), steps=steps, batch_size=25, optimizer=build)
        assert all(h.any() == taken for h in curvature(build.made)), steps


def test_curvature_of_sampled_labels_is_near_the_fisher_information():
    """For a linear map and softmax the exact diagonal is known; sampling makes the estimate noisy."""
    build, model = Keeping("sophiag"), linear()
    x, y = points(4000)
    quiet_fit(model, (x, y), steps=10, batch_size=4000, optimizer=build, schedule="constant")
    chances = model(x).softmax(1).detach()
    exact = (chances * (1 - chances)).T @ x**2 / 4000
    group = build.made.param_groups[0]
    assert group["bs"] == 4000
    found = curvature(build.made)[0] * group["bs"] / (1 - group["betas"][1])
    # Each entry is the square of a normal variable: over 18 of them the mean is within 2 of 1.
    assert 0.3 < (found / exact).mean() < 3


def test_the_hessian_of_a_quadratic_loss_is_exact():
    build, model = Keeping("sophiah"), linear(outputs=1)
    x = torch.eye(FEATURES)
    quiet_fit(model, (x, torch.zeros(FEATURES, 1)), loss="mse", steps=10, batch_size=6, optimizer=build)
    expected = torch.full((1, FEATURES), 2 / FEATURES)
    found = curvature(build.made)[0] / (1 - build.made.param_groups[0]["betas"][1])
    # A probe's cross terms are those with the bias: 2/6 up or down.
    assert torch.all((found - expected).abs() <= 2 / FEATURES + 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_ends_with_the_same_bits(name, tmp_path):
    options = {"optimizer": kudari.optim.get(name), "epochs": 6, "batch_size": 5}
    whole, resumed = stopped_and_resumed(tmp_path, linear, points, points(20, 1), **options)
    assert same_bits(whole.model, resumed.model)


@pytest.mark.parametrize("name", NAMES)
def test_the_doctor_finds_nothing_and_the_norm_in_the_log_is_that_of_the_step(name):
    run = quiet_fit(linear(), points(), steps=30, log_every=10, optimizer=name, lr=1e-6, batch_size=50)
    assert run.facts.diagnoses == ()
    plain = quiet_fit(linear(), points(), steps=30, log_every=10, optimizer="adamw", lr=1e-6, batch_size=50)
    norms = [[line["grad_norm"] for line in lines(r, "train")] for r in (run, plain)]
    # At this rate nothing moves, so all gradients are the same.
    assert norms[0] == pytest.approx(norms[1], rel=1e-2) and len(norms[0]) == 3


def test_attention_is_differentiated_twice():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.out = nn.Linear(FEATURES, 8), nn.Linear(8, CLASSES)

        def forward(self, x):
            q = self.query(x).view(-1, 1, 2, 4)
            return self.out(nn.functional.scaled_dot_product_attention(q, q, q).flatten(1))

    build = Keeping("sophiah")
    quiet_fit(Attending(), points(), steps=10, optimizer=build)
    assert all(torch.isfinite(h).all() for h in curvature(build.made))


def test_sampled_labels_need_a_loss_of_classes():
    with pytest.raises(ArgumentError, match="sophiah"):
        quiet_fit(linear(outputs=1), (torch.randn(20, FEATURES), torch.randn(20, 1)), loss="mse",
                  optimizer="sophiag", steps=3)  # fmt: skip
