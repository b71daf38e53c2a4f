"""Reports and logs as tables, for spreadsheets and data frames. Imports errors; pyarrow
only where a Parquet file is asked for.
"""

from __future__ import annotations

import csv
import io
from typing import Any

import orjson

from service.errors import Code, Problem

MEDIA_TYPES = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
"""What a report can be asked for as."""


def checked_format(name: str) -> str:
    """The name of a format itself; raises BAD_FIELD for one that is not there."""
    if name not in MEDIA_TYPES:
        raise Problem(Code.BAD_FIELD, f"format is one of {', '.join(MEDIA_TYPES)}")
    return name


def report_as(report: bytes, name: str) -> bytes:
    """A report (JSON) in the format of that name."""
    return report if name == "json" else _table(_columns(orjson.loads(report)), name)


def log_as(log: bytes, name: str) -> bytes:
    """A log (JSON) in the format of that name, one row for each command."""
    if name == "json":
        return log
    rows = log_rows(log)
    return _table({key: [row[key] for row in rows] for key in rows[0]}, name)


def log_rows(log: bytes) -> list[dict[str, Any]]:
    """One row for each command of a log (JSON), its day and client in front."""
    held = orjson.loads(log)
    return [{"day_id": held["day_id"], "client": held["client"], **r} for r in held["commands"]]


def _table(columns: dict[str, list[Any]], name: str) -> bytes:
    return _csv(columns) if name == "csv" else _parquet(columns)


def _columns(report: dict[str, Any]) -> dict[str, list[Any]]:
    """One row for each order, its day in front, then the same for each shadow with a report."""
    beside = [shadow["report"] for shadow in report.get("shadows", ()) if shadow["report"]]
    parts = [_rows(each, number) for number, each in enumerate((report, *beside))]
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}


def _rows(report: dict[str, Any], shadow: int) -> dict[str, list[Any]]:
    orders: dict[str, list[Any]] = report["orders"]
    n = len(orders["cl_ord_id"])
    names = ("day_id", "account", "currency", "policy")
    return {**{name: [report[name]] * n for name in names}, "shadow": [shadow] * n, **orders}


def _csv(columns: dict[str, list[Any]]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode()


def _parquet(columns: dict[str, list[Any]]) -> bytes:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise Problem(
            Code.BAD_FIELD, "this service has no pyarrow for parquet; ask for format=csv"
        ) from None
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()
