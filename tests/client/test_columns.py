"""One body, one sequence of bytes: whatever kind of columns it is made of."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from service.client import BadInput, commands
from service.client.columns import encoded
from tests.client.wires import Line
from tests.service.api import day

KINDS = {
    "tuple": tuple,
    "numpy": np.array,
    "pandas": pd.Series,
    "polars": pl.Series,
    "arrow": pa.chunked_array,
}


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_any_kind_are_the_same_bytes(kind: str) -> None:
    plain = {"symbol": ["A", "B"], "order_qty": [500, 2**40], "limit_px": [1.25, 3.0]}
    make: Any = KINDS[kind]
    of = (lambda c: make([c])) if kind == "arrow" else make
    assert encoded({name: of(values) for name, values in plain.items()}) == encoded(plain)


def test_scalars_of_other_libraries() -> None:
    noon = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)
    told = {
        "cash_minor": np.int64(5),
        "as_of": pd.Timestamp(noon),
        "date": dt.date(2026, 11, 20),
        "px": Decimal("1.5"),
        "holdings": MappingProxyType({"A": np.int32(7)}),
        "none": None,
    }
    assert json.loads(encoded(told)) == {
        "cash_minor": 5,
        "as_of": "2026-11-20T12:00:00+00:00",
        "date": "2026-11-20",
        "px": 1.5,
        "holdings": {"A": 7},
        "none": None,
    }


@pytest.mark.parametrize(
    "value",
    [np.array([1.0, np.nan]), [float("inf")], {1, 2}, object(), pd.DataFrame({"a": [1]}), b"x"],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_sent_is_not_sent(value: Any) -> None:
    with pytest.raises(BadInput):
        commands.executions("d", value)


def test_a_day_of_arrays_is_the_day_of_lists(connect: Line) -> None:
    lists = day()
    arrays = lists | {"orders": {n: np.array(v) for n, v in lists["orders"].items()}}
    concord = connect()
    assert concord.open_day("d", **lists).raw == concord.open_day("d", **arrays).raw
    assert connect().open_day("d", **arrays).replayed
