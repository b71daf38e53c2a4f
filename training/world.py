"""What the simulator's market does: which bars trade, at which prices buys reserve cash, and fills.

The rules are the core's; this module only says which applies in which setting.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from service.core.allocate import allocate
from service.core.day import Day, place
from service.core.fills import paper_fills
from service.core.limits import Protection, protection
from service.core.market import Fills, Snapshot
from service.core.orders import BUY, Proceeds
from service.core.units import Array, at_least, ceil_div, namespace
from training.episodes import Bars
from training.walk import Walk, walk_fills


def met(bars: Bars, side: Array) -> Bars:
    """The bars ``[..., M, N]`` as orders of ``side`` ``[..., N]`` meet them.

    A bar that is halted, or locked against the order, gives it no volume, and so is in no average
    price. A halted bar repeats the last close: nothing is quoted in it.
    """
    if bars.locked is not None:
        open_to = bars.locked != -side[..., None, :]
        bars = replace(bars, volume=bars.volume * open_to)
    if bars.halted is None:
        return bars
    xp, halted = namespace(bars.close), bars.halted
    last = _last_close(xp, bars, halted)
    names = ("open", "high", "low", "close", "price")
    prices = {name: xp.where(halted, last, getattr(bars, name)) for name in names}
    return replace(bars, volume=bars.volume * ~halted, **prices)


def _last_close(xp: Any, bars: Bars, halted: Array) -> Array:
    """The last close before each bar, halted ones left out; the opening price before the first."""
    close, before = bars.open[..., 0, :], []
    for bar in range(halted.shape[-2]):
        before.append(close)
        close = xp.where(halted[..., bar, :], close, bars.close[..., bar, :])
    return xp.stack(before, axis=-2)


def reservation(day: Day, coming: Snapshot, wish: Array, walk: Walk | None) -> Protection:
    """Prices of the children of the ``coming`` interval; int64 ``[..., N]``.

    As the service does: protected above the last price. In the paper's setting cash is counted at
    the execution price itself, which is known only here; a sale that will not execute promises no
    proceeds.
    """
    if day.rules.proceeds is not Proceeds.SAME_STEP:
        return protection(day)
    if walk is not None:
        return _walked(day, coming, wish, walk)
    xp = namespace(coming.price)
    trades = (coming.volume > 0) & ~coming.halted
    pays = xp.where(trades | (day.orders.side == BUY), coming.price, xp.zeros_like(coming.price))
    return Protection(coming.price, pays)


def _walked(day: Day, coming: Snapshot, wish: Array, walk: Walk) -> Protection:
    """Buys reserve at the dearest bar; a sale promises what the walk pays for it on average.

    The children that sell do not depend on cash, so a first allocation tells what they are.
    """
    xp, ticks, buys = namespace(coming.price), day.rules.ticks_per_minor, day.orders.side == BUY
    traded = walk.bars.volume > 0
    dearest = xp.max(xp.where(traded, walk.bars.price, xp.zeros_like(walk.bars.price)), axis=-2)
    protect = xp.where(buys, xp.where(dearest > 0, dearest, coming.price), 0)
    prices = Protection(protect, ceil_div(protect, ticks) * ticks)
    child = allocate(day, wish, prices).child_qty
    placed = place(day, child, protect, xp.zeros_like(child), day.breached)
    pays = walk_fills(placed, walk).cash_minor * ticks // at_least(child, 1)
    return Protection(protect, xp.where(buys, prices.reserve_px, pays))


def execute(day: Day, coming: Snapshot, walk: Walk | None = None) -> Fills:
    """What working volume gets in the interval: all of it at the interval price, within limits;
    bar by bar where the interval is walked."""
    return paper_fills(day, coming) if walk is None else walk_fills(day, walk)
