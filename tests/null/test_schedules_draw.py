"""Pictures of schedules and the command that draws them."""

import argparse
import xml.etree.ElementTree as ElementTree

import pytest

from kudari.cli import schedule as command
from kudari.errors import ArgumentError
from kudari.schedules import names, parse
from kudari.schedules.draw import draw_svg, draw_text


def run(*words):
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return command.run(parser.parse_args(words))


def test_a_falling_line_is_drawn_from_the_upper_left_to_the_lower_right():
    lines = draw_text(parse("linear").bind(100), width=16, height=4, ascii_only=True, peak=0.5).splitlines()
    assert lines[0].startswith("     0.5 |***")
    assert lines[3].endswith("    ***")
    assert lines[-1].split() == ["0", "100"]


@pytest.mark.parametrize("text", names())
def test_every_schedule_is_drawn_as_well_formed_svg_within_its_frame(text):
    root = ElementTree.fromstring(draw_svg(parse(text).bind(2000), width=400, height=200))
    space = "{http://www.w3.org/2000/svg}"
    points = [tuple(map(float, p.split(","))) for p in root.find(f"{space}polyline").get("points").split()]
    assert all(0 <= x <= 400 and 0 <= y <= 200 for x, y in points)
    assert points[0][0] < points[-1][0]


def test_a_peak_of_one_step_is_not_lost_between_columns():
    spike = parse("constant(0.1, length=1000) >> constant(1, length=1) >> constant(0.1)").bind(2000)
    picture = draw_text(spike, width=40, height=6, ascii_only=True).splitlines()
    assert "*" in picture[0]


def test_text_in_the_svg_is_escaped():
    assert "&gt;&gt;" in draw_svg(parse("warmup >> cosine").bind(100))


def test_a_picture_needs_the_length_of_the_run():
    with pytest.raises(ArgumentError, match="total_steps"):
        draw_text(parse("constant").bind())


def test_show_draws_in_the_terminal_and_as_svg(capsys, tmp_path):
    file = tmp_path / "pictures" / "wsd.svg"
    words = ["show", "wsd(floor=0.1)", "--steps", "500", "--lr", "3e-4", "--svg", str(file), "--latex"]
    assert run(*words, "--javascript") == 0
    shown = capsys.readouterr().out
    for word in ("warmup('2%')", "cooldown('20%', floor=0.1)", "0.0003", r"\sqrt", "Math.sqrt", "500"):
        assert word in shown
    ElementTree.fromstring(file.read_text(encoding="utf-8"))


def test_show_takes_the_run_in_epochs(capsys):
    assert run("show", "warmup('1 epoch') >> linear", "--epochs", "5", "--steps-per-epoch", "40") == 0
    assert "200" in capsys.readouterr().out


def test_list_names_every_schedule_with_its_source(capsys):
    assert run("list") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in names())
    assert "Loshchilov & Hutter 2016" in shown
    assert "Hu et al. 2024" in shown
