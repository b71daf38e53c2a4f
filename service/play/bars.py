"""Days of real bars, read from Parquet files. The only module that imports pyarrow.

A file has the columns symbol, ts, open, high, low, close, volume, and optionally vwap and filled.
``ts`` is the exchange-local time, without a time zone, at which a bar STARTS; ``filled`` marks rows
that only repeat the last close because nothing traded. Only symbols that have every bar of a day
are part of that day, and every error names the file and what to change in it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from service.play.day_bars import PRICES, BarsError, DayBars, Floats, Ints, Sheet, merge

__all__ = ["BarsError", "DayBars", "days", "merge", "read_day", "read_days"]

_NEEDED = ("symbol", "ts", *PRICES, "volume")
_OPTIONAL = ("vwap", "filled")
_MINUTES = 1_440
_MINUTE_US = 60_000_000
_DAY_US = _MINUTES * _MINUTE_US
_EPOCH = dt.date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of a file as columns ``[R]``; ``code`` indexes ``names``, which are sorted."""

    path: Path
    names: tuple[str, ...]
    code: Ints
    day: Ints
    minute: Ints
    columns: dict[str, Floats]

    def chosen(self, rows: npt.NDArray[Any]) -> _Rows:
        """The rows that a mask or an index array ``rows`` picks."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        code, day, minute = self.code[rows], self.day[rows], self.minute[rows]
        return _Rows(self.path, self.names, code, day, minute, columns)


def days(path: str | Path) -> list[str]:
    """The dates in the file, ascending, as 'YYYY-MM-DD'."""
    path = Path(path)
    _columns(path)
    moments = _moments(path, _table(path, ["ts"]))
    return [_date(int(day)) for day in np.unique(moments // _DAY_US)]


def read_day(path: str | Path, date: str | None = None) -> DayBars:
    """The bars of ``date`` ('YYYY-MM-DD'), or of the file's last day."""
    return read_days(path, [date or days(path)[-1]])[0]


def read_days(
    path: str | Path, dates: Sequence[str], symbols: Sequence[str] | None = None
) -> list[DayBars]:
    """The bars of each of ``dates`` in their order, of all symbols or only of ``symbols``."""
    path, wanted = Path(path), [_day_number(date) for date in dates]
    if not wanted:
        return []
    rows = _read(path, min(wanted), max(wanted))
    if symbols is not None:
        rows = rows.chosen(np.isin(np.array(rows.names), list(symbols))[rows.code])
    order = np.argsort((rows.day - min(wanted)).astype(np.int32), kind="stable")
    ranked = rows.day[order]
    found: list[DayBars] = []
    for day in wanted:
        first, past = np.searchsorted(ranked, [day, day + 1])
        if first == past:
            _no_bars(path, day, symbols)
        found.append(_assemble(rows.chosen(order[first:past])))
    return found


def _columns(path: Path) -> list[str]:
    """The columns to read: all needed ones, and the optional ones that the file has."""
    if not path.is_file():
        raise BarsError(f"{path} does not exist; give the path of a Parquet file of bars")
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise BarsError(f"{path} is not a Parquet file; convert it ({error})") from error
    missing = [name for name in _NEEDED if name not in schema.names]
    if missing:
        named = ", ".join(schema.names)
        raise BarsError(f"{path} lacks the columns {', '.join(missing)}; it has {named}")
    kind = schema.field("ts").type
    if not pa.types.is_timestamp(kind) or kind.tz is not None:
        raise BarsError(f"{path}: ts is {kind}; store exchange-local timestamps without time zone")
    return [*_NEEDED, *(name for name in _OPTIONAL if name in schema.names)]


def _table(path: Path, columns: list[str], first: int = 0, last: int | None = None) -> Any:
    """The named columns of the file, of the days ``first..last`` when given."""
    chosen = None
    if last is not None:
        epoch = dt.datetime.combine(_EPOCH, dt.time())
        start, past = epoch + dt.timedelta(days=first), epoch + dt.timedelta(days=last + 1)
        chosen = [("ts", ">=", start), ("ts", "<", past)]
    try:
        return pq.read_table(path, columns=columns, filters=chosen, read_dictionary=["symbol"])
    except (pa.ArrowException, OSError) as error:
        raise BarsError(f"{path} cannot be read; write it again ({error})") from error


def _moments(path: Path, table: Any) -> Ints:
    """The column ts in microseconds since 1970, local; int64 ``[R]``."""
    column = table.column("ts")
    if not len(column):
        raise BarsError(f"{path} holds no rows; give a file with at least one day of bars")
    if column.null_count:
        raise BarsError(f"{path}: {column.null_count} rows have no ts; complete or drop them")
    micros = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    return np.asarray(micros.to_numpy(), dtype=np.int64)


def _read(path: Path, first: int, last: int) -> _Rows:
    """All rows of the days ``first..last``."""
    columns = _columns(path)
    table = _table(path, columns, first, last)
    if not table.num_rows:
        _no_bars(path, first)
    moments = _moments(path, table)
    if np.any(moments % _MINUTE_US):
        raise BarsError(f"{path}: some bars do not start on a whole minute; round their ts down")
    names, code = _symbols(path, table)
    numbers = {name: _numbers(path, table, name) for name in columns[2:]}
    day, rest = np.divmod(moments, _DAY_US)
    return _Rows(path, names, code, day, rest // _MINUTE_US, numbers)


def _symbols(path: Path, table: Any) -> tuple[tuple[str, ...], Ints]:
    """The sorted symbols and, per row, the place of its symbol among them."""
    column = table.column("symbol")
    if column.null_count:
        raise BarsError(f"{path}: {column.null_count} rows have no symbol; complete or drop them")
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    single = column.unify_dictionaries().combine_chunks()
    names = [str(name) for name in single.dictionary.to_pylist()]
    place = np.argsort(np.argsort(np.array(names)))
    return tuple(sorted(names)), place[single.indices.to_numpy()].astype(np.int64)


def _numbers(path: Path, table: Any, name: str) -> Floats:
    """One column as float64 ``[R]``; a missing number is NaN, a missing flag 0."""
    column = table.column(name)
    try:
        column = column.fill_null(False) if name == "filled" else column
        return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
    except pa.ArrowException as error:
        raise BarsError(f"{path}: {name} is {column.type}; store numbers") from error


def _assemble(rows: _Rows) -> DayBars:
    """The rows of one day as a grid of its bars and of the symbols that have all of them."""
    date, width = _date(int(rows.day[0])), len(rows.names)
    cell = rows.minute * width + rows.code
    count = np.bincount(cell, minlength=_MINUTES * width).reshape(_MINUTES, width)
    everything = Sheet(f"{rows.path}, {date}", date, rows.names, _CLOCK, {})
    everything.refuse(count > 1, "two rows for one symbol and ts", "keep one of them")
    # a start that only a minority of the symbols has is a stray row, not a bar the others lack
    starts = np.flatnonzero(2 * count.sum(axis=1) >= count.any(axis=0).sum())
    full = np.flatnonzero(count[starts].all(axis=0))
    if not len(full):
        everything.fail(f"no symbol has all {len(starts)} bars", "complete at least one symbol")
    row_of = np.zeros(_MINUTES * width, dtype=np.int64)
    row_of[cell] = np.arange(len(cell))
    grid = row_of.reshape(_MINUTES, width)[np.ix_(starts, full)]
    symbols = tuple(rows.names[s] for s in full)
    clock = tuple(_CLOCK[minute] for minute in starts)
    columns = {name: values[grid] for name, values in rows.columns.items()}
    return Sheet(everything.where, date, symbols, clock, columns).checked()


_CLOCK = tuple(f"{minute // 60:02}:{minute % 60:02}" for minute in range(_MINUTES))


def _date(day: int) -> str:
    return (_EPOCH + dt.timedelta(days=day)).isoformat()


def _day_number(date: str) -> int:
    try:
        return (dt.date.fromisoformat(date) - _EPOCH).days
    except ValueError as error:
        raise BarsError(f"{date!r} is not a date; write it as YYYY-MM-DD") from error


def _no_bars(path: Path, day: int, symbols: Sequence[str] | None = None) -> NoReturn:
    held = days(path)
    if symbols is not None and _date(day) in held:
        raise BarsError(f"{path} has no bars of {', '.join(symbols)[:60]} on {_date(day)}")
    raise BarsError(
        f"{path} has no bars on {_date(day)}; it has {len(held)} days, {held[0]} to {held[-1]}"
    )
