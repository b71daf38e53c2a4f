"""Arenas: which days are for training, selection and tests, and that they never overlap."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.parquet as pq
import pytest

from service.core import metrics
from service.core.orders import Proceeds
from service.play.bars import BarsError
from service.play.sample import generate_days
from training.arenas import Days, arena, usual_basket, windows
from training.baskets import BasketConfig, Kind
from training.config import TrainConfig
from training.lab import LABS
from training.markets import MarketDays
from training.rules import RULES
from training.simulator import play

from .small import write_bars

DAYS = 24


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated days of a few symbols as a Parquet file, without a split."""
    folder = tmp_path_factory.mktemp("market")
    return write_bars(folder / "bars.parquet", generate_days(3, DAYS, symbols=6, bars=8))


def split_copy(file: Path, folder: Path) -> tuple[Path, list[str]]:
    """The file beside a split that leaves out days, and its dates."""
    copy = folder / "bars.parquet"
    copy.write_bytes(file.read_bytes())
    dates = sorted({str(m)[:10] for m in pq.read_table(file)["ts"].to_pylist()})
    split = {"train": [dates[0], dates[13], 14], "valid": [dates[15], dates[18], 4]}
    (folder / "split.json").write_text(json.dumps({"split": split}))
    return copy, dates


SMALL = BasketConfig(orders=(4, 4))


def test_windows_of_a_file_follow_each_other(file: Path) -> None:
    parts = windows(file, 2)
    dates = [date for part in parts for date in part.dates]
    assert dates == sorted(set(dates))
    assert [len(part.dates) for part in parts] == [17, 3, 3]  # the first day is only known


def test_a_split_beside_the_file_names_the_test_window(file: Path, tmp_path: Path) -> None:
    copy, dates = split_copy(file, tmp_path)
    train, select, test = windows(copy, 2)
    assert train.dates + select.dates == tuple(dates[1:14])
    assert len(select.dates) == 2
    assert test.dates == tuple(dates[15:19])  # what comes after is never read


@pytest.mark.parametrize("split", [False, True])
def test_windows_roll_back_by_their_length(file: Path, tmp_path: Path, split: bool) -> None:
    path = split_copy(file, tmp_path)[0] if split else file
    rolled = [windows(path, 2, back=back) for back in range(3)]
    for (_, _, later), (train, select, test) in pairwise(rolled):
        assert len(test.dates) == len(later.dates)
        assert test.dates[-1] < later.dates[0]
        assert train.dates[-1] < select.dates[0] <= select.dates[-1] < test.dates[0]
    with pytest.raises(BarsError, match=r"days before test window 9 .* or a smaller --window"):
        windows(path, 2, back=9)


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("{", "split.json does not name its days .*or not be there"),
        ({"train": [0, 13]}, "does not name its days"),
        ({"train": [0, 13], "valid": ["today", 18]}, "does not name its days"),
        ({"train": [0, 13], "valid": [10, 18]}, "the test days must come after"),
        ({"train": [0, 13], "valid": [18, 15]}, "the test days must come after"),
        ({"train": ["2001-01-01", "2001-02-01"], "valid": ["2001-03-01"] * 2}, "no days up to"),
    ],
)
def test_a_split_that_cannot_be_is_refused(
    file: Path, tmp_path: Path, split: Any, said: str
) -> None:
    dates = sorted({str(m)[:10] for m in pq.read_table(file)["ts"].to_pylist()})
    if isinstance(split, dict):
        named = {
            name: [dates[d] if isinstance(d, int) else d for d in two]
            for name, two in split.items()
        }
        split = json.dumps({"split": named})
    (tmp_path / "bars.parquet").write_bytes(file.read_bytes())
    (tmp_path / "split.json").write_text(split)
    with pytest.raises(BarsError, match=said):
        windows(tmp_path / "bars.parquet", 2)


def test_baskets_with_more_orders_than_symbols_are_refused_before_the_first(file: Path) -> None:
    config = TrainConfig(bars=file, bars_per_step=2, basket=BasketConfig(orders=(1, 7)))
    with pytest.raises(
        ValueError, match=r"7 orders .* 6 symbols that trade enough; lower --orders"
    ):
        arena(config)


def test_a_file_is_named_by_its_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    config = TrainConfig(bars=Path(file.name), bars_per_step=2, basket=SMALL)
    assert arena(config).name == file.parent.name


def test_training_days_do_not_come_from_later_windows(file: Path) -> None:
    config = TrainConfig(bars=file, bars_per_step=2, basket=SMALL)
    train, select, test = windows(file, 2)
    drawn = arena(config, SMALL).draw(np.random.default_rng(0), 64)
    known = drawn.orders
    seen = set(zip(known.prev_close.ravel().tolist(), known.adv_qty.ravel().tolist(), strict=True))
    assert seen <= symbol_days(train)
    assert not seen & (symbol_days(select) | symbol_days(test))


def symbol_days(days: MarketDays) -> set[tuple[int, int]]:
    """Every day of every symbol by its last close and its volume so far."""
    known = days.reference
    return set(zip(known.prev_close.ravel().tolist(), known.adv_qty.ravel().tolist(), strict=True))


@pytest.mark.parametrize("lab", LABS)
def test_days_of_a_lab_are_the_same_each_time_and_differ_by_purpose(lab: str) -> None:
    where = arena(TrainConfig(lab=lab))
    first, again, chosen = where.test(5), where.test(5), where.select()
    np.testing.assert_array_equal(prices(first), prices(again))
    assert not np.array_equal(prices(first), prices(chosen)[:5])
    assert first.truth is not None
    assert where.source["lab"] == lab


def prices(days: Days) -> np.ndarray:
    return np.asarray(days.batches[0].bars.close)


def test_a_lab_may_be_tested_with_other_numbers_of_orders() -> None:
    where = arena(TrainConfig(lab="mild"), BasketConfig(orders=(7, 7)))
    assert where.test(2).batches[0].orders.side.shape == (2, 7)
    fewest, _ = LABS["mild"].orders
    assert where.draw(np.random.default_rng(0), 2).orders.side.shape[1] >= fewest


def test_the_sample_market_is_tested_on_the_baskets_of_the_demo() -> None:
    config = TrainConfig(basket=replace(TrainConfig().basket, orders=(3, 25)))
    where = arena(config)
    assert where.test(3).batches[0].orders.side.shape == (3, 20)
    rng = np.random.default_rng(1)
    drawn = {where.draw(rng, 1).orders.side.shape[1] for _ in range(12)}
    assert drawn <= set(range(3, 26))
    assert len(drawn) > 6


def test_held_out_days_have_the_rules_of_training_and_the_orders_of_the_demo() -> None:
    """What decides how a market trades is held out too; what orders are like is not."""
    rules: dict[str, Any] = {
        "margin_on": "legs",
        "lot": 100,
        "cash_buffer_bp": 400,
        "ticks_per_minor": 10,
        "proceeds": Proceeds.SAME_STEP,
        "volume_cap_ppm": 20_000,
        "latency_bars": 2,
    }
    asked = BasketConfig(orders=(5, 12), kind="bwsl", arrive_share=(0.1, 0.2), **rules)
    assert usual_basket(asked) == BasketConfig(orders=(12, 12), **rules)
    assert arena(TrainConfig(basket=asked)).validate(2).batches[0].latency_bars == 2


def test_an_unknown_lab_is_named_with_what_there_is() -> None:
    with pytest.raises(ValueError, match="no lab market 'nowhere'; choose among mild, tight"):
        arena(TrainConfig(lab="nowhere"))


@pytest.mark.parametrize("kind", get_args(Kind))
def test_even_slices_seldom_run_short_of_cash(kind: Kind) -> None:
    """TWAP's own TOC is at most 1% with the spare cash of the tests of every kind of basket."""
    usual = kind in ("uniform", "bwsl")
    basket = BasketConfig(kind=kind, margin_on="need" if usual else "legs")
    (batch,) = arena(TrainConfig(), basket).test(150).batches
    assert 100 * metrics.conflict_share(play(batch, RULES["twap"])).mean() <= 1.0


def test_a_share_of_the_net_need_is_too_little_for_equal_sides() -> None:
    basket = BasketConfig(kind="neutral")
    (batch,) = arena(TrainConfig(), basket).test(50).batches
    assert 100 * metrics.conflict_share(play(batch, RULES["twap"])).mean() > 2.0
