"""A trading day: its state, and every way a day follows from a day.

Imports market, orders and units. Only this module constructs a successor :class:`Day`; the
functions below are the transitions, and TRANSITIONS says which status allows which.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import StrEnum

from service.core.market import Fills, Snapshot
from service.core.orders import SELL, Orders, Proceeds, Rules, joined_orders
from service.core.units import Array, at_least, check, namespace


class Status(StrEnum):
    """Life of a day."""

    OPEN = "OPEN"
    CLOSED = "CLOSED"


class Trading(StrEnum):
    """What a day may do, strictest last: REDUCING lets liquidations through, HALTED nothing."""

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"


TRANSITIONS = {
    (Status.OPEN, "mark"): Status.OPEN,
    (Status.OPEN, "place"): Status.OPEN,
    (Status.OPEN, "settle"): Status.OPEN,
    (Status.OPEN, "instruct"): Status.OPEN,
    (Status.OPEN, "close"): Status.CLOSED,
    (Status.CLOSED, "settle"): Status.CLOSED,  # an execution is a fact, also after the close
}


@dataclass(frozen=True, slots=True)
class Day:
    """The state of a day after ``step`` decisions. int64 ``[..., N]`` unless said otherwise.

    Orders: ``cum_qty`` filled for ``cum_notional`` (ticks x shares), ``working`` at the market
    under ``protect_px``, ``reserved_minor`` cash held for working buys. Cash ``[...]``:
    ``cash_minor``, its low-water mark ``min_cash_minor``, ``conflicts`` steps in which the cash
    rule cut a buy, ``breached`` (bool) whether a reported fact broke a promise.
    Tape since the order's start: arrival, last, highest and lowest price, sum and number of
    interval prices, last bar; ``mark_px`` the last interval price of the order's window and
    ``seen_volume`` the symbol's volume in it.
    """

    orders: Orders
    rules: Rules
    status: Status
    trading: Trading
    step: int
    cash_minor: Array
    min_cash_minor: Array
    conflicts: Array
    breached: Array
    cum_qty: Array
    cum_notional: Array
    working: Array
    protect_px: Array
    reserved_minor: Array
    arrival_px: Array
    last_px: Array
    mark_px: Array
    high_px: Array
    low_px: Array
    sum_px: Array
    intervals: Array
    move_px: Array
    bar_range: Array
    bar_volume: Array
    seen_volume: Array
    tradable: Array
    halted: Array

    @property
    def target(self) -> Array:
        """Shares wanted, of a cancelled order only those filled or working; int64 ``[..., N]``."""
        xp, style, qty = namespace(self.cum_qty), self.orders.style, self.orders.order_qty
        if style is None:
            return qty
        return xp.where(style.canceled, xp.minimum(qty, self.cum_qty + self.working), qty)

    @property
    def remaining(self) -> Array:
        """Shares neither filled nor working, never negative; int64 ``[..., N]``."""
        return at_least(self.target - self.cum_qty - self.working, 0)

    @property
    def overfill(self) -> Array:
        """Shares filled or working beyond the target; int64 ``[..., N]``."""
        return at_least(self.cum_qty + self.working - self.orders.order_qty, 0)

    @property
    def force_step(self) -> Array:
        """The decision from which all that remains must go out; int64 ``[..., N]``.

        Buys at their last decision. Sales one decision before the day's last where their proceeds
        count only once reported, so that the last buys can be paid (never before their window).
        """
        xp, orders = namespace(self.cum_qty), self.orders
        if self.rules.proceeds is Proceeds.SAME_STEP:
            return orders.end_step
        last_but_one = max(self.rules.steps - 1, 1)
        early = xp.where(orders.end_step > last_but_one, last_but_one, orders.end_step)
        return xp.where(orders.side == SELL, xp.maximum(early, orders.start_step), orders.end_step)

    @property
    def free_cash_minor(self) -> Array:
        """Cash that no working buy has reserved; int64 ``[...]``."""
        xp = namespace(self.cum_qty)
        return self.cash_minor - xp.sum(self.reserved_minor, axis=-1)

    @property
    def spendable_minor(self) -> Array:
        """Free cash above the day's floor; int64 ``[...]``."""
        floor = self.rules.cash_floor_minor
        return self.free_cash_minor - floor if floor else self.free_cash_minor


_OF_THE_DAY = frozenset(
    "orders rules status trading step cash_minor min_cash_minor conflicts breached".split()
)
"""Fields of a Day that are not columns of its orders."""
_COLUMNS = tuple(field.name for field in fields(Day) if field.name not in _OF_THE_DAY)
_COUNTERS = tuple(name for name in _COLUMNS if name not in ("tradable", "halted"))


def _allowed(day: Day, transition: str) -> Status:
    status = TRANSITIONS.get((day.status, transition))
    check(status is not None, f"a {day.status} day cannot {transition}")
    return status or day.status


def open_day(orders: Orders, rules: Rules, cash_minor: Array) -> Day:
    """A day before its first decision; ``cash_minor`` int64 ``[...]``."""
    xp = namespace(orders.side)
    nothing = xp.zeros_like(orders.order_qty)
    return Day(
        orders=orders,
        rules=rules,
        status=Status.OPEN,
        trading=Trading.ACTIVE,
        step=0,
        cash_minor=cash_minor,
        min_cash_minor=cash_minor,
        conflicts=cash_minor * 0,
        breached=cash_minor < 0,
        tradable=nothing > 0,
        halted=nothing > 0,
        **dict.fromkeys(_COUNTERS, nothing),
    )


def mark(day: Day, snapshot: Snapshot) -> Day:
    """The day with ``snapshot`` written on its tape, before decision ``day.step + 1``."""
    status = _allowed(day, "mark")
    xp = namespace(snapshot.close)
    decision = day.step + 1
    before = decision <= day.orders.start_step  # nothing of the order's own window has passed
    traded = ~before & ~snapshot.halted & (snapshot.volume > 0)
    within = decision - 1 <= day.orders.end_step
    counted = traded & within
    reference = xp.where(day.last_px > 0, day.last_px, snapshot.close)
    return replace(
        day,
        status=status,
        arrival_px=xp.where(before, snapshot.close, day.arrival_px),
        last_px=snapshot.close,
        mark_px=xp.where(before | within, snapshot.price, day.mark_px),
        high_px=xp.where(before, snapshot.close, xp.maximum(day.high_px, snapshot.high)),
        low_px=xp.where(before, snapshot.close, xp.minimum(day.low_px, snapshot.low)),
        sum_px=day.sum_px + xp.where(counted, snapshot.price, xp.zeros_like(snapshot.price)),
        intervals=day.intervals + xp.astype(counted, day.intervals.dtype),
        move_px=snapshot.close - reference,
        bar_range=snapshot.high - snapshot.low,
        bar_volume=snapshot.volume,
        seen_volume=day.seen_volume + snapshot.volume * counted,
        tradable=~snapshot.halted & ((snapshot.volume > 0) | (decision == 1)),
        halted=snapshot.halted,
    )


def place(day: Day, child_qty: Array, protect_px: Array, reserve_minor: Array, cut: Array) -> Day:
    """The day after its next decision put ``child_qty`` to work; ``cut`` is bool ``[...]``."""
    status = _allowed(day, "place")
    xp = namespace(child_qty)
    protect = xp.where(day.working == 0, protect_px, xp.maximum(day.protect_px, protect_px))
    check(day.step < day.rules.steps, "no decision after the last step")
    return replace(
        day,
        status=status,
        step=day.step + 1,
        conflicts=day.conflicts + xp.astype(cut, day.conflicts.dtype),
        working=day.working + child_qty,
        protect_px=xp.where(child_qty > 0, protect, day.protect_px),
        reserved_minor=day.reserved_minor + reserve_minor,
    )


def settle(day: Day, fills: Fills, breached: Array | None = None) -> Day:
    """The day after ``fills``: cash by the paper's recursion, working volume given back."""
    status = _allowed(day, "settle")
    xp = namespace(fills.qty)
    flow = xp.sum(day.orders.side * fills.cash_minor, axis=-1)
    cash = day.cash_minor + flow
    return replace(
        day,
        status=status,
        cash_minor=cash,
        min_cash_minor=xp.minimum(xp.asarray(day.min_cash_minor), xp.asarray(cash)),
        breached=day.breached if breached is None else day.breached | breached,
        cum_qty=day.cum_qty + fills.qty,
        cum_notional=day.cum_notional + fills.notional,
        working=day.working - (fills.qty - fills.beyond_qty) - fills.ended_qty,
        reserved_minor=fills.reserved_minor,
    )


def instruct(day: Day, orders: Orders) -> Day:
    """The day after its manager changed what is wanted; the same orders in the same places."""
    check(orders.side.shape == day.orders.side.shape, "an instruction changes no number of orders")
    return replace(day, status=_allowed(day, "instruct"), orders=orders)


def admit(day: Day, more: Orders) -> Day:
    """The day with ``more`` orders behind those that it has; their tape begins now."""
    xp, fresh = namespace(day.cum_qty), open_day(more, day.rules, day.cash_minor)
    joined = {
        name: xp.concat([getattr(day, name), getattr(fresh, name)], axis=-1) for name in _COLUMNS
    }
    orders = joined_orders(day.orders, more)
    return replace(day, status=_allowed(day, "instruct"), orders=orders, **joined)


def with_trading(day: Day, trading: Trading) -> Day:
    """The day under a trading state, usually its own."""
    return day if day.trading is trading else replace(day, trading=trading)


def close(day: Day) -> Day:
    """The day after its close; what is not filled then is its shortfall."""
    return replace(day, status=_allowed(day, "close"))
