"""Living in a PyTorch program: compiled models, copies, hooks around checkpoints, and what torch refuses."""

import copy
import pickle

import pytest
import torch

import kudari.optim
from tests.cpu.optim.conftest import gradients, start


def walked():
    """An optimizer that has taken a step."""
    params = start(torch.float32, [(6, 5), ()])
    optimizer = kudari.optim.AdamW(params)
    for p, g in zip(params, gradients(0, torch.float32, [(6, 5), ()]), strict=True):
        p.grad = g
    optimizer.step()
    return optimizer


def test_a_compiled_model_is_trained_and_its_parameters_are_the_models():
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    twin = copy.deepcopy(model)
    # The eager backend: what matters here is the wrapper around the module, not a C++ compiler.
    compiled = torch.compile(model, backend="eager")
    for module, cls in ((compiled, kudari.optim.AdamW), (twin, torch.optim.AdamW)):
        optimizer = cls(module.parameters(), lr=0.1)
        for step in range(4):
            optimizer.zero_grad()
            module(gradients(step, torch.float32, [(5, 4)])[0]).square().sum().backward()
            optimizer.step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_tensor_learning_rate_survives_copies_and_checkpoints():
    p = torch.nn.Parameter(torch.zeros(2))
    optimizer = kudari.optim.SGD([p], lr=torch.tensor(0.5))
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert isinstance(twin.param_groups[0]["lr"], torch.Tensor)
        (q,) = twin.param_groups[0]["params"]
        q.grad = torch.ones(2)
        twin.step()
        assert torch.equal(q.detach(), torch.full((2,), -0.5))
    other = kudari.optim.SGD([p], lr=0.1)
    other.load_state_dict(optimizer.state_dict())
    assert float(other.param_groups[0]["lr"]) == 0.5


def test_hooks_around_loading_and_saving_run_and_may_change_what_is_loaded():
    optimizer = walked()
    seen = []
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("before saving"))
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "note": 1})
    saved = optimizer.state_dict()
    assert saved["note"] == 1

    def halve(o, state):
        state["param_groups"][0]["lr"] = 0.125
        return state

    optimizer.register_load_state_dict_pre_hook(halve)
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append("after loading"))
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 0.125
    assert seen == ["before saving", "after loading"]


def test_a_copy_keeps_its_hooks_apart_and_a_group_added_to_it_is_its_own():
    optimizer = walked()
    twin = copy.deepcopy(optimizer)
    twin.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
    assert (len(optimizer.param_groups), len(twin.param_groups)) == (1, 2)


@pytest.mark.parametrize("name", ["SGD", "AdamW", "LAMB", "ScheduleFreeSGD"])
def test_a_parameter_given_twice_or_that_is_no_leaf_is_refused_as_by_torch(name):
    p = torch.nn.Parameter(torch.ones(2))
    cls = getattr(kudari.optim, name)
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        cls([p]).add_param_group({"params": [p]})
    with pytest.raises(ValueError, match="can't optimize a non-leaf Tensor"):
        cls([p * 2])
    with pytest.raises(ValueError, match="empty parameter list"):
        cls([])


def test_a_closure_under_a_grad_scaler_is_refused_by_torch_and_an_unscaled_step_goes_through():
    a, b = (torch.nn.Parameter(torch.ones(4)) for _ in range(2))
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    scaled, plain = kudari.optim.SGD([a], lr=0.1), kudari.optim.SGD([b], lr=0.1)
    scaler.scale((a * 3).sum()).backward()
    b.grad = torch.full((4,), 3.0)
    scaler.unscale_(scaled)
    torch.nn.utils.clip_grad_norm_([a], 1.0)
    torch.nn.utils.clip_grad_norm_([b], 1.0)
    scaler.step(scaled)
    scaler.update()
    plain.step()
    torch.testing.assert_close(a, b, rtol=1e-6, atol=0)
    with pytest.raises(RuntimeError, match="Closure use is not currently supported"):
        scaler.step(scaled, closure=lambda: None)


@pytest.mark.parametrize(
    ("cls", "options", "said"),
    [
        ("SGD", {"lr": 0.1, "momentum": 0.9}, "keeps exp_avg, exp_avg_sq; SGD keeps momentum_buffer"),
        ("Adan", {}, r"values are not for this class: Adan: betas=\(0.9, 0.999\) is not allowed"),
    ],
)
def test_a_checkpoint_of_another_class_is_refused_and_changes_nothing(cls, options, said):
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    other = kudari.optim.AdamW([p], lr=0.5)
    other.step()
    optimizer = getattr(kudari.optim, cls)([p], **options)
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=said):
        optimizer.load_state_dict(other.state_dict())
    assert optimizer.state_dict() == before


def test_states_of_parameters_that_are_gone_are_not_taken_for_those_of_others():
    named = {name: torch.nn.Parameter(torch.zeros(2)) for name in "abc"}
    whole = kudari.optim.AdamW(list(named.items()))
    for size, p in enumerate(named.values()):
        p.grad = torch.full((2,), float(size + 1))
    whole.step()
    part = kudari.optim.AdamW([("c", named["c"]), ("a", named["a"])])
    part.load_state_dict(whole.state_dict())
    saved = part.state_dict()["state"]
    assert sorted(saved) == [0, 1]
    for number, name in enumerate("ca"):
        assert torch.equal(saved[number]["exp_avg"], whole.state[named[name]]["exp_avg"])


def test_states_of_the_users_own_are_loaded_beside_a_tensor_without_a_step():
    p = torch.nn.Parameter(torch.ones(3))
    first, second = kudari.optim.AdamW([p]), kudari.optim.AdamW([p])
    first.state[p]["seen"] = torch.ones(2)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.state[p]["seen"], torch.ones(2))
