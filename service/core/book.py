"""The children at the market and what the broker reports of them.

Imports alarms, day, market, orders and units.

A day counts working volume per order; the book remembers which child it belongs to, so that a
report for one child ends that child only. Reports are facts: a late fill, or one beyond what is
working, is booked and alarmed. Only a report that contradicts itself or the book is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from service.core.alarms import Alarm, AlarmCode
from service.core.day import Day
from service.core.market import Fills
from service.core.orders import BUY
from service.core.units import buy_cost_minor, ceil_div, sell_proceeds_minor


class ExecType(StrEnum):
    """FIX ExecType (150) of a report. TRADE is a fill of any size; FILL completes its child;
    TRADE_CANCEL takes an earlier fill back (a bust), TRADE_CORRECT replaces it by another."""

    PARTIAL_FILL = "PARTIAL_FILL"
    FILL = "FILL"
    TRADE = "TRADE"
    TRADE_CORRECT = "TRADE_CORRECT"
    TRADE_CANCEL = "TRADE_CANCEL"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    DONE_FOR_DAY = "DONE_FOR_DAY"


TRADES = frozenset({ExecType.PARTIAL_FILL, ExecType.FILL, ExecType.TRADE, ExecType.TRADE_CORRECT})
"""The types that carry a fill."""
UNDOES = frozenset({ExecType.TRADE_CORRECT, ExecType.TRADE_CANCEL})
"""The types that take an earlier fill back; what neither trades nor undoes ends its child."""


@dataclass(frozen=True, slots=True)
class Child:
    """Volume at the market: ``open_qty`` of ``sent_qty`` shares of order number ``order``."""

    order: int
    step: int
    open_qty: int
    protect_px: int
    sent_qty: int


@dataclass(frozen=True, slots=True)
class Report:
    """One execution report; ``step`` None where the caller named the order, not the child.

    ``undone`` is the fill that a cancel or a correction takes back.
    """

    exec_id: str
    order: int
    step: int | None
    exec_type: ExecType
    qty: int
    px: int
    undone: Report | None = None


class ReportRefused(Exception):
    """Report number ``index`` contradicts itself or the book."""

    def __init__(self, index: int, why: str) -> None:
        super().__init__(why)
        self.index = index
        self.why = why


@dataclass(frozen=True, slots=True)
class Booked:
    """What reports amount to: fills to settle, the children left, alarms, a broken promise."""

    fills: Fills
    children: tuple[Child, ...]
    alarms: tuple[Alarm, ...]
    breached: bool


@dataclass(slots=True)
class _Ledger:
    """Sums per order while reports are read one by one."""

    children: list[Child]
    qty: list[int]
    notional: list[int]
    cash_minor: list[int]
    beyond_qty: list[int]
    ended_qty: list[int]
    alarms: list[Alarm] = field(default_factory=list)
    breached: bool = False


def send(
    children: Iterable[Child], step: int, qty: np.ndarray, px: np.ndarray
) -> tuple[Child, ...]:
    """The book after decision ``step`` sent ``qty`` ``[N]`` shares under ``px`` ``[N]`` ticks."""
    (sent,) = np.nonzero(qty)
    fresh = (Child(int(i), step, int(qty[i]), int(px[i]), int(qty[i])) for i in sent)
    return (*children, *fresh)


def book_reports(
    day: Day, children: Sequence[Child], reports: Sequence[Report], loosest_px: np.ndarray
) -> Booked:
    """Book ``reports`` in their order; raises ReportRefused and books nothing if one is wrong.

    ``loosest_px`` (ticks ``[N]``) is the weakest protection that any child of an order had: a late
    fill may be of any of them.
    """
    n = day.cum_qty.shape[-1]
    ledger = _Ledger(list(children), [0] * n, [0] * n, [0] * n, [0] * n, [0] * n)
    for index, report in enumerate(reports):
        again = _take_back(day, ledger, report.undone) if report.undone else 0
        named = _named_children(ledger.children, report)
        if report.exec_type in TRADES:
            _book_trade(day, ledger, index, report, named, int(loosest_px[report.order]))
        elif report.undone:
            _alarm(ledger, AlarmCode.TRADE_CANCELED, report, report.undone.qty, again)
        else:
            _book_end(ledger, report, named)
    return _booked(day, ledger)


def _take_back(day: Day, ledger: _Ledger, undone: Report) -> int:
    """Undo a fill; answers how many shares are working again.

    They are where a child of theirs is open, up to what it was sent with; the rest is remaining.
    """
    _add_money(day, ledger, undone, -1)
    left = undone.qty
    for i in _named_children(ledger.children, undone):
        child = ledger.children[i]
        back = min(left, child.sent_qty - child.open_qty)
        ledger.children[i] = replace(child, open_qty=child.open_qty + back)
        left -= back
    ledger.beyond_qty[undone.order] -= left
    return undone.qty - left


def _named_children(children: list[Child], report: Report) -> list[int]:
    """Positions of the children that a report speaks of, oldest first."""
    return [
        i
        for i, child in enumerate(children)
        if child.order == report.order and report.step in (None, child.step) and child.open_qty
    ]


def _book_trade(
    day: Day, ledger: _Ledger, index: int, report: Report, named: list[int], loosest_px: int
) -> None:
    working = sum(ledger.children[i].open_qty for i in named)
    if report.exec_type is ExecType.FILL and report.qty < working:
        raise ReportRefused(
            index,
            f"FILL completes its child, but {working} shares are working and {report.qty} are "
            "reported; send PARTIAL_FILL or TRADE, or CANCELED for the rest first",
        )
    # a child cannot have filled beyond its protection while another could have
    named.sort(key=lambda i: _is_worse(day, report, ledger.children[i].protect_px))
    left, protect = report.qty, loosest_px
    for i in named:
        child = ledger.children[i]
        taken = min(left, child.open_qty)
        protect = child.protect_px if taken else protect
        ledger.children[i] = replace(child, open_qty=child.open_qty - taken)
        left -= taken
    if _is_worse(day, report, protect):
        ledger.breached = True
        _alarm(ledger, AlarmCode.PROTECT_BREACH, report, report.px, protect)
    _add_money(day, ledger, report, 1)
    ledger.beyond_qty[report.order] += left
    if report.undone:
        _alarm(ledger, AlarmCode.TRADE_CORRECTED, report, report.qty, report.undone.qty)
    elif left:
        _alarm(ledger, AlarmCode.LATE_FILL, report, report.qty, working)


def _is_worse(day: Day, report: Report, protect: int) -> bool:
    """Whether the fill's price is worse than ``protect`` ticks (0: any price will do)."""
    if int(day.orders.side[report.order]) == BUY:
        return 0 < protect < report.px
    return report.px < protect


def _add_money(day: Day, ledger: _Ledger, report: Report, sign: int) -> None:
    """What a fill moves, or with ``sign`` -1 what its bust moves back."""
    order, ticks = report.order, day.rules.ticks_per_minor
    buy = int(day.orders.side[order]) == BUY
    money = buy_cost_minor if buy else sell_proceeds_minor
    ledger.qty[order] += sign * report.qty
    ledger.notional[order] += sign * report.qty * report.px
    ledger.cash_minor[order] += sign * money(report.qty, report.px, ticks)


def _book_end(ledger: _Ledger, report: Report, named: list[int]) -> None:
    if not named:
        _alarm(ledger, AlarmCode.NOTHING_WORKING, report, report.step or 0, 0)
    for i in named:
        ledger.ended_qty[report.order] += ledger.children[i].open_qty
        ledger.children[i] = replace(ledger.children[i], open_qty=0)


def _alarm(ledger: _Ledger, code: AlarmCode, report: Report, observed: int, limit: int) -> None:
    ledger.alarms.append(Alarm(code, report.order, report.exec_id, observed, limit))


def _booked(day: Day, ledger: _Ledger) -> Booked:
    still = tuple(child for child in ledger.children if child.open_qty)
    sums = (ledger.qty, ledger.notional, ledger.cash_minor, ledger.beyond_qty, ledger.ended_qty)
    qty, notional, cash, beyond, ended = (np.array(column, dtype=np.int64) for column in sums)
    fills = Fills(qty, notional, cash, beyond, ended, reserves(day, still))
    return Booked(fills, still, tuple(ledger.alarms), ledger.breached)


def reserves(day: Day, children: Iterable[Child]) -> np.ndarray:
    """Cash reserved by the working buys among ``children``, minor units; int64 ``[N]``."""
    reserved, ticks = np.zeros(day.cum_qty.shape, dtype=np.int64), day.rules.ticks_per_minor
    for child in children:
        if day.orders.side[child.order] == BUY:
            reserved[child.order] += child.open_qty * ceil_div(child.protect_px, ticks)
    return reserved


def settlement_alarms(before: Day, after: Day) -> tuple[Alarm, ...]:
    """Alarms that only the settled day shows: targets passed and cash below its reserves."""
    passed = np.nonzero((after.overfill > 0) & (after.overfill > before.overfill))[0]
    held, target = after.cum_qty + after.working, after.orders.order_qty
    alarms = [Alarm(AlarmCode.OVERFILL, int(i), "", int(held[i]), int(target[i])) for i in passed]
    free = int(after.free_cash_minor)
    if free < 0 and free < int(before.free_cash_minor):
        alarms.append(Alarm(AlarmCode.CASH_BREACH, -1, "", free, 0))
    floor = after.rules.cash_floor_minor
    if 0 <= free < floor and free < int(before.free_cash_minor):
        alarms.append(Alarm(AlarmCode.CASH_FLOOR, -1, "", free, floor))
    return tuple(alarms)
