"""From the core to the wire: decisions, states and reports as JSON. Imports live, core and orjson.

Replies are columns too, one entry per order. Prices are decimal numbers, volumes and money
integers. What is rendered here is stored and answered byte for byte on every replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from service import worked
from service.atoms import AUCTIONS
from service.calendar import from_us
from service.core.alarms import Alarm, AlarmCode
from service.core.allocate import Decision
from service.core.day import Day, Status, Trading
from service.core.decide import Decided
from service.core.orders import BUY, CLOSING, OPENING
from service.core.policy import Rounds
from service.core.reasons import Reason
from service.core.units import PRICE_SCALE
from service.live import LiveDay
from service.shadow import Shadow
from service.tally import REASONS

_COLLARS = {Reason.COLLAR_CLOSE, Reason.COLLAR_ARRIVAL}
_PRICED = frozenset({Reason.LIMIT_PRICE, Reason.WOULD_PRICE, *_COLLARS})
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE

Json = dict[str, Any]


def dump(value: Json) -> bytes:
    """JSON bytes; NumPy arrays become lists."""
    return orjson.dumps(value, option=_OPTIONS)


def state(live: LiveDay, trading: Trading, shadows: Sequence[Shadow]) -> Json:
    """A day as GET answers it."""
    terms, day = live.terms, live.day
    everyone = np.arange(day.cum_qty.size)
    return {
        "account": terms.account,
        "currency": terms.currency,
        "minor_digits": len(str(PRICE_SCALE // day.rules.ticks_per_minor)) - 1,
        "status": day.status,
        "trading": trading,
        "policy": terms.policy,
        "model": terms.model,
        "fills": terms.fills,
        **worked.bounds(live),
        "step": day.step,
        "steps": day.rules.steps,
        "next_step": _next_step(day),
        "times": [from_us(moment) for moment in terms.times_us],
        "cash": cash(day),
        "conflicts": int(day.conflicts),
        "fallbacks": live.fallbacks,
        "alarms": live.alarms,
        "orders": order_columns(live, everyone) | _order_terms(live, everyone),
        "children": _children(live, set(everyone.tolist())),
        "shadows": [each.told() for each in shadows],
    }


def _next_step(day: Day) -> int | None:
    more = day.status is Status.OPEN and day.step < day.rules.steps
    return day.step + 1 if more else None


def cash(day: Day) -> Json:
    """The account in minor units."""
    return {
        "cash_minor": int(day.cash_minor),
        "reserved_minor": int(day.reserved_minor.sum()),
        "free_minor": int(day.free_cash_minor),
        "min_cash_minor": int(day.min_cash_minor),
    }


def order_columns(live: LiveDay, at: np.ndarray) -> Json:
    """The orders numbered ``at``, one column for each number."""
    day, terms = live.day, live.terms
    orders = day.orders
    numbers = at.tolist()
    return {
        "cl_ord_id": [terms.cl_ord_ids[i] for i in numbers],
        "symbol": [terms.symbols[i] for i in numbers],
        "side": ["BUY" if side == BUY else "SELL" for side in orders.side[at].tolist()],
        "order_qty": orders.order_qty[at],
        "cum_qty": day.cum_qty[at],
        "working_qty": day.working[at],
        "leaves_qty": (day.remaining + day.working)[at],
        "overfill_qty": day.overfill[at],
        "version": live.version[at],
    }


def _children(live: LiveDay, orders: set[int]) -> list[Json]:
    return [
        {
            "child_id": f"{live.terms.cl_ord_ids[child.order]}/{child.step}",
            "working_qty": child.open_qty,
            "protect_px": child.protect_px / PRICE_SCALE or None,
        }
        for child in live.children
        if child.order in orders
    ]


def decision(
    day_id: str, before: LiveDay, after: LiveDay, decided: Decided, alarms: Sequence[Alarm]
) -> Json:
    """The answer to one step: a child for every open order, and why."""
    seen, choice = decided.seen, decided.decision
    (at,) = np.nonzero((seen.remaining > 0) | (seen.working > 0))
    qty, px, ids = choice.child_qty[at], choice.protect_px[at], after.terms.cl_ord_ids
    numbers, suffix = at.tolist(), f"/{after.day.step}"
    sent = zip(numbers, qty.tolist(), strict=True)
    reasons = _reasons(choice, decided.failure)
    return {
        "day_id": day_id,
        "step": after.day.step,
        "steps": seen.rules.steps,
        "as_of": from_us(after.as_of_us),
        "policy": after.terms.policy,
        "model": after.terms.model,
        "fallback": decided.failure is not None,
        "fallback_reason": decided.failure,
        "trading": seen.trading,
        "cash_cut": bool(choice.cut),
        "cash": cash(after.day),
        "orders": order_columns(after, at)
        | {
            "child_id": [ids[i] + suffix if volume else None for i, volume in sent],
            "child_qty": qty,
            # a NaN is written as null: nothing protects the child
            "protect_px": np.where(px > 0, px / PRICE_SCALE, np.nan),
            "auction": _auctions(seen, at, qty),
            "reasons": [reasons.get(i, []) for i in numbers],
        },
        "alarms": alarm_rows(after, alarms),
    }


def _auctions(day: Day, at: np.ndarray, qty: np.ndarray) -> list[str | None]:
    """The auction that each child may go to: the opening one at the first step of the day, the
    closing one at its last."""
    style, step = day.orders.style, day.step + 1
    if style is None:
        return [None] * len(at)
    now = OPENING * (step == 1) + CLOSING * (step == day.rules.steps)
    bits = np.where(qty > 0, style.auction[at] & now, 0)
    return [AUCTIONS[bit] if bit else None for bit in bits.tolist()]


def _reasons(choice: Decision, failure: str | None) -> dict[int, list[Json]]:
    """Reason codes with their two numbers, by order number."""
    found: dict[int, list[Json]] = {}
    n = choice.child_qty.size
    for stage in choice.stages:
        (at,) = np.nonzero(stage.before != stage.after)
        if not at.size:
            continue
        scale = PRICE_SCALE if stage.reason in _PRICED else None
        observed, limit = (_numbers(v, at, scale) for v in (stage.observed, stage.limit))
        for i, o, bound in zip(at.tolist(), observed, limit, strict=True):
            found.setdefault(i, []).append({"code": stage.reason, "observed": o, "limit": bound})
    if failure is not None:
        row = {"code": Reason.FALLBACK, "observed": None, "limit": None}
        for i in range(n):
            found.setdefault(i, []).append(row)
    return found


def _numbers(values: np.ndarray | int, at: np.ndarray, scale: int | None) -> list[float]:
    """A stage's numbers at the orders ``at``: one for each order, or one for all of them."""
    if isinstance(values, int):
        return [values] * at.size
    scaled = values / scale if scale else values
    listed: list[float] = scaled.tolist() * at.size if scaled.size == 1 else scaled[at].tolist()
    return listed


def blocking(before: np.ndarray, decided: Decided) -> np.ndarray:
    """Number of the reason that kept each forced child below what remained, 0 for none.

    int64 ``[N]``; orders not yet forced keep their entry of ``before``.
    """
    seen, choice, step = decided.seen, decided.decision, decided.after.step
    # after its window an order has no child: what stopped its last one stays the reason
    forced = (step >= seen.force_step) & (step <= seen.orders.end_step) & (seen.remaining > 0)
    if not forced.any():
        return before
    last = np.zeros_like(before)
    for stage in choice.stages:
        last = np.where(stage.after < stage.before, REASONS.index(stage.reason) + 1, last)
    held_back = np.where(choice.child_qty < seen.remaining, last, 0)
    return np.where(forced, held_back, before)


def alarm_rows(live: LiveDay, alarms: Sequence[Alarm]) -> list[Json]:
    """Alarms with their two numbers."""
    return [
        {
            "code": alarm.code,
            "cl_ord_id": live.terms.cl_ord_ids[alarm.order] if alarm.order >= 0 else None,
            "exec_id": alarm.exec_id or None,
            "observed": _alarmed(alarm, alarm.observed),
            "limit": _alarmed(alarm, alarm.limit),
        }
        for alarm in alarms
    ]


def _alarmed(alarm: Alarm, number: int) -> float:
    return number / PRICE_SCALE if alarm.code is AlarmCode.PROTECT_BREACH else number


def bookings(
    live: LiveDay,
    exec_ids: Sequence[str],
    known: frozenset[str],
    alarms: Sequence[Alarm],
    named: np.ndarray,
) -> Json:
    """The answer to executions between steps; ``named`` are the orders that they speak of."""
    results = ["DUPLICATE" if exec_id in known else "BOOKED" for exec_id in exec_ids]
    return {
        "exec_id": list(exec_ids),
        "result": results,
        "cash": cash(live.day),
        "orders": order_columns(live, named),
        "alarms": alarm_rows(live, alarms),
    }


def instructions(day_id: str, instruction_id: str, live: LiveDay, named: np.ndarray) -> Json:
    """The answer to instructions: the orders ``named`` as they are now, and what of them works."""
    return {
        "day_id": day_id,
        "instruction_id": instruction_id,
        "next_step": _next_step(live.day),
        "cash": cash(live.day),
        "orders": order_columns(live, named) | _order_terms(live, named),
        # a cancelled order's children end when the broker says so
        "children": _children(live, set(named.tolist())),
    }


def _order_terms(live: LiveDay, at: np.ndarray) -> Json:
    """What holds for orders now; FIX OrdStatus (39) by name."""
    orders = live.day.orders
    return {
        "ord_status": [_ord_status(live, i) for i in at.tolist()],
        "canceled_qty": canceled_qty(live.day)[at],
        "limit_px": np.where(orders.limit_px[at] > 0, orders.limit_px[at] / PRICE_SCALE, np.nan),
        "start_step": orders.start_step[at],
        "end_step": orders.end_step[at],
        **worked.style_columns(orders, at),
    }


def canceled_qty(day: Day) -> np.ndarray:
    """Shares that were cancelled: of the order's quantity what is neither filled nor working."""
    return np.asarray(day.orders.order_qty - day.target)


def _ord_status(live: LiveDay, order: int) -> str:
    day, style = live.day, live.day.orders.style
    if style is not None and style.canceled[order]:
        return "PENDING_CANCEL" if day.working[order] else "CANCELED"
    if day.cum_qty[order] >= day.orders.order_qty[order]:
        return "FILLED"
    if day.status is Status.CLOSED or (
        day.step >= day.orders.end_step[order] and not day.working[order]
    ):
        return "DONE_FOR_DAY"
    if style is not None and style.paused[order]:
        return "SUSPENDED"
    return "PARTIALLY_FILLED" if day.cum_qty[order] else "NEW"


def rounds(recorded: Rounds | None) -> list[Json]:
    """The exchange round by round: each order's intended action and what it was chosen from."""
    if recorded is None:
        return []
    pairs = zip(recorded.actions, recorded.probabilities, strict=True)
    return [
        {
            "round": k,
            "action": np.ascontiguousarray(actions),
            "probability": np.ascontiguousarray(probability),
        }
        for k, (actions, probability) in enumerate(pairs, start=1)
    ]
