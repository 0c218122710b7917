"""Certain fixes: right lines, nothing else, and a diff before anything is written."""

import argparse
import ast

import pytest

from kudari.cli import check
from kudari.doctor.catalogue import illnesses
from kudari.doctor.finding import Finding
from kudari.doctor.static.check import check_source, fix_source
from kudari.doctor.static.edits import Edit, Source, diff
from kudari.doctor.static.fixing import CERTAIN, fixed

LOOP = """\
import torch
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for i in range(40):
    x = torch.randn(16, 4)
    loss = torch.nn.functional.mse_loss(net(x), x[:, :1])
{body}
"""

CLIP = "torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)"
WIPE, BACKWARD, STEP = "opt.zero_grad()", "loss.backward()", "opt.step()"


def loop(*lines):
    return LOOP.format(body="\n".join("    " + line for line in lines))


@pytest.mark.parametrize("slug", sorted(CERTAIN))
def test_every_certain_fix_belongs_to_an_illness(slug):
    assert slug in illnesses()


@pytest.mark.parametrize(
    ("slug", "sick", "cured"),
    [
        ("missing-zero-grad", [BACKWARD, STEP], [BACKWARD, STEP, WIPE]),
        ("clip-after-step", [WIPE, BACKWARD, STEP, CLIP], [WIPE, BACKWARD, CLIP, STEP]),
        ("clip-before-backward", [WIPE, CLIP, BACKWARD, STEP], [WIPE, BACKWARD, CLIP, STEP]),
        (
            "zero-grad-breaks-accumulation",
            [WIPE, "(loss / 4).backward()", "if (i + 1) % 4 == 0:", f"    {STEP}"],
            ["(loss / 4).backward()", "if (i + 1) % 4 == 0:", f"    {STEP}", f"    {WIPE}"],
        ),
    ],
)
def test_a_fix_moves_or_adds_exactly_the_line_that_was_wrong(slug, sick, cured):
    new, slugs = fix_source("train.py", loop(*sick))
    assert slugs == (slug,)
    assert new == loop(*cured)
    assert check_source("train.py", new) == ()


def test_fixes_of_one_file_follow_each_other():
    text = loop("loss.backward()", "opt.step()", CLIP)
    new, slugs = fix_source("train.py", text)
    assert set(slugs) == {"missing-zero-grad", "clip-after-step"}
    assert check_source("train.py", new) == ()


@pytest.mark.parametrize("line", ["loss.backward(); opt.step()", "loss.backward(); opt.step(); print(i)"])
def test_a_line_with_several_statements_is_left_alone(line):
    text = loop(line)
    assert check_source("train.py", text)
    assert fix_source("train.py", text) == (text, ())


def test_an_ignored_line_is_not_fixed():
    text = loop("loss.backward()", "opt.step()  # kudari: ignore[missing-zero-grad]")
    assert fix_source("train.py", text) == (text, ())


def test_the_side_with_the_extra_column_is_squeezed():
    text = loop("opt.zero_grad()", "loss.backward()", "opt.step()")
    evidence = {"left": [16, 1], "right": [16]}
    found = Finding("loss-shape-broadcast", "error", "", "train.py", 6, evidence, "", column=11)
    new, slug = fixed("train.py", text, [found])
    assert slug == "loss-shape-broadcast"
    assert "mse_loss(net(x).squeeze(-1), x[:, :1])" in new
    assert fixed("other.py", text, [found]) == (text, "")


def test_edits_are_applied_from_the_end_and_refuse_to_overlap():
    source = Source("grün = 1\nb = 2\n")
    assert source.apply([Edit(0, 4, "a"), Edit(9, 10, "c")]) == "a = 1\nc = 2\n"
    with pytest.raises(ValueError, match="overlap"):
        source.apply([Edit(0, 4, ""), Edit(3, 5, "")])
    statement = ast.parse(source.text).body[0]
    assert source.of(statement) == "grün = 1"


def test_diff_of_equal_texts_is_empty():
    assert diff("a\n", "a\n", "x.py") == ""


def options(*words):
    parser = argparse.ArgumentParser()
    check.configure(parser)
    return parser.parse_args(list(map(str, words)))


def test_fix_shows_a_diff_and_writes_only_with_yes(tmp_path, capsys):
    script = tmp_path / "train.py"
    text = loop("loss.backward()", "opt.step()")
    script.write_text(text)
    assert check.run(options("--fix", script)) == 1
    assert "+    opt.zero_grad()" in capsys.readouterr().out
    assert script.read_text() == text
    assert check.run(options("--fix", "--yes", script)) == 0
    assert script.read_text() == text.replace("opt.step()", "opt.step()\n    opt.zero_grad()")
