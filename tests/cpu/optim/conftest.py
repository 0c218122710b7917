"""Gradients and trajectories shared by the claims about optimizers."""

import pytest
import torch

import kudari.optim
from tests.cpu.optim.cases import SHAPES


def start(dtype=torch.float64, shapes=SHAPES, seed=0):
    gen = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(s, dtype=torch.float64, generator=gen).to(dtype)) for s in shapes]


def gradients(step, dtype=torch.float64, shapes=SHAPES):
    """The same stream for everybody; sizes from 1e-3 to 10, some exact zeros."""
    gen = torch.Generator().manual_seed(1000 + step)
    found = []
    for s in shapes:
        g = torch.randn(s, dtype=torch.float64, generator=gen)
        size = 10.0 ** torch.randint(-3, 2, s, generator=gen).double()
        found.append((g * size * (torch.rand(s, generator=gen) > 0.1)).to(dtype))
    return found


def build(name, params, **kw):
    """One of our optimizers, ready to step."""
    optimizer = getattr(kudari.optim, name)(params, **kw)
    if hasattr(optimizer, "train"):
        optimizer.train()
    return optimizer


def trajectory(make, steps=50, dtype=torch.float64, shapes=SHAPES, threads=1):
    torch.set_num_threads(threads)
    params = start(dtype, shapes)
    optimizer = make(params)
    for step in range(steps):
        for p, g in zip(params, gradients(step, dtype, shapes), strict=True):
            p.grad = g
        optimizer.step()
    torch.set_num_threads(1)
    return [p.detach() for p in params], optimizer


@pytest.fixture
def ours():
    return lambda name, **kw: lambda params: build(name, params, **kw)
