"""The exact walk through the bars of an interval: a child in equal slices, each cut by a cap.

The slice of a bar is a lot or more, or nothing: parts are rounded cumulatively, so that they add up
to the child. What a bar does not give is not carried over to the next one; it ends unfilled and is
the order's to trade again. Without cap and latency the bars are merged instead, which is faster.
"""

from __future__ import annotations

from dataclasses import dataclass

from service.core.day import Day
from service.core.fills import execute
from service.core.market import Fills, Snapshot
from service.core.orders import BUY
from service.core.units import (
    PPM,
    Array,
    buy_cost_minor,
    floor_to_lot,
    namespace,
    round_to_lot,
    sell_proceeds_minor,
)
from training.episodes import Bars, EpisodeBatch


@dataclass(frozen=True, slots=True)
class Walk:
    """One interval: its m ``bars`` and the most shares that each gives, int64 ``[..., m, N]``."""

    bars: Snapshot
    most_qty: Array


def walks(bars: Bars, batch: EpisodeBatch) -> tuple[Walk, ...]:
    """The intervals of the days of ``batch``, of its ``bars`` as their orders meet them; T of them.

    Bars that pass before a decision reaches the market are none of the walk.
    """
    width, late = batch.bars_per_step, batch.latency_bars
    cap_ppm = batch.volume_cap_ppm or PPM
    columns = (bars.open, bars.high, bars.low, bars.close, bars.price, bars.volume)
    made = []
    for at in range(0, bars.close.shape[-2], width):
        open_, high, low, close, price, volume = (
            column[..., at + late : at + width, :] for column in columns
        )
        part = Snapshot(open_, high, low, close, price, volume, volume < 0)
        made.append(Walk(part, volume * cap_ppm // PPM))
    return tuple(made)


def slices(qty: Array, lot: Array, bars: int) -> Array:
    """``qty`` ``[..., N]`` in equal parts of whole lots; an odd rest is in the last one.

    int64 ``[..., m, N]``.
    """
    xp = namespace(qty)
    upto = xp.arange(bars + 1, dtype=qty.dtype, device=qty.device)[:, None]
    whole, each = qty[..., None, :], lot[..., None, :]
    part = xp.minimum(round_to_lot(whole * upto, bars, each), floor_to_lot(whole, each))
    part = xp.where(upto == bars, whole, part)
    return part[..., 1:, :] - part[..., :-1, :]


def walk_fills(day: Day, walk: Walk) -> Fills:
    """Fill the working volume bar by bar, within protection and cap; the rest ends unfilled."""
    xp, ticks, lot = namespace(day.working), day.rules.ticks_per_minor, day.orders.lot[..., None, :]
    side = day.orders.side[..., None, :]
    part = slices(day.working, day.orders.lot, walk.most_qty.shape[-2])
    part = xp.where(part > walk.most_qty, floor_to_lot(walk.most_qty, lot), part)
    qty, px = execute(side, part, day.protect_px[..., None, :], lot, walk.bars)
    paid, received = buy_cost_minor(qty, px, ticks), sell_proceeds_minor(qty, px, ticks)
    filled = xp.sum(qty, axis=-2)
    nothing = xp.zeros_like(filled)
    return Fills(
        qty=filled,
        notional=xp.sum(qty * px, axis=-2),
        cash_minor=xp.sum(xp.where(side == BUY, paid, received), axis=-2),
        beyond_qty=nothing,
        ended_qty=day.working - filled,
        reserved_minor=nothing,
    )
