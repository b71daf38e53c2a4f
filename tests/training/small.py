"""Small batches for the tests, ways to play them, and one day that is solved by hand."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from service.core.limits import CHILD_NOTIONAL_MINOR_MAX, CHILD_QTY_MAX, PARTICIPATION_PPM_MAX
from service.core.orders import BUY, SELL, Orders, Proceeds, Rules
from service.core.policy import grid_wish
from service.play.day_bars import DayBars
from service.play.sample import SampleMarket
from training.episodes import Bars, BasketConfig, EpisodeBatch, draw, take_day, to_device
from training.markets import generated
from training.simulator import Step, advance, begin, prepare

from . import reference

EVERYTHING: dict[str, Any] = {
    "volume_cap_ppm": 20_000,
    "latency_bars": 1,
    "arrive_share": (0.2, 0.6),
    "amend_share": (0.2, 0.6),
    "cancel_share": (0.1, 0.3),
    "kind": "mixed",
}
"""Every option of a basket at once."""


def episodes(seed: int, days: int = 6, **basket: Any) -> EpisodeBatch:
    """Generated days of 12 bars in 4 steps, with orders of unequal number."""
    rng = np.random.default_rng(seed)
    config = BasketConfig(**({"orders": (3, 7), "margin_bp": (0.0, 300.0)} | basket))
    market = generated(rng, SampleMarket(), days, 12, 3, config.orders[1])
    return draw(rng, market, config, days)


def write_bars(path: Path, days: list[DayBars]) -> Path:
    """``days`` as a Parquet file of bars, as users have them."""
    names = ("open", "high", "low", "close", "volume")
    rows: dict[str, list[object]] = {name: [] for name in ("symbol", "ts", *names)}
    for day in days:
        for at, start in enumerate(day.starts):
            moment = dt.datetime.fromisoformat(f"{day.date}T{start}")
            for s, symbol in enumerate(day.symbols):
                rows["symbol"].append(symbol)
                rows["ts"].append(moment)
                for name in names:
                    value = int(getattr(day, name)[at, s])
                    rows[name].append(value if name == "volume" else value / 10_000)
    pq.write_table(pa.table(rows), path)
    return path


def by_hand() -> EpisodeBatch:
    """Two buys of 8 and a sale of 8 shares in 4 steps of one bar, and cash for 12 shares.

    The price is 10, 11, 12 and 10 in steps 1 to 4, each known only after its step.
    """
    shape = (1, 3)
    ones = np.ones(shape, dtype=np.int64)
    price = np.array([100_000, 110_000, 120_000, 100_000])[None, :, None] * ones[:, None]
    orders = Orders(
        side=np.array([[BUY, BUY, SELL]]),
        order_qty=8 * ones,
        lot=ones,
        limit_px=0 * ones,
        start_step=ones,
        end_step=4 * ones,
        live=ones > 0,
        prev_close=100_000 * ones,
        adv_qty=0 * ones,
        vol_ppm=20_000 * ones,
        profile_ppm=np.full((1, 4, 3), 250_000),
    )
    rules = Rules(
        steps=4,
        ticks_per_minor=100,
        cash_buffer_bp=0,
        child_qty_max=CHILD_QTY_MAX,
        child_notional_minor_max=CHILD_NOTIONAL_MINOR_MAX,
        participation_ppm_max=PARTICIPATION_PPM_MAX,
        proceeds=Proceeds.REPORTED,
    )
    bars = Bars(price, price, price, price, price, 0 * price + 1_000)
    return EpisodeBatch(orders, rules, np.array([12_000]), bars, 1)


def stopped(batch: EpisodeBatch, seed: int, share: float = 0.15) -> EpisodeBatch:
    """``batch`` with random halts, locked bars and bars without volume, single ones and runs."""
    rng, shape = np.random.default_rng(seed), batch.bars.close.shape

    def at_random() -> np.ndarray:
        runs = np.repeat(rng.random((shape[0], -(-shape[1] // 3), shape[2])) < share / 2, 3, axis=1)
        return (rng.random(shape) < share / 2) | runs[:, : shape[1]]

    locked = at_random() * rng.choice([-1, 1], shape)
    volume = batch.bars.volume * ~at_random()
    bars = replace(batch.bars, halted=at_random(), locked=locked, volume=volume)
    return replace(batch, bars=bars)


def played(batch: EpisodeBatch, actions: np.ndarray) -> list[Step]:
    """Every step of ``batch`` under grid ``actions`` ``[T, B, N]``, as torch tensors."""
    on_torch = to_device(batch)
    market = prepare(on_torch)
    day, steps = begin(on_torch, market), []
    for action in actions:
        steps.append(advance(day, grid_wish(day, torch.from_numpy(action)), market))
        day = steps[-1].day
    return steps


def random_actions(batch: EpisodeBatch, seed: int) -> np.ndarray:
    shape = (batch.rules.steps, *batch.orders.side.shape)
    return np.random.default_rng(seed).choice([0, 1, 2, 4], shape)


def assert_equals_slow(batch: EpisodeBatch, actions: np.ndarray) -> None:
    """Every child, cut, balance and gain of ``batch`` is that of the slow twin."""
    steps = played(batch, actions)
    for b in range(len(batch.cash_minor)):
        slow, live = slowly(batch, actions, b), batch.orders.live[b]
        for t, step in enumerate(steps):
            fast = step.decision.child_qty[b].numpy()[live]
            assert fast.tolist() == [order.children[t] for order in slow.orders]
            assert bool(step.cut[b]) == slow.cuts[t]
            assert int(step.day.cash_minor[b]) == slow.cash[t + 1]
            np.testing.assert_allclose(step.gain[b].numpy()[live], slow.gains[t], atol=1e-7)


def slowly(batch: EpisodeBatch, actions: np.ndarray, b: int) -> reference.Result:
    """Day ``b`` by the slow twin, its bars met and merged in plain Python."""
    day, n = take_day(batch, b), int(batch.orders.live[b].sum())
    columns = [_intervals(day, i) for i in range(n)]
    orders = day.orders
    rows = [
        reference.Order(
            int(orders.side[i]),
            int(orders.order_qty[i]),
            int(orders.lot[i]),
            int(orders.adv_qty[i]),
            orders.profile_ppm[:, i].tolist(),
            int(orders.start_step[i]),
            int(orders.end_step[i]),
        )
        for i in range(n)
    ]
    return reference.play(
        rows,
        [list(row) for row in zip(*columns, strict=True)],
        actions[:, b][:, batch.orders.live[b]].tolist(),
        day.bars.open[0].tolist(),
        int(day.cash_minor),
        reference.Setting(
            day.rules.cash_buffer_bp,
            day.rules.ticks_per_minor,
            day.volume_cap_ppm,
            day.latency_bars,
            day.rules.proceeds is Proceeds.SAME_STEP,
        ),
        day.changes.order_qty.tolist() if day.changes else None,
    )


def _intervals(day: EpisodeBatch, i: int) -> list[reference.Bar]:
    """The intervals of order ``i`` of one day ``[n]``."""
    bars, width = day.bars, day.bars_per_step
    count = bars.close.shape[0]
    names = ("low", "high", "close", "price", "volume")
    rows = zip(*(getattr(bars, name)[:, i].tolist() for name in names), strict=True)
    halted = [False] * count if bars.halted is None else bars.halted[:, i].tolist()
    locked = [0] * count if bars.locked is None else bars.locked[:, i].tolist()
    raw = [reference.Bar(*row, stop) for row, stop in zip(rows, halted, strict=True)]
    met = reference.met(raw, locked, int(day.orders.side[i]), int(bars.open[0, i]))
    return [reference.merge(met[at : at + width]) for at in range(0, count, width)]
