"""A run is a function of its seed: stopping it, or not, makes no difference."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from kudari.errors import CheckpointError
from kudari.train import Run, fit
from kudari.train.seeds import step_seed
from tests.cpu.train_runs import linear, lines, network, newest_checkpoint, points, quiet_fit, same_bits


class StopAt:
    """A progress display that stops the run like Ctrl-C would, at its n-th look at the clock."""

    def __init__(self, step):
        self.step, self.looks = step, 0

    def due(self, now):
        self.looks += 1
        if self.looks == self.step:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)
        return False

    def show(self, now):
        pass

    def say(self, text):
        pass

    def close(self):
        pass


def shifted(x, y, generator):
    """An augmentation that draws from the generator it is given."""
    return x + 0.1 * torch.randn(x.shape, generator=generator), y


def momentum(params):
    return torch.optim.SGD(params, lr=0.05, momentum=0.9)


def stopped_and_resumed(tmp_path, model, train, valid=None, **options) -> tuple[Run, Run]:
    """The same run twice: at once, and with an interruption in its first half."""

    whole = quiet_fit(model(), train(), valid, out=tmp_path / "whole", log_every=1, **options)
    first = fit(model(), train(), valid, out=tmp_path / "parts", log_every=1, progress=StopAt(5), **options)
    assert first.status == "interrupted"
    assert 0 < first.steps < whole.steps
    second = quiet_fit(model(), train(), valid, resume=tmp_path / "parts", log_every=1, **options)
    assert second.status == "finished"
    return whole, second


@pytest.mark.parametrize("name", ["sgd", "adamw", "lion", momentum])
def test_resumed_run_ends_with_the_same_bits(tmp_path, name):
    options = {"optimizer": name, "lr": None if callable(name) else 0.01, "epochs": 4, "batch_size": 8}
    whole, parts = stopped_and_resumed(
        tmp_path, lambda: network(dropout=0.5), points, points(20, 1), augment=shifted, **options
    )
    assert same_bits(whole.model, parts.model)
    assert whole.metrics == parts.metrics
    assert [line["loss"] for line in lines(whole, "train")] == [
        line["loss"] for line in lines(parts, "train")
    ]
    assert [line["step"] for line in lines(parts, "train")] == list(range(1, whole.steps + 1))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_resumed_run_over_a_dataloader_ends_with_the_same_bits(tmp_path, accumulate):
    class Noisy(Dataset):
        """Draws its augmentation from torch's default generator, as torchvision does."""

        def __init__(self):
            self.x, self.y = points()

        def __len__(self):
            return len(self.x)

        def __getitem__(self, index):
            return self.x[index] + 0.1 * torch.randn(self.x.shape[1]), self.y[index]

    for own_generator in (False, True):
        generator = torch.Generator() if own_generator else None
        whole, parts = stopped_and_resumed(
            tmp_path / str(own_generator),
            lambda: network(dropout=0.5),
            lambda generator=generator: DataLoader(Noisy(), 4, shuffle=True, generator=generator),
            epochs=4,
            lr=0.01,
            accumulate=accumulate,
        )
        assert same_bits(whole.model, parts.model)


def test_resumed_run_over_batches_of_unknown_number_ends_with_the_same_bits(tmp_path):
    class Stream:
        def __iter__(self):
            x, y = points()
            return iter(zip(x.split(8), y.split(8), strict=True))

    whole, parts = stopped_and_resumed(tmp_path, network, Stream, steps=20, lr=0.01)
    assert same_bits(whole.model, parts.model)


def test_resumed_run_keeps_the_best_model_of_the_first_part(tmp_path):
    x, y = points(20, 1)
    options = {"epochs": 4, "batch_size": 8, "keep": "best", "eval_every": 2, "lr": 0.5}
    whole, parts = stopped_and_resumed(tmp_path, network, points, (x, y), **options)
    assert same_bits(whole.model, parts.model)
    assert whole.metrics["best_step"] == parts.metrics["best_step"]


def test_resumed_torch_scheduler_goes_on_where_it_was(tmp_path):
    rates = {}
    for part, options in {"whole": {"out": "w"}, "one": {"out": "p"}, "two": {"resume": "p"}}.items():
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=28)
        where = {key: tmp_path / value for key, value in options.items()}

        progress = StopAt(9) if part == "one" else False
        run = fit(
            model, points(), optimizer=optimizer, schedule=schedule, steps=28, batch_size=8, log_every=1,
            progress=progress, **where,
        )  # fmt: skip
        rates[part] = [line["lr"] for line in lines(run, "train")]
    assert rates["two"] == rates["whole"]


def test_finished_run_resumes_to_itself(tmp_path):
    options = {"epochs": 2, "batch_size": 8}
    first = quiet_fit(network(), points(), points(20, 1), out=tmp_path / "run", **options)
    again = quiet_fit(network(), points(), points(20, 1), resume=tmp_path / "run", **options)
    assert same_bits(first.model, again.model)
    assert again.metrics == first.metrics


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "state"])
def test_torn_checkpoint_is_passed_over_with_a_sentence(tmp_path, damage):
    options = {"steps": 20, "batch_size": 8, "save_every": 10}
    whole = quiet_fit(network(), points(), out=tmp_path / "run", **options)
    newest = newest_checkpoint(tmp_path / "run")
    target = newest / ("state.json" if damage == "state" else "model.safetensors")
    content = bytearray(target.read_bytes())
    if damage == "missing":
        target.unlink()
    elif damage == "flipped":
        content[-1] ^= 1
        target.write_bytes(content)
    else:
        target.write_bytes(content[: len(content) // 2])

    said = []
    display = StopAt(0)
    display.say = said.append

    resumed = fit(network(), points(), resume=tmp_path / "run", lr=0.01, progress=display, **options)
    assert "step-000020 is damaged" in said[0]
    assert "step 10" in said[1]
    assert same_bits(resumed.model, whole.model)


def test_run_without_a_sound_checkpoint_is_not_resumed(tmp_path):
    quiet_fit(network(), points(), steps=5, out=tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        (path / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"no sound checkpoint.*state\.json is missing"):
        quiet_fit(network(), points(), steps=5, resume=tmp_path / "run")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        quiet_fit(network(), points(), steps=5, resume=tmp_path / "nothing")


def killed_before_its_first_checkpoint(folder):
    """What a run leaves that was killed: no facts, no weights, a torn line of metrics."""
    quiet_fit(network(), points(), steps=5, out=folder)
    shutil.rmtree(folder / "checkpoints")
    (folder / "checkpoints").mkdir()
    (folder / "facts.json").unlink()
    (folder / "model.safetensors").unlink()
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"kind": "tra')


def test_run_killed_before_its_first_checkpoint_begins_again_in_its_folder(tmp_path):
    whole = quiet_fit(network(), points(), steps=5, out=tmp_path / "whole")
    killed_before_its_first_checkpoint(tmp_path / "run")
    resumed = quiet_fit(network(), points(), steps=5, resume=tmp_path / "run")
    assert same_bits(resumed.model, whole.model)
    assert resumed.dir.path == tmp_path / "run"
    assert [line["step"] for line in lines(resumed, "train")] == [1, 2, 3, 4, 5]


def test_finished_run_whose_checkpoints_were_removed_is_not_begun_again(tmp_path):
    run = quiet_fit(network(), points(), steps=5, out=tmp_path / "run")
    shutil.rmtree(run.dir.checkpoints)
    run.dir.checkpoints.mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint"):
        quiet_fit(network(), points(), steps=5, resume=tmp_path / "run")


def test_metrics_reach_the_disk_before_the_checkpoint_they_lead_to(tmp_path, monkeypatch):
    on_disk = []

    def saves(folder, *_):
        text = (folder.parent / "metrics.jsonl").read_text(encoding="utf-8")
        on_disk.append([line["step"] for line in map(json.loads, text.splitlines())])

    monkeypatch.setattr("kudari.train.session.save_checkpoint", saves)
    quiet_fit(network(), points(), steps=5, out=tmp_path / "run", save_every=3)
    assert on_disk == [[1, 2, 3], [1, 2, 3, 4, 5]]


def test_checkpoint_of_another_run_is_refused_by_name(tmp_path):
    quiet_fit(linear(), points(), steps=5, out=tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"weight \(3, 6\) \(the model has \(5, 6\)\)"):
        quiet_fit(linear(outputs=5), points(), steps=5, resume=tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"unknown to the model: bias, weight"):
        quiet_fit(network(), points(), steps=5, resume=tmp_path / "run")
    with pytest.raises(CheckpointError, match="seed was 0 and is 1"):
        quiet_fit(linear(), points(), steps=5, seed=1, resume=tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"optimizer was 'AdamW.*' and is 'Lion"):
        quiet_fit(linear(), points(), steps=5, optimizer="lion", lr=0.01, resume=tmp_path / "run")


def test_newest_checkpoints_stay_and_no_drafts(tmp_path):
    quiet_fit(
        network(), points(), steps=21, batch_size=8, save_every=5, keep_checkpoints=3, out=tmp_path / "run"
    )
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["step-000015", "step-000020", "step-000021"]


def test_failed_save_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    from kudari.train import checkpoint

    kept = checkpoint.Checkpoint(5, 0, 0.0, {}, linear().state_dict(), {})
    checkpoint.save_checkpoint(tmp_path, kept)

    def full_disk(path):
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "_sync", full_disk)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save_checkpoint(tmp_path, checkpoint.Checkpoint(6, 0, 0.0, {}, linear().state_dict(), {}))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000005"]
    assert checkpoint.damage(tmp_path / "step-000005") == ""


def test_checkpoints_hold_no_pickles_and_refuse_what_would_need_one(tmp_path):
    from kudari.train.checkpoint import Checkpoint, save_checkpoint

    run = quiet_fit(network(), points(), points(20, 1), steps=5, out=tmp_path / "run")
    suffixes = {path.suffix for path in run.dir.path.rglob("*") if path.is_file()}
    assert suffixes == {".safetensors", ".json", ".jsonl", ".yaml"}
    with pytest.raises(CheckpointError, match=r"optimizer\.hook is a function"):
        save_checkpoint(tmp_path, Checkpoint(1, 0, 0.0, {}, {}, {"hook": lambda: None}))


def test_copied_run_folder_resumes(tmp_path):
    quiet_fit(network(), points(), steps=6, batch_size=8, save_every=3, out=tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    shutil.rmtree(newest_checkpoint(tmp_path / "copy"))
    run = quiet_fit(network(), points(), steps=6, batch_size=8, save_every=3, resume=tmp_path / "copy")
    assert run.dir.path == tmp_path / "copy"


def test_no_two_steps_share_their_low_32_bits():
    seeds = [step_seed(7, step) for step in range(20_000)]
    assert len({seed & 0xFFFFFFFF for seed in seeds}) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert step_seed(7, 0) != step_seed(8, 0)


def test_global_random_state_threads_and_mode_are_untouched(tmp_path):
    model = network(dropout=0.5).eval()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    loader = DataLoader(TensorDataset(*points()), 8, shuffle=True)
    quiet_fit(model, loader, points(20, 1), epochs=2, threads=1, out=tmp_path / "run")
    assert torch.equal(torch.rand(4), expected)
    assert torch.get_num_threads() == 1
    assert not model.training
