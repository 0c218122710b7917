"""The page: complete, self-contained, well-formed, and unharmed by whatever a run contains."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kudari.errors import ArgumentError
from kudari.record import Choice, Diagnosis, Evaluation, Mistake, RunDir
from kudari.report import write_report
from tests.null import report_runs

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Reader(HTMLParser):
    """Checks that tags are balanced and collects what could make a request, ids and visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.scripts: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for key, value in attrs:
            if key in {"src", "href", "srcset", "poster", "data", "action", "xlink:href"}:
                self.addresses.append(value or "")
            assert not key.startswith("on"), f"inline handler {key}"
            if key == "id":
                self.ids.append(value or "")
        if tag == "a":
            self.links.append(dict(attrs)["href"] or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> without its beginning"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in {"script", "style"}:
            self.scripts.append(data)
        else:
            self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)
    return reader


def page_of(run: RunDir) -> str:
    return write_report(run).read_text(encoding="utf-8")


def small(folder: Path, what=None, **arguments) -> str:
    return page_of(
        report_runs.write_run(folder, what or report_runs.facts(), lines=60, valid_every=20, **arguments)
    )


VARIANTS = {
    "finished": (report_runs.facts(), {}),
    "two classes": (report_runs.facts("two", 2), {}),
    "fifty classes": (report_runs.facts("fifty", 50), {}),
    "regression": (report_runs.regression(), {}),
    "interrupted": (report_runs.facts("cut", status="interrupted"), {}),
    "broken": (report_runs.facts("nan", status="failed"), {"broken_at": 30}),
    "broken from the first step": (report_runs.facts("nan-1"), {"broken_at": 1}),
    "no validation": (report_runs.facts("novalid", evaluation=None), {"valid_every": 0}),
    "bare": (report_runs.facts("bare", recipe=(), decay=(), environment={}, evaluation=None, formula="",
                               metrics={}, data=(), samples_per_second=0.0), {"lines": 0}),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_page_is_well_formed_and_asks_the_network_for_nothing(name, tmp_path):
    what, arguments = VARIANTS[name]
    run = report_runs.write_run(tmp_path, what, **{"lines": 60, "valid_every": 20, **arguments})
    page = page_of(run)
    reader = read(page)
    assert all(a.startswith(("data:", "#")) for a in reader.addresses)
    assert not re.search(r"url\(|@import|\bfetch\b|XMLHttpRequest|\bimport\b", "".join(reader.scripts))
    assert page.count("http://") == page.count("http://www.w3.org/2000/svg")
    assert "https://" not in page
    assert {link.removeprefix("#") for link in reader.links} <= set(reader.ids)
    assert "nan%" not in page
    assert "inf%" not in page
    assert re.search(r'\bd="[^"]*(nan|inf)', page) is None


def test_only_our_own_script_may_run(tmp_path):
    page = html.unescape(small(tmp_path))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1)
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}'" in policy


def test_twenty_thousand_metric_lines_fit_well_below_a_megabyte(tmp_path):
    page = page_of(report_runs.write_run(tmp_path, report_runs.facts(), lines=20_000, valid_every=100))
    assert len(page.encode()) < 500_000


def test_large_pictures_are_left_out_instead_of_growing_the_page(tmp_path):
    picture = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(145_000)).decode()
    worst = tuple(Mistake(f"{i}.png", "cat", "dog", 2.0, 0.9, picture) for i in range(20))
    what = report_runs.facts(evaluation=Evaluation(mistakes=worst))
    page = small(tmp_path, what)
    assert len(page.encode()) < 1_000_000
    assert page.count("data:image/png") == 2
    assert page.count("picture left out") == 18


def test_whatever_the_user_wrote_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>\"'&</script><img src=x onerror=alert(1)>"
    what = report_runs.facts(
        title=evil, command=evil, model=evil, optimizer=evil, formula=evil, data=(evil,), metrics={evil: 1.0},
        recipe=(Choice(evil, evil, evil, evil),), environment={evil: evil},
        diagnoses=(Diagnosis(evil, "error", evil, evil, evil, 3),),
        evaluation=Evaluation((evil, "b"), ((3, 1), (0, 2)), (),
                              (Mistake(evil, evil, evil, 1.0, 0.5, evil),)),
    )  # fmt: skip
    run = report_runs.write_run(tmp_path, what, lines=20)
    run.config.write_text(evil, encoding="utf-8")
    with run.metrics.open("a", encoding="utf-8") as log:
        log.write('{"kind": "train", "step": 21, "<script>x</script>": 1.0}\n')
        log.write('{"kind": "event", "step": 21, "name": "<script>x", "text": "</svg>"}\n')
    page = page_of(run)
    reader = read(page)
    assert "<script>alert" not in page
    assert "<script>x" not in page
    assert "onerror=alert(1)>" not in page
    assert reader.tags.count("img") == 0
    assert evil in reader.text


def test_interrupted_run_says_so_on_top_with_the_command_that_resumes_it(tmp_path):
    run = report_runs.write_run(tmp_path, report_runs.facts(status="interrupted", steps=123), lines=30)
    page = page_of(run)
    top = page[: page.index('class="cards"')]
    assert "This run was interrupted after 123 steps." in top
    assert f"kudari train --resume {run.path.as_posix()}" in top


def test_without_a_checkpoint_the_page_offers_no_resume(tmp_path):
    run = report_runs.write_run(tmp_path, report_runs.facts(status="failed"), lines=30)
    (run.checkpoints / "step-300").rmdir()
    page = page_of(run)
    assert "--resume" not in page
    assert "It left no checkpoint" in page


def test_the_step_where_the_loss_stopped_being_finite_is_named(tmp_path):
    page = small(tmp_path, broken_at=30)
    assert "The training loss was no finite number at step 30." in page
    assert "Training is not a number first at step 30" in page
    assert 'class="broken"' in page


def test_a_gradient_norm_of_infinity_is_marked_but_raises_no_alarm_on_top(tmp_path):
    run = report_runs.write_run(tmp_path, report_runs.facts(), lines=30)
    with run.metrics.open("a", encoding="utf-8") as log:
        log.write('{"kind": "train", "step": 31, "loss": 0.1, "grad_norm": "inf"}\n')
    page = page_of(run)
    assert "banner" not in page[page.index("<body") :]
    assert "Training is ∞ first at step 31" in page


def test_no_metrics_at_all_is_said(tmp_path):
    run = report_runs.write_run(tmp_path, report_runs.facts(), lines=0)
    run.metrics.unlink()
    assert "No metrics were logged before the run ended." in page_of(run)


def test_up_to_thirty_classes_are_a_matrix_and_more_are_the_worst_pairs(tmp_path):
    matrix, pairs = small(tmp_path, report_runs.facts("a", 30)), small(tmp_path, report_runs.facts("b", 31))
    assert 'class="confusion' in matrix
    assert 'class="confusion' not in pairs
    assert "Weakest classes" in pairs


def test_a_perfect_matrix_lists_no_confusions(tmp_path):
    what = report_runs.facts(evaluation=Evaluation(("a", "b"), ((3, 0), (0, 2))))
    page = small(tmp_path, what)
    assert "5 of 5 validation samples right, 0 wrong." in page
    assert "Most frequent confusions" not in page


def test_regression_draws_one_dot_per_finite_pair_and_says_how_many_are_missing(tmp_path):
    pairs = ((1.0, 1.5), (2.0, 2.0), (3.0, float("nan")), (4.0, float("inf")))
    page = small(tmp_path, replace(report_runs.regression(), evaluation=Evaluation(residuals=pairs)))
    dots = page[page.index('class="dots"') :]
    assert dots[: dots.index("</g>")].count("<circle") == 2
    assert "2 predictions not finite or beyond drawing, left out." in page


def test_weight_decay_is_summed_up_and_listed(tmp_path):
    page = small(tmp_path)
    assert "Weight decay of 0.05 on 2 of 4 parameter tensors: 9,472 of 9,610 values." in page
    assert "bias: decay would only shift it" in page


def test_a_formula_outside_the_subset_is_shown_as_its_source(tmp_path):
    page = small(tmp_path, report_runs.facts(formula=r"\weird{x} < 1"))
    assert "<math" not in page
    assert r"\weird{x} &lt; 1" in page


def test_findings_are_sorted_with_errors_first(tmp_path):
    notes = tuple(Diagnosis(f"fault-{s}", s, "text") for s in ("note", "warning", "error"))
    page = small(tmp_path, report_runs.facts(diagnoses=notes))
    assert page.index("fault-error") < page.index("fault-warning") < page.index("fault-note")


def test_every_drawing_has_a_title_and_headings_do_not_skip_a_level(tmp_path):
    page = small(tmp_path)
    drawings = re.findall(r'<svg[^>]*role="img"[^>]*>(<\w+)', page)
    assert len(drawings) >= 5
    assert set(drawings) == {"<title"}
    levels = [int(level) for level in re.findall(r"<h(\d)", page)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_a_run_without_facts_is_refused_with_advice(tmp_path):
    with pytest.raises(ArgumentError, match=r"has no facts\.json.*resume the run"):
        write_report(RunDir(tmp_path / "empty").make())


def test_writing_twice_gives_the_same_bytes_and_leaves_no_draft(tmp_path):
    run = report_runs.write_run(tmp_path, report_runs.facts(), lines=30)
    first = page_of(run)
    assert page_of(run) == first
    assert [p.name for p in run.path.glob("report*")] == ["report.html"]
