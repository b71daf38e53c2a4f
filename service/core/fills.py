"""Paper fills: what the market gives to the children that work through one bar.

Imports day, market and units. The service uses it for days opened with ``fills: paper``, the
simulator for every day; the rule is stated once here.
"""

from __future__ import annotations

from service.core.day import Day
from service.core.market import Fills, Snapshot
from service.core.orders import BUY
from service.core.units import Array, buy_cost_minor, namespace, sell_proceeds_minor


def execution_price(day: Day, snapshot: Snapshot) -> Array:
    """Price in ticks at which working volume executes in ``snapshot``, 0 where it does not.

    The interval price, or the protecting price where the interval price is worse but the bar
    touched it. A halted symbol or a bar without volume executes nothing. int64 ``[..., N]``.
    """
    xp = namespace(day.working)
    buys, protect, price = day.orders.side == BUY, day.protect_px, snapshot.price
    bounded = xp.where(buys, xp.minimum(price, protect), xp.maximum(price, protect))
    touched = xp.where(buys, snapshot.low <= protect, snapshot.high >= protect)
    trades = touched & (snapshot.volume > 0) & ~snapshot.halted
    return xp.where(trades, bounded, xp.zeros_like(bounded))


def paper_fills(day: Day, snapshot: Snapshot) -> Fills:
    """Fill all working volume that executes in ``snapshot``; the rest ends unfilled."""
    xp, ticks = namespace(day.working), day.rules.ticks_per_minor
    px = execution_price(day, snapshot)
    nothing = xp.zeros_like(px)
    qty = xp.where(px > 0, day.working, nothing)
    cash = xp.where(
        day.orders.side == BUY,
        buy_cost_minor(qty, px, ticks),
        sell_proceeds_minor(qty, px, ticks),
    )
    return Fills(
        qty=qty,
        notional=qty * px,
        cash_minor=cash,
        beyond_qty=nothing,
        ended_qty=day.working - qty,
        reserved_minor=nothing,
    )
