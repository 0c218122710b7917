"""Every illness sits the public exam with its own runs."""

import pytest

from kudari.doctor import illnesses
from kudari.doctor.finding import Found, Illness, Manual, Runs
from kudari.testing.finding_exam import check_finding

# Needs several processes; its judge is tested on a single one in test_watching.
WITHOUT_RUNS = {"ddp-bypassed"}


@pytest.mark.parametrize("slug", sorted(set(illnesses()) - WITHOUT_RUNS))
def test_sick_fires_exactly_this_one_and_cured_and_healthy_none(slug):
    exams = check_finding(slug)
    assert len(exams) == 3
    assert {e.name: e.reported for e in exams} == {e.name: e.expected for e in exams}


def test_a_judge_that_always_fires_fails_the_exam():
    culprit = Illness(
        slug="missing-zero-grad",
        severity="error",
        manual=Manual("", "", "", ""),
        judge=lambda run: [Found("always")],
        runs=Runs("import torch\n", (("torch", "torch.nn"),), "import torch\n"),
    )
    assert not all(exam.passed for exam in check_finding(culprit))
