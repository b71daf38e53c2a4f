"""Bars for tests, and a day played in process by the core."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import numpy as np

from service.core.baselines import twap
from service.core.day import Day, mark, open_day, settle
from service.core.decide import decide
from service.core.fills import paper_fills
from service.core.limits import CASH_BUFFER_BP_DEFAULT
from service.core.market import Snapshot, opening
from service.core.orders import Orders, Rules
from service.core.units import CASH_MINOR_MAX, PPM, QTY_MAX
from service.play.day_bars import DayBars, merge
from service.play.orders import Basket

Columns = dict[str, list[Any]]
SNAPSHOT = ("open", "high", "low", "close", "price", "volume", "halted")


def bar_columns(
    symbols: tuple[str, ...] = ("AA", "BB"), dates: tuple[str, ...] = ("2026-01-05",), bars: int = 4
) -> Columns:
    """Well-formed rows, symbol by symbol, with prices that tell symbol and bar apart."""
    columns: Columns = {n: [] for n in ("symbol", "ts", "open", "high", "low", "close", "volume")}
    for s, symbol in enumerate(symbols):
        for date in dates:
            for bar in range(bars):
                start = dt.datetime.fromisoformat(f"{date}T09:30") + dt.timedelta(minutes=5 * bar)
                open_ = 10.0 * (s + 1) + bar
                row = (symbol, start, open_, open_ + 1, open_ - 1, open_ + 0.5, 100 * (bar + 1))
                for name, value in zip(columns, row, strict=True):
                    columns[name].append(value)
    return columns


def picked(snapshot: Snapshot, columns: Any) -> Snapshot:
    """The snapshot of the orders' symbols."""
    return Snapshot(*(getattr(snapshot, name)[columns] for name in SNAPSHOT))


def even_day(day: DayBars, basket: Basket, bars_per_step: int) -> Day:
    """``basket`` traded evenly through ``day`` with paper fills, by the core alone."""
    snapshots = [picked(s, basket.column) for s in merge(day, bars_per_step)]
    steps, nothing = len(snapshots), np.zeros(len(basket.symbol), dtype=np.int64)
    known = basket.reference
    assert known is not None
    orders = Orders(
        side=basket.side,
        order_qty=basket.order_qty,
        lot=nothing + basket.lot,
        limit_px=nothing,
        start_step=nothing + 1,
        end_step=nothing + steps,
        live=nothing == 0,
        prev_close=known.prev_close,
        adv_qty=known.adv_qty,
        vol_ppm=known.vol_ppm,
        profile_ppm=known.profile_ppm,
    )
    rules = Rules(steps, 100, CASH_BUFFER_BP_DEFAULT, QTY_MAX, CASH_MINOR_MAX, PPM)
    state = open_day(orders, rules, np.int64(basket.cash_minor))
    seen = opening(day.open[0, basket.column])
    for snapshot in snapshots:
        after = decide(state, seen, twap).after
        state, seen = settle(after, paper_fills(after, snapshot)), snapshot
    return mark(state, seen)


def data_root() -> Path:
    """Where real market data may lie: CONCORD_DATA, or beside the repository."""
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    return Path(os.environ.get("CONCORD_DATA", beside))
