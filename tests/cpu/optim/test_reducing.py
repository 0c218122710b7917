"""Optimizers with norms and means in them: what the exam does not ask."""

import pytest
import torch

import kudari.optim
from tests.cpu.optim.conftest import gradients, start


def test_norms_of_all_groups_and_dtypes_make_one_model_norm(ours):
    shapes = [(30,), (40,)]
    whole = start(torch.float64, shapes)
    parts = [torch.nn.Parameter(p.detach().clone()) for p in whole]
    together = kudari.optim.LAMB(whole, variant="nvlamb")
    apart = kudari.optim.LAMB([{"params": [p]} for p in parts], variant="nvlamb")
    for step in range(3):
        for ps in (whole, parts):
            for p, g in zip(ps, gradients(step, torch.float64, shapes), strict=True):
                p.grad = g
        together.step()
        apart.step()
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_the_first_lamb_step_moves_every_tensor_by_lr_times_its_norm():
    params = start(torch.float64, [(20, 30), (7,)])
    before = [p.detach().clone() for p in params]
    for p, g in zip(params, gradients(0, torch.float64, [(20, 30), (7,)]), strict=True):
        p.grad = g
    kudari.optim.LAMB(params, lr=0.01).step()
    for p, b in zip(params, before, strict=True):
        torch.testing.assert_close((p.detach() - b).norm(), 0.01 * b.norm(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["LAMB", "LARS", "StableAdamW"])
def test_complex_parameters_are_refused_by_classes_that_couple_elements(name):
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))
    p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match=rf"{name} cannot update a complex"):
        getattr(kudari.optim, name)([p]).step()
