"""CSV, frames and bars as columns; what is wrong with them is said with line and column."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.client import BadInput
from service.client.adapters import (
    bar_steps,
    orders_from_csv,
    orders_from_frame,
    snapshot_from_frame,
)
from tests.client.wires import Line
from tests.play.played import bar_columns
from tests.service.api import bars, day

OURS = "cl_ord_id,symbol,side,order_qty,limit_px\nA,SA,BUY,1000,10.5\nB,SB,SELL,600,\n"
READ = {
    "cl_ord_id": ["A", "B"],
    "symbol": ["SA", "SB"],
    "side": ["BUY", "SELL"],
    "order_qty": [1000, 600],
    "limit_px": [10.5, None],
}
Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def writer(text: str | bytes) -> Path:
        path = tmp_path / "orders.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return writer


SAME = {
    "ours": OURS,
    "FIX names": "ClOrdID,Symbol,Side,OrderQty,Price\nA,SA,1,1000,10.5\nB,SB,2,600,\n",
    "FIX tags": "11,55,54,38,44\nA,SA,1,1000.00,10.5\nB,SB,5,600,\n",
    "another order": "Side,limit px,ORDER_QTY,Symbol,clordid\nbuy,10.5,1000,SA,A\ns,,600,SB,B\n",
    "byte order mark": "\ufeff" + OURS,
    "carriage returns": OURS.replace("\n", "\r\n"),
    "blank lines and spaces": OURS.replace("\n", "\n\n").replace(",", " , "),
    "quotes": OURS.replace("SA", '"SA"'),
    "no last line end": OURS.rstrip("\n"),
    "an optional column that is empty": OURS.replace("\n", ",\n").replace("px,\n", "px,lot_size\n"),
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_a_file_of_orders(write: Write, text: str) -> None:
    assert orders_from_csv(write(text)) == READ


def test_what_a_file_gives_opens_a_day(write: Write, connect: Line) -> None:
    orders = orders_from_csv(write(OURS.replace(",", ";")), delimiter=";")
    opened = connect().open_day("d", **day() | {"orders": orders})
    assert opened.orders.order_qty == [1000, 600]


HOSTILE = {
    "empty file": ("", "no rows"),
    "header only": ("cl_ord_id,symbol,side,order_qty\n", "no rows"),
    "missing column": (
        "ClOrdID,Symbol,OrderQty\nA,SA,5\n",
        "column side is missing; there are: ClOrdID, S",
    ),
    "unknown column": (OURS.replace("limit_px", "limit"), "column 'limit' is not known"),
    "column twice": (OURS.replace("limit_px", "Order Qty"), "gives order_qty a second time"),
    "two names": (OURS.replace("symbol,", "11,"), "column '11' gives cl_ord_id a second time"),
    "bad quantity": (OURS.replace("1000", "1,000"), "line 2: 6 cells, the header has 5"),
    "words": (OURS.replace("600", "many"), "line 3, column 'order_qty': 'many' is no whole"),
    "a half": (OURS.replace("600", "600.5"), "line 3, column 'order_qty': '600.5' is no whole"),
    "underscores": (OURS.replace("600", "6_00"), "'6_00' is no whole number"),
    "other digits": (OURS.replace("600", "\uff16\uff10\uff10"), "is no whole number"),
    "no quantity": (OURS.replace("600", ""), "line 3, column 'order_qty': '' is no whole number"),
    "formula": (OURS.replace("10.5", "=1+1"), r"line 2, column 'limit_px': '=1\+1' is no number"),
    "a huge price": (OURS.replace("10.5", "1e99"), "line 2, column 'limit_px': '1e99' is no"),
    "nan": (OURS.replace("10.5", "nan"), "line 2, column 'limit_px': 'nan' is no number"),
    "side": (OURS.replace("SELL", "3"), "line 3, column 'side': '3' is no side"),
    "no id": (OURS.replace("B,SB", " ,SB"), "line 3, column 'cl_ord_id': ' ' is empty"),
    "same id": (OURS.replace("B,SB", "A,SB"), "line 3, column 'cl_ord_id': 'A' occurs twice, .*2"),
    "short row": (OURS + "C,SC\n", "line 4: 2 cells, the header has 5"),
    "open quote": (OURS + '"C,SC,BUY,1,\n', "cannot be read as CSV"),
    "a zero byte": (OURS + "\0", "line 4|cannot be read as CSV"),
    "utf-16": (OURS.encode("utf-16"), "cannot be read as CSV in UTF-8"),
    "an image": (b"\x89PNG\r\n\x1a\n\xff\xd8", "cannot be read as CSV in UTF-8"),
    "a long cell": (OURS.replace("600", "x" * 200_000), "cannot be read as CSV"),
}


@pytest.mark.parametrize(("text", "told"), HOSTILE.values(), ids=HOSTILE)
def test_a_file_that_cannot_be_used(write: Write, text: str | bytes, told: str) -> None:
    with pytest.raises(BadInput, match=told) as caught:
        orders_from_csv(write(text))
    assert str(caught.value).startswith(str(write(text)))
    assert len(str(caught.value)) < 500


def test_lines_are_those_of_an_editor(write: Write) -> None:
    """Blank lines and line ends inside quotes count."""
    text = OURS + '\n"C\n2",SC,BUY,x,\n'
    with pytest.raises(BadInput, match="line 6, column 'order_qty'"):
        orders_from_csv(write(text))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        orders_from_csv(tmp_path / "none.csv")


def test_columns_that_are_not_wanted_are_named(write: Write) -> None:
    text = OURS.replace("limit_px", "Trader")
    assert "limit_px" not in orders_from_csv(write(text), ignore=["Trader"])


FRAMES: dict[str, Callable[[Any], Any]] = {"pandas": pd.DataFrame, "polars": pl.DataFrame}
FRAMES |= {"mapping": dict, "pandas nullable": lambda c: pd.DataFrame(c).convert_dtypes()}
frames = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)


@frames
def test_a_frame_of_orders(frame: Callable[[Any], Any]) -> None:
    columns = {"ClOrdID": READ["cl_ord_id"], "Symbol": READ["symbol"], "Side": [1, 2]}
    made = frame(columns | {"OrderQty": [1000, 600], "Price": [10.5, None], "lot_size": [100, 1]})
    assert orders_from_frame(made) == READ | {"lot_size": [100, 1]}


def test_absent_numbers_of_pandas() -> None:
    frame = pd.DataFrame(READ | {"order_qty": [1000.0, 600.0], "would_px": [float("nan")] * 2})
    assert orders_from_frame(frame) == READ


@frames
def test_a_frame_of_bars_is_a_snapshot(frame: Callable[[Any], Any]) -> None:
    snapshot = bars()
    made = frame({"symbol": snapshot["symbols"], **{k: snapshot[k] for k in list(snapshot)[1:]}})
    assert snapshot_from_frame(made) == snapshot


def test_the_index_of_pandas_may_be_the_symbol() -> None:
    snapshot = bars()
    frame = pd.DataFrame(snapshot | {"ts": 1}).set_index("symbols")
    assert snapshot_from_frame(frame, ignore=["ts"]) == snapshot
    with pytest.raises(BadInput, match="column symbols is missing"):
        snapshot_from_frame(frame.reset_index(drop=True), ignore=["ts"])


WRONG_BARS = {
    "a hole": ({"close": [10.0, float("nan")]}, "row 1, column 'close': 'nan' is no number"),
    "infinite": ({"open": [float("inf"), 1.0]}, "row 0, column 'open': 'inf' is no number"),
    "half shares": ({"volume": [1.5, 2.0]}, "row 0, column 'volume': '1.5' is no whole number"),
    "too many shares": ({"volume": [1e300, 2.0]}, "row 0, column 'volume'"),
    "flags": ({"volume": [True, False]}, "row 0, column 'volume': 'True' is no whole number"),
    "flags as prices": ({"open": [True, False]}, "row 0, column 'open': 'True' is no number"),
    "same symbol": ({"symbols": ["SA", "SA"]}, "row 1, column 'symbols': 'SA' occurs twice"),
    "numbers": ({"symbols": [600519, 1]}, "'600519' is no text; read it as text"),
    "no symbol": ({"symbols": ["SA", None]}, "row 1, column 'symbols': '.*' is no text"),
}


@pytest.mark.parametrize(("change", "told"), WRONG_BARS.values(), ids=WRONG_BARS)
def test_bars_that_are_none(change: Any, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        snapshot_from_frame(pd.DataFrame(bars() | change))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bars.parquet"
    pq.write_table(pa.table(bar_columns(dates=("2026-01-05", "2026-07-06"), bars=5)), path)
    return path


def test_bars_step_by_step(file: Path) -> None:
    *steps, end = bar_steps(file, 10, zone="America/New_York")
    assert [step.step for step in steps] == [1, 2, 3]
    at = [datetime(2026, 7, 6, 13, minute, tzinfo=UTC) for minute in (30, 40, 50)]
    assert [step.as_of for step in steps] == at
    assert (end.step, end.as_of) == (None, datetime(2026, 7, 6, 13, 55, tzinfo=UTC))
    assert steps[0].snapshot["open"] == steps[0].snapshot["close"] == [10.0, 20.0]
    assert [s.snapshot["volume"] for s in (*steps, end)] == [
        [0, 0],
        [300] * 2,
        [700] * 2,
        [500] * 2,
    ]
    first = next(bar_steps(file, 10, date="2026-01-05", symbols=["BB"], zone="America/New_York"))
    assert first.as_of == datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    assert first.snapshot["symbols"] == ["BB"]


def test_a_day_of_bars_is_played(file: Path, connect: Line) -> None:
    *steps, end = bar_steps(file, 10)
    schedule = {"times": [step.as_of for step in steps], "end": end.as_of}
    orders = READ | {"symbol": ["AA", "BB"], "limit_px": [None, None]}
    concord = connect()
    concord.open_day("d", **day() | {"schedule": schedule, "orders": orders, "fills": "paper"})
    for step in steps:
        concord.step("d", step.step, as_of=step.as_of, snapshot=step.snapshot)
    closed = concord.close("d", as_of=end.as_of, snapshot=end.snapshot)
    # the buys' protection is 1% away, and these bars rise by 10% a step
    assert (closed.decisions, closed.orders.cum_qty) == (3, [476, 600])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"step_minutes": 7}, "choose a multiple of the bars' 5"),
        ({"step_minutes": 5, "date": "2026-01-06"}, "has no bars on 2026-01-06"),
        ({"step_minutes": 5, "symbols": ["ZZ"]}, "has no bars of ZZ"),
        ({"step_minutes": 5, "zone": "Mars/Olympus"}, "is no time zone"),
    ],
)
def test_bars_that_are_not_there(file: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        bar_steps(file, **given)


def test_no_library_of_frames_is_loaded() -> None:
    code = "import sys, service.client.adapters as a; print({*sys.argv[1:]} & {*sys.modules})"
    heavy = ("pandas", "polars", "pyarrow", "torch", "onnxruntime", "fastapi")
    command = [sys.executable, "-c", code, *heavy]
    assert subprocess.check_output(command, text=True).strip() == "set()"
