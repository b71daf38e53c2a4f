"""The generated market: valid bars, what is planted is there, and it is fast enough to train on."""

from __future__ import annotations

import itertools
import time
from dataclasses import fields

import numpy as np
import pytest

from service.play.day_bars import Bars, BarsError, merge
from service.play.planted import reverting_sd
from service.play.sample import (
    SampleDays,
    SampleMarket,
    generate,
    generate_arrays,
    generate_days,
    perfect_gain_bp,
)

BP = 1e4


@pytest.fixture(scope="module")
def days() -> SampleDays:
    return generate_arrays(np.random.default_rng(11), SampleMarket(), days=400)


def test_bars_are_valid(days: SampleDays) -> None:
    assert days.close.shape == (400, 48, 40)
    assert (days.low > 0).all()
    assert (days.low <= np.minimum(days.open, days.close)).all()
    assert (days.high >= np.maximum(days.open, days.close)).all()
    assert ((days.low <= days.price) & (days.price <= days.high)).all()
    assert not (days.close % 100).any(), "prices are whole cents"
    np.testing.assert_array_equal(days.open[:, 1:], days.close[:, :-1])
    assert (days.volume > 0).all()
    assert days.profile_ppm.sum() == 1_000_000
    assert all(getattr(days, f.name).dtype == np.int64 for f in fields(Bars))


def test_the_same_seed_gives_the_same_day() -> None:
    first, second, other = generate(5), generate(5), generate(6)
    assert all(
        np.array_equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(Bars)
    )
    assert not np.array_equal(first.close, other.close)
    assert (first.date, first.starts[0], first.starts[-1]) == ("2026-11-20", "09:30", "13:25")


def test_days_follow_each_other() -> None:
    days = generate_days(5, 21)
    assert [day.date for day in days[-3:]] == ["2026-11-18", "2026-11-19", "2026-11-20"]
    assert len({day.symbols for day in days}) == 1
    nights = np.log([b.open[0] / a.close[-1] for a, b in itertools.pairwise(days)])
    assert 50 < nights.std() * BP < 200


def test_what_was_known_before_the_open_is_right(days: SampleDays) -> None:
    volume = days.volume.sum(axis=1)
    assert abs(np.log(volume.mean() / days.adv_qty.mean())) < 0.05
    path = np.concatenate([days.open[:, :1], days.close[:, 5::6]], axis=1)
    moves = np.diff(np.log(path), axis=1)
    realised = np.sqrt((moves**2).sum(axis=1).mean())
    assert 0.8 < realised / np.sqrt(((days.vol_ppm / 1e6) ** 2).mean()) < 1.1
    by_bar = days.volume.sum(axis=(0, 2)) / days.volume.sum()
    np.testing.assert_allclose(by_bar * 1e6, days.profile_ppm, rtol=0.05)


def test_volume_and_volatility_are_high_at_both_ends(days: SampleDays) -> None:
    shares = days.volume.sum(axis=(0, 2))
    ranges = np.log(days.high / days.low).mean(axis=(0, 2))
    for values, least in ((shares, 2.4), (ranges, 1.6)):
        assert values[0] > least * values[24]
        assert values[-1] > least * values[24]


def test_symbols_move_together(days: SampleDays) -> None:
    moves = np.log(days.close[:, -1] / days.open[:, 0])
    pairs = np.corrcoef(moves.T)[np.triu_indices(40, 1)]
    assert 0.1 < pairs.mean() < 0.35


def stopping_gain_bp(days: SampleDays, threshold_sd: float, market: SampleMarket) -> float:
    """Selling everything in the first step whose deviation is above a threshold that falls to 0."""
    price = np.stack([step.price for step in merge(days, 6)], axis=1)
    steps = price.shape[1]
    level = threshold_sd * reverting_sd(market, 48) * np.sqrt(1 - np.arange(steps) / (steps - 1))
    high = days.deviation[:, ::6] >= level[:, None]
    high[:, -1] = True
    taken = np.take_along_axis(price, high.argmax(axis=1)[:, None], axis=1)[:, 0]
    return float(BP * np.mean(taken / price.mean(axis=1) - 1))


def test_the_planted_edge_is_there_and_as_large_as_promised() -> None:
    market = SampleMarket()
    bound = perfect_gain_bp(market)
    assert 15 <= bound <= 30
    days = generate_arrays(np.random.default_rng(2), market, days=1_000)
    found = max(stopping_gain_bp(days, threshold, market) for threshold in (1.0, 1.3, 1.6))
    assert 0.8 * bound < found < 1.05 * bound


def test_without_reversion_there_is_no_edge() -> None:
    market = SampleMarket(reverting_share=0.0)
    assert perfect_gain_bp(market) == 0
    days = generate_arrays(np.random.default_rng(2), market, days=50)
    assert not days.deviation.any()


def test_shapes_other_than_the_usual() -> None:
    day = generate(1, symbols=3, bars=5, minutes_per_bar=30)
    assert day.close.shape == (5, 3)
    assert day.starts == ("09:30", "10:00", "10:30", "11:00", "11:30")
    many = generate_arrays(np.random.default_rng(0), SampleMarket(), 3, bars=2, symbols=20_000)
    assert many.close.shape == (3, 2, 20_000)


def test_speed() -> None:
    """Far below what is reached (30 to 50 million on one core), so that a busy machine passes."""
    rng, market = np.random.default_rng(0), SampleMarket()
    generate_arrays(rng, market, 20)
    begun = time.process_time()
    made = generate_arrays(rng, market, 500)
    assert 6 * made.close.size / (time.process_time() - begun) > 10e6


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"reverting_share": 1.5}, "reverting_share is 1.5; it must be between 0 and 1"),
        ({"turnover": float("nan")}, "turnover is nan"),
        ({"half_life_bars": 0}, "half_life_bars is 0; it must be positive"),
        ({"highest_price": 1.0}, "below lowest_price"),
    ],
)
def test_impossible_markets(changed: dict[str, float], message: str) -> None:
    with pytest.raises(BarsError, match=message):
        SampleMarket(**changed)


def test_impossible_days() -> None:
    with pytest.raises(BarsError, match="each must be at least 1"):
        generate(1, symbols=0)
    with pytest.raises(BarsError, match="do not fit"):
        generate(1, bars=100, minutes_per_bar=60)
