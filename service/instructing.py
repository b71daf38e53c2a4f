"""What a manager changes during the day: cancel, pause, resume, amend, add.

Imports amending, ordering, opening, live, wire, errors and the core. An instruction is carried out
whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from service.amending import (
    Draft,
    Refusal,
    Refused,
    amend,
    cancel,
    draft_of,
    expect,
    named_orders,
    pause,
    raise_refused,
)
from service.core.contract import N_MAX
from service.core.day import admit, instruct
from service.core.orders import Orders, Style, plain_style
from service.errors import Code, Problem
from service.live import LiveDay, numbered
from service.opening import check_gross, check_holdings
from service.ordering import listed_orders
from service.parse import check_notional
from service.tally import widened
from service.wire import Instructions


def instructed(live: LiveDay, body: Instructions) -> tuple[LiveDay, np.ndarray]:
    """The day as instructed, and the numbers of the orders that were named; raises
    INSTRUCTIONS_REFUSED and leaves everything as it was."""
    draft = draft_of(live)
    expect(draft, body)
    for order in named_orders(draft, body.cancel):
        cancel(draft, order)
    for names, paused in ((body.pause, True), (body.resume, False)):
        for order in named_orders(draft, names):
            pause(draft, order, paused)
    for told in body.amend:
        for order in named_orders(draft, [told.cl_ord_id]):
            amend(draft, order, told)
    _check_new(draft, body)
    raise_refused(draft.refused)
    after = _changed(draft)
    if body.add is not None:
        after = _added(after, body)
    if body.add is not None or any(told.order_qty is not None for told in body.amend):
        _check_wanted(after)
    fresh = range(len(live.terms.symbols), len(after.terms.symbols))
    return after, np.array(sorted(draft.touched | set(fresh)), dtype=np.int64)


def _check_wanted(live: LiveDay) -> None:
    """What an opening would refuse is refused later too, and what no step could be taken with."""
    day = live.day
    wanted = np.maximum(day.target, day.cum_qty + day.working)
    check_gross(day.rules, day.orders, wanted)
    check_holdings(live.terms.holdings, live.terms.symbols, day.orders.side, wanted)
    px: dict[str, int] = {}
    for symbol, last in zip(live.terms.symbols, day.last_px.tolist(), strict=True):
        px[symbol] = max(px.get(symbol, 0), last)
    check_notional(day, np.array([px[symbol] for symbol in live.terms.symbols]))


def _check_new(draft: Draft, body: Instructions) -> None:
    if body.add is None:
        return
    known, n = draft.live.numbers, len(draft.live.numbers) + len(body.add.cl_ord_id)
    if n > N_MAX:
        raise Problem(Code.TOO_MANY_ORDERS, f"a day has at most {N_MAX} orders, these make {n}")
    draft.refused += [
        Refused(Refusal.ORDER_EXISTS, name) for name in body.add.cl_ord_id if name in known
    ]


def _changed(draft: Draft) -> LiveDay:
    live, touched = draft.live, sorted(draft.touched)
    style = None if _is_plain(draft.style) else Style(**draft.style)
    orders = replace(live.day.orders, **draft.orders, style=style)
    version = live.version.copy()
    version[touched] += 1
    return live.after(instruct(live.day, orders), version=version)


def _is_plain(style: Mapping[str, np.ndarray]) -> bool:
    plain = plain_style(style["urgency_pct"])
    return all(np.array_equal(column, getattr(plain, name)) for name, column in style.items())


def _added(live: LiveDay, body: Instructions) -> LiveDay:
    """The day with new orders behind those that it has; their windows begin now at the earliest."""
    columns, day, terms = body.add, live.day, live.terms
    if columns is None:
        return live
    steps, count = day.rules.steps, len(columns.cl_ord_id)
    listed = listed_orders(columns, body.reference, steps, first_step=day.step + 1)
    more = _as_known(live, listed.symbols, listed.orders)
    names = terms.cl_ord_ids + listed.cl_ord_ids
    terms = replace(terms, cl_ord_ids=names, symbols=terms.symbols + listed.symbols)
    wider = np.zeros((steps, count), dtype=np.bool_)
    return replace(
        live,
        terms=terms,
        day=admit(day, more),
        blocked=_longer(live.blocked, count, 0),
        sent=np.concatenate([live.sent, wider], axis=1),
        loosest_px=_longer(live.loosest_px, count, 0),
        version=_longer(live.version, count, 1),
        tally=widened(live.tally, count),
        numbers=numbered(names),
    )


def _as_known(live: LiveDay, symbols: tuple[str, ...], more: Orders) -> Orders:
    """New orders of a symbol that the day has share its reference: limits hold for them alike."""
    first: dict[str, int] = {}
    for number, symbol in enumerate(live.terms.symbols):
        first.setdefault(symbol, number)
    at = [first.get(symbol, -1) for symbol in symbols]
    known, held = np.array(at) >= 0, live.day.orders
    shared = {
        name: np.where(known, getattr(held, name)[..., at], getattr(more, name))
        for name in ("prev_close", "adv_qty", "vol_ppm", "profile_ppm")
    }
    return replace(more, **shared)


def _longer(column: np.ndarray, more: int, value: int) -> np.ndarray:
    return np.concatenate([column, np.full(more, value, dtype=column.dtype)])
