"""``kudari doctor --try-fix``: both runs, side by side, and the file as it was."""

import pytest

from kudari.doctor.trial import trial_text, try_fix
from kudari.errors import ArgumentError

SICK = """\
import sys
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.05)
for i in range(500):
    x = torch.randn(16, 4)
    loss = torch.nn.functional.mse_loss(net(x), x.sum(1))
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(sys.argv[1], loss.item())
"""


def test_the_fix_is_tried_in_memory_for_some_steps(tmp_path, capfd):
    script = tmp_path / "train.py"
    script.write_text(SICK)
    trial = try_fix(script, ["word"], 80)
    assert trial.slugs == ("loss-shape-broadcast",)
    assert trial.before.faults == ("loss-shape-broadcast",)
    assert trial.after is not None and trial.after.faults == () and trial.after.status == 0
    assert len(trial.before.losses) == len(trial.after.losses) == 80
    assert trial.after.losses[-1] < 0.1 * trial.before.losses[-1]
    assert script.read_text() == SICK
    assert "+    loss = torch.nn.functional.mse_loss(net(x).squeeze(-1), x.sum(1))" in trial_text(trial)
    assert capfd.readouterr().out == ""


def test_without_a_certain_fix_only_one_run_is_made(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SICK.replace("net(x)", "net(x).squeeze(1)"))
    trial = try_fix(script, ["word"], 30)
    assert trial.after is None
    assert "No finding here has a certain fix" in trial_text(trial)


def test_fewer_than_one_step_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="steps=0"):
        try_fix(tmp_path / "train.py", (), 0)
