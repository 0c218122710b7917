"""Ctrl-C and SIGTERM end a run with a checkpoint, wherever it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from kudari.record import Facts, RunDir
from kudari.train.signals import StopRequest
from tests.cpu.train_runs import network, newest_checkpoint, points, quiet_fit, same_bits

SCRIPT = """
    import sys, time
    from tests.cpu.train_runs import network, points
    import torch
    from kudari.train import fit

    class Slow(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.calls = network(), 0
        def forward(self, x):
            self.calls += 1
            if self.calls == 12:
                print("ready", flush=True)
            if {waits}:
                time.sleep(0.05)
            return self.net(x)

    run = fit(Slow(), points(), {valid}, steps=100_000, batch_size=8, lr=0.01, out=sys.argv[1],
                     progress=True, threads=1, eval_every=3)
    print(run.status, run.steps, run.message, flush=True)
"""
TRAINING = {"waits": "self.training", "valid": "None"}
EVALUATING = {"waits": "not self.training", "valid": "[points(4)] * 5000"}

WORKERS = """
    import os, signal, sys, torch
    from torch.utils.data import DataLoader, Dataset
    from kudari.train import fit
    from tests.cpu.train_runs import network, points, same_bits

    class Noisy(Dataset):
        def __init__(self):
            self.x, self.y = points(40)
        def __len__(self):
            return 40
        def __getitem__(self, index):
            return self.x[index] + 0.1 * torch.randn(6), self.y[index]

    class CtrlC:  # reaches every process of the group, as from a terminal
        looks = 0
        def due(self, now):
            self.looks += 1
            if self.looks == 5:
                os.killpg(0, signal.SIGINT)
        show = say = lambda self, text: None
        close = lambda self: None

    if __name__ == "__main__":
        os.setpgrp()
        def run(progress, **where):
            loader = DataLoader(Noisy(), 4, shuffle=True, num_workers=2)
            return fit(network(0.5), loader, epochs=2, lr=0.01, log_every=1, progress=progress, **where)
        whole = run(False, out=sys.argv[1] + "/whole")
        first = run(CtrlC(), out=sys.argv[1] + "/parts")
        second = run(False, resume=sys.argv[1] + "/parts")
        print(first.status, second.status, same_bits(whole.model, second.model), flush=True)
"""


def start(script: str, folder: Path) -> subprocess.Popen:
    """Run a script in another process."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(folder)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_signals_leave_a_usable_checkpoint_and_say_how_to_resume(tmp_path):
    cases = [("train", signal.SIGINT, TRAINING), ("evaluate", signal.SIGTERM, EVALUATING)]
    started = [
        (tmp_path / name, number, start(SCRIPT.format(**how), tmp_path / name)) for name, number, how in cases
    ]
    try:
        for folder, number, process in started:
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
            process.send_signal(number)
            said, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors
            status, steps, message = said.split(maxsplit=2)
            assert status == "interrupted"
            assert f"Stopped by {number.name} at step {int(steps):,} of 100,000" in message
            assert f"kudari train --resume {folder}" in message
            assert message.strip() in errors  # said aloud as well
            assert Facts.read(RunDir(folder).facts).status == "interrupted"
            assert newest_checkpoint(folder).name == f"step-{int(steps):06d}"
    finally:
        for _, _, process in started:
            process.kill()
            process.wait()


def test_ctrl_c_with_loader_workers_resumes_to_the_same_bits(tmp_path):
    said, errors = start(WORKERS, tmp_path).communicate(timeout=120)
    assert said == "interrupted finished True\n", errors


def test_second_ctrl_c_ends_the_process_at_once(tmp_path):
    stop = StopRequest()
    with pytest.raises(KeyboardInterrupt), stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set()
        os.kill(os.getpid(), signal.SIGINT)


def test_handlers_return_after_a_run(tmp_path):
    def mine(number, frame):
        pass

    before = signal.signal(signal.SIGTERM, mine)
    interrupt = signal.getsignal(signal.SIGINT)  # started in the background, a shell has it ignored
    try:
        quiet_fit(network(), points(), steps=2, out=tmp_path / "run")
        assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGINT) is interrupt
    finally:
        signal.signal(signal.SIGTERM, before)


def test_fit_works_outside_the_main_thread(tmp_path):
    runs = []
    thread = threading.Thread(
        target=lambda: runs.append(quiet_fit(network(), points(), steps=3, out=tmp_path / "run"))
    )
    thread.start()
    thread.join()
    assert runs[0].status == "finished"


def test_run_stopped_in_the_last_validation_validates_on_resume(tmp_path):
    class Stopping(nn.Module):
        def __init__(self, at):
            super().__init__()
            self.net, self.at, self.validations = network(), at, 0

        def forward(self, x):
            if not self.training and len(x) == 21:
                self.validations += 1
                if self.validations == self.at:
                    os.kill(os.getpid(), signal.SIGINT)
            return self.net(x)

    options = {"steps": 6, "batch_size": 8, "eval_every": 3}
    valid = [points(21)] * 3
    whole = quiet_fit(Stopping(0), points(), valid, out=tmp_path / "whole", **options)
    # One validation batch is seen before training, three at step 3, and this one at the end.
    first = quiet_fit(Stopping(6), points(), valid, out=tmp_path / "run", **options)
    assert (first.status, first.steps) == ("interrupted", 6)
    second = quiet_fit(Stopping(0), points(), valid, resume=tmp_path / "run", **options)
    assert second.status == "finished"
    assert second.metrics == whole.metrics
    assert same_bits(second.model, whole.model)


def test_weights_that_are_no_longer_finite_are_not_saved(tmp_path):
    class Poison(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            self.taken = getattr(self, "taken", 0) + 1
            if self.taken == 8:
                self.param_groups[0]["params"][0].data.fill_(float("nan"))

    model = network()
    optimizer = Poison(model.parameters(), lr=0.01)
    options = {"optimizer": optimizer, "steps": 8, "batch_size": 8, "save_every": 4}
    run = quiet_fit(model, points(), out=tmp_path / "run", **options)
    assert run.status == "failed"
    assert "A weight became infinite or NaN by step 8" in run.message
    assert newest_checkpoint(run.dir.path).name == "step-000004"
    assert not run.dir.model.exists()
