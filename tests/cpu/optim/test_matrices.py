"""Muon, SOAP and Shampoo: against NumPy transcriptions of their papers, against torch, and their corners."""

import copy
import io
from dataclasses import replace

import numpy as np
import pytest
import torch

import kudari.optim
import kudari.rules.soap
from kudari.errors import HyperError, UnsupportedError
from kudari.optim import make_class
from kudari.optim.states import is_coded
from tests.cpu.optim.conftest import gradients, start, trajectory
from tests.oracle import ORACLES

# A square, long and wide matrices, kernels, vectors, a scalar, nothing.
SHAPES = [(6, 6), (12, 5), (5, 12), (4, 3, 2, 2), (3, 4, 4), (7,), (), (0, 3), (1, 5)]
# The null space that the first gradient leaves in the larger factor of a rectangle has no definite basis.
SQUARES = [(6, 6), (4, 3, 2, 2), (3, 4, 4), (7,), (), (0, 3)]


def case(name, shapes=SHAPES, **kw):
    label = f"{name}-{'-'.join(f'{k}={v}' for k, v in kw.items()) or 'defaults'}"
    return pytest.param(name, kw, shapes, id=label)


CASES = [
    case("Muon"),
    case("Muon", lr=0.02, weight_decay=0.3, momentum=0.8, nesterov=False, adjust_lr_fn="original"),
    case("Muon", lr=0.02, adjust_lr_fn="match_rms_adamw", ns_steps=7, ns_coefficients=(3.0, -3.2, 1.2),
         eps=0.1),
    case("Muon", use_muon=False, lr=0.02, adamw_lr_ratio=0.5, adamw_betas=(0.8, 0.9), adamw_eps=1e-3),
    case("Muon", lr=0.02, adamw_weight_decay=0.5, adamw_lr_ratio=0.5),
    case("Muon", lr=0.02, ns_steps=1),
    case("Muon", [(6, 6), (7,), ()], lr=0.02, use_muon=True),
    case("SOAP", SQUARES),
    case("SOAP", SQUARES, lr=0.02, betas=(0.9, 0.8), shampoo_beta=0.7, eps=1e-3, weight_decay=0.3,
         precondition_frequency=1),
    case("SOAP", [(6, 9), (9, 6), *SQUARES], lr=0.02, precondition_frequency=3, max_precond_dim=6,
         correct_bias=False),
    case("Shampoo", start_preconditioning_step=4, precondition_frequency=3),
    case("Shampoo", lr=0.02, weight_decay=0.3, momentum=0.9, nesterov=True, grafting="adagrad",
         start_preconditioning_step=5, precondition_frequency=3, eps=1e-3),
    case("Shampoo", lr=0.02, weight_decay=0.3, decoupled_weight_decay=False, grafting="sgd", momentum=0.5,
         start_preconditioning_step=1, precondition_frequency=4, max_precond_dim=5, eps=1e-2),
    case("Shampoo", lr=0.02, betas=(0.0, 1.0), damping="absolute", grafting=None, eps=1e-4,
         start_preconditioning_step=1, precondition_frequency=1),
    case("Shampoo", lr=0.02, betas=(0.8, 0.9), precondition_1d=True, start_preconditioning_step=2,
         precondition_frequency=2, eps=1e-2, grafting_eps=1e-2),
]  # fmt: skip
every_case = pytest.mark.parametrize(("name", "kw", "shapes"), CASES)
one_each = pytest.mark.parametrize(
    ("name", "kw", "shapes"),
    [case("Muon", lr=0.02), case("SOAP", SQUARES, precondition_frequency=2, lr=0.02),
     case("Shampoo", start_preconditioning_step=2, precondition_frequency=2, momentum=0.9)],
)  # fmt: skip

# Of the distance a tensor moved, as the contract has it.
TOLERANCE = {
    torch.float64: {"Muon": 1e-8, "SOAP": 1e-6, "Shampoo": 1e-7},
    torch.float32: {"Muon": 1e-3, "SOAP": 1e-2, "Shampoo": 5e-3},
}


def transcribed(name, kw, shapes, steps, dtype, sign=1):
    first = [p.detach().double().numpy() for p in start(dtype, shapes)]
    expected, states = list(first), [{} for _ in first]
    for step in range(steps):
        for i, g in enumerate(gradients(step, dtype, shapes)):
            if g.numel():
                expected[i] = ORACLES[name](expected[i], sign * g.double().numpy(), states[i], **kw)
    return first, expected


@every_case
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_trajectories_equal_the_numpy_transcription(name, kw, shapes, dtype, ours):
    steps = 25
    found, _ = trajectory(ours(name, **kw), steps, dtype, shapes)
    for a, b, origin in zip(found, *transcribed(name, kw, shapes, steps, dtype)[::-1], strict=True):
        if b.size:
            moved = np.abs(b - origin).max()
            assert moved > 1e-3
            rounding = steps * np.finfo(np.float32).eps * np.abs(b).max() if dtype is torch.float32 else 0
            assert np.abs(a.double().numpy() - b).max() <= TOLERANCE[dtype][name] * moved + rounding


@one_each
def test_maximize_is_the_step_of_the_negated_gradient(name, kw, shapes, ours):
    found, _ = trajectory(ours(name, maximize=True, **kw), 6, torch.float64, shapes)
    for a, b in zip(found, transcribed(name, kw, shapes, 6, torch.float64, -1)[1], strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-9, atol=1e-9)


def test_muon_in_bfloat16_is_torchs(ours):
    """Nearly all bits are; where a rounding to bfloat16 falls apart, 0.35 * 2**-8 of the distance at most."""
    shapes = [(24, 40), (40, 24), (16, 16)]
    for kw in ({}, {"lr": 0.02, "nesterov": False, "adjust_lr_fn": "match_rms_adamw", "ns_steps": 3}):
        found, _ = trajectory(ours("Muon", ns_dtype=torch.bfloat16, **kw), 20, torch.float32, shapes)
        theirs, _ = trajectory(lambda ps, kw=kw: torch.optim.Muon(ps, **kw), 20, torch.float32, shapes)
        for a, b, origin in zip(found, theirs, start(torch.float32, shapes), strict=True):
            assert (a - b).abs().max() <= 2**-9 * (b - origin.detach()).abs().max()


def test_muon_takes_torchs_arguments_in_torchs_order_with_torchs_defaults():
    import inspect

    ours = list(inspect.signature(kudari.optim.Muon).parameters.values())
    theirs = list(inspect.signature(torch.optim.Muon).parameters.values())
    assert [(p.name, p.default) for p in ours[: len(theirs)]] == [(p.name, p.default) for p in theirs]


def test_muon_checkpoints_go_to_torch_and_come_back():
    shapes = [(6, 9), (9, 6)]
    theirs = trajectory(lambda ps: torch.optim.Muon(ps, lr=0.02), 3, torch.float32, shapes)[1]
    params = [torch.nn.Parameter(p.detach().clone()) for p in theirs.param_groups[0]["params"]]
    ours = kudari.optim.Muon(params, ns_dtype=torch.bfloat16)
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    back = torch.optim.Muon([torch.nn.Parameter(p.detach().clone()) for p in params])
    back.load_state_dict(copy.deepcopy(ours.state_dict()))
    for number, state in theirs.state_dict()["state"].items():
        for optimizer in (ours, back):
            assert set(optimizer.state_dict()["state"][number]) == set(state) == {"momentum_buffer"}
    for step in range(3, 6):
        for optimizer in (theirs, ours, back):
            for p, g in zip(
                optimizer.param_groups[0]["params"], gradients(step, torch.float32, shapes), strict=True
            ):
                p.grad = g
            optimizer.step()
    for a, b, c in zip(*(o.param_groups[0]["params"] for o in (theirs, ours, back)), strict=True):
        assert torch.equal(a, c)
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


@one_each
def test_a_reloaded_optimizer_continues_bit_for_bit(name, kw, shapes, ours):
    first = trajectory(ours(name, **kw), 5, torch.float32, shapes)[1]
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    params = [torch.nn.Parameter(p.detach().clone()) for p in first.param_groups[0]["params"]]
    second = getattr(kudari.optim, name)(params, lr=0.5)
    second.load_state_dict(torch.load(file, weights_only=True))
    twin = copy.deepcopy(second)
    for step in range(5, 9):
        for optimizer in (first, second, twin):
            ps = optimizer.param_groups[0]["params"]
            for p, g in zip(ps, gradients(step, torch.float32, shapes), strict=True):
                p.grad = g
            optimizer.step()
    for a, b, c in zip(*(o.param_groups[0]["params"] for o in (first, second, twin)), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


LAYOUTS = {
    "transposed": lambda x: x.t().contiguous().t(),
    "gaps": lambda x: torch.stack([x, x + 1], -1).flatten(1)[:, ::2],
}


@one_each
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("of", ["parameter", "gradient", "both"])
def test_strides_change_no_number_and_are_kept(name, kw, shapes, layout, of, ours):
    plain, strided = (start(torch.float32, [(9, 9)])[0] for _ in range(2))
    if of != "gradient":
        strided = torch.nn.Parameter(LAYOUTS[layout](strided.detach()))
    before = strided.stride(), strided.data_ptr()
    first, second = ours(name, **kw)([plain]), ours(name, **kw)([strided])
    for step in range(5):
        plain.grad = gradients(step, torch.float32, [(9, 9)])[0]
        strided.grad = LAYOUTS[layout](plain.grad) if of != "parameter" else plain.grad.clone()
        kept = strided.grad.clone()
        first.step()
        second.step()
        assert torch.equal(strided.grad, kept)
    assert (strided.stride(), strided.data_ptr()) == before
    if name == "Shampoo":  # its norms are summed in the order of memory
        torch.testing.assert_close(plain, strided, rtol=1e-6, atol=1e-6)
    else:
        assert torch.equal(plain, strided)


@one_each
def test_channels_last_kernels_and_expanded_gradients_count_like_any(name, kw, shapes, ours):
    a = torch.nn.Parameter(start(torch.float64, [(4, 3, 3, 3)])[0].detach())
    b = torch.nn.Parameter(a.detach().clone(memory_format=torch.channels_last))
    first, second = ours(name, **kw)([a]), ours(name, **kw)([b])
    for step in range(4):
        size = gradients(step, torch.float64, [(3, 1, 1)])[0]
        a.grad, b.grad = size.expand(4, 3, 3, 3).clone(), size.expand(4, 3, 3, 3)
        first.step()
        second.step()
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert b.is_contiguous(memory_format=torch.channels_last)


@one_each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_parameters_are_rounded_once_from_float32(name, kw, shapes, dtype, ours):
    p = start(dtype, [(6, 6)])[0]
    wide = torch.nn.Parameter(p.detach().float())
    optimizers = [ours(name, **kw)([p]), ours(name, **kw)([wide])]
    for step in range(3):
        p.grad = gradients(step, dtype, [(6, 6)])[0].clamp(-8, 8)
        wide.grad = p.grad.float()
        with torch.no_grad():
            wide.copy_(p)  # from the same rounded point, as the states are not rounded
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(p.detach(), wide.detach().to(dtype))
    floats = [s for s in optimizers[0].state[p].values() if isinstance(s, torch.Tensor)]
    assert all(s.dtype is torch.float32 for s in floats)


@one_each
def test_each_tensor_counts_its_own_gradients(name, kw, shapes, ours):
    early, late, alone = (start(torch.float64, [(6, 6)])[0] for _ in range(3))
    optimizer, other = ours(name, **kw)([early, late]), ours(name, **kw)([alone])
    for step in range(7):
        early.grad = gradients(step, torch.float64, [(6, 6)])[0]
        late.grad = early.grad.clone() if step >= 3 else None
        optimizer.step()
        if step == 1:
            assert late not in optimizer.state
        if step >= 3:
            alone.grad = early.grad.clone()
            other.step()
    torch.testing.assert_close(late, alone, rtol=1e-12, atol=1e-12)
    if name != "Muon":
        assert (optimizer.state[early]["step"], optimizer.state[late]["step"]) == (7, 4)


@one_each
def test_groups_have_their_own_values_and_a_tensor_for_lr(name, kw, shapes, ours):
    a, b, c = (start(torch.float64, [(6, 6)])[0] for _ in range(3))
    lr = torch.tensor(0.5)
    optimizer = ours(name, **kw)(
        [{"params": [a], "lr": lr}, {"params": [b], "lr": 0.25, "weight_decay": 0.5}]
    )
    twin = ours(name, **{**kw, "lr": 0.25, "weight_decay": 0.5})([c])
    for step in range(4):
        for p in (a, b, c):
            p.grad = gradients(step, torch.float64, [(6, 6)])[0]
        lr.fill_(0.1 * step)
        optimizer.step()
        twin.step()
    assert torch.equal(b, c)
    assert not torch.equal(a, b)
    assert optimizer.param_groups[0]["lr"] is lr


def test_vectors_take_adamws_step_with_the_rate_of_the_schedule():
    ours, theirs = (start(torch.float64, [(7,)])[0] for _ in range(2))
    muon = kudari.optim.Muon([ours], lr=0.1, adamw_lr_ratio=0.1, weight_decay=0.2)
    adamw = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.2)
    for step in range(5):
        ours.grad = theirs.grad = gradients(step, torch.float64, [(7,)])[0]
        muon.param_groups[0]["lr"] = 0.1 / (1 + step)
        adamw.param_groups[0]["lr"] = 0.01 / (1 + step)
        muon.step()
        adamw.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert set(muon.state[ours]) == {"step", "exp_avg", "exp_avg_sq"}


def test_the_first_gradient_of_soap_fills_its_factors_and_moves_nothing():
    p = start(torch.float64, [(5, 5)])[0]
    before, g = p.detach().clone(), gradients(0, torch.float64, [(5, 5)])[0]
    p.grad = g
    optimizer = kudari.optim.SOAP([p], weight_decay=0.5)
    optimizer.step()
    assert torch.equal(p, before)
    state = optimizer.state[p]
    torch.testing.assert_close(state["GG"], [0.05 * g @ g.T, 0.05 * g.T @ g])
    for factor, basis in zip(state["GG"], state["Q"], strict=True):
        turned = basis.T @ factor @ basis
        torch.testing.assert_close(turned, torch.diag(turned.diagonal()), rtol=0, atol=1e-12 * turned.max())
        assert (turned.diagonal().diff() <= 0).all()
    assert not state["exp_avg"].any()
    assert not state["exp_avg_sq"].any()


def test_dimensions_without_a_factor_are_none_and_checkpoints_keep_that():
    p = start(torch.float32, [(3, 8)])[0]
    optimizer = kudari.optim.SOAP([p], max_precond_dim=4)
    p.grad = torch.ones(3, 8)
    optimizer.step()
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert [None if f is None else tuple(f.shape) for f in optimizer.state[p]["GG"]] == [(3, 3), None]
    assert optimizer.state[p]["Q"][1] is None


def test_factors_of_another_shape_are_refused_by_name():
    small, p = (start(torch.float32, [s])[0] for s in ((3, 3), (4, 4)))
    small.grad, p.grad = torch.ones(3, 3), torch.ones(4, 4)
    first, second = kudari.optim.SOAP([small]), kudari.optim.SOAP([p])
    first.step()
    second.step()
    second.state[p]["GG"] = first.state[small]["GG"]
    second.load_state_dict(second.state_dict())
    with pytest.raises(
        UnsupportedError, match=r"SOAP: state 'GG' has factors of sizes \[\(3, 3\), \(3, 3\)\]"
    ):
        second.step()


@one_each
def test_gradients_of_zero_move_nothing_but_by_decay(name, kw, shapes, ours):
    p = start(torch.float32, [(5, 8)])[0]
    before = p.detach().clone()
    optimizer = ours(name, **{**kw, "weight_decay": 0.0})([p])
    for _ in range(5):
        p.grad = torch.zeros(5, 8)
        optimizer.step()
    assert torch.equal(p, before)


@one_each
def test_complex_and_sparse_are_refused_by_name(name, kw, shapes):
    z = torch.nn.Parameter(torch.ones(3, 3, dtype=torch.complex64))
    z.grad = torch.ones_like(z)
    with pytest.raises(RuntimeError, match=rf"{name} cannot update a complex"):
        getattr(kudari.optim, name)([z], **kw).step()
    p = torch.nn.Parameter(torch.ones(3, 3))
    p.grad = torch.ones(3, 3).to_sparse()
    with pytest.raises(RuntimeError, match=rf"{name} cannot use a sparse"):
        getattr(kudari.optim, name)([p], **kw).step()


REFUSED = [
    ("Muon", {"ns_steps": 100}, "Muon: ns_steps=100 is not allowed; expected 1 <= ns_steps <= 99"),
    ("Muon", {"ns_steps": 2.5}, "Muon: ns_steps=2.5 is not allowed; expected a whole number"),
    ("Muon", {"ns_dtype": torch.int8}, "Muon: ns_dtype=torch.int8 is not allowed; expected None or"),
    ("Muon", {"adjust_lr_fn": "other"}, "Muon: adjust_lr_fn='other' is not allowed"),
    ("Muon", {"adamw_betas": (0.9, 1.0)}, "Muon: adamw_betas[1]=1.0 is not allowed; expected 0 <= adamw"),
    ("SOAP", {"betas": (1.0, 0.9)}, "SOAP: betas[0]=1.0 is not allowed; expected 0 <= betas[0] < 1"),
    ("SOAP", {"precondition_frequency": 0}, "SOAP: precondition_frequency=0 is not allowed"),
    ("Shampoo", {"betas": (1.0, 0.9)}, "Shampoo: betas[0]=1.0 is not allowed; expected 0 <= betas[0] < 1"),
    ("Shampoo", {"betas": (0.9, 1.1)}, "Shampoo: betas[1]=1.1 is not allowed; expected 0 <= betas[1] <= 1"),
    ("Shampoo", {"grafting": "lion"}, "Shampoo: grafting='lion' is not allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kw", "message"), REFUSED)
def test_values_outside_their_range_are_refused_with_name_value_and_range(name, kw, message):
    with pytest.raises(HyperError) as caught:
        getattr(kudari.optim, name)([torch.nn.Parameter(torch.ones(2, 2))], **kw)
    assert message in str(caught.value)


@one_each
def test_a_grad_scaler_unscales_inside_the_step(name, kw, shapes, ours):
    a, b = (start(torch.float32, [(6, 6)])[0] for _ in range(2))
    scaled, plain = ours(name, **kw)([a]), ours(name, **kw)([b])
    for step in range(3):
        b.grad = gradients(step, torch.float32, [(6, 6)])[0]
        a.grad = b.grad * 1024
        scaled.grad_scale, scaled.found_inf = torch.tensor(1024.0), torch.tensor(0.0)
        scaled.step()
        plain.step()
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@one_each
def test_autocast_around_a_step_changes_no_bit(name, kw, shapes, ours):
    plain, _ = trajectory(ours(name, **kw), 4, torch.float32, [(16, 16)])
    with torch.autocast("cpu", torch.bfloat16):
        inside, _ = trajectory(ours(name, **kw), 4, torch.float32, [(16, 16)])
    assert torch.equal(plain[0], inside[0])


class Marked(torch.nn.Parameter):
    """A subclass the kernels leave to plain torch operations."""


@every_case
@pytest.mark.filterwarnings("ignore::kudari.optim.EagerFallbackWarning")
def test_the_road_of_plain_torch_operations_gives_the_same_numbers(name, kw, shapes, ours):
    fast, slow = start(torch.float64, shapes), [Marked(p.detach()) for p in start(torch.float64, shapes)]
    optimizers = [ours(name, **kw)(fast), ours(name, **kw)(slow)]
    for step in range(6):
        for p, q, g in zip(fast, slow, gradients(step, torch.float64, shapes), strict=True):
            p.grad = q.grad = g
        for optimizer in optimizers:
            optimizer.step()
    for p, q in zip(fast, slow, strict=True):
        torch.testing.assert_close(p.detach(), q.detach().as_subclass(torch.Tensor), rtol=1e-10, atol=1e-10)


@one_each
def test_what_lies_between_stages_is_given_back_after_the_step(name, kw, shapes, ours):
    p = start(torch.float32, [(6, 6)])[0]
    optimizer = ours(name, **kw)([p])
    for step in range(3):
        p.grad = gradients(step, torch.float32, [(6, 6)])[0]
        optimizer.step()
        [binding] = optimizer._bound[0].bindings
        assert binding.temporaries == [{}]


def test_many_tensors_go_in_batches_with_the_same_numbers(monkeypatch, ours):
    shapes = [(6, 6), (6, 6), (4, 9), (6, 6)]
    together, _ = trajectory(ours("Muon"), 3, torch.float64, shapes)
    monkeypatch.setattr("kudari.optim.staged.TOGETHER", 70)
    apart, optimizer = trajectory(ours("Muon"), 3, torch.float64, shapes)
    assert [len(b.members) for b in optimizer._bound[0].bindings] == [1, 1, 1, 1]
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_states_replaced_from_outside_are_the_ones_used():
    p = start(torch.float32, [(6, 6)])[0]
    optimizer = kudari.optim.Muon([p])
    p.grad = torch.ones(6, 6)
    optimizer.step()
    old = optimizer.state[p]["momentum_buffer"]
    kept = old.clone()
    optimizer.state[p]["momentum_buffer"] = torch.zeros(6, 6)
    optimizer.step()
    assert torch.equal(old, kept)
    torch.testing.assert_close(optimizer.state[p]["momentum_buffer"], torch.full((6, 6), 0.05))


def test_the_plan_names_passes_stages_and_bytes():
    rules = {rule.name: rule for rule in kudari.optim.rules()}
    about = {name: kudari.optim.describe(rules[name]) for name in ("Muon", "SOAP", "Shampoo")}
    assert about["Muon"].passes == "g b / b u; then newton_schulz u -> o; then p o / p"
    assert {name: a.bytes_per_parameter for name, a in about.items()} == {
        "Muon": 28,
        "SOAP": 44,
        "Shampoo": 52,
    }
    assert dict(about["Muon"].stages)["newton_schulz"] == "steps*(4*m*m*n + 2*m*m*m) flops"
    plain = kudari.optim.describe(rules["Muon"], {"plain": True})
    assert (plain.passes, plain.states) == ("p g m v / p m v", ("step", "exp_avg", "exp_avg_sq"))


@one_each
def test_clipping_averaging_and_clearing_ride_along_as_if_done_beside(name, kw, shapes, ours):
    a, b = start(torch.float64, shapes), start(torch.float64, shapes)
    fused = kudari.optim.fuse(ours(name, **kw)(a), clip_norm=0.5, ema_decay=0.75, zero_grad=True)
    plain = ours(name, **kw)(b)
    averages = [p.detach().clone() for p in b]
    for step in range(5):
        for p, q, g in zip(a, b, gradients(step, torch.float64, shapes), strict=True):
            p.grad, q.grad = g.clone(), g.clone()
        total = torch.nn.utils.clip_grad_norm_(b, 0.5)
        plain.step()
        fused.step()
        assert kudari.optim.grad_norm(fused) == pytest.approx(total.item(), rel=1e-12)
        for average, q in zip(averages, b, strict=True):
            average.lerp_(q.detach(), 0.25)
        assert not any(p.grad.any() for p in a)
    for p, q, average in zip(a, b, averages, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-9)
        if p.numel():
            torch.testing.assert_close(fused.state[p]["ema"], average, rtol=1e-9, atol=1e-9)


def test_a_clipping_group_meets_one_that_does_not_clip():
    a, b, c = (start(torch.float64, [(6, 6)])[0] for _ in range(3))
    optimizer = kudari.optim.Muon([{"params": [a]}, {"params": [b]}])
    optimizer.param_groups[0]["clip_norm"] = 0.1
    alone = kudari.optim.Muon([c])
    for step in range(3):
        for p in (a, b, c):
            p.grad = gradients(step, torch.float64, [(6, 6)])[0]
        optimizer.step()
        alone.step()
    assert torch.equal(b, c)


def test_gram_matrices_computed_in_blocks_are_whole_and_mirrored():
    from kudari.compile.stages.gram import BLOCK, average

    g = gradients(0, torch.float64, [(2 * BLOCK + 7, 5)])[0]
    factors = [torch.eye(len(g), dtype=torch.float64), None]
    average(factors, g, 0.75, 0.5)
    assert torch.equal(factors[0][:BLOCK, BLOCK:], factors[0][BLOCK:, :BLOCK].mT)
    expected = 0.75 * torch.eye(len(g), dtype=torch.float64) + 0.5 * g @ g.mT
    torch.testing.assert_close(factors[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("state_dtype", ["bf16", "8bit", "4bit"])
def test_soap_with_short_states_moves_nothing_far_where_there_is_no_gradient(state_dtype):
    """A classifier's head: its gradients sum to 0 over the classes, so nothing says where to go there."""
    generator = torch.Generator().manual_seed(0)
    p = torch.nn.Parameter(torch.zeros(10, 512))
    optimizer = kudari.optim.SOAP([p], lr=1e-3, state_dtype=state_dtype)
    for _ in range(20):
        g = torch.randn(10, 512, generator=generator)
        p.grad = g - g.mean(0)
        optimizer.step()
    # A step is about lr in each element; the largest of 5,120 in 20 steps may be a few times that.
    assert p.detach().abs().max() < 20 * 1e-3 * 5
    averages = [optimizer.state[p][key] for key in ("exp_avg", "exp_avg_sq")]
    assert all(is_coded(x) or x.dtype is torch.bfloat16 for x in averages)
    p.grad[3, 7] = float("nan")
    optimizer.step()
    assert p.detach().isnan().any()


@pytest.mark.parametrize(
    "betas", [(0.95, 0.95), (0.0, 0.0), (0.9, 0.0), (0.9, 0.81), (0.9, 0.999), (0.99, 0.9)]
)
def test_soap_leaves_out_nothing_that_gradients_can_have_made(betas, monkeypatch):
    """Not even without the slack, in a basis that stays as it is and in float64."""
    rule = kudari.rules.soap.soap
    monkeypatch.setattr(kudari.rules.soap, "SLACK", 1 + 1e-9)
    (basis,) = rule.kinds
    short = make_class(replace(rule, kinds=(replace(basis, of=lambda shape, group: "turned_short"),)))
    a, b = (torch.nn.Parameter(torch.zeros(4, 6, dtype=torch.float64)) for _ in range(2))
    kw = {"betas": betas, "precondition_frequency": 100, "lr": 0.1}
    optimizers = short([a], **kw), kudari.optim.SOAP([b], **kw)
    one = torch.full((4, 6), 0.5, dtype=torch.float64)  # always the same: the average is as large as can be
    for step, g in enumerate([*gradients(0, torch.float64, [(4, 6)] * 8), *[one] * 8]):
        a.grad = b.grad = g
        for optimizer in optimizers:
            optimizer.step()
        assert torch.equal(a.detach(), b.detach()), step
