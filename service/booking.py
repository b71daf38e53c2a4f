"""What happened to the children of a live day: paper fills, or executions that the caller reports.

Imports parse, live, wire, errors and the core. Everything is booked or, if one report is wrong,
nothing; the laws of settlement are enforced before anything is answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import orjson

from service import parse
from service.core import laws
from service.core.alarms import Alarm
from service.core.book import (
    TRADES,
    ExecType,
    Report,
    ReportRefused,
    book_reports,
    settlement_alarms,
)
from service.core.day import Day, settle
from service.core.fills import paper_fills
from service.core.market import Fills, Snapshot
from service.core.units import CASH_MINOR_MAX
from service.errors import Code, Problem
from service.live import LiveDay
from service.wire import Execution

Happened = tuple[LiveDay, tuple[Alarm, ...], dict[str, bytes]]
"""The day afterwards, its alarms, and the store fields that remember the executions."""


def exec_field(exec_id: str) -> str:
    """Store field that remembers a booked execution."""
    return f"exec:{exec_id}"


def happened(
    live: LiveDay,
    snapshot: Snapshot | None,
    told: Sequence[Execution],
    known: Mapping[str, bytes],
) -> Happened:
    """The day after the last interval: paper fills, or what the caller tells."""
    if not live.paper or told:
        return reported(live, told, known)
    if snapshot is None or live.day.step == 0:
        return live, (), {}
    return live.after(_settled(live.day, paper_fills(live.day, snapshot))), (), {}


def reported(live: LiveDay, told: Sequence[Execution], known: Mapping[str, bytes]) -> Happened:
    """The day after what the caller tells; raises BAD_EXECUTION and the like, booking nothing."""
    if live.paper and told:
        raise Problem(Code.PAPER_DAY, "open the day with fills: reported to send executions")
    if not told:
        return live, (), {}
    past = {exec_id: _Content(*orjson.loads(held)) for exec_id, held in known.items()}
    listed = parse.reports(live, told, _past_trades(past))
    fresh = [(i, report) for i, report in enumerate(listed) if _is_new(i, report, past)]
    try:
        news = [report for _, report in fresh]
        booked = book_reports(live.day, live.children, news, live.loosest_px)
    except ReportRefused as refused:
        raise parse.bad_execution(fresh[refused.index][0], refused.why) from None
    _check_cash(live.day, booked.fills)
    day = _settled(live.day, booked.fills, booked.breached)
    alarms = (*booked.alarms, *settlement_alarms(live.day, day))
    after = live.after(day, children=booked.children, alarms=live.alarms + len(alarms))
    enforce_book(after)
    return after, alarms, _remembered(news, past)


def _past_trades(past: Mapping[str, _Content]) -> dict[str, parse.PastTrade]:
    """The fills among the executions that were booked before, by exec_id."""
    return {
        exec_id: parse.PastTrade(
            Report(exec_id, c.order, c.step, ExecType(c.exec_type), c.qty, c.px), c.undone_by
        )
        for exec_id, c in past.items()
        if c.exec_type in TRADES
    }


def _remembered(news: Sequence[Report], past: Mapping[str, _Content]) -> dict[str, bytes]:
    """The store fields of new executions, and of the fills that they undid."""
    changed: dict[str, _Content] = {}
    for report in news:
        changed[report.exec_id] = _content(report)
        if report.undone:
            ref = report.undone.exec_id
            before = changed.get(ref) or past[ref]
            changed[ref] = before._replace(undone_by=report.exec_id)
    return {exec_field(exec_id): orjson.dumps([*content]) for exec_id, content in changed.items()}


def enforce_book(live: LiveDay) -> None:
    """Raise InvariantViolation unless the book's children are what the day has working."""
    if not live.paper and not laws.book_matches_working(live.day, live.children):
        laws.enforce([laws.book_matches_working.__name__])


class _Content(NamedTuple):
    """What the store keeps of an execution."""

    order: int
    step: int | None
    exec_type: str
    qty: int
    px: int
    undoes: str | None
    undone_by: str | None


def _is_new(index: int, report: Report, past: Mapping[str, _Content]) -> bool:
    content = past.get(report.exec_id)
    if content is not None and content._replace(undone_by=None) != _content(report):
        raise Problem(
            Code.EXEC_ID_REUSED,
            "send a new exec_id for a new execution",
            errors=[(f"executions.{index}", "this exec_id was booked with other content")],
        )
    return content is None


def _content(report: Report) -> _Content:
    undoes = report.undone.exec_id if report.undone else None
    kind = report.exec_type.value
    return _Content(report.order, report.step, kind, report.qty, report.px, undoes, None)


def _check_cash(day: Day, fills: Fills) -> None:
    """Refuse facts that no arithmetic of ours can hold, before they become a broken law."""
    moved = sum(abs(int(amount)) for amount in fills.cash_minor)
    worth = int((day.cum_notional + fills.notional).max()) // day.rules.ticks_per_minor
    if abs(int(day.cash_minor)) + moved > CASH_MINOR_MAX or worth > CASH_MINOR_MAX:
        raise Problem(
            Code.NOTIONAL_TOO_LARGE,
            "cash and these fills, and all fills of an order, may be worth at most "
            f"{CASH_MINOR_MAX} minor units",
        )


def _settled(day: Day, fills: Fills, breached: bool = False) -> Day:
    after = settle(day, fills)
    # cash below its reserves is a broken promise of the market's, found out now
    broke = breached or int(after.free_cash_minor) < 0
    after = settle(day, fills, np.bool_(broke)) if broke else after
    laws.enforce(laws.broken_by_settlement(day, fills, after))
    return after
