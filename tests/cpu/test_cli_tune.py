"""Claims about ``kudari tune`` and ``kudari compare`` from end to end."""

import json
from pathlib import Path

import pytest

from kudari.cli.main import main

pytestmark = pytest.mark.cpu


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Run a command with ``--json`` and return the JSON."""

    def go(*words):
        status = main([*words, "--json"])
        captured = capsys.readouterr()
        assert status == 0, captured.err
        return json.loads(captured.out.splitlines()[-1])

    return go


@pytest.fixture
def fails(capsys):
    def go(*words):
        assert main(list(words)) == 2
        return capsys.readouterr().err

    return go


def test_a_learning_rate_for_the_digits_leaves_a_page_and_a_picture(run):
    found = run("tune", "lr", "digits", "steps=240")
    assert found["confidence"] in ("high", "medium")
    assert found["low"] < found["lr"] < found["high"]
    assert found["spent_steps"] <= 121
    page = Path(found["report"])
    assert page.parent == Path("runs/digits-lr-1")
    assert "<svg" in page.read_text()
    assert (page.parent / "lr.svg").is_file()
    assert not list(page.parent.glob("*.safetensors"))


def test_batch_sizes_for_the_digits(run):
    found = run("tune", "batch", "--most", "64")
    assert found["largest"] == 64
    assert [t["batch_size"] for t in found["tried"]] == [1, 2, 4, 8, 16, 32, 64]


def test_a_search_is_gone_on_with_from_its_folder(run):
    first = run("tune", "search", "lr=1e-3..3e-2", "model.widths=[16],[32]", "steps=60", "--trials", "2")
    assert first["attempts"] == 2
    folder = str(Path(first["report"]).parent)
    second = run("tune", "search", "--resume", folder, "--trials", "3")
    assert second["attempts"] == 3
    assert set(second["best"]["values"]) == {"lr", "model.widths"}
    assert "What was" not in first["report"]
    assert (Path(folder) / "study.db").is_file()


def test_a_race_is_gone_on_with_from_its_folder(run):
    first = run("compare", "adamw,lion", "steps=60", "--seeds", "1", "--out", "race")
    assert {s["optimizer"] for s in first["standings"]} == {"adamw", "lion"}
    again = run("compare", "--resume", "race")
    assert again["standings"] == first["standings"]
    assert "Validation loss" in Path("race/report.html").read_text()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("tune", "lr", "epocs=3"), "Did you mean 'epochs'"),
        (("tune", "lr", "digts"), "digits"),
        (("tune", "lr", "--budget", "0"), "budget=0.0"),
        (("tune", "search", "epochs=3"), "nothing to search"),
        (("tune", "search", "leraning_rate=1e-4..1e-2"), "is not a key"),
        (("tune", "search", "lr=1e-2..1e-4"), "not below"),
        (("tune", "search", "lr=1e-4..1e-2", "--trials", "0"), "--trials 0"),
        (("tune", "search", "--resume", "nowhere"), "nowhere has no request.json"),
        (("tune", "batch", "--memory", "-1"), "--memory -1.0"),
        (("compare",), "Nothing to compare"),
        (("compare", "adamw"), "one optimizer"),
        (("compare", "adamw,loin"), "Did you mean 'lion'"),
        (("compare", "adamw,lion", "lr=1"), "cannot be set here"),
        (("compare", "adamw,lion", "--seeds", "0"), "--seeds 0"),
        (("compare", "--resume", "nowhere"), "nowhere has no request.json"),
    ],
)
def test_mistakes_are_named_before_anything_is_made(fails, words, expected):
    assert expected in fails(*words)
    assert not Path("runs").exists()


def test_a_folder_with_something_in_it_is_left_alone(fails, here):
    (here / "mine").mkdir()
    (here / "mine/notes.txt").write_text("keep")
    assert "is not empty" in fails("tune", "lr", "steps=240", "--out", "mine")
    assert [p.name for p in (here / "mine").iterdir()] == ["notes.txt"]


def test_help_needs_no_torch():
    import subprocess
    import sys

    for words in (["tune", "lr"], ["tune", "search"], ["compare"]):
        code = (
            "import sys; from kudari.cli.main import main\n"
            f"try: main({[*words, '--help']!r})\n"
            "except SystemExit: pass\n"
            "assert 'torch' not in sys.modules and 'optuna' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_next_command_can_be_run(capsys):
    assert main(["tune", "lr", "lr=3", "steps=130"]) == 0
    after = capsys.readouterr().out.partition("Next:")[2].split()
    assert [word.partition("=")[0] for word in after] == ["kudari", "train", "steps", "lr"]


def test_where_nothing_is_suggested_the_default_is_said(capsys):
    assert main(["tune", "lr", "steps=20"]) == 0
    shown = capsys.readouterr().out
    assert "No reliable suggestion" in shown and "The default for adamw stays: 0.0" in shown


def test_every_mistake_shows_before_a_folder_is_made(fails):
    assert "adamw is given twice" in fails("compare", "adamw,adamw")
    assert "is 'abc'" in fails("tune", "search", "model.widths=[16],abc")
    assert "must be" in fails("tune", "search", "optimizer.weight_decay=-1..1e-2")
    assert "is searched twice" in fails("tune", "search", "lr=1,2", "lr=3,4")
    assert not Path("runs").exists()
