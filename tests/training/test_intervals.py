"""Intervals hold what they are of as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from training.intervals import (
    DAYS_LEAST,
    paired_interval,
    paired_interval_of_runs,
    share_interval,
)


def test_an_interval_is_that_of_the_normal_law() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(3.0, 10.0, 400)
    found = paired_interval(drawn + 1.0, np.ones(400))
    low, high = stats.norm.interval(0.95, drawn.mean(), drawn.std() / 20)
    assert found.value == pytest.approx(drawn.mean())
    assert [found.low, found.high] == pytest.approx([low, high], abs=0.1)
    assert found == paired_interval(drawn + 1.0, np.ones(400))


def test_an_interval_holds_the_mean_it_is_of() -> None:
    rng = np.random.default_rng(0)
    found = [paired_interval(rng.normal(3.0, 10.0, 200), np.zeros(200), s) for s in range(40)]
    assert sum(each.low < 3.0 < each.high for each in found) >= 34


def test_what_all_days_share_is_certain_and_seeds_are_averaged() -> None:
    days = np.random.default_rng(1).normal(0.0, 10.0, (2, 50))
    found = paired_interval(days + np.array([[1.0], [3.0]]), days)
    assert (found.low, found.value, found.high) == pytest.approx((2.0, 2.0, 2.0))
    of_runs = paired_interval_of_runs(days + np.array([[1.0], [3.0]]), days)
    assert of_runs.value == pytest.approx(2.0)
    assert of_runs.low < 1.5 < 2.5 < of_runs.high


def test_a_share_is_a_ratio_of_means() -> None:
    bound = np.random.default_rng(2).uniform(10.0, 20.0, 100)
    found = share_interval(0.5 * bound, bound)
    assert (found.low, found.value, found.high) == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.parametrize(("left", "right"), [(6, 6), (6, 1), (3, 3), (3, 1)])
def test_an_interval_over_seeds_covers_what_it_says(left: int, right: int) -> None:
    """Seeds differ by 1 bp, days of a method by 4; 1,000 comparisons, the true one is 2 bp."""
    rng, covered = np.random.default_rng(left + 10 * right), 0
    for _ in range(1_000):
        day = rng.normal(0.0, 10.0, 50)
        a, b = (
            day + rng.normal(0.0, 4.0, 50) + rng.normal(0.0, 1.0 * (runs > 1), (runs, 1))
            for runs in (left, right)
        )
        found = paired_interval_of_runs(a + 2.0, b)
        covered += found.low < 2.0 < found.high
    assert 920 <= covered <= 980


def test_runs_that_agree_leave_the_days_alone() -> None:
    days = np.random.default_rng(3).normal(1.0, 5.0, (1, 200))
    found = paired_interval_of_runs(days, 0 * days)
    low, high = stats.t.interval(0.95, 199, days.mean(), stats.sem(days[0]))
    assert (found.low, found.high) == pytest.approx((low, high))


@pytest.mark.parametrize("days", [DAYS_LEAST - 1, DAYS_LEAST])
def test_few_days_have_no_interval(days: int) -> None:
    gain = np.random.default_rng(4).normal(0.0, 1.0, (6, days))
    for found in (paired_interval(gain, 0 * gain), paired_interval_of_runs(gain, 0 * gain)):
        assert math.isnan(found.low) == (days < DAYS_LEAST)
