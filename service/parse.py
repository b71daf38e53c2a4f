"""From the wire to the core: snapshots and execution reports of a live day.

Imports columns, wire, live, errors and the core. Ranges are checked on whole arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.columns import SHOWN_MAX, refuse, same_length, ticks, unique, whole
from service.core.book import TRADES, UNDOES, Report
from service.core.day import Day
from service.core.limits import ORDER_NOTIONAL_MINOR_MAX
from service.core.market import Snapshot, mean_price, opening
from service.core.orders import SELL
from service.core.units import CASH_MINOR_MAX, PRICE_SCALE, PRICE_TICKS_MAX
from service.errors import Code, Problem
from service.live import LiveDay
from service.wire import Execution, SnapshotColumns

_PRICES = ("open", "high", "low", "close")
VOLUME_MAX = 2**40
"""Most shares of one bar."""


def snapshot(live: LiveDay, columns: SnapshotColumns) -> Snapshot:
    """One bar per order from one bar per symbol; before the first decision only opens count."""
    same_length("snapshot", columns, len(columns.symbols))
    at = _places(live, columns.symbols)
    o, h, lo, c = _prices(columns, at)
    wrong = (h < lo) | (o > h) | (o < lo) | (c > h) | (c < lo)
    refuse(Code.BAD_PRICE, wrong, "each bar needs low <= open, close <= high", at)
    volume = _volumes(columns.volume)[at]
    check_notional(live.day, h)
    halted = volume < 0
    if columns.status is not None:
        halted = np.array([status == "HALT" for status in columns.status])[at]
    if live.day.step == 0:
        return replace(opening(o), halted=halted)
    price = mean_price(o, h, lo, c)
    if columns.vwap is not None:
        price = ticks("snapshot.vwap", np.array(columns.vwap)[at], at)
        outside = (price < lo) | (price > h)
        refuse(Code.BAD_PRICE, outside, "each vwap must lie between low and high", at)
    return Snapshot(o, h, lo, c, price, volume, halted)


def _prices(columns: SnapshotColumns, at: np.ndarray) -> np.ndarray:
    """Open, high, low and close of every order in ticks, ``[4, N]``; raises BAD_PRICE."""
    four = [getattr(columns, name) for name in _PRICES]
    scaled = np.array(four)[:, at]
    # one look at all of them; a column is named only when one of its prices is wrong
    if (scaled >= 1 / PRICE_SCALE).all() and (scaled < PRICE_TICKS_MAX / PRICE_SCALE).all():
        return whole(scaled * PRICE_SCALE)
    pairs = zip(_PRICES, scaled, strict=True)
    return np.stack([ticks(f"snapshot.{name}", column, at) for name, column in pairs])


def _volumes(values: list[int]) -> np.ndarray:
    if values and not (0 <= min(values) and max(values) <= VOLUME_MAX):
        raise Problem(Code.BAD_VOLUME, f"each snapshot.volume must be 0 to {VOLUME_MAX} shares")
    return np.array(values, dtype=np.int64)


def _places(live: LiveDay, symbols: list[str]) -> np.ndarray:
    row = {symbol: i for i, symbol in enumerate(symbols)}
    if len(row) != len(symbols):
        raise Problem(Code.DUPLICATE_ID, "each symbol may occur once in snapshot.symbols")
    at = [row.get(symbol, -1) for symbol in live.terms.symbols]
    if -1 in at:
        missing = sorted({s for s, i in zip(live.terms.symbols, at, strict=True) if i < 0})
        raise Problem(
            Code.SYMBOL_MISSING,
            f"add a bar for {len(missing)} more symbol(s) of the day, see missing",
            missing=missing[:SHOWN_MAX],
        )
    return np.array(at)


def check_notional(day: Day, high: np.ndarray) -> None:
    """Orders, and all sales to come beside the cash, must stay in the range of exact arithmetic."""
    per_minor = day.rules.ticks_per_minor
    worth = day.target * high // per_minor
    refuse(
        Code.NOTIONAL_TOO_LARGE,
        worth > ORDER_NOTIONAL_MINOR_MAX,
        f"an order may be worth at most {ORDER_NOTIONAL_MINOR_MAX} minor units at its bar's high",
    )
    # what was sold is in the cash already
    leaves = (day.remaining + day.working) * (day.orders.side == SELL)
    sales = int((leaves * high // per_minor).sum())
    if int(day.cash_minor) + sales > CASH_MINOR_MAX:
        raise Problem(
            Code.NOTIONAL_TOO_LARGE,
            f"cash and all sales together may be worth at most {CASH_MINOR_MAX} minor units",
        )


@dataclass(frozen=True, slots=True)
class PastTrade:
    """A fill that was booked, and the exec_id of what took it back."""

    report: Report
    undone_by: str | None


def reports(
    live: LiveDay, executions: Sequence[Execution], past: Mapping[str, PastTrade]
) -> list[Report]:
    """Execution reports by order number; raises BAD_EXECUTION with the position.

    ``past`` are the fills that cancels and corrections may speak of, beside earlier ones of
    ``executions``.
    """
    unique("executions.exec_id", [execution.exec_id for execution in executions])
    listed, known = [], dict(past)
    for i, execution in enumerate(executions):
        report = _report(live, i, execution)
        if report.exec_type in UNDOES:
            report = replace(report, undone=_undone(i, execution, report, known))
        elif execution.exec_ref_id is not None:
            raise bad_execution(i, f"{report.exec_type} must not have exec_ref_id")
        if report.exec_type in TRADES:
            known.setdefault(report.exec_id, PastTrade(report, None))
        listed.append(report)
    if sum(report.qty * report.px for report in listed) > _ticks_max(live):
        raise Problem(
            Code.NOTIONAL_TOO_LARGE,
            f"the fills of one request may be worth at most {CASH_MINOR_MAX} minor units",
        )
    return listed


def _undone(
    index: int, execution: Execution, report: Report, known: dict[str, PastTrade]
) -> Report:
    """The fill that a report takes back; from now on nothing else can."""
    ref = execution.exec_ref_id
    if ref is None:
        raise bad_execution(index, f"{report.exec_type} needs exec_ref_id, the fill it takes back")
    past = known.get(ref)
    if past is None or past.report.order != report.order:
        raise bad_execution(index, "exec_ref_id is no fill of this order")
    if past.report.step != report.step:
        raise bad_execution(index, "name the order or the child as the fill did")
    if past.undone_by not in (None, report.exec_id):
        raise bad_execution(index, "that fill was taken back before: name what replaced it")
    known[ref] = replace(past, undone_by=report.exec_id)
    return past.report


def _ticks_max(live: LiveDay) -> int:
    return CASH_MINOR_MAX * live.day.rules.ticks_per_minor


def _report(live: LiveDay, index: int, execution: Execution) -> Report:
    cl_ord_id, step = _named(index, execution)
    order = live.numbers.get(cl_ord_id)
    if order is None:
        raise bad_execution(index, "no such order in this day")
    if step is not None and not 1 <= step <= live.day.step:
        raise bad_execution(index, f"no such child: {live.day.step} steps have been decided")
    if step is not None and not live.sent[step - 1, order]:
        raise bad_execution(index, "no such child: that step sent nothing for this order")
    trade = execution.exec_type in TRADES
    if trade == (execution.last_qty is None) or trade == (execution.last_px is None):
        needs = "needs" if trade else "must not have"
        raise bad_execution(index, f"{execution.exec_type} {needs} last_qty and last_px")
    qty, px = execution.last_qty or 0, 0
    if execution.last_px is not None:
        px = int(ticks(f"executions.{index}.last_px", np.array([execution.last_px]))[0])
    if qty * px > _ticks_max(live):
        raise bad_execution(index, f"one fill may be worth at most {CASH_MINOR_MAX} minor units")
    return Report(execution.exec_id, order, step, execution.exec_type, qty, px)


def orders_named(live: LiveDay, executions: Sequence[Execution]) -> np.ndarray:
    """Numbers of the orders that executions speak of, each once, in order."""
    names = {_named(i, execution)[0] for i, execution in enumerate(executions)}
    return np.array(sorted(live.numbers[name] for name in names), dtype=np.int64)


def _named(index: int, execution: Execution) -> tuple[str, int | None]:
    """The order that a report names, and the child's step if it names a child."""
    if (execution.cl_ord_id is None) == (execution.child_id is None):
        raise bad_execution(index, "send either cl_ord_id or child_id")
    if execution.child_id is None:
        return execution.cl_ord_id or "", None
    cl_ord_id, _, step = execution.child_id.rpartition("/")
    return cl_ord_id, int(step)


def bad_execution(index: int, why: str) -> Problem:
    """A refusal of one execution: nothing of the request was booked."""
    return Problem(Code.BAD_EXECUTION, why, errors=[(f"executions.{index}", why)])
