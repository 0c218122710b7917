"""How far low-bit states lead from the trajectory of full precision, on gradients of a real training run."""

import functools

import pytest
import torch
from sklearn.datasets import load_digits

import kudari.optim

STEPS = 200
# Values that people use; the network is digits 64-80-10, whose first matrix has 5,120 elements.
VALUES = {
    "SGD": {"lr": 0.02, "momentum": 0.9}, "LARS": {"lr": 0.5, "momentum": 0.9}, "Lion": {"lr": 1e-4},
    "LAMB": {}, "RMSprop": {}, "Adam": {}, "AdamW": {}, "NAdam": {}, "RAdam": {}, "Adamax": {},
    "ADOPT": {}, "StableAdamW": {}, "AdamAtan2": {"lr": 1e-3},
}  # fmt: skip
# Of the contract: share of the distance moved, and of the loss. The loss of 4 bits is noisier.
BOUND = {"bf16": 0.03, "8bit": 0.15, "4bit": 0.75, "8bit-dynamic": 0.3}
OTHER = {("bf16", "Lion"): 0.05, ("bf16", "Adamax"): 0.1, ("8bit", "Lion"): 0.2, ("8bit", "SGD"): 0.06,
         ("8bit", "LARS"): 0.06, ("4bit", "Lion"): 0.9}  # fmt: skip
LOSS = {"bf16": 0.015, "8bit": 0.015, "4bit": 0.04, "8bit-dynamic": 0.03}


@functools.cache
def digits():
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 80), torch.nn.ReLU(), torch.nn.Linear(80, 10))


def deeper_network():
    torch.manual_seed(0)
    first, second = torch.nn.Linear(64, 256), torch.nn.Linear(256, 128)
    return torch.nn.Sequential(first, torch.nn.ReLU(), second, torch.nn.ReLU(), torch.nn.Linear(128, 10))


def loss_of(model):
    x, y = digits()
    with torch.no_grad():
        return torch.nn.functional.cross_entropy(model(x), y).item()


def recorded(name, network=network, seed=1):
    """A run in full precision: where it ended, and its gradients."""
    x, y = digits()
    model, order = network(), torch.Generator().manual_seed(seed)
    optimizer = getattr(kudari.optim, name)(model.parameters(), **VALUES[name])
    gradients = []
    for _ in range(STEPS):
        rows = torch.randint(0, len(x), (64,), generator=order)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        gradients.append([p.grad for p in model.parameters()])
        optimizer.step()
    return model, gradients


def replayed(name, gradients, state_dtype, network=network):
    model = network()
    optimizer = getattr(kudari.optim, name)(model.parameters(), state_dtype=state_dtype, **VALUES[name])
    for row in gradients:
        for p, g in zip(model.parameters(), row, strict=True):
            p.grad = g
        optimizer.step()
    return model


@pytest.mark.parametrize("name", VALUES)
def test_low_bit_states_stay_near_full_precision_on_real_gradients(name):
    model, gradients = recorded(name)
    moved = (model[0].weight - network()[0].weight).norm()
    loss = loss_of(model)
    for state_dtype, bound in BOUND.items():
        if (state_dtype, name) == ("4bit", "ADOPT"):
            continue
        low = replayed(name, gradients, state_dtype)
        drift = ((low[0].weight - model[0].weight).norm() / moved).item()
        change = loss_of(low) / loss - 1
        assert drift <= OTHER.get((state_dtype, name), bound), (state_dtype, drift)
        assert abs(change) <= LOSS[state_dtype], (state_dtype, change)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lamb_in_4_bits_learns_as_much_where_two_of_three_matrices_are_coded(seed):
    # LAMB divides by the length of its direction, to which the codes' noise adds.
    model, gradients = recorded("LAMB", deeper_network, seed)
    low = replayed("LAMB", gradients, "4bit", deeper_network)
    assert abs(loss_of(low) / loss_of(model) - 1) <= LOSS["4bit"]
