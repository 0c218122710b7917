"""The summary for the terminal."""

from __future__ import annotations

from kudari.record import Diagnosis, RunDir
from kudari.report import text_summary
from tests.null import report_runs


def test_finished_run_names_its_results_the_report_and_the_next_command():
    text = text_summary(report_runs.facts())
    assert text.splitlines()[0] == "Finished digits-3: 690 steps (30 epochs) in 2.1 s, 20,143 samples/s."
    assert "  Validation accuracy  97.78 %" in text
    assert "Report: runs/digits-3/report.html" in text
    assert text.endswith("Next:   kudari predict runs/digits-3 FILE")


def test_folder_is_quoted_for_the_shell(tmp_path):
    run = RunDir(tmp_path / "my runs" / "a").make()
    text = text_summary(report_runs.facts(), run)
    assert f"Report: '{run.path.as_posix()}'/report.html" in text


def test_prediction_is_offered_only_where_there_is_a_pipeline(tmp_path):
    run = RunDir(tmp_path / "a").make()
    assert "kudari predict" not in text_summary(report_runs.facts(), run)
    run.pipeline.write_text("{}", encoding="utf-8")
    assert "kudari predict" in text_summary(report_runs.facts(), run)


def test_interrupted_run_names_the_command_that_resumes_it():
    assert text_summary(report_runs.facts(status="interrupted")).endswith(
        "kudari train --resume runs/digits-3"
    )


def test_run_from_python_is_resumed_from_python():
    text = text_summary(report_runs.facts(status="failed", command="python train.py"))
    assert text.endswith("kudari.fit(..., resume='runs/digits-3')")


def test_errors_and_warnings_are_named_and_notes_are_left_to_the_report():
    found = tuple(Diagnosis(f"fault-{i}", "warning", "text") for i in range(5))
    text = text_summary(report_runs.facts(diagnoses=(Diagnosis("quiet", "note", "text"), *found)))
    assert "quiet" not in text
    assert text.count("warning:") == 3
    assert "and 2 more findings in the report" in text
