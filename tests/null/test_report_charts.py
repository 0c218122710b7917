"""Scales, ticks, thinning and smoothing: what is drawn is what was logged."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kudari.record import MetricsWriter
from kudari.report.charts import Chart, line_chart
from kudari.report.numbers import duration, label, metric, number
from kudari.report.residuals import bins
from kudari.report.scales import Scale, step_scale, value_scale
from kudari.report.series import BUCKETS, Series, read_history, smooth, thin

FLOATS = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(FLOATS, max_size=20), st.booleans(), st.booleans())
def test_any_values_get_an_axis_with_finite_ascending_ticks_inside_it(values, share, from_zero):
    share = share and all(0 <= v <= 1 for v in values)
    scale = value_scale(values, share=share, from_zero=from_zero)
    assert scale.low < scale.high
    ticks = [v for v, _ in scale.ticks()]
    assert ticks == sorted(ticks)
    assert len(ticks) <= 14
    for value in [*ticks, *(v for v in values if math.isfinite(v))]:
        assert 0 <= scale.place(value) <= 1


@pytest.mark.parametrize(
    "low, high", [(0.0, 1.0), (0.02, 2.5), (1e-7, 3e-3), (0.0, 2e4), (-3.0, 8.0), (0.97, 0.99)]
)
def test_tick_labels_of_one_axis_differ(low, high):
    labels = [text for _, text in Scale(low, high).ticks()]
    assert len(labels) >= 3
    assert len(set(labels)) == len(labels)


def test_axis_is_logarithmic_only_where_values_span_decades():
    assert value_scale([0.01, 2.0]).log
    assert not value_scale([0.5, 2.0]).log
    assert not value_scale([0.0, 1e-6, 100.0]).log
    assert not value_scale([1e-6, 3e-3], from_zero=True).log
    assert not value_scale([0.001, 1.0], share=True).log


def test_shares_stay_between_nought_and_a_hundred_percent():
    scale = value_scale([0.1, 1.0], share=True)
    assert (scale.low, scale.high) == (0.0, 1.0)
    assert scale.ticks()[-1] == (1.0, "100 %")


def test_a_single_step_still_has_an_axis():
    assert step_scale([7.0]).low < step_scale([7.0]).high


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3000), st.integers(1, 200))
def test_thinning_keeps_both_extremes_both_ends_and_the_order(values, buckets):
    points = [(float(i), v) for i, v in enumerate(values)]
    kept = thin(points, buckets)
    assert len(kept) <= 2 * buckets + 2 or len(kept) == len(points) <= 2 * buckets
    assert min(v for _, v in kept) == min(values)
    assert max(v for _, v in kept) == max(values)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert kept == sorted(set(kept))


def test_smoothing_keeps_a_constant_and_stays_within_the_values():
    dice = random.Random(0)
    assert {v for _, v in smooth([(float(i), 2.0) for i in range(500)])} == {2.0}
    noisy = [(float(i), dice.random()) for i in range(5000)]
    line = [v for _, v in smooth(noisy)]
    assert min(line) > 0.3
    assert max(line) < 0.7


def test_smoothing_does_not_lag_behind_a_ramp():
    ramp = [(float(i), float(i)) for i in range(2 * BUCKETS)]
    middle = smooth(ramp)[100:600]
    assert all(abs(step - value) < 1e-9 for step, value in middle)


def test_smoothing_recovers_after_a_huge_spike():
    points = [(float(i), 1e30 if i == 50 else 1.0) for i in range(500)]
    assert smooth(points)[300] == (300.0, 1.0)


def test_lines_stop_at_values_that_are_not_finite():
    series = Series([(1, 1.0), (2, math.nan), (3, math.inf), (4, 2.0), (5, 3.0), (6, math.nan)])
    assert series.runs() == [[(1, 1.0)], [(4, 2.0), (5, 3.0)]]
    assert [step for step, _ in series.broken] == [2, 6]


def test_a_spike_is_drawn_however_long_the_curve():
    values = [(float(i), 50.0 if i == 12_345 else 1.0) for i in range(20_000)]
    drawing = line_chart(Chart("loss", "Loss", Series(values)))
    scale = value_scale(v for _, v in values)
    top = 1000 * (1 - scale.place(50.0))
    assert f" {top:.2f}".rstrip("0") in drawing


def test_steps_logged_again_after_a_resume_replace_what_was_there(tmp_path):
    with MetricsWriter(tmp_path / "m.jsonl") as log:
        for step in (1, 2, 3, 4, 2, 3):
            log.write("train", step, {"loss": float(step), "epoch": step / 2})
        log.write("valid", 3, {"loss": 1.0})
        log.write("valid", 3, {"loss": 2.0})
    history = read_history(tmp_path / "m.jsonl")
    assert [s for s, _ in history.train["loss"].points] == [1, 2, 3]
    assert history.valid["loss"].points == [(3, 2.0)]
    assert len(history.passes) == 1


def test_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"kind": "train", "step": 1, "loss": 1.0}\n{"kind": "train", "st', encoding="utf-8")
    assert read_history(path).train["loss"].points == [(1, 1.0)]


def test_description_tells_start_end_and_range_in_words():
    drawing = line_chart(Chart("loss", "Loss", Series([(1, 2.5), (2, 0.5), (3, 1.0)])))
    assert "Training: from 2.5 at step 1 to 1 at step 3, between 0.5 and 2.5." in drawing


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=200))
def test_every_residual_is_counted_once(differences):
    width, first, counts = bins(differences)
    assert sum(counts) == len(differences)
    assert width > 0
    assert len(counts) == -2 * first <= 64


@given(FLOATS)
def test_any_number_can_be_written(value):
    assert number(value)
    assert metric("accuracy", value)
    assert duration(abs(value))
    assert len(number(value)) < 20


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.0, "0 ms"),
        (59.97, "1 min"),
        (61, "1 min 1 s"),
        (3599.6, "1 h"),
        (90_000, "1 d 1 h"),
        (math.nan, "unknown"),
    ],
)
def test_durations_are_rounded_to_their_two_largest_units(seconds, text):
    assert duration(seconds) == text


def test_metric_names_become_words_and_abbreviations_stay():
    assert [label(k) for k in ("valid_rmse", "valid_r2", "valid_loss", "top5_accuracy", "lr")] == [
        "Validation RMSE", "Validation R²", "Validation loss", "Top5 accuracy", "Learning rate",
    ]  # fmt: skip
