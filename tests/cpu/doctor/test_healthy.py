"""Silence on healthy training scripts in the usual styles of the field."""

from pathlib import Path

import pytest

from kudari.doctor.static.check import check_file
from kudari.doctor.watching import watch

SCRIPTS = sorted((Path(__file__).parent / "healthy").glob("*.py"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_no_error_and_no_warning_on_a_healthy_script(script, capsys):
    with watch() as doctor:
        exec(
            compile(script.read_text(), str(script), "exec"),
            {"__name__": "__main__", "__file__": str(script)},
        )
    assert doctor.run.stream.failures == []
    assert [(f.fault, f.message) for f in doctor.findings if f.severity != "note"] == []
    assert [f.fault for f in check_file(script) if f.severity != "note"] == []
    assert capsys.readouterr().out


def test_at_least_twelve_styles():
    assert len(SCRIPTS) >= 12
