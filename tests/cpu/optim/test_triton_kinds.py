"""GPU kernels for kinds of tensors, numbers of the model and parts around stages; and what is refused."""

from dataclasses import dataclass, replace

import pytest
import torch

import kudari.optim
from kudari.compile.expression import _intern, hyper
from kudari.compile.lower import lower
from kudari.compile.program import Pass, Program, Slot, Vector
from kudari.compile.trace import trace
from kudari.compile.triton import print_triton
from kudari.errors import CompileError
from kudari.optim.gpu_binding import GpuBinding
from kudari.optim.staged import StagedBinding
from tests.cpu.optim.conftest import build, gradients, start
from tests.cpu.optim.interpreted import bindings, interpreter, needs_triton, on_gpu, without_gpu

__all__ = ["interpreter", "on_gpu"]

MIXED = [(3, 7), (17,)]


def steps(name, kw, count=3):
    """Parameters, the optimizer and the numbers of its two groups after some steps."""
    params = start(torch.float64, MIXED)
    clip = kw.get("clip_norm")
    kw = {k: v for k, v in kw.items() if k != "clip_norm"}
    optimizer = build(name, [{"params": params[:1]}, {"params": params[1:]}], **kw)
    if clip is not None:
        kudari.optim.fuse(optimizer, clip_norm=clip)
    for step in range(count):
        for p, g in zip(params, gradients(step, torch.float64, MIXED), strict=True):
            p.grad = g
        optimizer.step()
    numbers = [{r.name: g[r.name] for r in optimizer.rule.running} for g in optimizer.param_groups]
    return [p.detach() for p in params], optimizer, numbers


def assert_as_on_the_cpu(found, name, kw):
    params, _, numbers = without_gpu(lambda: steps(name, kw))
    for a, b in zip(found[0], params, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
    for ours, theirs in zip(found[2], numbers, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-11)


@needs_triton
def test_each_kind_of_tensor_has_its_kernel(on_gpu):
    found = steps("MARS", {"lr": 0.01, "lr_1d_factor": 0.5})
    kinds = {b.program.fingerprint for b in bindings(found[1]) if isinstance(b, GpuBinding)}
    assert len(bindings(found[1])) == len(kinds) == 2
    assert_as_on_the_cpu(found, "MARS", {"lr": 0.01, "lr_1d_factor": 0.5})


@needs_triton
def test_numbers_of_the_model_grow_as_on_the_cpu(on_gpu):
    kw = {"d0": 1e-3, "growth_rate": 1.5}
    found = steps("Prodigy", kw)
    assert all(isinstance(b, GpuBinding) for b in bindings(found[1]))
    assert found[2][0]["d"] == found[2][1]["d"] > 1e-3
    assert_as_on_the_cpu(found, "Prodigy", kw)


@needs_triton
@pytest.mark.parametrize(
    ("name", "kw"), [("Muon", {}), ("Muon", {"clip_norm": 0.5}), ("SOAP", {}), ("Shampoo", {})], ids=str
)
def test_parts_around_a_stage_have_kernels(name, kw, on_gpu):
    found = steps(name, kw)
    staged = [b for b in bindings(found[1]) if isinstance(b, StagedBinding)]
    made = [part for b in staged for _, part in b.steps if part is not None]
    assert made and all(isinstance(part, GpuBinding) for part in made)
    assert_as_on_the_cpu(found, name, kw)


@needs_triton
def test_a_step_with_a_stage_that_gradscaler_forbids_changes_and_counts_nothing(on_gpu):
    params, optimizer, _ = steps("SOAP", {})
    before = [p.clone() for p in params]
    counts = [s["step"].clone() for s in optimizer.state.values()]
    optimizer.found_inf, optimizer.grad_scale = torch.tensor(1.0), torch.tensor(2.0)
    optimizer.step()
    assert all(map(torch.equal, params, before))
    optimizer.found_inf = torch.tensor(0.0)
    optimizer.step()
    assert not any(map(torch.equal, params, before))
    assert [s["step"] for s in optimizer.state.values()] == [n + 1 for n in counts]


@needs_triton
@pytest.mark.parametrize(
    ("name", "kw"),
    [("Adafactor", {"lr": 0.1}), ("Adafactor", {"clip_norm": 0.5}), ("Prodigy", {"d0": 1e-3, "slice_p": 5})],
    ids=str,
)
def test_rows_and_sliced_states_have_kernels(name, kw, on_gpu):
    found = steps(name, kw)
    assert all(isinstance(b, GpuBinding) for b in bindings(found[1])) and len(bindings(found[1])) == 2
    assert_as_on_the_cpu(found, name, kw)


def of_adamw():
    optimizer = kudari.optim.AdamW([torch.nn.Parameter(torch.ones(1))])
    return optimizer.rule, optimizer.param_groups[0]


def adamw():
    found = trace(*of_adamw())
    return lower(found, dict.fromkeys(found.slots, "f32"))


def lamb():
    optimizer = kudari.optim.LAMB([torch.nn.Parameter(torch.ones(1))])
    found = trace(optimizer.rule, optimizer.param_groups[0])
    return lower(found, dict.fromkeys(found.slots, "f32"))


@dataclass(frozen=True)
class CodedSlot(Slot):
    code: str = "8 bit"


@dataclass(frozen=True)
class StagedPass(Pass):
    stage: str = "root"


@dataclass(frozen=True)
class ShiftedVector(Vector):
    shift: int = 1


@dataclass(frozen=True)
class LongerProgram(Program):
    afterwards: str = "more"


def with_slot(program, **new):
    return replace(program, slots=(*program.slots[:-1], replace(program.slots[-1], **new)))


def with_pass(program, **new):
    return replace(program, passes=(replace(program.passes[0], **new), *program.passes[1:]))


def fields(x):
    return {name: getattr(x, name) for name in x.__dataclass_fields__}


def with_scope(program, scope):
    sums = tuple(replace(s, scope=scope) for s in program.passes[0].sums)
    return with_pass(program, sums=sums)


def adafactor():
    optimizer = kudari.optim.Adafactor([torch.nn.Parameter(torch.ones(2, 2))])
    found = trace(optimizer.rule, optimizer.param_groups[0] | {"factored": True})
    return lower(found, dict.fromkeys(found.slots, "f32"))


def of_slots(program, **new):
    """A program whose slots of these names are changed."""
    return replace(program, slots=tuple(replace(s, **new.get(s.name, {})) for s in program.slots))


UNKNOWN = {
    "a storage type": lambda: with_slot(adamw(), dtype="u8"),
    "codes by rows": lambda: with_slot(adamw(), dtype="8bit unsigned", shape="rows"),
    "every second code": lambda: with_slot(adamw(), dtype="8bit unsigned", every=2),
    "codes in a pass by rows": lambda: of_slots(adafactor(), R={"dtype": "8bit unsigned"}),
    "codes in a pass over some elements": lambda: replace(
        with_pass(with_slot(adamw(), dtype="8bit unsigned"), every=2),
        slots=tuple(replace(s, every=2) for s in with_slot(adamw(), dtype="8bit unsigned").slots),
    ),
    "one value a row as one an element": lambda: with_slot(adamw(), shape="rows"),
    "one value a column as one an element": lambda: with_slot(adamw(), shape="columns"),
    "one value a row as one a column": lambda: of_slots(adafactor(), C={"shape": "rows"}),
    "every second element of every one": lambda: with_slot(adamw(), every=2),
    "new values of some elements": lambda: with_pass(adamw(), every=3),
    "some elements beside rows": lambda: with_pass(adafactor(), every=2),
    "room for elements between passes": lambda: with_slot(adamw(), scratch=True),
    "a code": lambda: replace(adamw(), slots=(*adamw().slots[:-1], CodedSlot("v", "f32"))),
    "a sum over rows that is kept nowhere": lambda: with_scope(lamb(), "row"),
    "an unheard-of sum": lambda: with_scope(lamb(), "diagonal"),
    "elements between passes": lambda: with_pass(adamw(), vectors=(Vector("m", hyper("lr")),)),
    "another kind of vector": lambda: with_pass(adafactor(), vectors=(ShiftedVector("R", hyper("s0")),)),
    "an operation": lambda: with_pass(adamw(), outputs=(("p", _intern("cube_root", (), "", 0.0, "tensor")),)),
    "another kind of pass": lambda: replace(adamw(), passes=(StagedPass(**fields(adamw().passes[0])),)),
    "another kind of program": lambda: LongerProgram(**fields(adamw())),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_the_printer_does_not_know_is_refused(what):
    with pytest.raises(CompileError, match="The Triton printer"):
        print_triton(UNKNOWN[what]())


def test_codes_in_blocks_of_different_lengths_are_refused():
    program = lower(trace(*of_adamw()), {"p": "f32", "g": "f32", "m": "8bit", "v": "4bit unsigned"})
    with pytest.raises(CompileError, match=r"blocks of \[128, 256\]"):
        print_triton(program)


def test_what_it_knows_is_printed():
    for program in (adamw(), lamb(), adafactor()):
        text = print_triton(program)
        assert all(f"def {kind}0(" in text for kind in ("numbers", "pass"))
