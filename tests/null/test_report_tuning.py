"""Claims about the pages of races and searches: complete, self-contained, right about who is best."""

import re
from types import SimpleNamespace

import pytest

from kudari.report import write_race, write_search, write_suggestion
from kudari.tune.results import Attempt, Entry, Race, Search, Tuned


def entry(optimizer, seed, accuracy, status="finished", curve=((10, 2.0), (100, 0.5))):
    values = {"loss": 1 - accuracy, "accuracy": accuracy} if status == "finished" else {}
    return Entry(optimizer, seed, 1e-3, status, 100, values, curve, 2e-4, 2048)


@pytest.fixture
def race():
    entries = (
        entry("adamw", 0, 0.90), entry("lion", 0, 0.95), entry("sgd", 0, 0.5),
        entry("adamw", 1, 0.92), entry("lion", 1, 0.97), entry("sgd", 1, 0.0, "stopped", ((10, 2.2),)),
        entry("bad<b>", 0, 0.0, "diverged", ((10, float("inf")),)),
    )  # fmt: skip
    tuned = tuple(Tuned(name, 1e-3, "high", "because.", 10.0) for name in ("adamw", "lion", "sgd", "bad<b>"))
    return Race("Digits & more", "accuracy", "higher", 100, (0, 1), tuned, entries, ("Two sentences.",))


def outside_requests(page):
    return re.findall(r'(?:src|href)="(?!#|data:)[^"]+"|url\((?!#)', page)


def test_contenders_are_ranked_by_their_mean_and_those_without_a_finish_come_last(race):
    assert [s.optimizer for s in race.standings()] == ["lion", "adamw", "sgd", "bad<b>"]
    lion, *_, bad = race.standings()
    assert lion.mean["accuracy"] == pytest.approx(0.96)
    assert lion.spread["accuracy"] == pytest.approx(0.0141421, rel=1e-4)
    assert (bad.finished, bad.diverged) == (0, 1)


def test_a_lucky_seed_does_not_win_over_contenders_that_finished_all_of_theirs(race):
    """What was stopped among the worst, or diverged, has no mean to compare."""
    from dataclasses import replace

    for end in ("stopped", "diverged"):
        lucky = (entry("sgd", 0, 0.99), entry("sgd", 1, 0.0, end))
        others = tuple(e for e in race.entries if e.optimizer != "sgd")
        found = replace(race, entries=(*others, *lucky)).standings()
        assert [s.optimizer for s in found] == ["lion", "adamw", "sgd", "bad<b>"]


def test_the_page_of_a_race_says_everything_and_asks_for_nothing(race, tmp_path):
    page = write_race(race, tmp_path, "kudari compare adamw,lion").read_text()
    for words in (
        "Digits &amp; more",
        "96.00 ± 1.41 %",
        "1 stopped",
        "1 diverged",
        "kudari compare adamw,lion",
    ):
        assert words in page
    assert "bad<b>" not in page
    assert outside_requests(page) == []
    assert page.count('class="line c1') >= 3  # lion: two seeds and their mean


def test_lower_is_better_where_the_metric_says_so(race):
    from dataclasses import replace

    assert replace(race, metric="loss", better="lower").standings()[0].optimizer == "lion"


@pytest.fixture
def search():
    attempts = (
        Attempt(0, {"lr": "0.001", "optimizer": "adamw"}, 0.5, "finished", 1.0),
        Attempt(1, {"lr": "0.1", "optimizer": "lion"}, 0.9, "finished", 1.0),
        Attempt(2, {"lr": "0.01", "optimizer": "lion"}, None, "stopped", 1.0),
        Attempt(3, {"lr": "0.05", "optimizer": "adamw"}, 0.7, "finished", 1.0),
    )
    return Search("Digits", "accuracy", "higher", attempts, {"lr": 0.8, "optimizer": 0.2})


def test_the_page_of_a_search_has_its_history_importance_and_best(search, tmp_path):
    assert search.best().number == 1
    page = write_search(search, tmp_path, "kudari tune search --resume x").read_text()
    for words in (
        "History",
        "What mattered",
        "80 %",
        "attempt 2",
        "stopped",
        "kudari tune search --resume x",
    ):
        assert words in page
    assert outside_requests(page) == []
    assert page.count("<circle") == 3 * 3  # the history, and one drawing for each of two settings


def test_a_search_without_a_finish_has_a_page_too(search, tmp_path):
    from dataclasses import replace

    empty = replace(search, attempts=search.attempts[2:3], importance={})
    assert empty.best() is None
    assert "1 of them stopped early" in write_search(empty, tmp_path, "again").read_text()


def test_the_page_of_a_suggestion_shows_its_picture(tmp_path):
    found = SimpleNamespace(
        lr=3e-3, low=1e-3, high=9e-3, confidence="high", why="Because.", steps=100, spent=40.0, reliable=True,
        picture="<svg><title>here</title></svg>",
    )  # fmt: skip
    page = write_suggestion(found, tmp_path, "Digits", "kudari tune lr").read_text()
    assert "<svg><title>here</title></svg>" in page
    assert "40%" in page
    assert outside_requests(page) == []
