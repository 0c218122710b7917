"""The Triton kernels on a GPU: against the CPU kernels, in CUDA graphs, and without waiting for the device.

python -m pytest tests/gpu
"""

import copy

import pytest
import torch

import kudari.optim
from kudari.optim.gpu_binding import GpuBinding
from tests.cpu.optim.cases import CASES, IDS, ONE_EACH, ONE_EACH_IDS
from tests.cpu.optim.conftest import build, gradients, start

# Several blocks, one element more than a block, a scalar, nothing, and a matrix.
SHAPES = [(5000,), (2049,), (), (0, 3), (40, 51)]


def walk(name, kw, device, dtype, steps=5, shapes=SHAPES):
    """Parameters after some steps on a device, on the CPU; and the optimizer."""
    params = [torch.nn.Parameter(p.detach().to(device)) for p in start(dtype, shapes)]
    optimizer = build(name, params, **kw)
    for step in range(steps):
        for p, g in zip(params, gradients(step, dtype, shapes), strict=True):
            p.grad = g.to(device)
        optimizer.step()
    return [p.detach().cpu() for p in params], optimizer


def assert_near(name, kw, dtype, close, steps=5, shapes=SHAPES):
    found, optimizer = walk(name, kw, "cuda", dtype, steps, shapes)
    assert all(isinstance(b, GpuBinding) for part in optimizer._bound.values() for b in part.bindings)
    expected, _ = walk(name, kw, "cpu", dtype, steps, shapes)
    for a, b, first in zip(found, expected, start(dtype, shapes), strict=True):
        if b.numel():
            moved = (b.double() - first.detach().double()).abs().max()
            rounding = 2 * steps * torch.finfo(dtype).eps * b.double().abs().max()
            assert (a.double() - b.double()).abs().max() <= close * moved + rounding


@pytest.mark.parametrize(("name", "kw"), CASES, ids=IDS)
def test_float64_equals_the_cpu_kernel_to_1e11(name, kw):
    assert_near(name, kw, torch.float64, 1e-11)


@pytest.mark.parametrize(("name", "kw"), CASES, ids=IDS)
def test_float32_equals_the_cpu_kernel_to_1e5(name, kw):
    assert_near(name, kw, torch.float32, 5e-5 if name == "RMSprop" else 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("name", "kw"), ONE_EACH, ids=ONE_EACH_IDS)
def test_low_precision_parameters_are_updated_in_float32_and_rounded_once(name, kw, dtype):
    p = torch.nn.Parameter(start(dtype, [(4097,)])[0].detach().cuda())
    wide = torch.nn.Parameter(p.detach().float())
    g = gradients(0, dtype, [(4097,)])[0].clamp(-8, 8).cuda()
    p.grad, wide.grad = g, g.float()
    for q in (p, wide):
        build(name, [q], **kw).step()
    assert torch.equal(p.detach(), wide.detach().to(dtype))


MATRICES = [
    (1, 1),
    (1, 4097),
    (4097, 1),
    (1300, 517),
    (512, 2048),
    (64, 32, 3, 3),
    (300, 20, 1, 1),
    (3, 65, 64),
]


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-11), (torch.float32, 1e-5)])
def test_matrices_of_every_shape_equal_the_cpu_kernel(dtype, close):
    assert_near("Adafactor", {"lr": 0.1, "weight_decay": 0.1}, dtype, close, shapes=MATRICES)


@pytest.mark.parametrize("name", ["AdamW", "LAMB", "Adafactor"])
def test_same_bits_at_every_run(name):
    shapes = [(300_001,), (7,), (1300, 517), (64, 32, 3, 3)]
    first, again = (walk(name, {}, "cuda", torch.float32, shapes=shapes)[0] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_unaligned_slices_take_the_same_step():
    data = start(torch.float32, [(5001,)])[0].detach().cuda()
    aligned, slice_ = torch.nn.Parameter(data[1:].clone()), torch.nn.Parameter(data.clone()[1:])
    g = gradients(0, torch.float32, [(5000,)])[0].cuda()
    for p in (aligned, slice_):
        p.grad = g.clone()
        kudari.optim.AdamW([p]).step()
    assert torch.equal(aligned.detach(), slice_.detach())


@pytest.mark.parametrize("state_dtype", ["bf16", "8bit", "4bit", "8bit-dynamic"])
@pytest.mark.parametrize("name", ["AdamW", "Lion"])
def test_low_bit_states_have_the_bits_of_the_cpu_kernel(name, state_dtype):
    found, optimizer = walk(name, {"state_dtype": state_dtype}, "cuda", torch.float32)
    assert all(isinstance(b, GpuBinding) for part in optimizer._bound.values() for b in part.bindings)
    expected, _ = walk(name, {"state_dtype": state_dtype}, "cpu", torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_stochastic_rounding_goes_on_from_replay_to_replay():
    p = torch.nn.Parameter(torch.ones(100_000, dtype=torch.bfloat16, device="cuda"))
    p.grad = torch.ones_like(p)
    optimizer = kudari.optim.SGD([p], lr=2.0**-12, rounding="stochastic")
    optimizer.step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    for _ in range(31):
        graph.replay()
    # 32 steps of 2**-12 in expectation; each element's are Bernoulli draws, so the mean's standard error is
    # below sqrt(32 * 2**-12 * 2**-8) / sqrt(100000).
    assert abs(p.detach().float().mean().item() - (1 - 32 * 2.0**-12)) < 5 * 2**-7.5 / 100_000**0.5


def test_a_look_at_gradients_does_not_wait_for_the_device(no_waiting):
    params, optimizer = prepared("AdamW", skip_nonfinite=True)
    before = [p.detach().clone() for p in params]
    params[0].grad[-1] = torch.inf
    no_waiting()
    optimizer.step()
    torch.cuda.set_sync_debug_mode("default")
    assert all(torch.equal(p.detach(), b) for p, b in zip(params, before, strict=True))


def prepared(name, shapes=SHAPES, **kw):
    """An optimizer that has stepped twice on the GPU, gradients in place."""
    params = [torch.nn.Parameter(p.detach().cuda()) for p in start(torch.float32, shapes)]
    for p, g in zip(params, gradients(0, torch.float32, shapes), strict=True):
        p.grad = g.cuda()
    optimizer = build(name, params, **kw)
    optimizer.step()
    optimizer.step()
    torch.cuda.synchronize()
    return params, optimizer


@pytest.fixture
def no_waiting():
    """Whatever makes the host wait for the device is an error."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ["AdamW", "NAdam", "LAMB", "Lion", "SGD", "StableAdamW", "Adafactor"])
def test_a_step_does_not_wait_for_the_device(name, no_waiting):
    params, optimizer = prepared(name, lr=torch.tensor(1e-3, device="cuda"))
    fresh = [p.grad.clone() for p in params]
    no_waiting()
    for p, g in zip(params, fresh, strict=True):
        p.grad = g
    optimizer.step()
    optimizer.param_groups[0]["weight_decay"] = 0.25
    optimizer.step()


def test_a_model_norm_does_not_wait_for_the_device(no_waiting):
    _, optimizer = prepared("LAMB", variant="nvlamb")
    no_waiting()
    optimizer.step()


@pytest.mark.parametrize("capturable", [False, True])
def test_gradscaler_skips_a_step_without_waiting_and_counts_nothing(capturable, no_waiting):
    params, optimizer = prepared("NAdam", [(3000,)], capturable=capturable)
    scaler = torch.amp.GradScaler("cuda", init_scale=8.0)
    (p,) = params
    for finite in (True, False, True):
        before = [x.detach().clone() for x in (p, *optimizer.state[p].values())]
        optimizer.zero_grad()
        scaler.scale(
            (p * torch.arange(3000.0, device="cuda")).sum() * (1.0 if finite else torch.inf)
        ).backward()
        if finite and scaler.get_scale() == 8.0:
            scaler.step(optimizer)  # binds anew: from now on gradients are divided
        else:
            no_waiting()
            scaler.step(optimizer)
            torch.cuda.set_sync_debug_mode("default")
        scaler.update()
        after = [x.detach() for x in (p, *optimizer.state[p].values())]
        assert all(torch.equal(a, b) is not finite for a, b in zip(after, before, strict=True))
    assert optimizer.state[p]["step"].item() == 4


@pytest.mark.parametrize("name", ["AdamW", "NAdam", "LAMB", "Lion", "Adafactor"])
def test_a_captured_step_replays_like_the_eager_one(name):
    lr = torch.tensor(1e-2, device="cuda")
    params, optimizer = prepared(name, lr=lr, capturable=True)
    others, eager = prepared(name, lr=lr.item())
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        optimizer.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    eager.step()
    for step, rate in enumerate((1e-2, 1e-2, 5e-3)):
        lr.fill_(rate)
        eager.param_groups[0]["lr"] = lr.item()
        for p, q, g in zip(params, others, gradients(step, torch.float32, SHAPES), strict=True):
            p.grad.copy_(g)
            q.grad.copy_(g)
        graph.replay()
        eager.step()
    for p, q in zip(params, others, strict=True):
        assert torch.equal(p.detach(), q.detach())
    assert optimizer.state[params[0]]["step"].item() == 6


@pytest.mark.parametrize(
    ("name", "kw"),
    [("Prodigy", {"d0": 1e-3}), ("ScheduleFreeSGD", {"warmup_steps": 4}), ("ScheduleFreeAdamW", {})],
    ids=str,
)
def test_numbers_of_the_group_go_on_in_a_graph(name, kw):
    params, optimizer = prepared(name, **kw, capturable=True)
    others, eager = prepared(name, **kw)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    for step in range(4):
        for p, q, g in zip(params, others, gradients(step, torch.float32, SHAPES), strict=True):
            p.grad.copy_(g)
            q.grad.copy_(g)
        graph.replay()
        eager.step()
    for r in optimizer.rule.running:
        found, expected = (o.param_groups[0][r.name] for o in (optimizer, eager))
        assert found.item() == pytest.approx(expected, rel=1e-6)
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p.detach(), q.detach(), rtol=1e-5, atol=1e-6)


def test_a_graph_keeps_its_own_gradients_when_later_steps_have_others():
    params, optimizer = prepared("SGD", [(3000,)], lr=1.0)
    (p,) = params
    captured_grad = p.grad
    captured_grad.fill_(1.0)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    p.grad = torch.full_like(p, 100.0)
    optimizer.step()
    before = p.detach().clone()
    graph.replay()
    torch.testing.assert_close(p.detach(), before - 1.0)
    optimizer.step()  # has the same table as its last step, but the graph has sent another one since
    torch.testing.assert_close(p.detach(), before - 101.0)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # binds anew; the graph's tables stay
    optimizer.step()
    before = p.detach().clone()
    torch.empty(100_000_000, device="cuda").fill_(float("nan"))
    graph.replay()
    torch.testing.assert_close(p.detach(), before - 1.0)


@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")
def test_schedule_free_refuses_to_be_captured():
    _, optimizer = prepared("ScheduleFreeSGD", [(30,)])
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="cannot be captured"), torch.cuda.graph(graph):
        optimizer.step()


def test_counts_live_on_the_device_and_are_saved_on_the_cpu():
    params, optimizer = prepared("NAdam", [(30,), (5,)])
    state = optimizer.state[params[0]]
    assert (state["step"].device.type, state["mu_product"].device.type) == ("cuda", "cuda")
    saved = optimizer.state_dict()
    for entry in saved["state"].values():
        assert (entry["step"].device.type, entry["step"].dtype) == ("cpu", torch.float32)
        assert (entry["mu_product"].device.type, entry["mu_product"].dtype) == ("cpu", torch.float64)
        assert entry["step"] == 2
    twins = [torch.nn.Parameter(p.detach().clone()) for p in params]
    second = kudari.optim.NAdam(twins)
    second.load_state_dict(copy.deepcopy(saved))
    for p, q in zip(params, twins, strict=True):
        q.grad = p.grad
    optimizer.step()
    second.step()
    assert all(torch.equal(p.detach(), q.detach()) for p, q in zip(params, twins, strict=True))


def test_capturable_keeps_counts_on_the_device_in_checkpoints():
    _, optimizer = prepared("AdamW", [(30,)], capturable=True)
    assert optimizer.state_dict()["state"][0]["step"].device.type == "cuda"


def test_more_than_two_to_the_31_elements():
    size = 2**31 + 5
    if torch.cuda.mem_get_info()[0] < 5 * size:
        pytest.skip(reason="not enough free GPU memory (10 GiB)")
    p = torch.nn.Parameter(torch.ones(size, dtype=torch.bfloat16, device="cuda"))
    p.grad = torch.ones_like(p)
    kudari.optim.SGD([p], lr=0.5).step()
    assert p.detach()[-6:].tolist() == [0.5] * 6
    assert p.detach()[:6].tolist() == [0.5] * 6
