"""Claims about the commands from end to end, on real data and in one process."""

import json
import math
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest

from kudari.cli.main import main
from kudari.record import Facts, RunDir, read_metrics

pytestmark = pytest.mark.cpu


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def train(capsys):
    """Run ``kudari train ... --json`` and return the exit status and the JSON."""

    def go(*words):
        status = main(["train", *words, "--json"])
        captured = capsys.readouterr()
        assert status in (0, 1, 130), captured.err
        return status, json.loads(captured.out.splitlines()[-1])

    return go


@pytest.fixture
def table(here):
    rng = np.random.default_rng(0)
    rows = ["rooms,town,price"]
    for rooms, town in zip(rng.integers(1, 9, 120), rng.choice(["north", "south"], 120), strict=True):
        rows.append(f"{rooms},{town},{rooms * 1.5 + (10 if town == 'north' else 0) + rng.normal() / 10:.3f}")
    (here / "houses.csv").write_text("\n".join(rows) + "\n")
    return "houses.csv"


def test_a_run_leaves_everything_behind(train):
    status, summary = train("epochs=2")
    run = RunDir(here_path(summary))
    assert status == 0
    assert summary["steps"] == 2 * math.ceil(1437 / 64)
    assert set(summary) == {"run", "status", "metrics", "seconds", "steps", "report"}
    for file in (run.config, run.metrics, run.model, run.pipeline, run.report, run.facts):
        assert file.stat().st_size > 0, file
    assert any(run.checkpoints.iterdir())
    facts = Facts.read(run.facts)
    assert facts.command == "kudari train runs/digits-1/config.yaml"
    assert {c.key: c.by for c in facts.recipe}["epochs"] == "you"
    assert {c.key: c.by for c in facts.recipe}["optimizer.lr"] == "recipe"
    assert {d.weight_decay for d in facts.decay if d.name.endswith("bias")} == {0.0}
    assert {d.weight_decay for d in facts.decay if d.name.endswith("weight")} == {0.05}


def here_path(summary):
    return Path(summary["run"])


def test_the_default_learns_the_digits(train):
    _, summary = train()
    assert summary["metrics"]["valid_accuracy"] >= 0.98


def test_the_written_configuration_trains_the_same_weights_again(train):
    first = RunDir(here_path(train("epochs=1", "seed=7", "optimizer=lion", "optimizer.lr=1e-3")[1]))
    command = shlex.split(Facts.read(first.facts).command)
    second = RunDir(here_path(train(*command[2:])[1]))
    assert second.path != first.path
    assert second.model.read_bytes() == first.model.read_bytes()
    a, b = (run.config.read_text().split("\n\n", 1)[1] for run in (first, second))
    assert a == b
    recipe_of = [{c.key: (c.value, c.by) for c in Facts.read(run.facts).recipe} for run in (first, second)]
    assert recipe_of[0] == recipe_of[1]


def test_people_are_told_what_was_found_what_was_learned_and_what_comes_next(capsys):
    assert main(["train", "epochs=2"]) == 0
    out = capsys.readouterr().out
    assert "1,437 training pictures and 360 validation pictures" in out
    assert "mlp 64-128-10, 9,610 parameters" in out
    assert "2 epochs, 46 steps of 64 samples" in out
    assert "of 360 validation samples are named correctly" in out
    assert "Report: runs/digits-1/report.html" in out
    assert "Next:   kudari train optimizer=lion" in out
    assert "\x1b" not in out


def test_quiet_prints_nothing(capsys):
    assert main(["train", "steps=2", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_json_is_alone_on_standard_output(capsys):
    assert main(["train", "--json", "steps=2"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["steps"] == 2
    assert "Report: " in captured.err


def test_a_table_needs_no_configuration(train, table, capsys):
    status, summary = train(f"data={table}", "epochs=40")
    assert status == 0
    assert summary["run"] == "runs/houses-1"
    assert summary["metrics"]["valid_loss"] < 0.5
    assert main(["train", f"data={table}", "steps=2"]) == 0
    out = capsys.readouterr().out
    assert "price" in out
    assert "regression" in out
    new = "rooms,town\n4,north\n2,south\n"
    Path("new.csv").write_text(new)
    assert main(["predict", "houses-1", "new.csv", "--json"]) == 0
    north, south = (json.loads(line)["prediction"] for line in capsys.readouterr().out.splitlines())
    assert abs(north - 16) < 4
    assert abs(south - 3) < 4
    assert main(["predict", "runs/houses-1", "new.csv"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["input", "prediction"]


def test_arrays_and_their_predictions(train, here, capsys):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(90, 5)).astype("float32")
    np.savez(here / "arrays.npz", X=X, y=(X[:, 0] > 0).astype("int64"))
    np.savez(here / "new.npz", X=X[:3])
    assert train("data=arrays.npz", "steps=20")[0] == 0
    assert main(["predict", "arrays-1", "new.npz", "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 3
    assert all(abs(sum(a["probabilities"].values()) - 1) < 1e-6 for a in answers)


def test_a_run_on_digits_names_picture_files(train, here, capsys):
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for i in range(5):
        Image.fromarray((digits.images[i] / 16 * 255).astype("uint8")).save(here / f"{digits.target[i]}.png")
    train("epochs=8")
    assert main(["predict", "digits-1", *(f"{n}.png" for n in range(5))]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert sum(row[0] == f"{row[1]}.png" for row in rows) >= 4


def test_an_interrupted_run_says_how_to_go_on_and_ends_with_the_same_bits(train, capsys, monkeypatch):
    whole = RunDir(here_path(train("epochs=3", "--out", "whole")[1]))
    with monkeypatch.context() as patch:
        interrupt_at(patch, step=30)
        assert main(["train", "epochs=3", "--out", "part"]) == 130
    captured = capsys.readouterr()
    assert "kudari train --resume part" in captured.out
    status, summary = train("--resume", "part")
    assert (status, summary["steps"]) == (0, 69)
    assert RunDir(here_path(summary)).model.read_bytes() == whole.model.read_bytes()
    assert {c.key: c.by for c in Facts.read(RunDir(here_path(summary)).facts).recipe}[
        "optimizer.lr"
    ] == "recipe"
    steps = [
        line["step"] for line in read_metrics(RunDir(here_path(summary)).metrics) if line["kind"] == "train"
    ]
    assert steps == sorted(set(steps))
    assert main(["train", "--resume", "part"]) == 2
    assert "is finished; there is nothing left to do." in capsys.readouterr().err


def test_a_run_that_failed_before_it_saved_cannot_be_resumed_and_says_so(here, capsys):
    words = ["optimizer=sgd", "optimizer.lr=1e9", "optimizer.momentum=0", "epochs=2", "--out", "lost"]
    assert main(["train", *words]) == 1
    assert main(["train", "--resume", "lost"]) == 2
    assert "failed before it had saved anything" in capsys.readouterr().err


def interrupt_at(monkeypatch, step):
    """Send the process a real SIGINT when the data loader hands out this batch."""
    from kudari.data import BatchLoader

    original = BatchLoader.iterate

    def iterate(self, start_step=0):
        for number, batch in enumerate(original(self, start_step), start=start_step):
            if number == step and self.shuffle:
                signal.raise_signal(signal.SIGINT)
            yield batch

    monkeypatch.setattr(BatchLoader, "iterate", iterate)


def test_settings_of_another_run_are_refused_on_resume(train, capsys):
    train("steps=3")
    RunDir(Path("runs/digits-1")).facts.unlink()
    assert main(["train", "--resume", "digits-1", "optimizer.lr=1"]) == 2
    assert "optimizer.lr: cannot change in the middle of a run" in capsys.readouterr().err
    assert main(["train", "--resume", "digits-1", "--out", "x"]) == 2
    assert "--out and --resume are both given" in capsys.readouterr().err


def test_a_folder_that_holds_a_run_is_not_used_again(train, capsys):
    train("steps=2", "--out", "mine")
    assert main(["train", "steps=2", "--out", "mine"]) == 2
    err = capsys.readouterr().err
    assert "mine already holds a run." in err
    assert "kudari train --resume mine" in err


def test_what_is_refused_leaves_no_folder(table, capsys, here):
    for words in (
        ["data=houses.csv", "loss=cross_entropy"],
        ["data=houses.csv", "data.target=pice"],
        ["schedule=warmup(999) >> cosine()", "steps=10"],
        ["device=cuda:7"],
    ):
        assert main(["train", *words]) == 2, words
        assert "Traceback" not in capsys.readouterr().err
    assert not (here / "runs").exists() or not any((here / "runs").iterdir())


def test_pictures_in_class_folders_train_again_from_their_file_and_name_new_ones(train, here, capsys):
    from PIL import Image

    rng = np.random.default_rng(0)
    for channel, name in ((0, "red"), (2, "blue")):
        (here / "photos" / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 90, (20, 24, 3))
            pixels[..., channel] += 120
            Image.fromarray(pixels.astype("uint8")).save(here / "photos" / name / f"{i}.png")
    first = RunDir(here_path(train("data=photos", "model.width=4", "epochs=5")[1]))
    assert "image_size: null" not in first.config.read_text()
    second = RunDir(here_path(train(str(first.config))[1]))
    assert second.model.read_bytes() == first.model.read_bytes()
    assert main(["predict", str(second.path), "photos/red"]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[1] for row in rows] == ["red"] * 20


def test_what_the_data_turn_out_to_be_is_reported_with_the_place_of_the_setting(table, capsys):
    assert main(["train", "data=houses.csv", "loss=cross_entropy", "model=cnn"]) == 2
    err = capsys.readouterr().err
    assert "error: command line: model.name: a cnn looks for neighbouring pixels" in err
    Path("my.yaml").write_text("data: houses.csv\n\nloss: cross_entropy\n")
    assert main(["train", "my.yaml"]) == 2
    assert "my.yaml:3: loss.name: cross_entropy is a classification loss" in capsys.readouterr().err


def test_a_cnn_trains_on_the_digits(train):
    status, summary = train("model=cnn", "model.width=4", "steps=5")
    assert status == 0
    assert Facts.read(RunDir(here_path(summary)).facts).model.startswith("cnn 1-4-8-10")


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lion"])
def test_every_optimizer_of_the_recipe_goes_down(train, optimizer):
    _, summary = train(f"optimizer={optimizer}", "epochs=3")
    assert summary["metrics"]["valid_loss"] < 1.5


def test_a_report_is_drawn_again(train, capsys):
    run = RunDir(here_path(train("steps=3")[1]))
    run.report.unlink()
    assert main(["report", "digits-1"]) == 0
    assert run.report.stat().st_size > 1000
    assert "Report: runs/digits-1/report.html" in capsys.readouterr().out


def test_a_run_that_is_not_whole_is_named(train, capsys):
    run = RunDir(here_path(train("steps=3")[1]))
    Path("x.npz").touch()
    weights = run.model.read_bytes()
    run.model.write_bytes(weights[: len(weights) // 2])
    assert main(["predict", "digits-1", "x.npz"]) == 1
    assert "model.safetensors cannot be read" in capsys.readouterr().err
    run.model.unlink()
    assert main(["predict", "digits-1", "x.npz"]) == 1
    assert "kudari train --resume runs/digits-1" in capsys.readouterr().err
    assert main(["predict", "digits-2", "x.npz"]) == 2
    assert "Did you mean 'digits-1'?" in capsys.readouterr().err


def test_a_run_that_failed_is_not_to_be_gone_on_with(train, capsys):
    status, _ = train("steps=20", "optimizer=sgd", "optimizer.lr=1e30")
    assert status == 1
    Path("x.npz").touch()
    assert main(["predict", "digits-1", "x.npz"]) == 1
    said = capsys.readouterr().err
    assert "The run failed. Train it again with a change" in said
    assert "--resume" not in said


def test_one_optimizer_is_shown_in_full(capsys):
    assert main(["optim", "show", "AdamW"]) == 0
    out = capsys.readouterr().out
    for text in (
        "p_t = ",
        "Loshchilov, Hutter 2019",
        "0 <= x < 1",
        "exp_avg_sq",
        "kudari train optimizer=adamw",
    ):
        assert text in out
    assert main(["optim", "show", "lion", "--latex"]) == 0
    assert capsys.readouterr().out.startswith("\\begin{aligned}")
    assert main(["optim", "show", "lion", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["states"] == ["exp_avg"]


def test_the_environment_is_reported_as_one_object(capsys):
    assert main(["env", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["packages"]["torch"].startswith("2.")
    assert facts["threads"] >= 1
    assert facts["verdict"].startswith("Training would use")
