"""CSV files, data frames and Parquet bars as the columns of the API.

Neither pandas nor polars is imported: a frame is asked for its columns, a column for its list.
Bars are read by the demo's reader, and only then pyarrow is needed (extra ``play``).
"""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from service.client.columns import plain
from service.client.errors import BadInput
from service.client.tables import Layout, Table, decimal, maybe, side, text, whole
from service.core.market import Snapshot, opening
from service.core.units import PRICE_SCALE

if TYPE_CHECKING:
    from service.play.day_bars import DayBars

Columns = dict[str, list[Any]]
_PRICES = ("open", "high", "low", "close")

ORDERS = Layout(
    cells={
        "cl_ord_id": text,
        "symbol": text,
        "side": side,
        "order_qty": whole,
        "lot_size": whole,
        "limit_px": maybe(decimal),
        "start_step": whole,
        "end_step": whole,
        "urgency_pct": whole,
        "completion": text,
        "participation_ppm_min": maybe(whole),
        "participation_ppm_max": maybe(whole),
        "would_px": maybe(decimal),
        "would_ppm": maybe(whole),
        "min_qty": whole,
        "auction": text,
    },
    needed=("cl_ord_id", "symbol", "side", "order_qty"),
    unique="cl_ord_id",
    # names and tags of FIX that are not ours but for case and underscores
    aliases={
        "price": "limit_px",
        "roundlot": "lot_size",
        "11": "cl_ord_id",
        "55": "symbol",
        "54": "side",
        "38": "order_qty",
        "44": "limit_px",
        "561": "lot_size",
        "110": "min_qty",
    },
)
SNAPSHOT = Layout(
    cells={
        "symbols": text,
        **dict.fromkeys(_PRICES, decimal),
        "volume": whole,
        "vwap": decimal,
        "status": text,
    },
    needed=("symbols", *_PRICES, "volume"),
    unique="symbols",
    aliases={"symbol": "symbols"},
)


def orders_from_csv(
    path: str | Path, *, delimiter: str = ",", ignore: Collection[str] = ()
) -> Columns:
    """Orders as columns from a CSV file in UTF-8, with or without byte order mark.

    Headers are the fields of docs/api.md or FIX names or tags: ClOrdID (11), Symbol (55), Side (54:
    BUY, SELL, 1, 2, 5), OrderQty (38), Price (44), RoundLot (561). Columns in ``ignore`` are left
    out; an optional column without any value too. Raises BadInput, naming line and column.
    """
    header, rows, lines = _rows(Path(path), delimiter)
    table = Table(
        str(path), header, lambda at: [row[at] for row in rows], lambda row: f"line {lines[row]}"
    )
    return table.read(ORDERS, ignore)


def orders_from_frame(frame: Any, *, ignore: Collection[str] = ()) -> Columns:
    """Orders as columns from a pandas or polars frame, or a mapping of columns.

    Names as in :func:`orders_from_csv`; a NaN or null limit is none, quantities may be whole
    floats. Raises BadInput, naming row (from 0) and column.
    """
    return _frame(frame, "orders").read(ORDERS, ignore)


def snapshot_from_frame(frame: Any, *, ignore: Collection[str] = ()) -> Columns:
    """A snapshot from a frame with one row per symbol; a named index of pandas is a column too.

    Columns: symbol, open, high, low, close, volume, and optionally vwap and status. Raises BadInput
    as :func:`orders_from_frame` does.
    """
    return _frame(frame, "snapshot").read(SNAPSHOT, ignore)


def snapshot_columns(symbols: Sequence[str], bar: Snapshot) -> Columns:
    """A snapshot ``[N]`` of the core as the columns of the API."""
    prices = {name: getattr(bar, name) for name in _PRICES}
    return {
        "symbols": list(symbols),
        **{name: (px / PRICE_SCALE).tolist() for name, px in prices.items()},
        "volume": bar.volume.tolist(),
        "vwap": (bar.price / PRICE_SCALE).tolist(),
        "status": ["HALT" if halted else "TRADING" for halted in bar.halted],
    }


@dataclass(frozen=True, slots=True)
class BarStep:
    """What is sent at decision ``step``: the bars since the one before, as of ``as_of``.

    The last one has ``step`` None: it is the last interval, and belongs to the close.
    """

    step: int | None
    as_of: dt.datetime
    snapshot: Columns


def bar_steps(
    path: str | Path,
    step_minutes: int,
    *,
    date: str | None = None,
    symbols: Sequence[str] | None = None,
    zone: str = "UTC",
) -> Iterator[BarStep]:
    """The snapshots of one day of a Parquet file of bars, decision by decision, then the close.

    Columns of the file: symbol, ts (the start of a bar, exchange-local without time zone), open,
    high, low, close, volume, and optionally vwap. ``date`` is 'YYYY-MM-DD' (the file's last day
    without it), ``zone`` the exchange's, such as 'America/New_York'. The first snapshot holds the
    opening prices only. Raises BadInput for bars that cannot be used.
    """
    from service.play import bars, day_bars  # pyarrow is needed for this alone

    try:
        chosen = date or bars.days(path)[-1]
        (day,) = bars.read_days(path, [chosen], symbols)
        width = day_bars.bars_per_step(day, step_minutes)
    except bars.BarsError as error:
        raise BadInput(str(error)) from error
    seen = [opening(day.open[0]), *bars.merge(day, width)]
    snapshots = (snapshot_columns(day.symbols, bar) for bar in seen)
    return map(BarStep, [*range(1, len(seen)), None], _moments(day, width, zone), snapshots)


def _moments(day: DayBars, width: int, zone: str) -> list[dt.datetime]:
    """When each step begins, and when the last interval is over."""
    from service.play.day_bars import bar_minutes

    local = [dt.datetime.fromisoformat(f"{day.date}T{start}") for start in day.starts[::width]]
    end = dt.datetime.fromisoformat(f"{day.date}T{day.starts[-1]}")
    local.append(end + dt.timedelta(minutes=bar_minutes(day)))
    try:
        exchange = ZoneInfo(zone)
    except (ValueError, OSError, ZoneInfoNotFoundError) as error:
        raise BadInput(f"{zone!r} is no time zone; write it as 'America/New_York'") from error
    return [moment.replace(tzinfo=exchange) for moment in local]


def _rows(path: Path, delimiter: str) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, rows and the line on which each row ends."""
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            for row in reader:
                if row:  # a blank line has no cells
                    rows.append(row)
                    lines.append(reader.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: cannot be read as CSV in UTF-8: {error}") from error
    if len(rows) < 2:
        raise BadInput(f"{path}: no rows; the first line names the columns, an order is a line")
    header = [name.strip() for name in rows[0]]
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise BadInput(f"{path}: line {line}: {len(row)} cells, the header has {len(header)}")
    return header, rows[1:], lines[1:]


def _frame(frame: Any, source: str) -> Table:
    header = list(frame.columns if hasattr(frame, "columns") else frame)
    index = getattr(frame, "index", None)
    name = getattr(index, "name", None)
    extra = [name] if isinstance(name, str) and name not in header else []

    def column(at: int) -> Sequence[Any]:
        values = frame[header[at]] if at < len(header) else index
        return values if isinstance(values, list | tuple) else plain(values)

    return Table(source, [str(name) for name in [*header, *extra]], column, "row {}".format)
