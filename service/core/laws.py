"""Every invariant of the core, named, as a predicate. Imports the core's values and rules.

The service evaluates the laws on every decision and settlement before it commits; tests and crash
harnesses evaluate the same functions. Each answers bool ``[..., N]``, ``[...]`` or a plain bool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from service.core.basket import needed, rooms
from service.core.book import Child
from service.core.day import Day, Trading
from service.core.decide import Decided
from service.core.limits import (
    collars,
    most_of_volume,
    notional_qty_max,
    protection,
    through_limit,
)
from service.core.market import Fills
from service.core.orders import BUY, SELL, Proceeds
from service.core.units import CASH_MINOR_MAX, Array, InvariantViolation, buy_cost_minor, namespace


def conservation(day: Day) -> Array:
    """filled + working + remaining == target + overfill."""
    booked = day.cum_qty + day.working + day.remaining
    return booked == day.target + day.overfill


def nothing_negative(day: Day) -> Array:
    """No volume or reserve is below zero."""
    return (day.cum_qty >= 0) & (day.working >= 0) & (day.reserved_minor >= 0)


def cash_covers_reserves(day: Day) -> Array:
    """Cash is never below what working buys have reserved, unless a fact broke a promise."""
    return (day.free_cash_minor >= 0) | day.breached


def cash_in_bounds(day: Day) -> Array:
    """Cash stays inside the range in which all arithmetic is exact."""
    return (day.cash_minor <= CASH_MINOR_MAX) & (day.cash_minor >= -CASH_MINOR_MAX)


def reserves_match_working(day: Day) -> Array:
    """Only working buys reserve cash."""
    return (day.reserved_minor == 0) | ((day.orders.side == BUY) & (day.working > 0))


def child_within_remaining(decided: Decided) -> Array:
    """A child is never negative and never more than what was neither filled nor working."""
    child = decided.decision.child_qty
    return (child >= 0) & (child <= decided.seen.remaining)


def child_in_window(decided: Decided) -> Array:
    """Nothing trades outside an order's window, nor in a padded slot."""
    orders, step = decided.seen.orders, decided.after.step
    inside = orders.live & (orders.start_step <= step) & (step <= orders.end_step)
    return inside | (decided.decision.child_qty == 0)


def child_in_lots(decided: Decided) -> Array:
    """Whole lots, but for the sale of all that remains."""
    child, seen = decided.decision.child_qty, decided.seen
    rest = (seen.orders.side == SELL) & (child == seen.remaining)
    return (child % seen.orders.lot == 0) | rest


def child_within_limits(decided: Decided) -> Array:
    """No child through its limit price, halted, or above the day's caps."""
    child, seen = decided.decision.child_qty, decided.seen
    refused = through_limit(seen) | seen.halted
    for low, high in collars(seen).values():
        refused = refused | (seen.last_px < low) | (seen.last_px > high)
    small = (child <= seen.rules.child_qty_max) & (child <= notional_qty_max(seen))
    return (child == 0) | (small & ~refused)


def child_obeys_style(decided: Decided) -> Array:
    """Nothing of an order that is paused or cancelled, nothing above its participation, nothing
    below its minimum."""
    child, seen, style = decided.decision.child_qty, decided.seen, decided.seen.orders.style
    if style is None:
        return child >= 0
    most = most_of_volume(seen, style)
    worth = (child >= style.min_qty) | (child == seen.remaining)
    sends = ~style.paused & ~style.canceled
    return (child == 0) | (sends & (child <= most) & worth)


def basket_within_limits(decided: Decided) -> Array:
    """The children of a step keep every limit of the basket."""
    child, seen = decided.decision.child_qty, decided.seen
    kept = child >= 0
    for room in rooms(seen):
        kept = kept & (needed(seen, child, room) <= room.minor)
    return kept


def floor_kept(decided: Decided) -> Array:
    """Buys reserve no cash below the day's floor, where sales pay once they are reported."""
    xp, seen = namespace(decided.decision.child_qty), decided.seen
    if seen.rules.proceeds is Proceeds.SAME_STEP:
        return decided.decision.child_qty >= 0
    reserved = xp.sum(decided.decision.reserve_minor, axis=-1)
    return (reserved == 0) | (reserved <= seen.spendable_minor)


def child_reserved(decided: Decided) -> Array:
    """Every buy reserves at least its volume at the price that protects it."""
    child, seen = decided.decision.child_qty, decided.seen
    prices = protection(seen)
    cost = buy_cost_minor(child, prices.protect_px, seen.rules.ticks_per_minor)
    return (seen.orders.side == SELL) | (decided.decision.reserve_minor >= cost)


def trading_state_obeyed(decided: Decided) -> Array:
    """HALTED sends nothing; REDUCING sends sales only."""
    child, seen = decided.decision.child_qty, decided.seen
    if seen.trading is Trading.HALTED:
        return child == 0
    if seen.trading is Trading.REDUCING:
        return (child == 0) | (seen.orders.side == SELL)
    return child >= 0


def volume_moved_by_decision(decided: Decided) -> Array:
    """A decision moves its children from remaining to working and touches nothing else."""
    seen, after, child = decided.seen, decided.after, decided.decision.child_qty
    moved = (after.working == seen.working + child) & (after.remaining == seen.remaining - child)
    return moved & (after.cum_qty == seen.cum_qty) & (after.overfill == seen.overfill)


def book_matches_working(day: Day, children: Iterable[Child]) -> bool:
    """The children in the book add up to what each order has working (reported fills)."""
    booked = [0] * day.working.shape[-1]
    for child in children:
        booked[child.order] += child.open_qty
    working: list[int] = day.working.tolist()
    return booked == working


def step_follows(decided: Decided) -> bool:
    """Decisions are numbered without gaps."""
    return decided.after.step == decided.seen.step + 1 <= decided.seen.rules.steps


def cash_moved_by_fills(before: Day, fills: Fills, after: Day) -> Array:
    """Cash changes by the money of the fills and by nothing else."""
    xp = namespace(fills.qty)
    flow = xp.sum(before.orders.side * fills.cash_minor, axis=-1)
    return after.cash_minor - before.cash_minor == flow


def volume_moved_by_fills(before: Day, fills: Fills, after: Day) -> Array:
    """Filled volume grows by the fills; working volume shrinks by what filled or ended."""
    grown = after.cum_qty - before.cum_qty == fills.qty
    ended = before.working - after.working == fills.qty - fills.beyond_qty + fills.ended_qty
    return grown & ended


DAY_LAWS: tuple[Callable[[Day], Array], ...] = (
    conservation,
    nothing_negative,
    cash_covers_reserves,
    cash_in_bounds,
    reserves_match_working,
)
DECISION_LAWS: tuple[Callable[[Decided], Array], ...] = (
    child_within_remaining,
    child_in_window,
    child_in_lots,
    child_within_limits,
    child_obeys_style,
    basket_within_limits,
    floor_kept,
    child_reserved,
    trading_state_obeyed,
    volume_moved_by_decision,
    step_follows,
)
SETTLEMENT_LAWS: tuple[Callable[[Day, Fills, Day], Array], ...] = (
    cash_moved_by_fills,
    volume_moved_by_fills,
)


def broken_by_day(day: Day) -> list[str]:
    """Names of the laws that ``day`` breaks."""
    return _broken(DAY_LAWS, day)


def broken_by_decision(decided: Decided) -> list[str]:
    """Names of the laws that a decision or the day after it breaks."""
    return _broken(DECISION_LAWS, decided) + broken_by_day(decided.after)


def broken_by_settlement(before: Day, fills: Fills, after: Day) -> list[str]:
    """Names of the laws that a settlement or the day after it breaks."""
    return _broken(SETTLEMENT_LAWS, before, fills, after) + broken_by_day(after)


def enforce(broken: list[str]) -> None:
    """Raise InvariantViolation naming every broken law."""
    if broken:
        raise InvariantViolation(", ".join(broken))


def _broken(laws: Iterable[Callable[..., Any]], *values: Any) -> list[str]:
    return [law.__name__ for law in laws if not _holds(law(*values))]


def _holds(verdict: Any) -> bool:
    return bool(verdict.all()) if hasattr(verdict, "all") else bool(verdict)
