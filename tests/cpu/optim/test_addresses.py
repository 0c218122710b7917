"""What a step's compiled loops know of tensors is what Python knows, whatever has happened to them."""

import copy

import pytest
import torch

from kudari.compile import addresses
from kudari.optim import binding
from tests.cpu.optim.conftest import build

COUNT = 5


@pytest.fixture(params=["compiled", "python"])
def loops(request, monkeypatch):
    """Both ways of looking at tensors, for few of them."""
    monkeypatch.setattr(binding, "MANY", 1 if request.param == "compiled" else 10**9)
    return request.param == "compiled"


def tensors(seed=0, shape=(4, 6)):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(COUNT)]


def start(name="AdamW", **kw):
    params = [torch.nn.Parameter(x) for x in tensors()]
    optimizer = build(name, params, lr=0.1, **kw)
    for seed in (1, 2):
        give(params, seed)
        optimizer.step()
    return params, optimizer


def give(params, seed):
    for p, g in zip(params, tensors(seed), strict=True):
        p.grad = g


def of(optimizer):
    [one] = optimizer._bound[0].bindings
    return one


def test_this_torch_has_the_loops():
    assert addresses.loops() is not None


@pytest.mark.parametrize(
    "other",
    [
        torch.zeros(4, 6, dtype=torch.float64),
        torch.zeros(4, 6, dtype=torch.int32),
        torch.zeros(6, 4).t(),
        torch.zeros(4, 5),
        torch.zeros(4, 6).to_sparse(),
        torch.zeros(4, 6).to_mkldnn(),
        type("Odd", (torch.Tensor,), {})(),
        None,
        1.5,
    ],
    ids=lambda x: type(x).__name__ + str(getattr(x, "dtype", "")) + str(getattr(x, "layout", "")),
)
def test_a_list_with_one_other_tensor_is_not_taken(other):
    here = addresses.loops()
    room = addresses.Addresses(here, 1, [24] * COUNT)
    some = tensors()
    number = here.number(torch.float32)
    assert room.find(0, some, number)
    assert room.table[0].tolist() == [x.data_ptr() for x in some]
    for place in range(COUNT):
        assert not room.find(0, [*some[:place], other, *some[place + 1 :]], number)


def test_names_without_a_tensor_are_not_taken_and_strides_do_not_matter():
    here = addresses.loops()
    room = addresses.Addresses(here, 1, [24] * 2)
    x, y = tensors()[:2]
    assert room.find_under(0, "m", [{"m": x}, {"v": x, "m": y.t()}])
    assert room.table[0].tolist() == [x.data_ptr(), y.data_ptr()]
    for other in ({}, {"v": x}, {"m": None}, {"m": 2.0}, {"m": x.to_sparse()}):
        assert not room.find_under(0, "m", [{"m": x}, other])


def replace_data(params, optimizer):
    params[3].data = params[3].detach().clone()


def turn_in_place(params, optimizer):
    params[1].data = params[1].data.as_strided((4, 6), (1, 4))


def cut_short(params, optimizer):
    params[1].data = params[1].data[:2]
    params[1].grad = params[1].grad[:2]
    optimizer.state.pop(params[1])


def swap_two(params, optimizer):
    torch.utils.swap_tensors(params[0], torch.nn.Parameter(tensors(9)[0]))
    params[0].grad = tensors(8)[0]


def turn_gradient(params, optimizer):
    params[2].grad = tensors(7, (6, 4))[2].t()


def replace_gradients_data(params, optimizer):
    params[2].grad.data = tensors(7, (6, 4))[2].t()


def drop_gradient(params, optimizer):
    params[4].grad = None


def drop_all_gradients(params, optimizer):
    optimizer.zero_grad()


def clone_state(params, optimizer):
    optimizer.state[params[2]]["exp_avg"] = optimizer.state[params[2]]["exp_avg"] * 2


def replace_states_data(params, optimizer):
    optimizer.state[params[2]]["exp_avg_sq"].data = torch.ones(4, 6)


def replace_count(params, optimizer):
    optimizer.state[params[2]]["step"] = torch.tensor(50.0)


def remove_state(params, optimizer):
    del optimizer.state[params[2]]["exp_avg"]


def clear_states(params, optimizer):
    optimizer.state.clear()


def copy_state(params, optimizer):
    optimizer.state[params[0]] = copy.deepcopy(optimizer.state[params[0]])


def reload(params, optimizer):
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


HAPPENINGS = (
    *(replace_data, turn_in_place, cut_short, swap_two),
    *(turn_gradient, replace_gradients_data, drop_gradient, drop_all_gradients),
    *(clone_state, replace_states_data, replace_count, remove_state, clear_states, copy_state, reload),
)


@pytest.mark.parametrize("happening", HAPPENINGS, ids=lambda f: f.__name__)
def test_a_step_after_something_has_happened_is_that_of_tensors_bound_anew(happening, loops):
    params, optimizer = start()
    assert (of(optimizer).found is not None) is loops
    twins, anew = start()
    give(params, 3)
    give(twins, 3)
    happening(params, optimizer)
    happening(twins, anew)
    anew._forget(0)
    for _ in range(2):
        optimizer.step()
        anew.step()
    for p, q in zip(params, twins, strict=True):
        assert torch.equal(p, q)
        assert optimizer.state[p].keys() == anew.state[q].keys()
        assert all(torch.equal(x, anew.state[q][key]) for key, x in optimizer.state[p].items())


def test_new_gradients_do_not_bind_anew_and_are_the_ones_read(loops):
    params, optimizer = start()
    before = of(optimizer)
    old = [p.detach().clone() for p in params]
    for p in params:
        p.grad = torch.zeros_like(p)
    params[3].grad = torch.full_like(params[3], 1e6)
    optimizer.step()
    assert of(optimizer) is before
    assert (params[3] - old[3]).abs().min() > 0.01
    assert all((p - x).abs().max() < 0.2 for p, x in zip(params, old, strict=True))


def test_a_sparse_gradient_that_comes_later_is_refused_by_name(loops):
    params, optimizer = start()
    params[2].grad = tensors()[2].to_sparse()
    with pytest.raises(RuntimeError, match="cannot use a sparse gradient"):
        optimizer.step()


@pytest.mark.parametrize("late", [False, True], ids=["gradient", "parameter"])
def test_a_gradient_of_another_size_is_refused_before_anything_is_read(late, loops):
    params, optimizer = start("SGD", momentum=0.9)
    give(params, 3)
    if late:
        params[2].data = torch.zeros(40, 60)
    else:
        params[2].grad.data = torch.zeros(2, 6)
    before = [p.detach().clone() for p in params]
    with pytest.raises(RuntimeError, match=r"a gradient has shape \(\d, 6\), its parameter"):
        optimizer.step()
    assert all(map(torch.equal, params, before))


def test_numbers_made_for_a_tensor_beside_its_state_are_looked_past(loops):
    params = [torch.nn.Parameter(x) for x in tensors(shape=(24,))]
    optimizer = build("Muon", params)
    for seed in (1, 2, 3):
        for p, g in zip(params, tensors(seed, (24,)), strict=True):
            p.grad = g
        optimizer.step()
    assert (of(optimizer).found is not None) is loops


def test_without_torchs_functions_python_is_asked(monkeypatch):
    monkeypatch.setattr(binding, "MANY", 1)
    monkeypatch.setattr(addresses, "_OF_TORCH", ("get_layout", "not_there"))
    addresses.loops.cache_clear()
    try:
        assert addresses.loops() is None
        params, optimizer = start()
        assert of(optimizer).found is None
        assert all(p.isfinite().all() for p in params)
    finally:
        addresses.loops.cache_clear()


def test_functions_that_answer_something_else_are_not_believed(monkeypatch):
    other = ("get_layout", "get_dtype", "is_contiguous", "get_storage_offset", "get_data_ptr")
    monkeypatch.setattr(addresses, "_OF_TORCH", other)
    assert not addresses._tells_the_truth(addresses.Loops())
