"""Living in a PyTorch loop: everything people do to a torch.optim.Optimizer works on ours."""

import copy
import pickle
import warnings

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import kudari.optim
from kudari.errors import HyperError, UnsupportedError
from tests.cpu.optim.cases import IN_TORCH, IN_TORCH_IDS, NEAR_TORCH, ONE_EACH_IDS
from tests.cpu.optim.conftest import build, gradients, start

torch_case = pytest.mark.parametrize(("name", "kw"), IN_TORCH, ids=IN_TORCH_IDS)
SHAPES = [(6, 5), (5,), ()]


def walk(optimizer, steps, first=0, dtype=torch.float32):
    params = [p for g in optimizer.param_groups for p in g["params"]]
    for step in range(first, first + steps):
        for p, g in zip(params, gradients(step, dtype, SHAPES), strict=True):
            p.grad = g
        optimizer.step()
    return [p.detach().clone() for p in params]


TORCHS = ["SGD", "Adam", "AdamW", "Adagrad", "Adadelta", "RMSprop", "NAdam", "RAdam", "Adamax", "Adafactor"]


@pytest.mark.parametrize("name", TORCHS)
def test_constructor_takes_torchs_arguments_in_torchs_order_with_torchs_defaults(name):
    import inspect

    ours = inspect.signature(getattr(kudari.optim, name)).parameters
    theirs = inspect.signature(getattr(torch.optim, name)).parameters
    positional = [p.name for p in theirs.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [p.name for p in ours.values() if p.kind is p.POSITIONAL_OR_KEYWORD] == positional
    assert set(theirs) <= set(ours)
    for key, theirs_p in theirs.items():
        assert ours[key].default == theirs_p.default, key


@torch_case
def test_checkpoints_of_torch_load_into_ours_and_training_goes_on(name, kw):
    theirs = getattr(torch.optim, name)(start(torch.float64, SHAPES), foreach=False, **kw)
    walk(theirs, 5, dtype=torch.float64)
    params = [torch.nn.Parameter(p.detach().clone()) for p in theirs.param_groups[0]["params"]]
    ours = getattr(kudari.optim, name)(params)
    ours.load_state_dict(theirs.state_dict())
    near = NEAR_TORCH.get(name, 1e-12)
    a, b = walk(theirs, 5, 5, torch.float64), walk(ours, 5, 5, torch.float64)
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=near, atol=near)


@torch_case
def test_our_checkpoints_load_into_torch_and_training_goes_on(name, kw):
    ours = getattr(kudari.optim, name)(start(torch.float64, SHAPES), **kw)
    walk(ours, 5, dtype=torch.float64)
    params = [torch.nn.Parameter(p.detach().clone()) for p in ours.param_groups[0]["params"]]
    theirs = getattr(torch.optim, name)(params, foreach=False)
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    near = NEAR_TORCH.get(name, 1e-12)
    a, b = walk(ours, 5, 5, torch.float64), walk(theirs, 5, 5, torch.float64)
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=near, atol=near)
    saved, expected = ours.state_dict(), theirs.state_dict()
    assert {n: set(s) for n, s in saved["state"].items()} == {n: set(s) for n, s in expected["state"].items()}


@pytest.mark.parametrize("name", [*TORCHS, "Muon"])
def test_groups_hold_every_value_that_torchs_groups_hold(name):
    ours, theirs = (
        getattr(m, name)([torch.nn.Parameter(torch.ones(2, 2))]) for m in (kudari.optim, torch.optim)
    )
    held = ours.state_dict()["param_groups"][0]
    for key, value in theirs.state_dict()["param_groups"][0].items():
        assert held[key] == value, key


@pytest.mark.parametrize("reader", [torch.optim.Adam, kudari.optim.Adam])
def test_a_checkpoint_of_our_adamw_read_by_an_adam_is_that_of_an_adamw_as_with_torchs(reader):
    found = []
    for writer in (kudari.optim.AdamW, torch.optim.AdamW):
        first = writer(start(torch.float64, SHAPES), lr=0.1, weight_decay=0.5)
        walk(first, 3, dtype=torch.float64)
        params = [torch.nn.Parameter(p.detach().clone()) for p in first.param_groups[0]["params"]]
        second = reader(params)
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        found.append((walk(first, 3, 3, torch.float64), walk(second, 3, 3, torch.float64)))
    (a, b), (c, d) = found
    for x, *others in zip(a, b, c, d, strict=True):
        for y in others:
            torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


def test_a_checkpoint_of_an_adam_leaves_an_adamw_what_it_is():
    saved = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]).state_dict()
    ours = kudari.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    ours.load_state_dict(saved)
    assert ours.param_groups[0]["decoupled_weight_decay"] is True


def test_a_group_of_an_adamw_that_asks_for_coupled_decay_is_refused():
    group = {"params": [torch.nn.Parameter(torch.ones(2))], "decoupled_weight_decay": False}
    with pytest.raises(ValueError, match="AdamW: decoupled_weight_decay=False is not allowed"):
        kudari.optim.AdamW([group])


def test_loading_does_not_alias_the_checkpoint():
    first = kudari.optim.AdamW(start(torch.float32, SHAPES))
    walk(first, 2)
    saved = copy.deepcopy(first.state_dict())
    second = kudari.optim.AdamW(start(torch.float32, SHAPES))
    second.load_state_dict(saved)
    walk(second, 3)
    for number, state in saved["state"].items():
        for key, value in state.items():
            assert torch.equal(value, first.state_dict()["state"][number][key])


def test_loading_keeps_float32_state_of_bfloat16_parameters():
    optimizer = kudari.optim.AdamW(start(torch.bfloat16, SHAPES))
    walk(optimizer, 2, dtype=torch.bfloat16)
    before = copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(before)
    for number, state in optimizer.state_dict()["state"].items():
        assert state["exp_avg"].dtype is torch.float32
        assert torch.equal(state["exp_avg"], before["state"][number]["exp_avg"])


@pytest.mark.parametrize("step", [3, 3.0, torch.tensor([3.0])], ids=["int", "float", "tensor of one"])
def test_a_step_that_a_checkpoint_has_as_a_number_counts_on_as_a_tensor(step):
    first = kudari.optim.Adam(start(torch.float32, SHAPES))
    walk(first, 3)
    saved = copy.deepcopy(first.state_dict())
    for state in saved["state"].values():
        state["step"] = step
    params = [torch.nn.Parameter(p.detach().clone()) for p in first.param_groups[0]["params"]]
    second = kudari.optim.Adam(params)
    second.load_state_dict(saved)
    for a, b in zip(walk(first, 1, 3), walk(second, 1, 3), strict=True):
        assert torch.equal(a, b)
    kept = second.state[params[0]]["step"]
    assert (kept.item(), kept.dtype, kept.shape) == (4, torch.float32, ())


def test_named_parameters_are_matched_by_name_in_any_order():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    named = list(model.named_parameters())
    first = kudari.optim.AdamW(named)
    for i, (_, p) in enumerate(named):
        p.grad = torch.full_like(p, float(i + 1))
    first.step()
    second = kudari.optim.AdamW(named[::-1])
    second.load_state_dict(first.state_dict())
    for _, p in named:
        assert torch.equal(first.state[p]["exp_avg"], second.state[p]["exp_avg"])
    assert second.param_groups[0]["param_names"] == [n for n, _ in named[::-1]]
    with pytest.raises(ValueError, match=r"no parameter named 'other'"):
        kudari.optim.AdamW([("other", named[0][1])]).load_state_dict(first.state_dict())


def test_a_checkpoint_that_does_not_fit_changes_nothing():
    first = kudari.optim.AdamW(start(torch.float32, SHAPES))
    walk(first, 2)
    other = kudari.optim.AdamW(start(torch.float32, SHAPES[:2]), lr=0.3)
    with pytest.raises(ValueError, match=r"3 parameters in the checkpoint and 2 here"):
        other.load_state_dict(first.state_dict())
    assert other.param_groups[0]["lr"] == 0.3
    assert not other.state


@pytest.mark.parametrize("way", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_and_pickles_train_on_their_own(way):
    optimizer = kudari.optim.AdamW(start(torch.float32, SHAPES))
    walk(optimizer, 2)
    twin = way(optimizer)
    assert type(twin) is kudari.optim.AdamW
    assert all(torch.equal(a, b) for a, b in zip(walk(optimizer, 2, 2), walk(twin, 2, 2), strict=True))
    assert not {p.data_ptr() for p in optimizer.state} & {p.data_ptr() for p in twin.state}


def test_step_returns_the_closures_value_and_runs_it_once_with_gradients():
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = kudari.optim.SGD([p], lr=0.1)
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 3.0
    assert calls == [True]
    assert optimizer.step() is None
    torch.testing.assert_close(p.detach(), torch.full((3,), 0.6))


def test_hooks_run_around_the_step_and_may_change_its_arguments():
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = kudari.optim.SGD([p], lr=0.1)
    seen = []
    optimizer.register_step_pre_hook(lambda o, a, k: seen.append(("before", p[0].item())))
    optimizer.register_step_post_hook(lambda o, a, k: seen.append(("after", round(p[0].item(), 4))))
    optimizer.step()
    assert seen == [("before", 1.0), ("after", 0.9)]
    handle = register_optimizer_step_post_hook(lambda o, a, k: seen.append("global"))
    optimizer.step()
    handle.remove()
    assert seen[-1] == "global"


def test_torch_schedulers_and_group_values_take_effect_at_the_next_step():
    p, q = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    optimizer = kudari.optim.SGD([{"params": [p]}, {"params": [q], "lr": 0.5}], lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    for _ in range(2):
        p.grad, q.grad = torch.ones(2), torch.ones(2)
        optimizer.step()
        scheduler.step()
    torch.testing.assert_close(p.detach(), torch.full((2,), -1.1))
    torch.testing.assert_close(q.detach(), torch.full((2,), -0.55))


def test_a_tensor_learning_rate_is_read_at_every_step_and_kept():
    p = torch.nn.Parameter(torch.zeros(2))
    lr = torch.tensor(1.0)
    optimizer = kudari.optim.SGD([p], lr=lr)
    for value in (1.0, 0.25):
        lr.fill_(value)
        p.grad = torch.ones(2)
        optimizer.step()
    assert torch.equal(p.detach(), torch.full((2,), -1.25))
    assert optimizer.param_groups[0]["lr"] is lr


def test_options_and_decay_may_change_between_steps():
    a, b = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    ours, theirs = kudari.optim.Adam([a]), torch.optim.Adam([b])
    for step in range(6):
        for optimizer, p in ((ours, a), (theirs, b)):
            optimizer.param_groups[0]["amsgrad"] = False
            optimizer.param_groups[0]["weight_decay"] = 0.1 * step
            optimizer.param_groups[0]["maximize"] = step == 3
            p.grad = torch.full((3,), 1.0 - step)
            optimizer.step()
    torch.testing.assert_close(a.detach(), b.detach())


def test_groups_added_later_and_parameters_without_gradient():
    p, q = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = kudari.optim.AdamW([p])
    optimizer.step()
    assert torch.equal(p.detach(), torch.ones(2))
    assert not optimizer.state
    p.grad = torch.ones(2)
    optimizer.step()
    optimizer.add_param_group({"params": [q], "lr": 0.5})
    q.grad = torch.ones(2)
    optimizer.step()
    assert q[0].item() < 0.51 < p[0].item()


def test_state_that_is_cleared_or_moved_outside_is_not_written_to():
    p = torch.nn.Parameter(torch.ones(4))
    optimizer = kudari.optim.AdamW([p])
    p.grad = torch.ones(4)
    optimizer.step()
    old = optimizer.state[p]["exp_avg"]
    kept = old.clone()
    optimizer.state.clear()
    optimizer.step()
    assert torch.equal(old, kept)
    assert optimizer.state[p]["step"] == 1
    optimizer.state[p]["exp_avg"] = optimizer.state[p]["exp_avg"].clone()
    moved = optimizer.state[p]["exp_avg"].clone()
    optimizer.step()
    assert not torch.equal(optimizer.state[p]["exp_avg"], moved)
    optimizer.state[p]["exp_avg"].data = torch.zeros(4)
    optimizer.step()
    assert optimizer.state[p]["exp_avg"].abs().sum() > 0


def test_a_parameter_whose_data_is_replaced_is_the_one_updated():
    p = torch.nn.Parameter(torch.ones(4))
    optimizer = kudari.optim.SGD([p], lr=1.0)
    p.grad = torch.ones(4)
    optimizer.step()
    p.data = torch.full((4,), 7.0)
    p.grad = torch.ones(4)
    optimizer.step()
    assert torch.equal(p.detach(), torch.full((4,), 6.0))


def test_autograd_notices_that_a_step_changed_the_parameter():
    p = torch.nn.Parameter(torch.ones(3))
    loss = (p**2).sum()
    p.grad = torch.ones(3)
    before = p._version
    optimizer = kudari.optim.SGD([p], lr=0.1)
    optimizer.step()
    assert p._version > before
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_zero_grad_gives_the_memory_back_or_zeroes_it():
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = kudari.optim.SGD([p])
    p.grad = torch.ones(3)
    optimizer.zero_grad(set_to_none=False)
    assert torch.equal(p.grad, torch.zeros(3))
    optimizer.zero_grad()
    assert p.grad is None


def test_grad_scaler_unscales_inside_the_step_and_skips_infinite_ones():
    a, b = (torch.nn.Parameter(torch.ones(4)) for _ in range(2))
    scaled, plain = kudari.optim.AdamW([a]), kudari.optim.AdamW([b])
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for value in (0.5, float("inf"), 0.25):
        for p in (a, b):
            p.grad = None
        scaler.scale((a * value).sum()).backward()
        scaler.step(scaled)
        scaler.update()
        if value != float("inf"):
            b.grad = torch.full((4,), value)
            plain.step()
    torch.testing.assert_close(a.detach(), b.detach(), rtol=1e-6, atol=0)
    assert scaled.state[a]["step"] == 2


@pytest.mark.parametrize(("name", "kw"), [("SGD", {"lr": 0.1, "momentum": 0.9}), ("Adagrad", {"lr": 0.1})])
def test_sparse_gradients_equal_dense_ones_and_do_not_go_with_decay(name, kw):
    dense, sparse = (torch.nn.Parameter(torch.ones(5, 2)) for _ in range(2))
    for p, layout in ((dense, torch.strided), (sparse, torch.sparse_coo)):
        index = torch.tensor([[1, 3, 1]])
        g = torch.sparse_coo_tensor(
            index, torch.tensor([[1.0, 2], [3, 4], [5, 6]]), (5, 2), check_invariants=True
        )
        p.grad = g if layout is torch.sparse_coo else g.to_dense()
        optimizer = getattr(kudari.optim, name)([p], **kw)
        optimizer.step()
        optimizer.step()
    assert torch.equal(dense.detach(), sparse.detach())
    with pytest.raises(RuntimeError, match=r"weight_decay"):
        getattr(kudari.optim, name)([sparse], weight_decay=0.1).step()


@pytest.mark.parametrize("name", [n for n in ONE_EACH_IDS if n not in ("SGD", "Adagrad")])
def test_sparse_gradients_are_refused_by_name_elsewhere(name):
    p = torch.nn.Parameter(torch.ones(5, 2))
    p.grad = torch.ones(5, 2).to_sparse()
    with pytest.raises(UnsupportedError, match=f"{name} cannot use a sparse gradient"):
        build(name, [p]).step()


# What the exam does not try: values that are no numbers, and those that do not go with others.
REFUSED = [
    ("AdamW", {"betas": (1.0, 0.9)}, "AdamW: betas[0]=1.0 is not allowed; expected 0 <= betas[0] < 1"),
    ("SGD", {"nesterov": True}, "SGD: nesterov=True is not allowed; expected momentum > 0"),
    ("Lion", {"lr": "fast"}, "Lion: lr='fast' is not allowed; expected a number with lr >= 0"),
    ("Lion", {"lr": torch.ones(2)}, "expected a number or a tensor with one element"),
    ("ScheduleFreeAdamW", {"betas": (0, 0.9)}, "betas[0]=0 is not allowed; expected 0 < betas[0] < 1"),
    ("Shampoo", {"betas": (1, 0.9)}, "Shampoo: betas[0]=1 is not allowed; expected 0 <= betas[0] < 1"),
    (
        "Prodigy",
        {"slice_p": 1.5},
        "Prodigy: slice_p=1.5 is not allowed; expected a whole number, slice_p >= 1",
    ),
    ("Prodigy", {"slice_p": float("inf")}, "Prodigy: slice_p=inf is not allowed; expected a whole number"),
    (
        "Muon",
        {"ns_steps": 2.5},
        "Muon: ns_steps=2.5 is not allowed; expected a whole number, 1 <= ns_steps <= 99",
    ),
]


@pytest.mark.parametrize(("name", "kw", "message"), REFUSED, ids=[m[:40] for _, _, m in REFUSED])
def test_illegal_values_are_refused_with_name_value_and_range(name, kw, message):
    with pytest.raises(ValueError) as caught:
        getattr(kudari.optim, name)([torch.nn.Parameter(torch.ones(1))], **kw)
    assert message in str(caught.value)
    optimizer = getattr(kudari.optim, name)([torch.nn.Parameter(torch.ones(1))])
    with pytest.raises(HyperError):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], **kw})
    assert len(optimizer.param_groups) == 1


def test_a_misspelt_argument_is_named_with_what_is_meant():
    with pytest.raises(TypeError, match=r"'weight_decy'. Did you mean 'weight_decay'\?"):
        kudari.optim.AdamW([torch.nn.Parameter(torch.ones(1))], weight_decy=0.1)
    with pytest.raises(ValueError, match=r"no optimizer called 'adamv'. Did you mean 'adam"):
        kudari.optim.get("adamv")


def test_a_tensor_subclass_takes_the_eager_road_with_the_same_numbers_and_says_so_once():
    class Marked(torch.nn.Parameter):
        pass

    def run(make):
        p = make(torch.ones(5))
        optimizer = kudari.optim.AdamW([p], amsgrad=True)
        for step in range(3):
            p.grad = gradients(step, torch.float32, [(5,)])[0]
            optimizer.step()
        return p.detach()

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        slow = run(Marked)
    assert [w.category for w in said] == [kudari.optim.EagerFallbackWarning]
    assert "AdamW" in str(said[0].message)
    torch.testing.assert_close(slow.as_subclass(torch.Tensor), run(torch.nn.Parameter), rtol=1e-6, atol=1e-7)
