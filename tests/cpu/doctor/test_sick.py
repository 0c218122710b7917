"""Faults in other styles than the catalogue's own runs: the cause that each script names, and only that."""

import contextlib
import io
from pathlib import Path

import pytest

from kudari.doctor.script import visit
from kudari.doctor.static.check import check_file

SCRIPTS = sorted((Path(__file__).parent / "sick").glob("*.py"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_exactly_the_expected_cause_is_reported(script):
    expected = script.read_text().splitlines()[0].removeprefix("# expect: ")
    with contextlib.redirect_stdout(io.StringIO()):
        seen = visit(script, static=check_file(script))
    assert [f.fault for f in seen.diagnoses.shown if f.severity != "note"] == [expected]


def test_the_scripts_are_there():
    assert len(SCRIPTS) >= 13
