"""Culprits: each must fail the exam of rules by the claim that is about its fault, and by no other."""

import inspect

import pytest
import torch

from kudari.compile import cpu
from kudari.compile.notation import Step, ema, hyper, option, rule, sign, sqrt, state
from kudari.errors import ArgumentError
from kudari.optim import binding, hypers, make_class
from kudari.optim.describe import program
from kudari.testing import RuleExamError, check_rule
from kudari.testing.rule_exam import CHECKS, Backend

CASES = ({"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.3}, {})


def oracle(p, g, s, *, lr=1e-2, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1):
    """AdamW in NumPy."""
    import numpy as np

    s["t"] = t = s.get("t", 0) + 1
    s["m"] = betas[0] * s.get("m", 0.0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0.0) + (1 - betas[1]) * g * g
    u = s["m"] / (1 - betas[0] ** t) / (np.sqrt(s["v"] / (1 - betas[1] ** t)) + eps)
    return p - lr * weight_decay * p - lr * u


def adamw(change=lambda p, g, m_t, v_t, u, t, h: {}, name="Culprit", non_negative=("v",)):
    """AdamW of which one expression may be replaced: ``change`` gives new values for what Step is given."""

    @rule(name=name, source="a culprit")
    def culprit(
        p, g, m=state("exp_avg", non_negative="m" in non_negative),
        v=state("exp_avg_sq", non_negative="v" in non_negative), *, t, lr=hyper(1e-2, at_least=0),
        betas=hyper((0.9, 0.99), at_least=0, below=1), eps=hyper(1e-8, at_least=0),
        weight_decay=hyper(0.1, at_least=0),
    ):  # fmt: skip
        m_t = ema(m, g, betas[0])
        v_t = ema(v, g**2, betas[1])
        u = m_t / (1 - betas[0] ** t) / (sqrt(v_t / (1 - betas[1] ** t)) + eps)
        new = {"p": (1 - lr * weight_decay) * p - lr * u, "m": m_t, "v": v_t}
        h = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        return Step(**{**new, **change(p, g, m_t, v_t, u, t, h)})

    return culprit


def failed(subject, **kwargs):
    """Names of the claims that do not hold."""
    given = {"oracle": oracle, "cases": CASES, "steps": 12, **kwargs}
    with pytest.raises(RuleExamError) as caught:
        check_rule(subject, **given)
    return {claim.name for claim in caught.value.claims if not claim.passed}


def test_a_right_rule_passes_and_every_claim_is_asked():
    claims = check_rule(adamw(), oracle=oracle, cases=CASES, steps=12, sharded=lambda cls, case: "")
    assert [c.name for c in claims] == [*CHECKS, "sharded"]
    assert all(c.passed and not c.detail for c in claims)


WRONG = {
    "flipped sign": lambda p, g, m, v, u, t, h: {"p": (1 - h["lr"] * h["weight_decay"]) * p + h["lr"] * u},
    "wrong bias correction": lambda p, g, m, v, u, t, h: {
        "p": (1 - h["lr"] * h["weight_decay"]) * p
        - h["lr"] * m / (1 - h["betas"][0] ** (t + 1)) / (sqrt(v / (1 - h["betas"][1] ** t)) + h["eps"])
    },
    "eps inside the root": lambda p, g, m, v, u, t, h: {
        "p": (1 - h["lr"] * h["weight_decay"]) * p
        - h["lr"] * m / (1 - h["betas"][0] ** t) / sqrt(v / (1 - h["betas"][1] ** t) + h["eps"])
    },
    "decay of the rate of the constructor": lambda p, g, m, v, u, t, h: {
        "p": (1 - 1e-2 * h["weight_decay"]) * p - h["lr"] * u
    },
    "decay after the step": lambda p, g, m, v, u, t, h: {
        "p": (1 - h["lr"] * h["weight_decay"]) * (p - h["lr"] * u)
    },
}
CASES_OF_RATE = ({"lr": 0.03, "weight_decay": 0.3, "eps": 1e-2}, {"eps": 1e-3})


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_formula_fails_the_oracle_alone(fault):
    assert failed(adamw(WRONG[fault]), cases=CASES_OF_RATE) == {"oracle"}


def test_maximize_that_is_ignored_fails_the_oracle_alone():
    right = make_class(adamw())

    class Descends(right):
        def _prepared(self, index, group, scale):
            return super()._prepared(index, {**group, "maximize": False}, scale)

    assert failed(Descends) == {"oracle"}


def test_a_hyperparameter_that_nobody_reads_has_no_effect():
    def blind(p, g, m, v, u, t, h):
        return {"p": (1 - h["lr"] * 0.1) * p - h["lr"] * u}

    assert failed(adamw(blind), oracle=None) == {"effect"}
    assert check_rule(adamw(blind), cases=CASES, no_effect=["weight_decay"])


def test_an_option_that_nobody_reads_has_no_effect():
    @rule(name="Culprit", source="a culprit")
    def culprit(p, g, *, lr=hyper(0.1, at_least=0), nesterov=option(False)):
        return Step(p=p - lr * g)

    assert failed(culprit, oracle=None, cases=None) == {"effect"}


def test_a_state_that_is_forgotten_at_a_save_fails_the_resume_alone():
    class Forgetful(make_class(adamw())):
        def state_dict(self):
            found = super().state_dict()
            slim = {k: {n: x for n, x in v.items() if n != "exp_avg_sq"} for k, v in found["state"].items()}
            return {**found, "state": slim}

    # The claim of one float32 step hands its state over by a checkpoint too.
    assert failed(Forgetful) == {"resume", "float32"}


def test_a_state_that_the_rule_forgets_to_update_is_refused_before_the_exam():
    @rule(name="Culprit", source="a culprit")
    def culprit(p, g, m=state("exp_avg"), *, lr=hyper(0.1, at_least=0)):
        return Step(p=p - lr * (m + g))

    with pytest.raises(Exception, match="Culprit never gives a new value to m"):
        check_rule(culprit)


def with_step(around):
    """The right optimizer, with something around its step."""

    class Changed(make_class(adamw())):
        def _step(self, closure=None):
            return around(self, super()._step)

    return Changed


def parameters(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def test_a_step_that_writes_to_the_gradient_fails_by_that_alone():
    def around(optimizer, step):
        step()
        for p in parameters(optimizer):
            p.grad.mul_(0.5)

    # The exam hands out fresh gradients everywhere else.
    assert failed(with_step(around)) == {"gradient"}


def test_a_step_that_replaces_the_gradient_fails_by_that_alone():
    def around(optimizer, step):
        step()
        for p in parameters(optimizer):
            p.grad = p.grad.clone()

    assert failed(with_step(around)) == {"gradient"}


def test_a_state_that_is_the_gradient_fails_by_that_alone():
    def around(optimizer, step):
        step()
        for p in parameters(optimizer):
            optimizer.state[p]["last"] = p.grad.detach()

    assert "gradient" in failed(with_step(around)) <= {"gradient", "backends"}


def test_a_result_that_depends_on_the_split_fails_by_that_alone():
    def around(optimizer, step):
        rates = [group["lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1 + 1e-7 * (len(group["params"]) - len(optimizer.param_groups)))
        step()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    assert "split" in failed(with_step(around)) <= {"split", "mixed-dtypes", "oracle", "float32"}


def test_a_result_that_depends_on_the_number_of_threads_fails_by_that_alone():
    def around(optimizer, step):
        step()
        for p in parameters(optimizer):
            p.data.mul_(1 + 1e-6 * (torch.get_num_threads() - 1))

    assert failed(with_step(around)) == {"threads"}


def test_a_parameter_that_is_moved_to_another_place_fails_by_that_alone():
    def around(optimizer, step):
        step()
        for p in parameters(optimizer):
            if not p.is_contiguous():
                p.data = p.data.clone()

    assert failed(with_step(around)) == {"strides"}


def test_a_tail_that_is_written_too_far_fails_by_sizes():
    def around(optimizer, step):
        step()
        for p in parameters(optimizer):
            if p.shape == (1,):
                p.data.as_strided((2,), (1,))[1] = 0

    # Cut in two at the first element, a tensor has its tail in its neighbour's memory.
    assert "sizes" in failed(with_step(around)) <= {"sizes", "split"}


def test_a_nan_that_is_zeroed_in_silence_fails_by_that_alone():
    def around(optimizer, step):
        for p in parameters(optimizer):
            p.kept, p.grad = p.grad, p.grad.nan_to_num(0.0)
        step()
        for p in parameters(optimizer):
            p.grad = p.kept

    assert failed(with_step(around)) == {"nonfinite"}


def test_a_dtype_that_is_passed_over_fails_by_that_alone():
    def around(optimizer, step):
        mixed = len({p.dtype for p in parameters(optimizer)}) > 1
        kept = {p: p.detach().clone() for p in parameters(optimizer) if mixed and p.dtype is torch.bfloat16}
        step()
        for p, value in kept.items():
            p.data.copy_(value)

    assert failed(with_step(around)) == {"mixed-dtypes"}


def test_low_precision_that_is_rounded_twice_fails_by_that_alone():
    def around(optimizer, step):
        low = [p for p in parameters(optimizer) if p.dtype in (torch.bfloat16, torch.float16)]
        for p in low:
            p.data.mul_(1 - 1e-2 * 0.1)
        step()

    assert "low-precision" in failed(with_step(around)) <= {"low-precision", "mixed-dtypes"}


def test_a_tensor_without_gradient_that_decays_fails_by_that_alone():
    def around(optimizer, step):
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    p.data.mul_(0.99)
        step()

    assert failed(with_step(around)) == {"skips"}


def test_a_count_of_gradients_that_stands_still_fails_by_that_alone():
    @rule(name="Culprit", source="a culprit")
    def counting(p, g, *, t, lr=hyper(0.1, at_least=0)):
        """Keep a count that the formula does not read."""
        return Step(p=p - lr * g)

    class Standing(make_class(counting)):
        def step(self, closure=None):
            super().step(closure)
            for entry in self.state.values():
                entry["step"].zero_()

    assert failed(Standing, oracle=lambda p, g, s, lr=0.1: p - lr * g, cases=({},)) == {"skips"}


def test_a_rate_that_is_compiled_in_fails_by_that_alone():
    right = adamw()

    class Baked(make_class(right)):
        def _step(self, closure=None):
            cpu.compile_cpu(_program_of_a_rate(self.param_groups[0]["lr"]))
            return super()._step(closure)

    assert failed(Baked) == {"recompile"}


def _program_of_a_rate(lr):
    @rule(name="Baked", source="a culprit")
    def baked(p, g):
        return Step(p=p - lr * g)

    return program(baked)


def test_a_range_that_is_not_checked_fails_by_that_alone(monkeypatch):
    right = hypers._check_number

    def lax(rule, declared, label, value):
        if declared.name != "lr":
            right(rule, declared, label, value)

    monkeypatch.setattr(hypers, "_check_number", lax)
    assert failed(adamw()) == {"ranges"}


def test_a_refusal_without_the_value_fails_by_that_alone(monkeypatch):
    from kudari.errors import HyperError

    monkeypatch.setattr(hypers, "_refuse", lambda rule, *rest: HyperError(f"{rule.name}: invalid value"))
    assert failed(adamw()) == {"ranges"}


def test_a_docstring_without_an_argument_fails_by_that_alone():
    class Silent(make_class(adamw())):
        """AdamW."""

    assert failed(Silent) == {"prints"}


def test_an_argument_that_is_swallowed_fails_by_that_alone():
    class Swallows(make_class(adamw())):
        def __init__(self, params, **kwargs):
            known = inspect.signature(make_class(adamw())).parameters
            super().__init__(params, **{k: v for k, v in kwargs.items() if k in known})

    assert failed(Swallows) == {"refuses-misspelt"}


def test_float32_arithmetic_that_is_too_coarse_fails_by_that_alone():
    def around(optimizer, step):
        step()
        for p in parameters(optimizer):
            if p.dtype is torch.float32 and p.numel() == 1024:
                p.data.mul_(1 + 1e-6)

    assert failed(with_step(around)) == {"float32"}


@pytest.mark.parametrize("declared", [(), ("m", "v")])
def test_states_declared_with_the_wrong_sign_fail_by_their_codes_alone(declared):
    assert failed(adamw(non_negative=declared)) == {"low-bit-states"}


def test_a_backend_that_computes_something_else_fails_by_that_alone(monkeypatch):
    right = binding.EagerBinding.run

    def wrong(self, numbers, threads):
        right(self, [number * 1.001 for number in numbers], threads)

    monkeypatch.setattr(binding.EagerBinding, "run", wrong)
    assert failed(adamw()) == {"backends", "float32", "sizes"}


def test_a_difference_between_sharded_and_whole_is_reported():
    assert failed(adamw(), sharded=lambda cls, case: "rank 1 is elsewhere") == {"sharded"}


def test_one_fault_does_not_hide_another_and_the_report_says_which():
    @rule(name="Culprit", source="a culprit")
    def culprit(p, g, *, lr=hyper(0.1, at_least=0), wd=hyper(0.0, at_least=0)):
        return Step(p=p + lr * sign(g))

    with pytest.raises(RuleExamError) as caught:
        check_rule(culprit, oracle=lambda p, g, s, lr=0.1, wd=0.0: p - lr * g)
    assert "Culprit fails:\n  oracle: defaults: after 50 steps" in str(caught.value)
    assert "\n  effect: wd has no effect: " in str(caught.value)


def test_a_crash_on_one_backend_is_a_counterexample():
    def refuse(x):
        raise OSError("no such device")

    assert failed(adamw(), backends=(Backend("cpu", torch.nn.Parameter), Backend("none", refuse))) == {
        "backends", "float32", "gradient", "low-bit-states", "low-precision", "sizes",
    }  # fmt: skip


def test_a_claim_that_does_not_exist_cannot_be_left_out():
    with pytest.raises(ArgumentError, match=r"without='orakle' .* Did you mean 'oracle'\?"):
        check_rule(adamw(), without=["orakle"])
