"""``kudari check`` and ``kudari explain`` without torch."""

import argparse
import json

import pytest

from kudari.cli import check, explain
from kudari.doctor.catalogue import illnesses
from kudari.errors import ArgumentError

SICK = """\
import torch
def fit(net, opt, loader):
    for x, y in loader:
        loss = torch.nn.functional.mse_loss(net(x), y)
        loss.backward()
        opt.step()
"""


def run(command, *arguments):
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return command.run(parser.parse_args([str(a) for a in arguments]))


def test_check_prints_the_line_with_a_caret_and_fails(tmp_path, capsys):
    path = tmp_path / "train.py"
    path.write_text(SICK)
    assert run(check, "--json", tmp_path / "out.json", path) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("error[missing-zero-grad]: ")
    quoted = next(i for i, line in enumerate(said) if line.endswith("opt.step()"))
    assert said[quoted].index("opt.step()") == said[quoted + 1].index("^")
    assert [f["line"] for f in json.loads((tmp_path / "out.json").read_text())["findings"]] == [6]


def test_check_is_content_with_a_wipe(tmp_path, capsys):
    path = tmp_path / "train.py"
    path.write_text(
        SICK.replace("        loss.backward()", "        opt.zero_grad()\n        loss.backward()")
    )
    assert run(check, path) == 0
    assert capsys.readouterr().out.startswith("0 errors, 0 warnings")


def test_a_baseline_written_today_silences_tomorrow(tmp_path, capsys):
    path, baseline = tmp_path / "train.py", tmp_path / "known.json"
    path.write_text(SICK)
    assert run(check, "--write-baseline", baseline, path) == 1
    assert run(check, "--baseline", baseline, path) == 0
    capsys.readouterr()


def test_explain_lists_all_and_prints_every_page(capsys):
    assert run(explain) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(illnesses())
    for slug in illnesses():
        assert run(explain, slug) == 0
        said = capsys.readouterr().out
        assert all(title in said for title in ("What it sees", "Why it hurts", "Fix", "No fault if"))


def test_unknown_slugs_are_refused_with_a_suggestion(tmp_path):
    with pytest.raises(ArgumentError, match="Did you mean"):
        run(explain, "graphcut")
    with pytest.raises(ArgumentError, match="not a finding"):
        run(check, "--ignore", "nonsense", tmp_path)


@pytest.mark.parametrize("content", [b"import torch\nfor i in 3 print(i)\n", b"# \xff\n"])
def test_a_named_file_that_cannot_be_read_is_not_called_clean(tmp_path, content):
    (tmp_path / "train.py").write_bytes(content)
    with pytest.raises(ArgumentError, match=r"train\.py is not valid Python"):
        run(check, tmp_path / "train.py")
    assert run(check, tmp_path) == 0
