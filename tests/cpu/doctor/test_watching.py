"""Watching leaves no trace and changes nothing."""

import functools
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import optimizer

import kudari.doctor
from kudari.cli.main import main
from kudari.doctor.printers.html import as_html
from kudari.doctor.printers.json import as_dict
from kudari.doctor.printers.sarif import as_sarif
from kudari.doctor.printers.text import run_text
from kudari.doctor.script import visit
from kudari.doctor.watching import watch
from kudari.errors import ArgumentError

SICK = """\
import sys
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(20):
    x = torch.randn(16, 4)
    loss = torch.nn.functional.mse_loss(net(x), x[:, :1])
    loss.backward()
    opt.step()
print("arguments", sys.argv[1:], __name__)
"""


def patched_places():
    owners = [nn.Module, torch.Tensor, nn.functional, torch, torch.optim.Optimizer, torch.autograd]
    owners += [
        torch.optim.lr_scheduler.LRScheduler,
        torch.utils.data.DataLoader,
        torch.amp.GradScaler,
        nn.utils,
    ]
    return {(owner, name): value for owner in owners for name, value in list(vars(owner).items())}


def train(seed=0, steps=60):
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    net = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.3), nn.ReLU(), nn.Linear(16, 2))
    opt = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        x = torch.randn(16, 4)
        loss = nn.functional.cross_entropy(net(x), (x[:, 0] > 0).long())
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return (
        losses,
        [p.detach().clone() for p in net.parameters()],
        torch.rand(3),
        random.random(),
        np.random.rand(),
    )


@pytest.mark.parametrize("raises", [False, True])
def test_nothing_stays_patched(raises):
    train(steps=1)  # torch loads parts of itself at the first step
    before = patched_places()
    try:
        with watch():
            train(steps=3)
            assert patched_places() != before
            if raises:
                raise KeyError("user")
    except KeyError:
        assert raises
    after = patched_places()
    assert {key for key in after if key not in before and not isinstance(after[key], type(torch))} == set()
    assert [key for key in before if before[key] is not after[key]] == []
    assert not optimizer._global_optimizer_pre_hooks and not optimizer._global_optimizer_post_hooks


def test_same_numbers_and_random_streams_with_and_without():
    plain = train()
    with watch() as doctor:
        seen = train()
    assert plain[0] == seen[0]
    assert all(torch.equal(a, b) for a, b in zip(plain[1], seen[1], strict=True))
    assert torch.equal(plain[2], seen[2]) and plain[3:] == seen[3:]
    assert doctor.run.stream.failures == []


def test_kudari_doctor_watch_is_the_public_name():
    assert kudari.doctor.watch is watch


def test_watch_refuses_what_is_no_model():
    with pytest.raises(ArgumentError, match="neither a model nor an optimizer"), watch("net"):
        pass


@pytest.mark.parametrize(
    ("ending", "status"), [("", 0), ("sys.exit(3)\n", 3), ("raise ValueError('x')\n", 1)]
)
def test_findings_and_exit_status_however_the_script_ends(tmp_path, capsys, ending, status):
    script = tmp_path / "train.py"
    script.write_text(SICK + ending)
    kept = sys.argv, sys.modules["__main__"], list(sys.path)
    seen = visit(script, ["--fast"])
    assert seen.status == status
    assert capsys.readouterr().out == "arguments ['--fast'] __main__\n"
    assert [f.fault for f in seen.diagnoses.shown] == ["missing-zero-grad"]
    assert (sys.argv, sys.modules["__main__"], sys.path) == kept


def test_the_place_is_the_innermost_line_of_user_code_with_its_columns(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SICK)
    (finding,) = visit(script).diagnoses.shown
    line = SICK.splitlines()[finding.line - 1]
    assert finding.file == str(script)
    assert line[finding.column : finding.end_column] == "opt.step()"


@pytest.mark.parametrize("comment", ["# kudari: ignore[missing-zero-grad]", "# kudari: ignore"])
def test_a_comment_on_the_line_silences(tmp_path, comment):
    script = tmp_path / "train.py"
    script.write_text(SICK.replace("opt.step()", f"opt.step()  {comment}"))
    diagnoses = visit(script).diagnoses
    assert diagnoses.shown == ()
    assert [f.fault for f in diagnoses.ignored] == ["missing-zero-grad"]


def test_reports_have_the_documented_fields(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SICK)
    diagnoses = visit(script).diagnoses
    report = json.loads(json.dumps(as_dict(diagnoses)))
    assert report.keys() == {"findings", "passed", "skipped"}
    row = next(row for row in report["findings"] if row["suppressed_by"] is None)
    assert list(row) == ["fault", "severity", "message", "file", "line", "evidence", "fix", "suppressed_by"]
    assert {"count", "first_step"} <= row["evidence"].keys()
    assert {"fault", "why"} == report["skipped"][0].keys()
    assert as_sarif(diagnoses)["runs"][0]["results"][0]["ruleId"] == "missing-zero-grad"
    assert "missing-zero-grad" in as_html(diagnoses, "title")


def test_stop_on_error_ends_the_script(tmp_path, capsys):
    script = tmp_path / "train.py"
    script.write_text(SICK.replace("range(20)", "range(500)") + "print('not reached')\n")
    assert visit(script, stop_on="error").status == 1
    assert "not reached" not in capsys.readouterr().out


def test_accumulation_and_step_in_a_backward_hook_are_no_missing_wipe():
    torch.manual_seed(0)
    with watch() as doctor:
        net = nn.Linear(4, 2)
        opts = {p: torch.optim.SGD([p], lr=0.01) for p in net.parameters()}

        def in_hook(p):
            opts[p].step()
            opts[p].zero_grad()

        for p in net.parameters():
            p.register_post_accumulate_grad_hook(in_hook)
        for _ in range(30):
            net(torch.randn(8, 4)).pow(2).mean().backward()
    assert [f.fault for f in doctor.findings if f.severity != "note"] == []


def test_checkpointed_and_compiled_free_functions_are_silent():
    from torch.utils.checkpoint import checkpoint

    torch.manual_seed(0)
    with watch() as doctor:
        body, head = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU()), nn.Linear(8, 2)
        opt = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.05)
        for _ in range(30):
            x = torch.randn(16, 4)
            loss = nn.functional.cross_entropy(
                head(checkpoint(body, x, use_reentrant=False)), (x[:, 0] > 0).long()
            )
            opt.zero_grad()
            loss.backward()
            opt.step()
    assert doctor.run.stream.failures == []
    assert [f.fault for f in doctor.findings if f.severity != "note"] == []


def test_a_compiled_model_is_one_graph_and_compiled_once_as_without_the_doctor():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm, self.drop = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.1)
            self.b = nn.Linear(16, 3)

        def forward(self, x, y):
            scores = self.b(self.drop(torch.relu(self.norm(self.a(x)))))
            return nn.functional.cross_entropy(scores, y), (scores.argmax(1) == y).float().mean()

    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    with watch() as doctor:
        net = torch.compile(Net(), backend=backend, fullgraph=True)
        opt = torch.optim.SGD(net.parameters(), lr=0.05)
        for _ in range(30):  # the samples of every step end at the twentieth
            x = torch.randn(16, 8)
            opt.zero_grad()
            net(x, (x[:, 0] > 0).long())[0].backward()
            opt.step()
    assert len(compiled) == 1
    assert doctor.run.stream.failures == []
    assert [f.fault for f in doctor.findings if f.severity != "note"] == []


def test_functional_gradients_pass_through():
    net = nn.Linear(3, 1)
    params = dict(net.named_parameters())

    def loss(p, x):
        return torch.func.functional_call(net, p, (x,)).pow(2).mean()

    x = torch.ones(4, 3)
    plain = torch.func.grad(loss)(params, x)
    with watch() as doctor:
        seen = torch.func.grad(loss)(params, x)
    assert all(torch.equal(plain[k], seen[k]) for k in plain)
    assert doctor.run.stream.failures == []


def test_a_failing_tracker_never_reaches_the_script(monkeypatch):
    with watch() as doctor:
        listeners = doctor.run.stream.listeners
        listeners["backward_begins"] = (functools.partial(int, "no number"),)
        train(steps=3)
    assert doctor.run.stream.failures


def test_start_command_reports_after_the_scripts_output(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SICK)
    code = "import argparse, sys\nfrom kudari.cli import doctor\np = argparse.ArgumentParser()\n"
    code += "doctor.configure(p)\nsys.exit(doctor.run(p.parse_args(sys.argv[1:])))"
    command = [sys.executable, "-c", code, "--fail-on", "error", "--json", "out.json", str(script), "--x"]
    home = str(Path(kudari.doctor.__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": home}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, env=env)
    lines = done.stdout.splitlines()
    assert done.returncode == 1 and lines, done.stderr
    assert lines[0] == "arguments ['--x'] __main__"
    assert lines[1].startswith("error[missing-zero-grad]: ")
    assert any(line.endswith("opt.step()") for line in lines) and any("^^^^^^^^^^" in line for line in lines)
    assert json.loads((tmp_path / "out.json").read_text())["findings"]


def test_training_in_a_thread_that_outlives_the_script_is_watched_to_its_end(tmp_path):
    body = "\n".join("    " + line for line in SICK.splitlines())
    script = tmp_path / "train.py"
    script.write_text(
        "import threading, time\ndef work():\n    time.sleep(0.05)\n"
        f"{body}\nthreading.Thread(target=work).start()\n"
    )
    assert [f.fault for f in visit(script).diagnoses.shown] == ["missing-zero-grad"]


def test_an_executor_that_is_left_open_does_not_hold_the_script_up(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor().submit(print)\n"
    )
    command = [sys.executable, "-m", "kudari", "doctor", "train.py"]
    env = {**os.environ, "PYTHONPATH": str(Path(kudari.doctor.__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, env=env)
    assert done.returncode == 0, done.stderr


def test_a_script_knows_its_own_folder_after_it_has_gone_elsewhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    Path("train.py").write_text("import os\nos.chdir('there')\nprint(os.path.dirname(__file__))\n")
    visit(Path("train.py"))
    assert capsys.readouterr().out == f"{tmp_path}\n"


def test_no_training_is_no_clean_bill(tmp_path):
    script = tmp_path / "train.py"
    script.write_text("pass\n")
    assert run_text(visit(script).diagnoses).startswith("No training was seen in this process")
    script.write_text(SICK.replace("    opt.step", "    opt.zero_grad(); opt.step"))
    assert "No training" not in run_text(visit(script).diagnoses)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--every", "0"], "every=0 is below 1"),
        (["--json", "nowhere/out.json"], "there is no folder"),
        (["--html", "."], "is a folder"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_script_runs(options, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text("print('ran')\n")
    assert main(["doctor", *options, "train.py"]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stop_on": "eror"}, "Did you mean 'error'"),
        ({"ignore": ("missing-zero-gra",)}, "Did you mean 'missing-zero-grad'"),
        ({"ignore": "missing-zero-grad"}, "is one text"),
    ],
)
def test_watch_refuses_names_that_would_do_nothing(options, said):
    with pytest.raises(ArgumentError, match=said), watch(**options):
        pass


def test_what_stands_behind_the_script_is_the_scripts(tmp_path, capsys):
    script = tmp_path / "train.py"
    script.write_text("import sys\nprint(sys.argv[1:])\n")
    assert main(["doctor", "--debug", str(script), "--debug", "--json", "x"]) == 0
    assert capsys.readouterr().out.startswith("['--debug', '--json', 'x']\n")
