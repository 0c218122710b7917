"""Every illness sits the public exam with its own runs."""

import runpy
from pathlib import Path

import pytest

from kudari.doctor import illnesses
from kudari.doctor.finding import Found, Illness, Manual, Runs
from kudari.testing.finding_exam import check_finding

TOOL = runpy.run_path(str(Path(__file__).parents[3] / "tools/make_findings.py"))
PAGE = TOOL["TARGET"].read_text().splitlines()


@pytest.mark.parametrize("slug", sorted(illnesses()))
def test_sick_fires_exactly_this_one_and_cured_and_healthy_none(slug):
    exams = check_finding(slug)
    assert len(exams) == 3
    assert {e.name: e.reported for e in exams} == {e.name: e.expected for e in exams}
    assert TOOL["row"](illnesses()[slug], exams) in PAGE, "docs/findings.md is stale: run `make findings`"


def test_the_page_lists_exactly_the_catalogue():
    listed = [line.split("`")[1] for line in PAGE if line.startswith("| `")]
    assert listed == list(illnesses())


def test_a_judge_that_always_fires_fails_the_exam():
    culprit = Illness(
        slug="missing-zero-grad",
        severity="error",
        manual=Manual("", "", "", ""),
        judge=lambda run: [Found("always")],
        runs=Runs("import torch\n", (("torch", "torch.nn"),), "import torch\n"),
    )
    assert not all(exam.passed for exam in check_finding(culprit))
