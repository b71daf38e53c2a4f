"""What the demo shows: a live table on a terminal, plain rows elsewhere. Imports rich.

One row for each decision: how many orders are open and trade now, what the rounds of the exchange
changed, which rules cut children, the account's cash, how much of the day is filled.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from service.play.oms import Decided
from service.play.script import Json

COLUMNS = ("step", "time", "open", "sent", "rounds", "rules", "cash", "filled", "ms")
_WIDTHS = (7, 5, 4, 4, 24, 30, 16, 8, 6)
_LEFT = frozenset({"rounds", "rules"})


class Screen:
    """Shows decisions as they come; use it as a context manager."""

    def __init__(self, title: str, console: Console, *, live: bool) -> None:
        self._console = console
        self._table = Table(title=title, title_justify="left")
        for name in COLUMNS:
            self._table.add_column(name, justify="left" if name in _LEFT else "right")
        self._live = Live(self._table, console=console) if live else None
        self._title = title

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        else:
            self._write(self._title)
            self._write(_plain(COLUMNS))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, decided: Decided) -> None:
        """Add the row of one decision."""
        cells = row(decided)
        if self._live is not None:
            self._table.add_row(*cells)
            self._live.refresh()
        else:
            self._write(_plain(cells))

    def _write(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def row(decided: Decided) -> tuple[str, ...]:
    """One decision as cells of COLUMNS."""
    decision, state = decided.decision, decided.state
    orders = decision["orders"]
    return (
        f"{decision['step']}/{decision['steps']}",
        decision["as_of"][11:16],
        str(len(orders["cl_ord_id"])),
        str(sum(qty > 0 for qty in orders["child_qty"])),
        "fallback" if decision["fallback"] else rounds(decided.record, orders["cl_ord_id"]),
        rules(orders["reasons"]),
        f"{decision['cash']['cash_minor'] / 100:,.2f}",
        f"{filled_pct(state['orders']):.2f}%",
        f"{decided.ms:.1f}",
    )


def rounds(record: Json, open_orders: Sequence[str]) -> str:
    """The exchange: how many orders wish to trade in round 1, and how many each round changed."""
    exchange = [one["action"] for one in record["rounds"]]
    if not exchange or not open_orders:
        return "-"
    wanted = set(open_orders)
    at = [i for i, cl_ord_id in enumerate(record["cl_ord_id"]) if cl_ord_id in wanted]
    pairs = itertools.pairwise(exchange)
    changed = [sum(before[i] != after[i] for i in at) for before, after in pairs]
    wish = sum(exchange[0][i] > 0 for i in at)
    return " ".join([f"{wish} trade", *(f"> {count} changed" for count in changed)])


def rules(reasons: Sequence[Sequence[Json]]) -> str:
    """How many children each rule changed."""
    count = Counter(reason["code"] for listed in reasons for reason in listed)
    return " ".join(f"{code}:{number}" for code, number in sorted(count.items())) or "-"


def filled_pct(orders: Json) -> float:
    """Filled shares over ordered shares."""
    return 100.0 * sum(orders["cum_qty"]) / sum(orders["order_qty"])


def _plain(cells: Sequence[str]) -> str:
    aligned = (
        cell.ljust(width) if name in _LEFT else cell.rjust(width)
        for name, cell, width in zip(COLUMNS, cells, _WIDTHS, strict=True)
    )
    return " ".join(aligned).rstrip()
