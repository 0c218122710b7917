"""After a hundred ordinary steps two of 25 are watched in full; what begins later is found all the same."""

import pytest
import torch
from torch import nn

from kudari.doctor.track.resting import REST_AFTER
from kudari.doctor.watching import watch

LATE = REST_AFTER + 37


def train(steps, odd=lambda step, net, opt: None, step_of=None, **options):
    """Watch a loop; ``odd`` runs before each forward. Returns the doctor and the steps that were rested."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))
    opt = torch.optim.SGD(net.parameters(), lr=0.05)
    x = torch.randn(320, 4)
    y = x[:, :3].argmax(1)
    rested = []
    with watch(**options) as doctor:
        for step in range(steps):
            index = torch.randint(320, (16,))
            odd(step, net, opt)
            if doctor.run.stream.resting:
                rested.append(step)
            if step_of is not None:
                step_of(step, net, opt, x[index], y[index])
                continue
            opt.zero_grad()
            nn.functional.cross_entropy(net(x[index]), y[index]).backward()
            opt.step()
    return doctor, rested


def faults(doctor):
    return {f.fault: f for f in doctor.findings if f.severity != "note" and f.suppressed_by is None}


def test_rests_between_samples_and_counts_every_step():
    doctor, rested = train(260)
    assert set(range(101, 124)) <= set(rested) and not set(rested) & {*range(101), 124, 125, 149, 150}
    (record,) = doctor.run.optimizers.records
    (root,) = doctor.run.roots.roots
    assert record.steps == root.training_calls == root.training_on == record.windows.total() == 260
    assert len(doctor.run.backwards.sites) == 1
    assert [len(s.losses.values) for s in doctor.run.backwards.sites.values()] == [260]
    assert not faults(doctor)


def test_gradients_that_are_not_wiped_any_more_are_found():
    def step_of(step, net, opt, x, y):
        if step < LATE:
            opt.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        opt.step()

    doctor, rested = train(2 * LATE, step_of=step_of, ignore=("lr-too-high",))
    assert "missing-zero-grad" in faults(doctor)
    assert max(rested) < LATE + 25


def test_gradients_set_to_zero_are_no_stale_ones():
    def step_of(step, net, opt, x, y):
        opt.zero_grad(set_to_none=False)
        nn.functional.cross_entropy(net(x), y).backward()
        opt.step()

    doctor, rested = train(260, step_of=step_of)
    assert rested and not faults(doctor)
    assert doctor.run.optimizers.records[0].stale_steps.count == 0


def test_eval_mode_that_is_never_left_is_found():
    def odd(step, net, opt):
        if step == LATE:
            net.eval()
            with torch.no_grad():
                net(torch.randn(16, 4))

    doctor, _ = train(3 * LATE, odd)
    (root,) = doctor.run.roots.roots
    assert root.training_calls == 3 * LATE and root.training_off.count == 2 * LATE
    assert "eval-mode-while-training" in faults(doctor)


def test_the_first_loss_that_is_not_finite_is_found_at_its_step():
    def step_of(step, net, opt, x, y):
        opt.zero_grad()
        x = x * float("inf") if step == LATE else x
        nn.functional.cross_entropy(net(x), y).backward()
        opt.step()

    found = faults(train(LATE + 5, step_of=step_of)[0])["nan-origin"]
    assert found.evidence["first_step"] == LATE
    assert "the batch itself" in found.message


def test_a_label_out_of_range_is_named_where_it_raises():
    def step_of(step, net, opt, x, y):
        opt.zero_grad()
        nn.functional.cross_entropy(net(x), y + 3 * (step == LATE)).backward()
        opt.step()

    with pytest.raises(IndexError), watch() as doctor:
        train_inside(step_of)
    assert "label-out-of-range" in faults(doctor)


def train_inside(step_of):
    torch.manual_seed(0)
    net = nn.Linear(4, 3)
    opt = torch.optim.SGD(net.parameters(), lr=0.05)
    for step in range(LATE + 1):
        x = torch.randn(16, 4)
        step_of(step, net, opt, x, x[:, :3].argmax(1))


def test_clipping_in_every_step_is_ordinary_and_counted():
    def step_of(step, net, opt, x, y):
        opt.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()

    doctor, rested = train(260, step_of=step_of)
    assert len(rested) == 147 and not faults(doctor)
    assert [c.count for c in doctor.run.schedules.clips.values()] == [260]


def test_clipping_after_the_step_is_found_where_it_begins_later():
    def step_of(step, net, opt, x, y):
        opt.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        if step < LATE:
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        if step >= LATE:
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)

    assert "clip-after-step" in faults(train(2 * LATE, step_of=step_of)[0])


def test_clipping_that_begins_later_ends_the_rest():
    def step_of(step, net, opt, x, y):
        opt.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        if step >= LATE:
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()

    doctor, rested = train(2 * LATE, step_of=step_of)
    assert LATE in rested and LATE + 1 not in rested
    assert [c.count for c in doctor.run.schedules.clips.values()] == [LATE - 1]
    assert not faults(doctor)


@pytest.mark.parametrize("what", ["accumulation", "closure", "two optimizers"])
def test_what_is_not_ordinary_is_always_watched(what):
    others = []

    def step_of(step, net, opt, x, y):
        loss = nn.functional.cross_entropy(net(x), y)
        if what == "two optimizers" and not others:
            others.append(torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1))
        if what == "closure":

            def closure():
                opt.zero_grad()
                again = nn.functional.cross_entropy(net(x), y)
                again.backward()
                return again

            opt.step(closure)
            return
        (loss / 2 if what == "accumulation" else loss).backward()
        if what == "accumulation" and step % 2:
            return
        opt.step()
        for other in others:
            other.param_groups[0]["params"][0].grad = torch.ones(2)
            other.step()
        opt.zero_grad()

    assert train(400, step_of=step_of)[1] == []


def test_a_verdict_asked_for_while_the_run_goes_on_needs_every_step():
    assert train(260, stop_on="error")[1] == []
