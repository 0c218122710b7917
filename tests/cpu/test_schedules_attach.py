"""The torch LRScheduler made of a schedule."""

import copy
import pickle

import pytest
import torch

from kudari.errors import ArgumentError
from kudari.schedules import constant, cosine, linear, parse, plateau, warmup


def make(optimizer=torch.optim.AdamW, groups=1, **kwargs):
    parameters = [torch.nn.Parameter(torch.ones(3)) for _ in range(groups)]
    return optimizer([{"params": [p]} for p in parameters], **{"lr": 0.1, **kwargs})


def run(optimizer, scheduler, steps):
    seen = []
    for _ in range(steps):
        seen.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return seen


def test_it_is_a_torch_scheduler_and_follows_the_factor():
    optimizer = make()
    scheduler = parse("warmup_cosine").attach(optimizer, total_steps=50)
    assert isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler)
    factor = parse("warmup_cosine").bind(50)
    assert run(optimizer, scheduler, 60) == [0.1 * factor(step) for step in range(60)]


def test_the_constructor_counts_no_step_and_replaces_nothing():
    optimizer = make()
    before = dict(vars(optimizer))
    scheduler = cosine().attach(optimizer, total_steps=10)
    assert {k: v for k, v in vars(optimizer).items() if "hook" not in k}.keys() == {
        k for k in before if "hook" not in k
    }
    assert "step" not in vars(optimizer)
    assert scheduler.last_epoch == 0


def test_resume_is_to_set_the_step():
    schedule = warmup(5) >> linear(1, 0)
    straight = make()
    want = run(straight, schedule.attach(straight, total_steps=20), 20)
    first = make()
    scheduler = schedule.attach(first, total_steps=20)
    run(first, scheduler, 8)
    saved = copy.deepcopy((first.state_dict(), scheduler.state_dict()))
    for order in (0, 1):
        again = make()
        resumed = schedule.attach(again, total_steps=20)
        (again.load_state_dict if order == 0 else resumed.load_state_dict)(saved[order])
        (resumed.load_state_dict if order == 0 else again.load_state_dict)(saved[1 - order])
        assert run(again, resumed, 12) == want[8:]
    fresh = make()
    assert run(fresh, schedule.attach(fresh, total_steps=20, start_step=8), 12) == want[8:]


@pytest.mark.parametrize("zero_grad_first", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_a_step_skipped_by_grad_scaler_does_not_advance(fused, zero_grad_first):
    optimizer = make(fused=fused)
    parameter = optimizer.param_groups[0]["params"][0]
    scheduler = linear(1, 0).attach(optimizer, total_steps=10)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    seen = []
    for bad in (False, True, False, True, True, False):
        loss = (parameter * (float("inf") if bad else 1.0)).sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if zero_grad_first:
            optimizer.zero_grad()
        scheduler.step()
        optimizer.zero_grad()
        seen.append(scheduler.last_epoch)
    assert seen == [1, 1, 2, 2, 2, 3]


@pytest.mark.parametrize("wipe", [None, {"set_to_none": True}, {"set_to_none": False}])
def test_first_steps_skipped_by_grad_scaler_do_not_advance(wipe):
    optimizer = make()
    parameter = optimizer.param_groups[0]["params"][0]
    scheduler = linear(1, 0).attach(optimizer, total_steps=10)
    scaler = torch.amp.GradScaler("cpu")
    for bad in (True, True, True, False):
        assert scheduler.last_epoch == 0
        scaler.scale((parameter * (float("inf") if bad else 1e-3)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        if wipe is not None:
            optimizer.zero_grad(**wipe)
        scheduler.step()
        optimizer.zero_grad()
    assert scheduler.last_epoch == 1
    assert not parameter._post_accumulate_grad_hooks  # backward passes are watched up to the first step only


def test_steps_taken_where_nobody_sees_them_advance():
    optimizer = make()
    parameter = optimizer.param_groups[0]["params"][0]
    scheduler = linear(1, 0).attach(optimizer, total_steps=10)
    for expected in (1, 2, 3):
        parameter.sum().backward()
        parameter.data -= 0.1 * parameter.grad  # an engine with a step of its own
        optimizer.zero_grad()
        scheduler.step()
        assert scheduler.last_epoch == expected


def test_a_scheduler_that_waits_for_its_first_step_is_copied_and_pickled():
    optimizer = make()
    scheduler = linear(1, 0).attach(optimizer, total_steps=10)
    for twin in (copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):
        twin.optimizer.step()
        twin.step()
        assert (twin.last_epoch, scheduler.last_epoch) == (1, 0)


def test_a_loop_that_only_draws_the_schedule_advances():
    scheduler = linear(1, 0).attach(make(), total_steps=10)
    for _ in range(4):
        scheduler.step()
    assert scheduler.get_last_lr() == [0.1 * 0.6]


def test_a_group_added_later_takes_its_first_step_with_its_own_scheduled_rate():
    optimizer = make(torch.optim.SGD)
    scheduler = linear(1, 0).attach(optimizer, total_steps=10)
    run(optimizer, scheduler, 5)
    late = torch.nn.Parameter(torch.zeros(1))
    optimizer.add_param_group({"params": [late], "lr": 1.0})
    late.grad = torch.ones(1)
    optimizer.step()
    assert late.item() == -0.5
    scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([0.04, 0.4])


def test_a_tensor_learning_rate_is_written_in_place():
    lr = torch.tensor(0.5)
    optimizer = make(lr=lr, foreach=False)
    inside = optimizer.param_groups[0]["lr"]
    scheduler = linear(1, 0).attach(optimizer, total_steps=10)
    run(optimizer, scheduler, 4)
    assert optimizer.param_groups[0]["lr"] is inside
    assert inside.item() == pytest.approx(0.3)
    last = scheduler.get_last_lr()[0]
    last.zero_()
    assert inside.item() == pytest.approx(0.3)


def test_a_copy_of_the_scheduler_goes_on_by_itself():
    optimizer = make()
    scheduler = linear(1, 0).attach(optimizer, total_steps=10)
    run(optimizer, scheduler, 3)
    twin = copy.deepcopy(scheduler)
    run(twin.optimizer, twin, 2)
    assert (scheduler.last_epoch, twin.last_epoch) == (3, 5)


def test_any_hyper_parameter_can_follow_a_schedule():
    optimizer = make(weight_decay=0.2, betas=(0.9, 0.99))
    scheduler = constant().attach(
        optimizer, total_steps=10, also={"weight_decay": linear(1, 0), "betas[0]": linear(1, 0.5)}
    )
    run(optimizer, scheduler, 5)
    group = optimizer.param_groups[0]
    assert group["weight_decay"] == pytest.approx(0.1)
    assert group["betas"] == (pytest.approx(0.675), 0.99)


def test_decay_can_be_made_independent_of_the_learning_rate():
    optimizer = make(weight_decay=0.2)
    scheduler = linear(1, 0).attach(optimizer, total_steps=10, independent_decay=True)
    for _ in range(9):
        group = optimizer.param_groups[0]
        assert group["lr"] * group["weight_decay"] == pytest.approx(0.1 * 0.2)
        optimizer.step()
        scheduler.step()


def test_groups_can_have_a_factor_of_their_own():
    optimizer = make(groups=3)
    optimizer.param_groups[2]["name"] = "head"
    scheduler = constant().attach(optimizer, total_steps=10, groups={0: constant(0.5), "head": linear(0, 1)})
    run(optimizer, scheduler, 5)
    assert scheduler.get_last_lr() == pytest.approx([0.05, 0.1, 0.05])


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"also": {"weight_decai": constant()}}, "Did you mean 'weight_decay'?"),
        ({"also": {"betas[2]": constant()}}, "no element 2"),
        ({"also": {"lr": constant()}}, "scheduled twice"),
        ({"groups": {"hed": constant()}}, "no parameter group 'hed'"),
        ({"groups": {7: constant()}}, "no parameter group 7"),
        (
            {"also": {"betas": constant()}},
            "betas is 2 numbers, and a schedule gives one. Name which: 'betas[0]'",
        ),
    ],
)
def test_names_that_the_optimizer_lacks_are_refused(kwargs, words):
    with pytest.raises(ArgumentError, match=words.replace("?", r"\?").replace("[", r"\[")):
        constant().attach(make(), total_steps=10, **kwargs)


def test_a_wrapper_that_steps_for_every_process_does_not_run_ahead():
    optimizer = make()
    scheduler = linear(1, 0).attach(optimizer, total_steps=10)
    for step in range(1, 6):
        optimizer.step()
        for _ in range(4):
            if scheduler._step_count <= scheduler.total_steps:
                scheduler.step()
        assert scheduler.last_epoch == step


def test_a_compiled_optimizer_step_is_seen():
    optimizer = make(torch.optim.SGD)
    optimizer.param_groups[0]["params"][0].grad = torch.ones(3)
    scheduler = linear(1, 0).attach(optimizer, total_steps=10)
    step = torch.compile(lambda: optimizer.step(), backend="eager")
    for _ in range(3):
        step()
        scheduler.step()
    assert scheduler.last_epoch == 3


def test_a_captured_step_that_nobody_sees_advances(monkeypatch):
    optimizer = make()
    scheduler = linear(1, 0).attach(optimizer, total_steps=10)
    optimizer.step()
    scheduler.step()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    optimizer.step()
    scheduler.step()
    monkeypatch.undo()
    for _ in range(3):  # replays
        scheduler.step()
    assert scheduler.last_epoch == 5


def test_a_plateau_is_told_metrics_and_resumes():
    schedule = linear(1, 0) * plateau(0.5, patience=0)
    optimizer = make()
    scheduler = schedule.attach(optimizer, total_steps=10)
    run(optimizer, scheduler, 4)
    assert [scheduler.report(m) for m in (1.0, 2.0)] == [False, True]
    assert scheduler.get_last_lr() == [pytest.approx(0.1 * 0.6 * 0.5)]
    again = make()
    resumed = schedule.attach(again, total_steps=10)
    resumed.load_state_dict(scheduler.state_dict())
    assert resumed.get_last_lr() == scheduler.get_last_lr()
    with pytest.raises(ArgumentError, match="no plateau"):
        cosine().attach(make(), 10).report(1.0)


def test_the_state_is_plain_data_that_a_safe_loader_reads(tmp_path):
    scheduler = (cosine() * plateau()).attach(make(lr=torch.tensor(0.1), foreach=False), total_steps=10)
    torch.save(scheduler.state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == scheduler.state_dict()


def test_a_kudari_schedule_goes_on_from_the_state_of_a_torch_scheduler():
    optimizer = make()
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    run(optimizer, theirs, 7)
    again = make()
    ours = cosine(length=20).attach(again, total_steps=20)
    ours.load_state_dict(theirs.state_dict())
    assert ours.get_last_lr() == [pytest.approx(theirs.get_last_lr()[0])]


@pytest.mark.parametrize("metric", [0.37, 1.0, True, "1"])
def test_a_metric_in_the_place_of_a_step_is_refused(metric):
    optimizer = make()
    scheduler = (linear(1, 0) * plateau()).attach(optimizer, total_steps=10)
    run(optimizer, scheduler, 3)
    with pytest.raises(ArgumentError, match=r"a metric for a plateau goes to report\(metric\)"):
        scheduler.step(metric)
    assert scheduler.last_epoch == 3


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"also": {"weight_decay": 0.1}}, "'weight_decay' is given 0.1, which is no schedule.*linear"),
        ({"also": ["weight_decay"]}, "is no dictionary.*also="),
        ({"groups": {0: "cosine"}}, "0 is given 'cosine', which is no schedule.*groups="),
    ],
)
def test_a_value_in_the_place_of_a_schedule_is_refused(kwargs, words):
    with pytest.raises(ArgumentError, match=words):
        constant().attach(make(), total_steps=10, **kwargs)


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(ArgumentError, match="Linear is no optimizer"):
        cosine().attach(torch.nn.Linear(1, 1), total_steps=10)
