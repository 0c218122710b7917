"""Schedule-Free in the loop: judged and kept at the average, resumed from where gradients are taken."""

import warnings

import pytest
import torch

import kudari.optim
from kudari.train.averaging import averaged_weights
from tests.cpu.test_train_resume import stopped_and_resumed
from tests.cpu.train_runs import linear, network, points, quiet_fit, same_bits

NAMES = ["schedulefreesgd", "schedulefreeadamw"]


@pytest.mark.parametrize("name", NAMES)
def test_the_final_weights_are_the_averaged_ones(name, tmp_path):
    made = []

    def build(params):
        made.append(kudari.optim.get(name)(list(params), lr=0.1))
        return made[0]

    run = quiet_fit(linear(), points(), points(20, 1), steps=12, optimizer=build, out=tmp_path / "run")
    averaged = run.model.weight.detach().clone()
    made[0].train()
    assert not torch.equal(run.model.weight, averaged)
    made[0].eval()
    torch.testing.assert_close(run.model.weight.detach(), averaged)


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_ends_with_the_same_bits(name, tmp_path):
    options = {"optimizer": kudari.optim.get(name), "epochs": 6, "batch_size": 5}
    whole, resumed = stopped_and_resumed(tmp_path, linear, points, points(20, 1), **options)
    assert same_bits(whole.model, resumed.model)


def test_judging_leaves_the_weights_of_training_as_they_were():
    p = torch.nn.Parameter(torch.randn(50))
    optimizer = kudari.optim.ScheduleFreeAdamW([p], lr=0.3)
    optimizer.train()
    for _ in range(3):
        p.grad = torch.randn(50)
        optimizer.step()
    before = p.detach().clone()
    with averaged_weights(optimizer):
        assert not torch.equal(p.detach(), before)
    assert torch.equal(p.detach(), before)


def test_batch_norm_is_warned_of_and_other_optimizers_are_not(tmp_path):
    with pytest.warns(UserWarning, match="batch norms have statistics of the others"):
        quiet_fit(network(), points(), steps=2, optimizer="schedulefreesgd", out=tmp_path / "a")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet_fit(network(), points(), steps=2, optimizer="adamw", out=tmp_path / "b")
