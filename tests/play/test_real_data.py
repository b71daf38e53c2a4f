"""Every real data set that is there: read, made into orders, and traded evenly to the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.core.metrics import filled_share
from service.play.bars import days, merge, read_day, read_days
from service.play.orders import make_orders
from tests.play.played import data_root, even_day

# minutes per bar, bars per day, lot
SETS = {
    "cn_ashare_15m_2025": (15, 16, 100),
    "nse_equity_5m_2023": (5, 75, 1),
    "us_equity_1m_2018": (1, 390, 1),
    "us_equity_5m_2025": (5, 78, 1),
}


@pytest.fixture(params=SETS)
def file(request: pytest.FixtureRequest) -> Path:
    path: Path = data_root() / request.param / "bars.parquet"
    if not path.is_file():
        pytest.skip(
            f"no real data at {path.name}: set CONCORD_DATA to a folder with {request.param}"
        )
    return path


def test_a_day_of_real_bars_can_be_played(file: Path) -> None:
    minutes, bars, lot = SETS[file.parent.name]
    dates = days(file)
    past = read_days(file, dates[-21:])
    today = past[-1]
    assert today.date == dates[-1] == read_day(file).date
    assert len(today.starts) == bars
    assert len(today.symbols) >= 100
    steps = merge(today, 30 // minutes)
    assert sum(int(step.volume.sum()) for step in steps) == today.volume.sum()
    basket = make_orders(today, past[:-1], 30 // minutes, seed=1, lot=lot)
    closed = even_day(today, basket, 30 // minutes)
    assert int(closed.cash_minor) >= 0
    assert filled_share(closed).mean() > 0.99
    assert np.all(closed.cum_qty + closed.remaining == closed.orders.order_qty)
