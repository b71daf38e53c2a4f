"""Orders while they are changed: cancel, pause, resume, amend, and what stands in the way.

Imports ordering, live, wire, errors and the core. A draft collects every refusal of a body, with
the numbers compared; nothing of it reaches the day unless there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from service.columns import unique
from service.core.limits import ORDER_NOTIONAL_MINOR_MAX
from service.core.orders import BUY, Style, plain_style
from service.errors import Code, Problem
from service.live import LiveDay
from service.ordering import STYLE_FIELDS, STYLES, prices, style_column
from service.wire import Amend, Instructions


class Refusal(StrEnum):
    """Why an order cannot be instructed so; REFUSALS says which two numbers were compared."""

    NO_SUCH_ORDER = "NO_SUCH_ORDER"
    ORDER_EXISTS = "ORDER_EXISTS"
    VERSION_MOVED = "VERSION_MOVED"
    ORDER_CANCELED = "ORDER_CANCELED"
    BELOW_DONE = "BELOW_DONE"
    WINDOW_OVER = "WINDOW_OVER"
    WINDOW_STARTED = "WINDOW_STARTED"
    BAD_WINDOW = "BAD_WINDOW"
    NOT_IN_LOTS = "NOT_IN_LOTS"
    TOO_LARGE = "TOO_LARGE"
    BELOW_MIN_QTY = "BELOW_MIN_QTY"
    PARTICIPATION_CROSSED = "PARTICIPATION_CROSSED"


REFUSALS = {
    Refusal.NO_SUCH_ORDER: "no numbers: the day has no order of this cl_ord_id",
    Refusal.ORDER_EXISTS: "no numbers: a cl_ord_id names one order for the whole day",
    Refusal.VERSION_MOVED: "the order's version, the expected one",
    Refusal.ORDER_CANCELED: "no numbers: a cancelled order stays so; add another",
    Refusal.BELOW_DONE: "the new quantity, shares filled and working",
    Refusal.WINDOW_OVER: "decisions taken, the order's end_step",
    Refusal.WINDOW_STARTED: "decisions taken, the order's start_step",
    Refusal.BAD_WINDOW: "the new end_step, the earliest or latest that is possible",
    Refusal.NOT_IN_LOTS: "the new quantity, the order's lot_size",
    Refusal.TOO_LARGE: "the order's worth at the last price, the most (minor units)",
    Refusal.BELOW_MIN_QTY: "the order's quantity, its min_qty",
    Refusal.PARTICIPATION_CROSSED: "participation_ppm_min, participation_ppm_max",
}
"""The two numbers of each refusal, in the order (observed, limit)."""


AMENDED = ("order_qty", "limit_px", "start_step", "end_step", "live")
"""Columns of the core's Orders that instructions change."""


@dataclass(frozen=True, slots=True)
class Refused:
    """One order's refusal."""

    code: Refusal
    cl_ord_id: str
    observed: int | None = None
    limit: int | None = None


@dataclass(slots=True)
class Draft:
    """The columns of a day's orders while they are changed; ``touched`` are order numbers."""

    live: LiveDay
    orders: dict[str, np.ndarray]
    style: dict[str, np.ndarray]
    touched: set[int] = field(default_factory=set)
    refused: list[Refused] = field(default_factory=list)

    def refuse(self, code: Refusal, order: int, *numbers: int) -> None:
        """Note why an order cannot be instructed so, with the two numbers if there are any."""
        name = self.live.terms.cl_ord_ids[order]
        self.refused.append(Refused(code, name, *map(int, numbers)))


def draft_of(live: LiveDay) -> Draft:
    """The columns of a day as they are."""
    orders = live.day.orders
    style = orders.style or plain_style(orders.side)
    columns = {name: getattr(orders, name).copy() for name in AMENDED}
    styles = {name: getattr(style, name).copy() for name in Style.__dataclass_fields__}
    return Draft(live, columns, styles)


def expect(draft: Draft, body: Instructions) -> None:
    """Each order once in a body, in the version that its sender knows."""
    lists = (body.cancel, body.pause, body.resume, [amend.cl_ord_id for amend in body.amend])
    unique("cl_ord_id", [name for names in lists if names != "ALL" for name in names])
    for name, version in body.expected_version.items():
        for order in named_orders(draft, [name]):
            held = int(draft.live.version[order])
            if held != version:
                draft.refuse(Refusal.VERSION_MOVED, order, held, version)


def named_orders(draft: Draft, names: Sequence[str] | str) -> list[int]:
    """Order numbers; for ALL those that still want something or have it at the market."""
    if names == "ALL":
        (active,) = np.nonzero(draft.live.day.remaining + draft.live.day.working > 0)
        return [int(order) for order in active if not draft.style["canceled"][order]]
    known = draft.live.numbers
    draft.refused += [Refused(Refusal.NO_SUCH_ORDER, name) for name in names if name not in known]
    return [known[name] for name in names if name in known]


def _is_open(draft: Draft, order: int) -> bool:
    """Whether an order can be instructed at all; notes why not."""
    draft.touched.add(order)
    if draft.style["canceled"][order]:
        draft.refuse(Refusal.ORDER_CANCELED, order)
        return False
    return True


def cancel(draft: Draft, order: int) -> None:
    """Nothing more is sent; what works at the market stays there until it is reported.

    To cancel twice is to cancel once: nothing may stand in the way of whoever stops trading.
    """
    if draft.style["canceled"][order]:
        return
    draft.touched.add(order)
    day, columns = draft.live.day, draft.orders
    draft.style["canceled"][order] = True
    columns["live"][order] = day.cum_qty[order] + day.working[order] > 0
    if columns["start_step"][order] <= day.step:
        columns["end_step"][order] = min(day.step, int(columns["end_step"][order]))


def pause(draft: Draft, order: int, paused: bool) -> None:
    """Send nothing of an order until it is resumed."""
    if _is_open(draft, order):
        draft.style["paused"][order] = paused


def amend(draft: Draft, order: int, told: Amend) -> None:
    """New terms of an order from the next decision on."""
    day, columns = draft.live.day, draft.orders
    if not _is_open(draft, order):
        return
    end = int(columns["end_step"][order])
    if day.step > end:  # its tape has ended
        draft.refuse(Refusal.WINDOW_OVER, order, day.step, end)
        return
    _amend_window(draft, order, told)
    if told.order_qty is not None:
        _amend_qty(draft, order, told.order_qty)
    if "limit_px" in told.model_fields_set:
        columns["limit_px"][order] = prices("limit_px", [told.limit_px])[0]
    for name in STYLES:
        if name in told.model_fields_set:
            column = style_column(name, [getattr(told, name)])
            draft.style[STYLE_FIELDS.get(name, name)][order] = column[0]
    _check_style(draft, order)


def _check_style(draft: Draft, order: int) -> None:
    qty, style = int(draft.orders["order_qty"][order]), draft.style
    least, most = (int(style[f"participation_ppm_{end}"][order]) for end in ("min", "max"))
    if int(style["min_qty"][order]) > qty:
        draft.refuse(Refusal.BELOW_MIN_QTY, order, qty, style["min_qty"][order])
    if 0 < most < least:
        draft.refuse(Refusal.PARTICIPATION_CROSSED, order, least, most)


def _amend_window(draft: Draft, order: int, amend: Amend) -> None:
    columns, day = draft.orders, draft.live.day
    if amend.start_step is not None:
        start = int(columns["start_step"][order])
        if start <= day.step:
            draft.refuse(Refusal.WINDOW_STARTED, order, day.step, start)
            return
        columns["start_step"][order] = max(amend.start_step, day.step + 1)
    if amend.end_step is not None:
        columns["end_step"][order] = amend.end_step
    # to end with a step that is decided would skip the forced end: that is what cancel is for
    first = max(int(columns["start_step"][order]), day.step + (amend.end_step is not None))
    end, last = int(columns["end_step"][order]), day.rules.steps
    if not first <= end <= last:
        draft.refuse(Refusal.BAD_WINDOW, order, end, first if end < first else last)


def _amend_qty(draft: Draft, order: int, qty: int) -> None:
    day = draft.live.day
    done, lot = int(day.cum_qty[order] + day.working[order]), int(day.orders.lot[order])
    if qty < done:
        draft.refuse(Refusal.BELOW_DONE, order, qty, done)
    if int(day.orders.side[order]) == BUY and qty % lot:
        draft.refuse(Refusal.NOT_IN_LOTS, order, qty, lot)
    worth = qty * int(day.last_px[order]) // day.rules.ticks_per_minor
    if worth > ORDER_NOTIONAL_MINOR_MAX:
        draft.refuse(Refusal.TOO_LARGE, order, worth, ORDER_NOTIONAL_MINOR_MAX)
    draft.orders["order_qty"][order] = qty


def raise_refused(refused: Sequence[Refused]) -> None:
    """Raise INSTRUCTIONS_REFUSED naming all of them."""
    if refused:
        told = [
            {"code": r.code, "cl_ord_id": r.cl_ord_id, "observed": r.observed, "limit": r.limit}
            for r in refused
        ]
        raise Problem(
            Code.INSTRUCTIONS_REFUSED,
            f"{len(told)} refusal(s), nothing was changed: see refused",
            refused=told,
        )
