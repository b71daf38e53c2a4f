"""Paper fills: what the market gives to the children that work through one bar.

Imports day, market, orders and units. The service uses it for days opened with ``fills: paper``,
the simulator for every day, and the demo's client for its reports; the rule is stated once here.
"""

from __future__ import annotations

from service.core.day import Day
from service.core.market import Fills, Snapshot
from service.core.orders import BUY
from service.core.units import (
    Array,
    at_least,
    buy_cost_minor,
    floor_to_lot,
    namespace,
    sell_proceeds_minor,
)


def execute(
    side: Array, working: Array, protect_px: Array, lot: Array, bar: Snapshot
) -> tuple[Array, Array]:
    """Shares that execute in ``bar`` and their price in ticks, 0 where nothing does; ``[..., N]``.

    Within its protection a child trades whole, at the interval price. Where the interval price is
    worse, it trades the share of the bar's range that its protection allows, in lots, at the middle
    of that part: filling it whole at the protection would be a free lunch (0.6 bp on driftless
    prices), and not at all a loss (-1.3 bp). Nothing trades in a halted symbol or without volume.
    """
    xp = namespace(working)
    buys, price = side == BUY, bar.price
    within = xp.where(buys, price <= protect_px, price >= protect_px)
    allowed = at_least(xp.where(buys, protect_px - bar.low, bar.high - protect_px), 0)
    edge = xp.where(buys, bar.low, bar.high)
    middle = xp.where(buys, (edge + protect_px + 1) // 2, (edge + protect_px) // 2)
    # a protection beyond the bar's range cannot be worse than a price inside it
    part = floor_to_lot(working * allowed // at_least(bar.high - bar.low, 1), lot)
    trades = (bar.volume > 0) & ~bar.halted
    qty = xp.where(within, working, part) * trades
    return qty, xp.where(within, price, middle) * (qty > 0)


def paper_fills(day: Day, snapshot: Snapshot) -> Fills:
    """Fill the working volume that executes in ``snapshot``; the rest ends unfilled."""
    xp, ticks = namespace(day.working), day.rules.ticks_per_minor
    orders = day.orders
    qty, px = execute(orders.side, day.working, day.protect_px, orders.lot, snapshot)
    cash = xp.where(
        orders.side == BUY,
        buy_cost_minor(qty, px, ticks),
        sell_proceeds_minor(qty, px, ticks),
    )
    nothing = xp.zeros_like(qty)
    return Fills(
        qty=qty,
        notional=qty * px,
        cash_minor=cash,
        beyond_qty=nothing,
        ended_qty=day.working - qty,
        reserved_minor=nothing,
    )
