"""Claims about the front door: commands are found, help is instant, and every error speaks to its reader."""

import io
import subprocess
import sys
import types

import pytest

from kudari.cli import main as front
from kudari.cli._screen import Screen, wants_colour
from kudari.errors import CheckpointError, ConfigError, DataError, KudariError, MissingExtraError, Problem


def with_command(monkeypatch, run, name="pretend"):
    command = types.SimpleNamespace(HELP="Pretends.", configure=lambda parser: None, run=run)
    monkeypatch.setattr(front, "command_names", lambda: ["train", name])
    monkeypatch.setattr(front, "load_command", lambda _: command)
    return [name]


def raising(error):
    def run(args):
        raise error

    return run


def test_every_file_of_the_folder_is_a_command_except_helpers():
    names = front.command_names()
    assert names[:2] == ["train", "predict"]
    assert {"env", "optim", "report"} <= set(names)
    assert not any(name.startswith("_") or name == "main" for name in names)


@pytest.mark.parametrize("name", front.command_names())
def test_every_command_has_one_line_of_help_and_shows_its_own(name, capsys):
    help_line = front.load_command(name).HELP
    assert help_line.endswith(".")
    assert "\n" not in help_line
    with pytest.raises(SystemExit) as ended:
        front.main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: kudari {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["train", "digits", "--json", "epochs=3"],
        ["tune", "search", "digits", "--trials", "3", "--json", "epochs=3"],
        ["tune", "lr", "--json", "digits", "--budget", "0.4", "epochs=3"],
    ],
)
def test_options_may_stand_between_the_other_words(words, monkeypatch):
    command = front.load_command(words[0])
    seen = []
    with_command(monkeypatch, lambda args: seen.append(args) or 0, words[0])
    monkeypatch.setattr(front.load_command(None), "configure", command.configure)
    assert front.main(words) == 0
    assert seen[0].words == ["digits", "epochs=3"]
    assert seen[0].json


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_the_overview_names_every_command(words, capsys):
    assert front.main(words) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in front.command_names())


def test_help_loads_no_torch_nor_anything_heavy():
    code = (
        "import sys; from kudari.cli.main import main; main(['--help']);"
        "heavy = {'torch', 'numpy', 'pydantic', 'yaml', 'pandas', 'rich', 'llvmlite'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_output_that_nobody_reads_is_not_an_error():
    code = (
        "import os, sys; read, write = os.pipe(); os.close(read); os.dup2(write, 1);"
        "from kudari.cli.main import main; sys.exit(main(['--help']))"
    )
    ended = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False)
    assert ended.stderr == ""
    assert ended.returncode == front.FAILED


def test_the_version_is_printed(capsys):
    assert front.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("kudari 0.")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["trian"], "there is no command 'trian'. Did you mean 'train'? Commands: train, predict"),
        (["--jsn"], "--jsn is not an option."),
        (["train", "--jsn"], "kudari train: unrecognized arguments: --jsn. See: kudari train --help"),
        (["predict"], "kudari predict: the following arguments are required: RUN, INPUT."),
        (["optim", "shwo", "adam"], "kudari optim: argument"),
        (
            ["train", "digits", "epoch=3"],
            "command line: epoch: is not a key of a configuration. Did you mean 'epochs'?",
        ),
        (["report", "nothing"], "There is no run 'nothing'."),
        (["train", "--resume", "nothing"], "There is no run 'nothing'."),
        (["predict", "nothing", "no-such-file"], "There is no 'no-such-file'."),
        (["optim", "show", "adamx"], "there is no optimizer 'adamx'. Did you mean 'adamax'?"),
    ],
)
def test_mistakes_end_with_2_and_a_message_that_helps(words, text, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert front.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert text in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DataError("Bad."), 2),
        (MissingExtraError("pillow", "Reading pictures", "train"), 2),
        (ConfigError([Problem("a", "is wrong.", "f.yaml:1")]), 2),
        (CheckpointError("Torn."), 1),
        (KudariError("Something."), 1),
        (MemoryError(), 1),
        (OSError(28, "No space left on device", "runs/x"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_the_exit_status_says_whose_turn_it_is(error, status, monkeypatch, capsys):
    assert front.main(with_command(monkeypatch, raising(error))) == status
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_debug_shows_the_trace_wherever_it_stands(monkeypatch, capsys):
    words = with_command(monkeypatch, raising(DataError("Bad.")))
    assert front.main(["--debug", *words]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert front.main([*words, "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_unexpected_error_is_one_line_that_says_where_it_comes_from(monkeypatch, capsys):
    assert front.main(with_command(monkeypatch, raising(ZeroDivisionError("by\nzero")))) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: an error in your code (")
    assert "test_cli_main.py:" in first
    assert first.endswith("ZeroDivisionError: by zero")
    assert second == "For the whole trace run it again with --debug."


def test_an_unexpected_error_inside_kudari_is_called_a_bug(monkeypatch, capsys):
    def run(args):
        Screen().table(["a", "b"], [["only one"]])

    assert front.main(with_command(monkeypatch, run)) == 1
    assert "error: a bug in Kudari (kudari/cli/_screen.py:" in capsys.readouterr().err


def test_running_out_of_gpu_memory_says_what_to_lower(monkeypatch, capsys):
    error = type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")
    assert front.main(with_command(monkeypatch, raising(error))) == 1
    assert "Lower batch_size" in capsys.readouterr().err


def test_a_missing_torch_says_how_to_install_it(monkeypatch, capsys):
    error = ModuleNotFoundError("No module named 'torch'", name="torch")
    assert front.main(with_command(monkeypatch, raising(error))) == 2
    assert "torch is not installed. Install it with: pip install" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "predict"])
def test_a_missing_extra_is_named_before_anything_starts(command, monkeypatch, capsys):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "yaml" else found(name))
    assert front.main([command, "x", "y"]) == 2
    err = capsys.readouterr().err
    assert f"kudari {command} needs the package 'pyyaml', which is not installed." in err
    assert 'pip install "kudari[train]"' in err


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_colour_is_for_terminals_that_want_it(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_colour(Terminal())
    assert not wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_colour(Terminal())


def test_columns_line_up_and_commands_are_never_wrapped():
    out = io.StringIO()
    screen = Screen(out)
    screen.table(["name", "n"], [["a", "1"], ["long name", "20"]], right=[1])
    screen.command("kudari " + "x" * 200)
    lines = out.getvalue().splitlines()
    assert lines[:3] == ["name        n", "a           1", "long name  20"]
    assert lines[3] == "  kudari " + "x" * 200


def test_long_values_go_on_under_themselves():
    out = io.StringIO()
    Screen(out).pairs([("a", "word " * 40), ("bb", "x")])
    lines = out.getvalue().splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert lines[1].startswith("      word")
    assert lines[-1] == "  bb  x"
