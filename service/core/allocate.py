"""From wishes to child orders: every safety rule, in one order, for any policy.

Imports day, limits, reasons and units. The wish of a policy passes through the stages below;
each can only lower it, except FORCED_FINAL, which raises it to all that remains. Safety beats
completion: what a later stage takes from a forced child becomes a named shortfall.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.core.basket import rooms, within
from service.core.day import Day, Trading
from service.core.limits import (
    Protection,
    collars,
    most_of_volume,
    notional_qty_max,
    through_limit,
    volume_qty_max,
)
from service.core.orders import BUY, SELL, Proceeds
from service.core.reasons import Reason, Stage
from service.core.units import (
    RHO_BITS,
    Array,
    at_least,
    buy_cost_minor,
    floor_to_lot,
    namespace,
    on_host,
    sell_proceeds_minor,
)


@dataclass(frozen=True, slots=True)
class Decision:
    """The children of one step. int64 ``[..., N]`` unless said otherwise.

    ``child_qty`` shares to send under ``protect_px`` ticks, ``reserve_minor`` cash reserved for
    them; ``cut`` (bool ``[...]``) whether the cash rule reduced a buy; ``stages`` every rule that
    was applied, with the numbers it compared.
    """

    child_qty: Array
    protect_px: Array
    reserve_minor: Array
    cut: Array
    stages: tuple[Stage, ...]


def allocate(day: Day, wish: Array, prices: Protection, before: tuple[Stage, ...] = ()) -> Decision:
    """Children for ``wish`` shares (int64 ``[..., N]``, >= 0) at ``prices``, within every limit.

    ``before`` are the stages that the wish has passed already.
    """
    xp = namespace(wish)
    stages = list(before)
    qty = _due(xp, day, wish, stages)
    qty = _permitted(xp, day, qty, stages)
    qty = _capped(xp, day, qty, stages)
    for room in rooms(day):
        stages.append(within(day, qty, room))
        qty = stages[-1].after
    qty = _in_lots(xp, day, qty, stages)
    qty, cut = _affordable(xp, day, qty, prices, stages)
    qty = _worth_sending(xp, day, qty, stages)
    buys = qty * (day.orders.side == BUY)
    return Decision(
        child_qty=qty,
        protect_px=prices.protect_px,
        reserve_minor=buy_cost_minor(buys, prices.reserve_px, day.rules.ticks_per_minor),
        cut=cut,
        stages=tuple(stages),
    )


def _stage(
    stages: list[Stage], reason: Reason, before: Array, after: Array, limit: Array | int
) -> Array:
    stages.append(Stage(reason, before, after, before, limit))
    return after


def _due(xp: Any, day: Day, wish: Array, stages: list[Stage]) -> Array:
    """Orders trade inside their window, at most what remains, and all of it at their last step."""
    decision, orders, remaining = day.step + 1, day.orders, day.remaining
    inside = orders.live & (decision >= orders.start_step) & (decision <= orders.end_step)
    edge = xp.where(decision < orders.start_step, orders.start_step, orders.end_step)
    qty = wish * inside
    stages.append(Stage(Reason.WINDOW, wish, qty, decision, edge))
    due = inside & (decision >= day.force_step)
    if orders.style is not None:
        due = due & ~orders.style.best_effort
    forced = xp.where(due, xp.maximum(qty, remaining), qty)
    qty = _stage(stages, Reason.FORCED_FINAL, qty, forced, remaining)
    return _stage(stages, Reason.REMAINING, qty, xp.minimum(qty, remaining), remaining)


def _permitted(xp: Any, day: Day, qty: Array, stages: list[Stage]) -> Array:
    """Trading states, pauses, symbol halts, limit prices and collars leave a child or refuse it."""
    orders = day.orders
    if day.trading is Trading.HALTED:
        qty = _stage(stages, Reason.HALTED, qty, qty * 0, 0)
    if day.trading is Trading.REDUCING:
        qty = _stage(stages, Reason.REDUCING, qty, qty * (orders.side == SELL), 0)
    if orders.style is not None:
        qty = _stage(stages, Reason.PAUSED, qty, qty * ~orders.style.paused, 0)
    qty = _stage(stages, Reason.SYMBOL_HALT, qty, qty * ~day.halted, 0)
    priced = qty * ~through_limit(day)
    stages.append(Stage(Reason.LIMIT_PRICE, qty, priced, day.last_px, orders.limit_px))
    for reason, (low, high) in collars(day).items():
        last, qty = day.last_px, priced
        priced = qty * ((low <= last) & (last <= high))
        stages.append(Stage(reason, qty, priced, last, xp.where(last > high, high, low)))
    return priced


def _capped(xp: Any, day: Day, qty: Array, stages: list[Stage]) -> Array:
    """No child is larger than the day's hard limits."""
    most = day.rules.child_qty_max
    qty = _stage(stages, Reason.CAP_QTY, qty, xp.where(qty > most, most, qty), most)
    most = notional_qty_max(day)
    qty = _stage(stages, Reason.CAP_NOTIONAL, qty, xp.minimum(qty, most), most)
    most = volume_qty_max(day)
    qty = _stage(stages, Reason.CAP_VOLUME, qty, xp.minimum(qty, most), most)
    if day.orders.style is None:
        return qty
    most = most_of_volume(day, day.orders.style)
    return _stage(stages, Reason.MAX_VOLUME, qty, xp.minimum(qty, most), most)


def _in_lots(xp: Any, day: Day, qty: Array, stages: list[Stage]) -> Array:
    """Whole lots; a sale may send the odd rest of its order with its last child."""
    whole = floor_to_lot(qty, day.orders.lot)
    last_sale = (day.orders.side == SELL) & (qty == day.remaining)
    after = xp.where(last_sale, qty, whole)
    return _stage(stages, Reason.LOT, qty, after, day.orders.lot)


def _affordable(
    xp: Any, day: Day, qty: Array, prices: Protection, stages: list[Stage]
) -> tuple[Array, Array]:
    """Cut the buys together where cash runs short; answers volumes and where it happened."""
    orders, ticks = day.orders, day.rules.ticks_per_minor
    buys = qty * (orders.side == BUY)
    cost = buy_cost_minor(buys, prices.reserve_px, ticks)
    need = xp.sum(cost, axis=-1, keepdims=True)
    free = xp.expand_dims(xp.asarray(day.spendable_minor), axis=-1)
    if day.rules.proceeds is Proceeds.SAME_STEP:
        sales = sell_proceeds_minor(qty - buys, prices.reserve_px, ticks)
        free = free + xp.sum(sales, axis=-1, keepdims=True)
    free = at_least(free, 0)
    short = need > free
    cut = xp.squeeze(short, axis=-1)
    if on_host(cut):  # most days are not cut; a device is never asked which are
        if not cut.any():
            return qty, cut
        px, lot = prices.reserve_px[cut], orders.lot[cut]
        shared = xp.zeros_like(qty)
        shared[cut] = _pro_rata(xp, buys[cut], cost[cut], need[cut], free[cut], px, lot, ticks)
    else:
        px, lot = prices.reserve_px, orders.lot
        shared = _pro_rata(xp, buys, cost, need, free, px, lot, ticks)
    after = xp.where(short & (buys > 0), shared, qty)
    stages.append(Stage(Reason.CASH, qty, after, need, free))
    return after, cut & xp.any(after != qty, axis=-1)


def _worth_sending(xp: Any, day: Day, qty: Array, stages: list[Stage]) -> Array:
    """No child below its order's smallest, but for the rest of the order."""
    if day.orders.style is None:
        return qty
    least = day.orders.style.min_qty
    sent = xp.where((qty < least) & (qty < day.remaining), xp.zeros_like(qty), qty)
    return _stage(stages, Reason.MIN_QTY, qty, sent, least)


def _pro_rata(
    xp: Any,
    buys: Array,
    cost: Array,
    need: Array,
    free: Array,
    px: Array,
    lot: Array,
    ticks: int,
) -> Array:
    """``buys`` scaled by one factor to what ``free`` minor units pay, in whole lots.

    rho = (free << 20) // need, volumes floored to lots; the lots left over go one each to the
    largest remainders, ties to the first order, for as long as the next one can be paid. One minor
    unit per buy is kept back before the floor, since every cost is rounded up on its own.
    """
    kept = xp.sum(xp.astype(buys > 0, buys.dtype), axis=-1, keepdims=True)
    payable = xp.minimum(at_least(free - kept, 0), need)
    share = buys * ((payable << RHO_BITS) // at_least(need, 1))
    base = floor_to_lot(share >> RHO_BITS, lot)
    paid = buy_cost_minor(base, px, ticks)
    extra = buy_cost_minor(base + lot, px, ticks) - paid
    spare = free - xp.sum(paid, axis=-1, keepdims=True)
    room = base + lot <= buys
    rank = xp.where(room, (share - (base << RHO_BITS)) // lot, xp.zeros_like(share) - 1)
    order = xp.argsort(-rank, axis=-1, stable=True)
    price = xp.take_along_axis(xp.where(room, extra, extra + spare + 1), order, axis=-1)
    given = xp.cumulative_sum(price, axis=-1) <= spare
    back = xp.argsort(order, axis=-1, stable=True)
    return base + xp.where(xp.take_along_axis(given, back, axis=-1) & room, lot, 0)
