"""Episodes: what is drawn, from which days, and that nothing of it looks ahead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from service.core.observe import observe
from service.core.orders import BUY
from service.play.bars import BarsError
from service.play.sample import generate_days
from training.episodes import BasketConfig, EpisodeBatch, draw, map_arrays
from training.markets import MarketDays, from_file
from training.simulator import begin, prepare

from .small import episodes, write_bars


def test_sizes_sides_and_cash_are_as_asked() -> None:
    batch = episodes(1, days=300, orders=(2, 6), buy_share=(0.5, 0.5))
    orders = batch.orders
    count = orders.live.sum(axis=1)
    assert set(count.tolist()) == {2, 3, 4, 5, 6}
    assert not orders.order_qty[~orders.live].any()
    assert (orders.order_qty[orders.live] > 0).all()
    buys = ((orders.side == BUY) & orders.live).sum(axis=1)
    assert (abs(buys - count / 2) <= 0.5).all()
    assert (batch.cash_minor > 0).all()


def test_the_same_seed_draws_the_same_days() -> None:
    same: list[bool] = []
    first, again = episodes(4), episodes(4)
    map_arrays(first, lambda array: same.append(hash(array.tobytes())) or array)
    map_arrays(again, lambda array: same.append(hash(array.tobytes())) or array)
    assert same[: len(same) // 2] == same[len(same) // 2 :]


def test_nothing_known_at_the_open_depends_on_the_day_to_come() -> None:
    """Change every bar after the open: orders, cash and the first observation stay."""
    rng = np.random.default_rng(0)
    from service.play.sample import SampleMarket
    from training.markets import generated

    days = generated(rng, SampleMarket(), 20, 12, 3, 6)
    other = replace(days, **{name: _disturbed(getattr(days, name)) for name in ("high", "low")})
    other = replace(other, close=2 * days.close, price=2 * days.price, volume=3 * days.volume)
    other = replace(other, open=_disturbed(days.open))
    basket = BasketConfig(orders=(6, 6))
    ours, theirs = (draw(np.random.default_rng(1), d, basket, 20) for d in (days, other))
    np.testing.assert_array_equal(ours.cash_minor, theirs.cash_minor)
    for name in ("side", "order_qty", "prev_close", "adv_qty", "vol_ppm"):
        a, b = getattr(ours.orders, name), getattr(theirs.orders, name)
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(_first_view(ours), _first_view(theirs))


def _disturbed(array: np.ndarray) -> np.ndarray:
    changed = 2 * array
    changed[:, 0] = array[:, 0]
    return changed


def _first_view(batch: EpisodeBatch) -> np.ndarray:
    features: np.ndarray = observe(begin(batch, prepare(batch))).features
    return features


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Six generated days of eight symbols as a Parquet file."""
    return write_bars(tmp_path / "bars.parquet", generate_days(3, 6, symbols=8, bars=12))


def test_days_of_a_file(file: Path) -> None:
    days = from_file(file, 3)
    assert days.close.shape == (5, 12, 8)  # the first day is only known, not traded
    assert days.reference.profile_ppm.shape == (5, 4, 8)
    assert (days.reference.profile_ppm.sum(axis=1) == 1_000_000).all()
    np.testing.assert_array_equal(days.reference.prev_close[1:], days.close[:-1, -1])
    assert len(days.dates) == 5
    later = days.only(slice(4, None))
    assert (len(later.close), later.dates) == (1, days.dates[4:])
    np.testing.assert_array_equal(later.reference.prev_close[0], days.close[3, -1])
    batch = draw(np.random.default_rng(0), days, BasketConfig(orders=(4, 4)), 30)
    assert batch.bars.close.shape == (30, 12, 4)


def test_reference_data_come_from_earlier_days_only(file: Path) -> None:
    days, shorter = from_file(file, 3), from_file(file, 3, last=_date(file, 4))
    assert len(shorter.close) < len(days.close)
    for name in ("prev_close", "adv_qty", "vol_ppm", "profile_ppm"):
        part = getattr(shorter.reference, name)
        np.testing.assert_array_equal(part, getattr(days.reference, name)[: len(part)])


def _date(file: Path, at: int) -> str:
    moments = sorted({str(m)[:10] for m in pq.read_table(file)["ts"].to_pylist()})
    return moments[at]


def test_too_few_days_or_symbols_are_named(file: Path) -> None:
    with pytest.raises(BarsError, match="at least 2"):
        from_file(file, 3, last=_date(file, 0))
    days: MarketDays = from_file(file, 3)
    with pytest.raises(ValueError, match="9 orders a day asked for, but one day has 8"):
        draw(np.random.default_rng(0), days, BasketConfig(orders=(9, 9)), 5)
