"""Launching: how often, with which tables, and without waiting for the device; in Triton's interpreter."""

import contextlib
import copy
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import kudari.optim
from kudari.compile import cache, gpu
from kudari.compile.gpu import GpuKernel, compile_gpu, load_source, make_gpu_plan
from kudari.compile.notation import Step, hyper, rule
from kudari.errors import CompileError, UnsupportedError
from kudari.optim import backends, bound_group, gpu_binding, make_class
from kudari.optim import optimizer as optimizer_module
from kudari.optim.eager_binding import EagerBinding
from kudari.optim.gpu_binding import SentTable
from tests.cpu.optim.conftest import build, gradients, start
from tests.cpu.optim.interpreted import bindings, interpreter, needs_triton, on_gpu, without_gpu

__all__ = ["interpreter", "on_gpu"]
SHAPES = [(17,), (3, 5), ()]


def prepared(name, dtype=torch.float32, shapes=SHAPES, steps=1, **kw):
    """An optimizer that has stepped, with gradients for the next step in place."""
    params = start(dtype, shapes)
    optimizer = build(name, params, **kw)
    for step in range(steps + 1):
        for p, g in zip(params, gradients(step, dtype, shapes), strict=True):
            p.grad = g
        if step < steps:
            optimizer.step()
    return params, optimizer


@contextlib.contextmanager
def no_reading():
    """Reading a tensor's value on the host is an error, as it would make the host wait for a GPU."""

    def refuse(self, *_):
        raise AssertionError("a tensor was read on the host")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("item", "tolist", "__float__", "__int__", "__bool__", "__index__"):
            patch.setattr(torch.Tensor, name, refuse)
        yield


def values(optimizer):
    params = [p for g in optimizer.param_groups for p in g["params"]]
    states = [v for p in params for v in optimizer.state[p].values()]
    return [x.detach().clone() for x in (*params, *states)]


@needs_triton
def test_launches_do_not_depend_on_the_number_of_tensors(on_gpu, monkeypatch):
    seen = []
    for kind in ("numbers", "elements", "sums"):
        original = getattr(GpuKernel, kind)

        def counted(*args, kind=kind, original=original):
            seen.append(kind)
            return original(*args)

        monkeypatch.setattr(GpuKernel, kind, counted)
    for count in (1, 6):
        for name, expected in (
            ("AdamW", ["numbers", "elements"]),
            ("LAMB", ["numbers", "elements", "sums", "numbers", "elements"]),
        ):
            _, optimizer = prepared(name, shapes=[(3,)] * count)
            seen.clear()
            optimizer.step()
            assert seen == expected


@needs_triton
@pytest.mark.parametrize("name", ["AdamW", "NAdam", "LAMB", "Adafactor"])
def test_a_step_that_gradscaler_forbids_changes_and_counts_nothing_and_is_not_asked_about(name, on_gpu):
    _, optimizer = prepared(name)
    before = values(optimizer)
    optimizer.found_inf, optimizer.grad_scale = torch.tensor(1.0), torch.tensor(2.0)
    optimizer.step()  # binds anew, because gradients are now divided
    with no_reading():
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(values(optimizer), before, strict=True))


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_gradients_are_looked_at_without_reading_them_on_the_host(bad, dtype, on_gpu):
    params, optimizer = prepared("AdamW", dtype, shapes=[(0,), (17,), ()], skip_nonfinite=True)
    before = values(optimizer)
    params[1].grad[16] = bad
    with no_reading():
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(values(optimizer), before, strict=True))
    params[1].grad[16] = torch.finfo(dtype).max
    with no_reading():
        optimizer.step()
    assert optimizer.state[params[1]]["step"] == 2
    optimizer.found_inf = torch.tensor(1.0)  # GradScaler's flag and the look at gradients go together
    with no_reading():
        optimizer.step()
    assert optimizer.state[params[1]]["step"] == 2


@needs_triton
def test_an_allowed_step_divides_gradients_by_the_scale(on_gpu):
    scaled_params, scaled = prepared("AdamW")
    plain_params, plain = prepared("AdamW")
    for p in scaled_params:
        p.grad = p.grad * 8
    scaled.found_inf, scaled.grad_scale = torch.tensor(0.0), torch.tensor(8.0)
    scaled.step()
    plain.step()
    for p, q in zip(scaled_params, plain_params, strict=True):
        assert torch.equal(p.detach(), q.detach())
        assert scaled.state[p]["step"] == 2
    del scaled.found_inf, scaled.grad_scale
    scaled.step()
    assert scaled.state[scaled_params[0]]["step"] == 3


@needs_triton
@pytest.mark.parametrize("name", ["AdamW", "NAdam", "LAMB", "Lion", "SGD", "Adafactor"])
def test_a_step_reads_no_tensor_on_the_host(name, on_gpu):
    lr = torch.tensor(0.1)
    params, optimizer = prepared(name, lr=lr)
    before = [p.detach().clone() for p in params]
    with no_reading():
        optimizer.step()
    assert not any(torch.equal(p.detach(), b) for p, b in zip(params, before, strict=True))


@needs_triton
def test_a_learning_rate_in_a_tensor_is_read_at_every_step(on_gpu):
    lr = torch.tensor(0.5)
    params, optimizer = prepared("SGD", lr=lr)
    before = [p.detach().clone() for p in params]
    lr.fill_(0.25)
    optimizer.step()
    for p, b in zip(params, before, strict=True):
        torch.testing.assert_close(p.detach(), b - 0.25 * p.grad, rtol=1e-6, atol=0)


@needs_triton
def test_the_table_is_sent_when_an_address_or_a_number_changes_and_only_then(on_gpu, monkeypatch):
    params, optimizer = prepared("AdamW", steps=2)
    sent = []
    original = SentTable.send
    monkeypatch.setattr(SentTable, "send", lambda self: sent.append(original(self)) or sent[-1])
    optimizer.step()
    optimizer.step()
    held = [p.grad for p in params]
    params[0].grad = held[0].clone()
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.5
    optimizer.step()
    optimizer.step()
    assert sent == [True, False, True, True, False]  # the first: gradients of `prepared` are new ones


def test_a_graph_has_tables_of_its_own_and_steps_outside_it_send_theirs(monkeypatch):
    table = SentTable(3, torch.device("cpu"))
    now = [False]
    monkeypatch.setattr(gpu_binding, "capturing", lambda device: now[0])
    table.host[:] = 1
    assert table.send()
    assert not table.send()
    for value in (2, 3):  # two graphs
        now[0], table.host[:] = True, value
        assert table.send()
        assert table.there.tolist() == [value] * 3
    now[0], table.host[:] = False, 4
    assert table.send()
    assert table.send()  # a replay may have come between
    assert [x.tolist() for x in table._in_graphs] == [[2] * 3, [3] * 3]


def test_memory_for_the_next_graph_is_put_aside_before_its_capture(monkeypatch):
    table, asked = SentTable(3, torch.device("cpu")), []
    now = [False]
    pinned = table._pinned
    monkeypatch.setattr(gpu_binding, "capturing", lambda device: now[0])
    monkeypatch.setattr(table, "_pinned", lambda: asked.append(now[0]) or pinned())
    for _ in range(2):
        now[0] = False
        table.send()
        now[0] = True
        table.send()
    assert asked and not any(asked)


@needs_triton
def test_a_first_step_in_a_graph_is_refused_with_what_to_do(on_gpu, monkeypatch):
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = kudari.optim.AdamW([p])
    monkeypatch.setattr(optimizer_module, "capturing", lambda device: True)
    with pytest.raises(UnsupportedError, match="before the capture"):
        optimizer.step()
    assert not optimizer.state
    monkeypatch.setattr(optimizer_module, "capturing", lambda device: False)
    optimizer.step()
    monkeypatch.setattr(optimizer_module, "capturing", lambda device: True)
    optimizer.step()


@needs_triton
def test_a_state_replaced_from_outside_is_the_one_used(on_gpu):
    params, optimizer = prepared("AdamW")
    old = optimizer.state[params[0]]["exp_avg"]
    kept = old.clone()
    optimizer.state[params[0]]["exp_avg"] = torch.zeros_like(old)
    optimizer.step()
    assert torch.equal(old, kept)
    assert optimizer.state[params[0]]["exp_avg"].any()


@needs_triton
def test_checkpoints_go_from_one_kernel_to_the_other(on_gpu):
    def go_on(optimizer, params):
        for p, g in zip(params, gradients(7, torch.float64, SHAPES), strict=True):
            p.grad = g
        optimizer.step()
        return [p.detach().clone() for p in params]

    params, first = prepared("NAdam", torch.float64)
    saved = copy.deepcopy(first.state_dict())
    assert all(s["step"].device.type == "cpu" and s["step"] == 1 for s in saved["state"].values())
    copies = [torch.nn.Parameter(p.detach().clone()) for p in params]
    expected = go_on(first, params)

    def run():
        second = kudari.optim.NAdam([torch.nn.Parameter(p.detach().clone()) for p in copies])
        second.load_state_dict(saved)
        return go_on(second, second.param_groups[0]["params"])

    assert all(torch.equal(a, b) for a, b in zip(run(), expected, strict=True))
    for a, b in zip(without_gpu(run), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_blocks_are_cut_tensor_by_tensor():
    plan = make_gpu_plan([0, 16, 17, 1, 0], block=16)
    assert plan.blocks.tolist() == [[1, 0], [2, 0], [2, 1], [3, 0]]
    assert plan.firsts.tolist() == [0, 0, 1, 3, 4, 4]
    assert plan.blocks.flags.c_contiguous


@needs_triton
@pytest.mark.parametrize("name", ["ScheduleFreeSGD", "Muon"])
def test_numbers_of_the_host_are_not_taken_into_a_graph(name, on_gpu, monkeypatch):
    _, optimizer = prepared(name, shapes=[(3, 4)])
    before = values(optimizer)
    monkeypatch.setattr(optimizer_module, "capturing", lambda device: True)
    with pytest.raises(UnsupportedError, match="every replay would have those of now"):
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(values(optimizer), before, strict=True))


# --- no kernel


@rule(name="Fallback", source="a test")
def fallback(p, g, *, lr=hyper(0.5)):
    return Step(p=p - lr * g)


@pytest.fixture
def nothing_said(monkeypatch):
    monkeypatch.setattr(bound_group, "_said", set())


def steps_and_warnings(dtype=torch.float32, steps=2):
    p = torch.nn.Parameter(torch.ones(4, dtype=torch.float32).to(dtype))
    optimizer = make_class(fallback)([p])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(steps):
            p.grad = torch.full((4,), 0.5).to(dtype)
            optimizer.step()
            optimizer._bound.clear()
    assert all(w.category is kudari.optim.EagerFallbackWarning for w in said)
    return p.detach(), optimizer, [str(w.message) for w in said]


def test_without_triton_plain_torch_takes_the_step_and_says_once_what_to_install(monkeypatch, nothing_said):
    monkeypatch.setattr(gpu, "has_triton", lambda: False)
    compile_gpu.cache_clear()
    monkeypatch.setitem(backends.BACKENDS, "cpu", backends.BACKENDS["cuda"])
    p, _, said = steps_and_warnings()
    assert torch.equal(p, torch.full((4,), 0.5))
    assert len(said) == 1
    assert 'Triton is not installed. Install it with: pip install "kudari[gpu]"' in said[0]


def test_a_device_without_kernels_is_named_once(monkeypatch, nothing_said):
    monkeypatch.delitem(backends.BACKENDS, "cpu")
    p, _, said = steps_and_warnings()
    assert torch.equal(p, torch.full((4,), 0.5))
    assert len(said) == 1 and "Kernels are made for cuda tensors" in said[0]


def test_an_8_bit_float_goes_through_plain_torch_and_is_named_once(nothing_said):
    p, _, said = steps_and_warnings(torch.float8_e4m3fn)
    assert torch.equal(p.float(), torch.full((4,), 0.5))
    assert len(said) == 1 and "float8_e4m3fn" in said[0] and "bfloat16 and float16" in said[0]


def test_a_flag_of_gradscaler_is_read_where_some_tensor_has_no_kernel(monkeypatch, nothing_said):
    def refuse(*_):
        raise CompileError("Not this one.")

    monkeypatch.setitem(backends.BACKENDS, "cpu", backends.Backend(refuse, on_device=True))
    p = torch.nn.Parameter(torch.ones(4))
    p.grad = torch.ones(4)
    optimizer = make_class(fallback)([p])
    optimizer.found_inf, optimizer.grad_scale = torch.tensor(1.0), None
    with pytest.warns(kudari.optim.EagerFallbackWarning, match="Not this one"):
        optimizer.step()
    assert isinstance(bindings(optimizer)[0], EagerBinding)
    assert torch.equal(p.detach(), torch.ones(4))
    optimizer.found_inf = torch.tensor(0.0)
    optimizer.step()
    assert torch.equal(p.detach(), torch.full((4,), 0.5))


# --- printed source


@pytest.mark.parametrize("where", ["folder", "off", "unwritable"])
def test_source_is_loaded_from_a_file_with_exactly_its_text(where, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    places = {"folder": str(tmp_path / "k"), "off": "off", "unwritable": str(tmp_path / "file" / "k")}
    monkeypatch.setenv("KUDARI_CACHE", places[where])
    text = f"value = '{where}'\n"
    module = load_source("A rule: of mine", text)
    assert Path(module.__file__).read_text() == text
    assert module.value == where
    assert (str(tmp_path) in module.__file__) == (where == "folder")


def test_a_changed_source_file_is_written_anew(tmp_path):
    path = tmp_path / "a.py"
    cache.write_text(path, "one")
    assert path.read_text() == "one"
    path.write_text("two")
    cache.write_text(path, "one")
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def compiled(tmp_path, cases):
    """What compiling for a GPU has to say, line by line; in a process that does not interpret kernels."""
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    env |= {"KUDARI_CACHE": str(tmp_path / "kudari"), "TRITON_CACHE_DIR": str(tmp_path / "triton")}
    command = [sys.executable, "-m", "tests.cpu.optim.compile_for_gpu", *cases]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    return [line.split() for line in done.stdout.splitlines()]


# One with 16-bit storage, one with sums, one with numbers kept for a tensor and powers; then rows and slices;
# then codes and roundings of every kind.
PLAIN = ["AdamW:bf16:fp32:nearest", "LAMB:f32:fp32:nearest", "NAdam:f64:fp32:nearest"]
COUPLED = ["Adafactor:f32:fp32:nearest", "Prodigy[slice_p=11]:f32:fp32:nearest"]
CODED = ["AdamW:f32:4bit:nearest", "AdamW:bf16:8bit-dynamic:stochastic", "Lion:f16:8bit:kahan"]


@needs_triton
def test_kernels_compile_for_a_gpu_without_approximations_and_read_16_bytes_at_once(tmp_path):
    rows = compiled(tmp_path, [f"{case}:machine" for case in PLAIN + COUPLED + CODED])
    assert len(rows) == 12
    for case, reads, writes, loads, stores, flushes, approximate in rows:
        assert approximate == "0", case
        name = case.removesuffix(":machine")
        if name in CODED:
            continue
        assert flushes == "0", case  # denormals as IEEE 754 has them
        # 2048 elements for 256 threads are 8 each: 32 bytes of float32. bfloat16 p and g are half of that.
        halves = 2 if "bf16" in case else 0
        if name in COUPLED:
            # Tiles have theirs with a mask too; every eleventh element is loaded alone.
            few = 2 if "Prodigy" in case and int(writes) == 1 else 0
            assert int(loads) >= 2 * (int(reads) - few) and int(stores) >= 2 * int(writes), case
        elif "f64" not in case:
            assert int(loads) == 2 * int(reads) - halves, case
            assert int(stores) == 2 * int(writes) - halves // 2, case


@needs_triton
def test_every_rule_has_kernels_and_their_types_are_right(tmp_path):
    cases = [f"{declared.name}:f32:8bit:nearest" for declared in kudari.optim.rules()]
    cases += ["AdamAtan2:f64:8bit:nearest", "AdamAtan2:f64:bf16:nearest", "AdamW:f16:bf16:stochastic"]
    cases += ["Adafactor:f64:fp32:nearest", "Adafactor:bf16:fp32:stochastic", "Adafactor:f16:fp32:kahan"]
    cases += ["Prodigy[slice_p=11]:bf16:8bit:stochastic"]
    assert compiled(tmp_path, cases) == []  # none is refused
