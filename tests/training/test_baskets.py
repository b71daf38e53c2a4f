"""Kinds of baskets: what each promises about sides, sizes and symbols, and where it looks."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.core.orders import BUY, SELL
from service.core.units import BP, ceil_div
from service.play.orders import SIZE_SHARE_MAX, initial_cash_minor
from service.play.sample import SampleMarket
from training.baskets import MIXED, Kind
from training.episodes import BasketConfig, EpisodeBatch, draw
from training.markets import MarketDays, from_file, generated

KINDS: tuple[Kind, ...] = (*MIXED, "one_sided", "mixed")


def market(symbols: int = 30, days: int = 60, seed: int = 0) -> MarketDays:
    return generated(np.random.default_rng(seed), SampleMarket(), days, 12, 3, symbols)


def drawn(kind: Kind, days: MarketDays | None = None, **basket: Any) -> EpisodeBatch:
    config = BasketConfig(kind=kind, **({"orders": (6, 14)} | basket))
    return draw(np.random.default_rng(1), days or market(), config, 60)


def values(batch: EpisodeBatch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bought and sold value of each day in ticks x shares, and its dearest lot."""
    orders, px = batch.orders, batch.bars.open[:, 0]
    value, lot = orders.order_qty * px, np.where(orders.live, orders.lot * px, 0)
    bought = (value * (orders.side == BUY)).sum(1)
    return bought, value.sum(1) - bought, lot.max(1)


@pytest.mark.parametrize("lot", [1, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_whole_baskets(kind: Kind, lot: int) -> None:
    days = market()
    batch = drawn(kind, days, lot=lot)
    orders = batch.orders
    count = orders.live.sum(1)
    assert (count.min(), count.max()) == (6, 14)
    assert (orders.live == (np.arange(14) < count[:, None])).all()
    assert (orders.order_qty[orders.live] >= lot).all()
    assert (orders.order_qty % lot == 0).all()
    assert not orders.order_qty[~orders.live].any()
    assert set(np.unique(orders.side)) == {BUY, SELL}
    if kind not in ("neutral", "rebalance", "mixed"):  # matched sides may grow by lots
        assert (orders.order_qty <= np.maximum(SIZE_SHARE_MAX * orders.adv_qty / 4, lot)).all()
    known = [set(row[live].tolist()) for row, live in zip(orders.adv_qty, orders.live, strict=True)]
    assert [len(found) for found in known] == pytest.approx(count, abs=1)  # different symbols


@pytest.mark.parametrize("kind", KINDS)
def test_cash_comes_from_arrival_prices_and_the_margin(kind: Kind) -> None:
    batch = drawn(kind, margin_bp=(150.0, 150.0))
    orders = batch.orders
    need = initial_cash_minor(
        orders.side, orders.order_qty, batch.bars.open[:, 0], 4, margin_bp=0, buffer_bp=300
    )
    np.testing.assert_array_equal(batch.cash_minor, ceil_div(need * (BP + 150), BP))
    legs = drawn(kind, margin_bp=(150.0, 150.0), margin_on="legs")
    spare = initial_cash_minor(
        orders.side, orders.order_qty, batch.bars.open[:, 0], 4, margin_bp=150, buffer_bp=300
    )
    np.testing.assert_array_equal(legs.cash_minor, spare)
    later = market()
    later = replace(later, close=2 * later.close, high=3 * later.high, volume=5 * later.volume)
    again = drawn(kind, later, margin_bp=(150.0, 150.0))
    np.testing.assert_array_equal(again.cash_minor, batch.cash_minor)
    np.testing.assert_array_equal(again.orders.order_qty, orders.order_qty)
    np.testing.assert_array_equal(again.orders.side, orders.side)


@pytest.mark.parametrize("lot", [1, 100, 1_000])
@pytest.mark.parametrize("kind", ["neutral", "rebalance"])
def test_buys_are_worth_as_much_as_sales(kind: Kind, lot: int) -> None:
    batch = drawn(kind, lot=lot, buy_share=(0.1, 0.9))
    bought, sold, most = values(batch)
    assert (bought > 0).all()
    assert (sold > 0).all()
    assert (abs(bought - sold) <= most).all()


def test_a_rebalance_sets_few_large_orders_against_many() -> None:
    batch = drawn("rebalance", orders=(10, 10))
    buys = ((batch.orders.side == BUY) & batch.orders.live).sum(1)
    assert set(buys.tolist()) == {2, 8}  # a fifth of ten, on either side


def test_one_sided_days_buy_or_sell_only() -> None:
    batch = drawn("one_sided")
    bought, sold, _ = values(batch)
    assert ((bought == 0) != (sold == 0)).all()
    assert (bought > 0).any()
    assert (sold > 0).any()
    assert (batch.cash_minor >= bought // 100).all()
    assert not batch.cash_minor[bought == 0].any()


def test_winners_are_bought_and_losers_sold() -> None:
    days = market()
    past = np.random.default_rng(5).normal(size=days.reference.adv_qty.shape)
    days = replace(days, past_return=past)
    batch = drawn("bwsl", days)
    orders = batch.orders
    # the volume known before the open tells the symbol
    column = (days.reference.adv_qty[:, None] == orders.adv_qty[..., None]).argmax(-1)
    assert (np.diff(np.where(orders.live, column, 99), axis=1) >= 0).all()
    gained = np.take_along_axis(past, column, axis=1)
    rank = (gained[..., None] < past[:, None]).sum(-1)  # 0 is the best of 30
    bought, sold = orders.live & (orders.side == BUY), orders.live & (orders.side == SELL)
    assert rank[bought].max() == 8
    assert rank[sold].min() == 21
    assert len(set(rank[bought].tolist())) == 9  # anywhere in the group
    buys = bought.sum(1)
    assert (abs(buys - orders.live.sum(1) / 2) <= 0.5).all()


def test_without_a_past_winners_are_drawn() -> None:
    for days in (market(14), replace(market(14), past_return=None)):
        batch = drawn("bwsl", days, orders=(14, 14))  # as many orders as symbols
        assert batch.orders.live.all()
        assert ((batch.orders.side == BUY).sum(1) == 7).all()
        share = (batch.orders.side == BUY).mean(0)
        assert share.min() > 0.2
        assert share.max() < 0.8


def test_a_mixed_batch_holds_days_of_each_kind() -> None:
    bought, sold, most = values(drawn("mixed", orders=(10, 10)))
    matched = abs(bought - sold) <= most
    assert 0.25 < matched.mean() < 0.75  # two of the four kinds


def test_two_sides_need_two_orders() -> None:
    with pytest.raises(ValueError, match="at least 2 orders"):
        drawn("neutral", orders=(1, 5))


def file_of(path: Path, closes: np.ndarray, flat: bool) -> Path:
    """Days ``[D, M]`` of two symbols as a Parquet file: the second stands 10% lower."""
    rows: dict[str, list[Any]] = {n: [] for n in ("symbol", "ts", *_PRICES, "volume")}
    for d, bars in enumerate(closes):
        for m, close in enumerate(bars):
            for symbol, scale in (("A", 1.0), ("B", 0.9)):
                rows["symbol"].append(symbol)
                rows["ts"].append(dt.datetime(2026, 11, 2 + d, 10, m, tzinfo=dt.UTC))
                for name in _PRICES:
                    spread = 0.0 if flat else {"high": 0.5, "low": -0.5}.get(name, 0.0)
                    rows[name].append(round(close * scale + spread, 2))
                rows["volume"].append(1_000 * (1 + m % 3))
    table = pa.table(rows)
    table = table.set_column(1, "ts", table["ts"].cast(pa.timestamp("us")))
    pq.write_table(table, path)
    return path


_PRICES = ("open", "high", "low", "close")


def test_past_returns_come_from_earlier_days(tmp_path: Path) -> None:
    closes = 100.0 * 1.01 ** np.arange(25)[:, None] + np.zeros(4)
    days = from_file(file_of(tmp_path / "bars.parquet", closes, flat=True), 2)
    assert days.past_return is not None
    assert days.past_return.shape == (24, 2)
    # one day before the second day, two before the third, 20 at most
    expected = 1.01 ** np.minimum(np.arange(24), 19) - 1
    np.testing.assert_allclose(days.past_return[:, 0], expected, atol=1e-3)
    changed = closes.copy()
    changed[12:] *= 1.5
    other = from_file(file_of(tmp_path / "other.parquet", changed, flat=True), 2)
    assert other.past_return is not None
    np.testing.assert_array_equal(other.past_return[:12], days.past_return[:12])
    assert days.only(slice(2, 5)).past_return.shape == (3, 2)  # type: ignore[union-attr]


def test_bars_at_the_price_limit_are_locked(tmp_path: Path) -> None:
    closes = np.full((3, 6), 33.33)
    closes[1, 3:] = 36.66  # 10% is 36.663, quoted in cents
    closes[2] = closes[1, -1] - 3.67
    closes[2, :2] = 36.66
    path = file_of(tmp_path / "bars.parquet", closes, flat=True)
    assert from_file(path, 2).locked is None
    days = from_file(path, 2, price_limit_bp=1_000)
    assert days.locked is not None
    assert days.locked[:, :, 0].tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, -1, -1, -1, -1]]
    moving = from_file(file_of(tmp_path / "m.parquet", closes, flat=False), 2, price_limit_bp=1_000)
    assert not moving.locked.any()  # type: ignore[union-attr]
    batch = draw(np.random.default_rng(0), days, BasketConfig(orders=(2, 2)), 2)
    np.testing.assert_array_equal(batch.bars.locked, days.locked)
    assert batch.bars.halted is None
