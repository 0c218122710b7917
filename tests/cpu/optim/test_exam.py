"""Every rule of kudari.optim sits the public exam, against an oracle written from the paper."""

import pytest
import torch

import kudari.optim
from kudari.testing.rule_exam import Bounds, WholeModel, check_rule
from tests import oracle
from tests.cpu.optim.cases import CASES

# Classes whose oracle is not in the common table, because it needs more than one tensor and its gradient.
ORACLES = {
    **oracle.ORACLES,
    "LAMB": WholeModel(oracle.lamb),
    "Prodigy": WholeModel(oracle.prodigy),
    "LARS": oracle.lars,
    "StableAdamW": oracle.stable_adamw,
    "SophiaG": oracle.sophia_every_third,
    "SophiaH": oracle.sophia_h_every_third,
}


def curve_g(optimizer, step):
    if step % 3 == 0:
        optimizer.update_hessian()


def curve_h(optimizer, step):
    if step % 3 == 0:
        optimizer.update_hessian(hessian=[p.grad for g in optimizer.param_groups for p in g["params"]])


# float64 is held to 1e-12 where the contract asks for 1e-9, and what each class needs beside that.
EXACT = Bounds(float64=1e-12)
ASKED = {
    "SophiaG": {"before_step": curve_g},
    "SophiaH": {"before_step": curve_h, "no_effect": ("probe",)},  # acts where estimates are made
    # p - p0 is read after p has been rounded, and d grows by it.
    "Prodigy": {"bounds": Bounds(float64=1e-12, float32=1e-3)},
    # The centered variance cancels.
    "RMSprop": {"bounds": Bounds(float64=1e-12, float32=5e-5)},
    # p moves towards z and against the gradient at once; either may be much larger than their sum.
    "ScheduleFreeSGD": {"bounds": Bounds(float64=1e-12, ulp=4.0)},
}


# Products of matrices have other bits for other threads, and null spaces no definite basis: these classes
# have claims of their own in test_matrices.py.
MATRICES = ("Muon", "SOAP", "Shampoo")


@pytest.mark.parametrize("name", [r.name for r in kudari.optim.rules() if r.name not in MATRICES])
def test_every_rule_passes_the_exam(name):
    cases = [kw for n, kw in CASES if n == name]
    assert cases, f"add configurations of {name} to cases.py"
    assert any(kw.get("weight_decay") for kw in cases)
    asked = {"bounds": EXACT, **ASKED.get(name, {})}
    check_rule(getattr(kudari.optim, name), oracle=ORACLES[name], cases=cases, **asked)


def test_the_exam_leaves_torch_as_it_found_it():
    torch.set_num_threads(1)
    state = torch.random.get_rng_state()
    check_rule(kudari.optim.Lion)
    assert torch.get_num_threads() == 1
    assert torch.equal(torch.random.get_rng_state(), state)
