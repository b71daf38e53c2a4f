"""Tables as the API wants them: headers ours or FIX, numbers that are numbers. Imports errors.

A column nobody knows is refused rather than dropped: a limit price under an unexpected header must
not become an order without a limit. Messages name the line or row, and the column as it was given.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from service.client.errors import BadInput

Cell = Callable[[Any], Any]
_WORDS = {"BUY": "BUY", "B": "BUY", "SELL": "SELL", "S": "SELL", "SELLSHORT": "SELL"}
# FIX 54; a short sale (5) is a sale like any other here, its marking is the sender's business
_SIDES = _WORDS | {"1": "BUY", "2": "SELL", "5": "SELL"}
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}(\.0*)?")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]*)?")
_EXACT_MAX = 2**53
"""Beyond it a float is no exact count."""
_SHOWN_MAX = 40


class Wrong(Exception):
    """What is wrong with one cell; the place is added by :class:`Table`."""


def text(value: Any) -> str:
    """An identifier or a word."""
    if not isinstance(value, str):
        raise Wrong("is no text; read it as text, so that leading zeros stay")
    if not (found := value.strip()):
        raise Wrong("is empty")
    return found


def side(value: Any) -> str:
    """BUY or SELL, from the word or from FIX 54: 1, 2, or 5 (sell short)."""
    word = text(str(value) if type(value) is int else value)
    found = _SIDES.get(word.upper().replace("_", "").replace(" ", ""))
    if found is None:
        raise Wrong("is no side; write BUY or SELL, or 1, 2 or 5 as FIX does")
    return found


def whole(value: Any) -> int:
    """A count of shares or steps: 500, and 500.0 of a float column."""
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return int(value.partition(".")[0])
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT_MAX:
        return int(value)
    raise Wrong("is no whole number")


def decimal(value: Any) -> float:
    """A price in currency units."""
    if isinstance(value, str) and not _DECIMAL.fullmatch(value.strip()):
        raise Wrong("is no number; write it as 12.34")
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise Wrong("is no number")
    return found


def maybe(cell: Cell) -> Cell:
    """The same, and None for an empty cell."""
    return lambda value: None if is_missing(value) else cell(value)


def is_missing(value: Any) -> bool:
    """Nothing, blanks, or the NaN, NaT or NA of a data frame."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return True
    return type(value).__name__ == "NAType" or bool(value != value)


@dataclass(frozen=True, slots=True)
class Layout:
    """One block of the API: how its cells are read, and which columns it needs.

    ``aliases`` are further names, written as :func:`plain_name` does; no two rows may have the same
    ``unique``.
    """

    cells: Mapping[str, Cell]
    needed: tuple[str, ...]
    unique: str
    aliases: Mapping[str, str]

    def ours(self, name: str) -> str | None:
        """The API's name of a header; None for an unknown one."""
        known = {plain_name(ours): ours for ours in self.cells} | dict(self.aliases)
        return known.get(plain_name(name))


def plain_name(name: str) -> str:
    """cl_ord_id, ClOrdID and 'Cl Ord ID' are one name."""
    return re.sub(r"[ _]", "", name).lower()


@dataclass(frozen=True, slots=True)
class Table:
    """A file or frame by columns: its ``header``, and ``column(at)`` for the cells below it.

    ``place(row)`` says where a row, counted from 0, is to be found.
    """

    source: str
    header: Sequence[str]
    column: Callable[[int], Sequence[Any]]
    place: Callable[[int], str]

    def read(self, layout: Layout, ignore: Collection[str]) -> dict[str, list[Any]]:
        """The block of the API that the table holds; raises BadInput for its first fault."""
        found: dict[str, list[Any]] = {}
        for at, name in self._names(layout, ignore).items():
            cells = self.column(at)
            # a column that somebody's export always has and that says nothing
            if name not in layout.needed and all(map(is_missing, cells)):
                continue
            found[name] = self._cells(self.header[at], cells, layout.cells[name])
            if name == layout.unique:
                self._refuse_repeated(self.header[at], found[name])
        return found

    def _names(self, layout: Layout, ignore: Collection[str]) -> dict[int, str]:
        """Place -> our name, of every column that is not ignored."""
        names: dict[int, str] = {}
        for at, given in enumerate(self.header):
            if given in ignore:
                continue
            if (ours := layout.ours(given)) is None:
                self._fail(f"column {given!r} is not known; rename it, or name it in ignore")
            if ours in names.values():
                self._fail(f"column {given!r} gives {ours} a second time")
            names[at] = ours
        if missing := [name for name in layout.needed if name not in names.values()]:
            held = ", ".join(self.header) or "none"
            self._fail(f"column {missing[0]} is missing; there are: {held}")
        return names

    def _cells(self, given: str, cells: Sequence[Any], cell: Cell) -> list[Any]:
        read: list[Any] = []
        for value in cells:
            try:
                read.append(cell(value))
            except Wrong as wrong:
                self._fail_at(given, len(read), f"{str(value)[:_SHOWN_MAX]!r} {wrong}")
        return read

    def _refuse_repeated(self, given: str, values: list[Any]) -> None:
        repeated = [value for value, count in Counter(values).items() if count > 1]
        if repeated:
            first = values.index(repeated[0])
            again = values.index(repeated[0], first + 1)
            told = f"{repeated[0]!r} occurs twice, first in {self.place(first)}"
            self._fail_at(given, again, told)

    def _fail_at(self, given: str, row: int, what: str) -> NoReturn:
        self._fail(f"{self.place(row)}, column {given!r}: {what}")

    def _fail(self, what: str) -> NoReturn:
        raise BadInput(f"{self.source}: {what}")
