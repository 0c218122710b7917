"""Models are standard, readable, and fit the data they are chosen for."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from kudari.data import load_digits, load_path
from kudari.errors import ArgumentError
from kudari.models import build, cnn, default_spec, depth_for, describe, mlp


def test_mlp_counts_its_parameters():
    assert describe(mlp(64, [128], 10)) == "mlp 64-128-10, 9,610 parameters"
    assert describe(mlp(3, [], 1)) == "mlp 3-1, 4 parameters"
    assert describe(nn.Sequential(nn.Linear(3, 2))) == "Sequential, 8 parameters"


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
def test_mlp_is_its_formula(activation):
    torch.manual_seed(0)
    model, x = mlp(6, [5, 4], 3, activation=activation), torch.randn(7, 2, 3)
    function = {
        "relu": torch.relu,
        "gelu": nn.functional.gelu,
        "silu": nn.functional.silu,
        "tanh": torch.tanh,
    }
    h = x.flatten(1)
    for layer in model.hidden:
        h = function[activation](h @ layer.weight.T + layer.bias)
    expected = h @ model.output.weight.T + model.output.bias
    assert torch.allclose(model(x), expected, atol=1e-6)


def test_dropout_acts_only_while_training():
    torch.manual_seed(0)
    model, x = mlp(8, [64], 2, dropout=0.5), torch.randn(4, 8)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_mlp_starts_with_the_variance_of_he():
    torch.manual_seed(0)
    model = mlp(512, [512, 512], 512)
    x = torch.randn(2000, 512)
    h = x
    for layer in model.hidden:
        h = torch.relu(layer(h))
        # relu keeps the second moment where weights have variance 2 / fan_in; the draws scatter by a few %
        assert h.square().mean().item() == pytest.approx(1, abs=0.1)
        assert layer.bias.abs().max() == 0
    assert model(x).square().mean().item() == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("side", [1, 5, 8, 28, 33, 64, 224])
def test_cnn_takes_any_size(side):
    depth, downsample = depth_for(side, side)
    model = cnn(3, 4, width=4, depth=depth, downsample=downsample)
    assert model(torch.randn(2, 3, side, side + 3)).shape == (2, 4)
    features = model.stages(model.stem(torch.randn(2, 3, side, side)))
    assert 1 <= features.shape[-1] <= 8
    assert describe(model).startswith("cnn 3-4")


def test_cnn_blocks_start_as_their_shortcut():
    torch.manual_seed(0)
    block = cnn(1, 2, width=4, depth=1).stages[0].eval()
    x = torch.randn(2, 4, 6, 6).relu()
    assert torch.equal(block(x), x)


def test_cnn_learns_where_something_is():
    torch.manual_seed(0)
    x = torch.zeros(64, 1, 8, 8)
    y = torch.arange(64) % 2
    x[y == 0, :, ::2] = 1  # stripes one way
    x[y == 1, :, :, ::2] = 1  # and the other
    model = cnn(1, 2, width=4, depth=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(25):
        loss = nn.functional.cross_entropy(model(x + 0.3 * torch.randn_like(x)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    assert (model(x).argmax(1) == y).all()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "None is not known"),
        ({"name": "mpl"}, "Did you mean 'mlp'"),
        ({"name": "mlp", "in_features": 3, "widths": [4]}, "out_features missing"),
        (
            {"name": "mlp", "in_features": 3, "widths": [4], "out_features": 2, "droput": 0.1},
            "Did you mean 'dropout'",
        ),
        ({"name": "mlp", "in_features": 3, "widths": [0], "out_features": 2}, r"widths=\[0\]"),
        ({"name": "mlp", "in_features": 0, "widths": [], "out_features": 2}, "in_features=0"),
        ({"name": "mlp", "in_features": 3, "widths": [], "out_features": 2, "dropout": 1.0}, "dropout=1.0"),
        (
            {"name": "mlp", "in_features": 3, "widths": [], "out_features": 2, "activation": "rel"},
            "mean 'relu'",
        ),
        ({"name": "cnn", "in_channels": 3, "out_features": 2, "depth": 0}, "depth=0"),
        ({"name": "cnn", "in_channels": 3, "out_features": 2, "downsample": 3}, "Allowed: 1, 2, 4"),
    ],
)
def test_impossible_specs_are_refused(spec, message):
    with pytest.raises(ArgumentError, match=message):
        build(spec)


def test_same_seed_same_weights():
    spec = {"name": "cnn", "in_channels": 1, "out_features": 2, "width": 4}
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build(spec).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_default_model_of_the_digits_is_the_small_mlp():
    spec = default_spec(load_digits())
    assert json.loads(json.dumps(spec)) == spec
    assert describe(build(spec)) == "mlp 64-128-10, 9,610 parameters"


@pytest.mark.parametrize(
    ("x", "y", "name", "outputs"),
    [
        (np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) % 3, "mlp", 3),
        (np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) / 7, "mlp", 1),
        (
            np.random.default_rng(0).normal(size=(40, 5)),
            np.random.default_rng(0).normal(size=(40, 2)),
            "mlp",
            2,
        ),
        (np.random.default_rng(0).normal(size=(40, 5, 6)), np.arange(40) % 2, "mlp", 2),
        (np.random.default_rng(0).normal(size=(40, 3, 24, 20)), np.arange(40) % 2, "cnn", 2),
    ],
)
def test_default_model_fits_the_data(tmp_path, x, y, name, outputs):
    np.savez(tmp_path / "t.npz", X=x, y=y)
    bundle = load_path(tmp_path / "t.npz")
    spec = default_spec(bundle)
    assert spec["name"] == name
    assert build(spec)(bundle.train.inputs).shape == (len(bundle.train), outputs)
