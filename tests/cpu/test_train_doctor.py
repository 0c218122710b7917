"""``fit`` watches the first steps of a run, says what is wrong, and changes nothing."""

import pytest
import torch
from torch import nn

import kudari
from kudari.doctor.watching import is_watching, watch
from kudari.errors import ArgumentError
from kudari.train.observation import WATCHED_STEPS


def data(scale=1.0):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(320, 8, generator=generator)
    return scale * x, x[:, :3].argmax(1)


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def fit(tmp_path, name, source, **options):
    steps = 2 * WATCHED_STEPS
    return kudari.fit(model(), source, steps=steps, out=tmp_path / name, progress=False, **options)


def test_findings_of_the_first_steps_stand_in_the_record(tmp_path):
    run = fit(tmp_path, "sick", data(scale=100.0))
    assert [d.fault for d in run.facts.diagnoses] == ["unnormalized-input"]


def test_healthy_data_and_an_unwatched_run_have_none(tmp_path):
    assert fit(tmp_path, "healthy", data()).facts.diagnoses == ()
    assert fit(tmp_path, "off", data(scale=100.0), doctor=False).facts.diagnoses == ()


def test_same_weights_with_and_without(tmp_path):
    seen = fit(tmp_path, "seen", data()).model.state_dict()
    plain = fit(tmp_path, "plain", data(), doctor=False).model.state_dict()
    assert all(torch.equal(seen[name], plain[name]) for name in plain)


def test_nothing_stays_patched_and_the_end_is_left_alone(tmp_path):
    backward, call = torch.autograd.backward, nn.Module.__call__
    fit(tmp_path, "run", data())
    assert torch.autograd.backward is backward and nn.Module.__call__ is call
    assert not is_watching()


def test_watching_ends_after_the_steps_asked_for():
    backward = torch.autograd.backward
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with watch(steps=3) as doctor:
        for step in range(6):
            net(torch.ones(4, 8)).mean().backward()
            assert (torch.autograd.backward is backward) == (step >= 3)
            optimizer.step()
    assert doctor.run.backwards.total == 3
    with pytest.raises(ArgumentError, match="steps=0"), watch(steps=0):
        pass
    assert not is_watching()


def test_a_run_inside_watch_is_seen_by_that_doctor_alone(tmp_path):
    with watch() as doctor:
        run = fit(tmp_path, "inside", data(scale=100.0))
    assert run.facts.diagnoses == ()
    assert "unnormalized-input" in [f.fault for f in doctor.findings]


def test_losses_by_name_are_seen(tmp_path):
    net = nn.Sequential(model(), nn.Softmax(1))
    run = kudari.fit(net, data(), steps=WATCHED_STEPS, out=tmp_path / "softmax", progress=False)
    assert [d.fault for d in run.facts.diagnoses] == ["softmax-before-cross-entropy"]
