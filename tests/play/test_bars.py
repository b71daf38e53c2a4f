"""Bars read from Parquet: values, what belongs to a day, and an error for everything wrong."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.core.market import mean_price
from service.core.units import PRICE_TICKS_MAX
from service.play.bars import BarsError, days, merge, read_day, read_days
from service.play.day_bars import VOLUME_MAX
from tests.play.played import bar_columns

Write = Callable[..., Path]


def test_a_day_comes_back_in_ticks(write: Write) -> None:
    day = read_day(write())
    assert (day.date, day.symbols) == ("2026-01-05", ("AA", "BB"))
    assert day.starts == ("09:30", "09:35", "09:40", "09:45")
    np.testing.assert_array_equal(day.open[:, 0], [100_000, 110_000, 120_000, 130_000])
    np.testing.assert_array_equal(day.volume[:, 1], [100, 200, 300, 400])
    np.testing.assert_array_equal(day.price, mean_price(day.open, day.high, day.low, day.close))
    assert {a.dtype for a in (day.open, day.price, day.volume)} == {np.dtype(np.int64)}


def test_the_order_of_rows_does_not_matter(write: Write) -> None:
    straight = read_day(write())
    shuffled = np.random.default_rng(0).permutation(8)
    mixed = {n: [v[i] for i in shuffled] for n, v in bar_columns().items()}
    mixed_day = read_day(write(mixed))
    assert mixed_day.symbols == straight.symbols
    np.testing.assert_array_equal(mixed_day.close, straight.close)


def test_prices_round_to_the_nearest_tick(write: Write) -> None:
    close = [10.00004, 10.00006, 12.5, 13.5, 20.5, 21.5, 22.5, 23.5]
    assert read_day(write(close=close)).close[:2, 0].tolist() == [100_000, 100_001]


def test_vwap_is_used_where_given_and_traded(write: Write) -> None:
    vwap = [10.25, None, float("nan"), 13.25, 20.25, 21.25, 22.25, 23.25]
    volume = [100, 100, 100, 0, 100, 100, 100, 100]
    day = read_day(write(vwap=vwap, volume=volume))
    mean = mean_price(day.open, day.high, day.low, day.close)
    assert day.price[:, 0].tolist() == [102_500, *mean[1:, 0]]


def test_a_vwap_just_outside_is_clipped_and_one_far_outside_refused(write: Write) -> None:
    vwap = [11.1, 11.25, 12.25, 13.25, 20.25, 21.25, 22.25, 23.25]
    assert read_day(write(vwap=vwap)).price[0, 0] == 110_000
    with pytest.raises(BarsError, match=r"vwap far outside.*AA 09:30; check its unit"):
        read_day(write(vwap=[1_100.0, *vwap[1:]]))


def test_filled_bars_traded_nothing(write: Write) -> None:
    day = read_day(write(filled=[True, None, False, False, False, False, False, False]))
    assert day.volume[:, 0].tolist() == [0, 200, 300, 400]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]
)
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_common_column_types(tmp_path: Path, kind: Any, unit: str) -> None:
    columns: dict[str, Any] = {**bar_columns(("AA",), ("2026-01-05", "2026-01-06"))}
    columns["symbol"] = pa.array(columns["symbol"], pa.string()).cast(kind)
    columns["ts"] = pa.array(columns["ts"], pa.timestamp(unit))
    columns["close"] = pa.array(columns["close"], pa.float32())
    pq.write_table(pa.table(columns), tmp_path / "b.parquet")
    assert read_day(tmp_path / "b.parquet", "2026-01-06").close.shape == (4, 1)


def test_days_and_a_chosen_day(write: Write) -> None:
    dates = ("2026-01-05", "2026-01-06", "2026-01-07")
    path = write(bar_columns(dates=dates))
    assert days(path) == list(dates)
    assert read_day(path).date == dates[-1]
    chosen = read_days(path, [dates[2], dates[0]], ["BB"])
    assert [(day.date, day.symbols) for day in chosen] == [(dates[2], ("BB",)), (dates[0], ("BB",))]
    assert read_days(path, []) == []


def test_only_complete_symbols_belong_to_the_day(write: Write) -> None:
    columns = bar_columns(("AA", "BB", "CC"))
    lacking = {name: values[:-1] for name, values in columns.items()}
    assert read_day(write(lacking)).symbols == ("AA", "BB")


def test_a_start_of_a_minority_is_left_out(write: Write) -> None:
    columns = bar_columns(("AA", "BB", "CC"))
    stray = {name: [*values, values[0]] for name, values in columns.items()}
    stray["ts"][-1] = dt.datetime.fromisoformat("2026-01-05T16:00")
    day = read_day(write(stray))
    assert (day.symbols, len(day.starts)) == (("AA", "BB", "CC"), 4)


def test_merging_keeps_extremes_and_volume(write: Write) -> None:
    day = read_day(write(bar_columns(bars=5)))
    steps = merge(day, 2)
    assert [int(s.volume[0]) for s in steps] == [300, 700, 500]
    assert steps[0].high[0] == day.high[:2, 0].max()
    assert steps[0].price[0] == (day.price[0, 0] + day.price[1, 0] + 1) // 2
    assert steps[-1].open[0] == day.open[4, 0]
    with pytest.raises(BarsError, match="at least 1"):
        merge(day, 0)


def first(value: Any, values: list[Any]) -> list[Any]:
    return [value, *values[1:]]


WRONG = {
    "NaN": ({"close": first(float("nan"), bar_columns()["close"])}, "close missing.*AA 09:30"),
    "infinite": ({"high": first(float("inf"), bar_columns()["high"])}, "high missing or not fin"),
    "null": ({"open": first(None, bar_columns()["open"])}, "open missing"),
    "zero": ({"low": first(0.0, bar_columns()["low"])}, "low zero or negative"),
    "tiny": ({"low": first(1e-5, bar_columns()["low"])}, "smaller currency unit"),
    "huge": ({"high": first(PRICE_TICKS_MAX / 1e4 + 1, bar_columns()["high"])}, "high above"),
    "high below low": ({"high": first(8.0, bar_columns()["high"])}, "high below low"),
    "open outside": ({"open": first(12.0, bar_columns()["open"])}, "widen low..high"),
    "no volume": ({"volume": first(None, bar_columns()["volume"])}, "volume missing"),
    "negative volume": ({"volume": first(-1, bar_columns()["volume"])}, "negative volume"),
    "large volume": ({"volume": first(VOLUME_MAX + 1, bar_columns()["volume"])}, "volume above"),
    "text": ({"close": ["x"] * 8}, "close is string; store numbers"),
    "null symbol": ({"symbol": first(None, bar_columns()["symbol"])}, "1 rows have no symbol"),
    "null ts": ({"ts": first(None, bar_columns()["ts"])}, "1 rows have no ts"),
    "duplicate": ({"ts": first(bar_columns()["ts"][1], bar_columns()["ts"])}, "two rows for one"),
    "seconds": (
        {"ts": first(dt.datetime.fromisoformat("2026-01-05T09:30:01"), bar_columns()["ts"])},
        "minute",
    ),
    "date": ({"ts": [dt.date(2026, 1, 5)] * 8}, "ts is date32"),
    "zone": ({"ts": pa.array(bar_columns()["ts"], pa.timestamp("us", "UTC"))}, "without time zone"),
}


@pytest.mark.parametrize(("changed", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(write: Write, changed: dict[str, Any], message: str) -> None:
    path = write(**changed)
    with pytest.raises(BarsError, match=message) as caught:
        read_day(path)
    assert path.name in str(caught.value)


def test_a_day_without_a_complete_symbol(write: Write) -> None:
    columns = bar_columns(("AA", "BB"))
    kept = [i for i in range(8) if i not in (0, 5)]
    lacking = {name: [values[i] for i in kept] for name, values in columns.items()}
    with pytest.raises(BarsError, match="no symbol has all 4 bars"):
        read_day(write(lacking))


def test_missing_file_columns_rows_days_and_symbols(write: Write, tmp_path: Path) -> None:
    with pytest.raises(BarsError, match="does not exist"):
        read_day(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("symbol,ts")
    with pytest.raises(BarsError, match="not a Parquet file"):
        days(tmp_path / "text.parquet")
    columns = bar_columns()
    path = write({name: values for name, values in columns.items() if name != "volume"})
    with pytest.raises(BarsError, match="lacks the columns volume; it has symbol"):
        read_day(path)
    path = write()
    with pytest.raises(BarsError, match="no bars on 2027-01-01; it has 1 days, 2026-01-05"):
        read_day(path, "2027-01-01")
    with pytest.raises(BarsError, match="write it as YYYY-MM-DD"):
        read_day(path, "yesterday")
    with pytest.raises(BarsError, match="no bars of ZZ on 2026-01-05"):
        read_days(path, ["2026-01-05"], ["ZZ"])
    empty = pq.read_table(path).slice(0, 0)
    pq.write_table(empty, path)
    with pytest.raises(BarsError, match="holds no rows"):
        read_day(path)


def test_many_files_of_rows_stay_aligned(write: Write) -> None:
    """Every cell of the grid is the row that it says, whatever is missing or doubled elsewhere."""
    names = tuple("".join(pair) for pair in itertools.product("ZYX", "CBA"))
    columns = bar_columns(names, ("2026-01-05", "2026-01-06"), bars=6)
    kept = np.random.default_rng(3).permutation(len(columns["ts"]))[:-3]
    rows = {name: [values[i] for i in kept] for name, values in columns.items()}
    for day in read_days(write(rows), ["2026-01-06", "2026-01-05"]):
        table = {
            (s, t): v for s, t, v in zip(rows["symbol"], rows["ts"], rows["open"], strict=True)
        }
        for (bar, start), (s, symbol) in itertools.product(
            enumerate(day.starts), enumerate(day.symbols)
        ):
            moment = dt.datetime.fromisoformat(f"{day.date}T{start}")
            assert day.open[bar, s] == round(table[symbol, moment] * 1e4)
