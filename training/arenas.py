"""Where methods are trained, chosen and compared: a market, and which of its days are for what.

Training days, selection days (which weights of a run are kept, which run is best) and test days
(looked at once, for the published tables) never overlap. A file of bars is split by date: its test
window is the ``valid`` days of the ``split.json`` beside it, selection has the last part of its
``train`` days; without such a file the last days are the test window. Generated markets have a
seed for each purpose.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from service.play.bars import BarsError
from service.play.sample import SampleMarket
from training.baskets import enough_symbols
from training.config import TrainConfig
from training.episodes import BasketConfig, EpisodeBatch, draw
from training.errors import Refused
from training.lab import LABS, LabMarket, Truth, lab_episodes
from training.markets import MarketDays, from_file, generated
from training.provenance import sha256

SELECT_SHARE = 0.15
"""Share of the training days, the last ones, on which weights are chosen."""
TEST_SHARE = 0.15
"""Share of a file's days, its last, that are the test window where no split is given."""
SELECT_SEED, VALIDATE_SEED, TEST_SEED = 20_230_806, 20_230_915, 20_231_107
PLAY_BASKET = BasketConfig()
"""What tests ask for, as the demo: 20 orders, half of them buys, 2% of spare cash."""
SELECT_DAYS = 256
"""Generated days for selection."""
BASKETS_A_DAY = 20
"""Baskets drawn from each day of a file; a generated day has one."""


@dataclass(frozen=True, slots=True)
class Days:
    """Episodes in NumPy, one batch for each basket of a day; ``truth`` of lab markets only."""

    batches: list[EpisodeBatch]
    truth: Truth | None = None


@dataclass(frozen=True, slots=True)
class Arena:
    """``draw`` makes training days from a random generator and their number. ``select`` chooses the
    weights of a run, ``validate`` (as many days) decides whether a model ships, ``test`` is looked
    at for the published tables; a file has no more than two windows, so it selects and validates on
    the same."""

    name: str
    draw: Callable[[np.random.Generator, int], EpisodeBatch]
    select: Callable[[], Days]
    validate: Callable[[int], Days]
    test: Callable[[int], Days]
    source: dict[str, Any]
    lab: LabMarket | None = None


def arena(config: TrainConfig, tested: BasketConfig | None = None) -> Arena:
    """The arena that ``config`` names: a lab market, a file of bars, or the sample market.

    ``tested``: the baskets of its held-out days, where they are not to be the usual ones; of a lab
    market only their number of orders counts.
    """
    if config.lab is not None:
        return lab_arena(config.lab, tested.orders if tested else None)
    usual = tested or usual_basket(config.basket)
    if config.bars is not None:
        return file_arena(config.bars, config, usual)
    return sample_arena(config, usual)


def usual_basket(trained: BasketConfig) -> BasketConfig:
    """The baskets of held-out days: those of the demo, under the rules of those of training and
    with no more orders."""
    orders = min(PLAY_BASKET.orders[1], trained.orders[1])
    return dataclasses.replace(
        PLAY_BASKET,
        orders=(orders, orders),
        margin_on=trained.margin_on,
        lot=trained.lot,
        cash_buffer_bp=trained.cash_buffer_bp,
        ticks_per_minor=trained.ticks_per_minor,
        proceeds=trained.proceeds,
        volume_cap_ppm=trained.volume_cap_ppm,
        latency_bars=trained.latency_bars,
    )


def lab_arena(name: str, orders: tuple[int, int] | None = None) -> Arena:
    """A lab market; its test days may have another number of orders than those of training."""
    if name not in LABS:
        raise Refused(f"there is no lab market {name!r}; choose among {', '.join(LABS)}")
    lab = LABS[name]
    tested = lab if orders is None else dataclasses.replace(lab, orders=orders)

    def draw_lab(rng: np.random.Generator, days: int) -> EpisodeBatch:
        return lab_episodes(rng, lab, days)[0]

    def held(seed: int, market: LabMarket, days: int) -> Days:
        batch, truth = lab_episodes(np.random.default_rng(seed), market, days)
        return Days([batch], truth)

    source = {"lab": name, **dataclasses.asdict(lab)}
    return Arena(
        f"lab-{name}",
        draw_lab,
        lambda: held(SELECT_SEED, lab, SELECT_DAYS),
        lambda days: held(VALIDATE_SEED, lab, days),
        lambda days: held(TEST_SEED, tested, days),
        source,
        tested,
    )


def sample_arena(config: TrainConfig, tested: BasketConfig = PLAY_BASKET) -> Arena:
    """The generated market of the demo."""
    market = SampleMarket()

    def days_of(rng: np.random.Generator, count: int, symbols: int) -> MarketDays:
        return generated(rng, market, count, config.bars_a_day, config.bars_per_step, symbols)

    def draw_sample(rng: np.random.Generator, days: int) -> EpisodeBatch:
        basket = _one_size(rng, config.basket)
        return draw(rng, days_of(rng, days, basket.orders[1]), basket, days)

    def held(seed: int, days: int) -> Days:
        rng = np.random.default_rng(seed)
        made = days_of(rng, days, tested.orders[1])
        return Days([draw(np.random.default_rng(seed), made, tested, days)])

    source = {"sample": dataclasses.asdict(market)}
    return Arena(
        "sample",
        draw_sample,
        lambda: held(SELECT_SEED, SELECT_DAYS),
        lambda days: held(VALIDATE_SEED, days),
        lambda days: held(TEST_SEED, days),
        source,
    )


def file_arena(path: Path, config: TrainConfig, tested: BasketConfig = PLAY_BASKET) -> Arena:
    """Bars of a Parquet file; selection and test days are all days of their windows."""
    width, limit_bp = config.bars_per_step, config.price_limit_bp
    train, select, test = windows(path, width, limit_bp, config.window)
    enough_symbols(train, config.basket)
    source = {"file": path.name, "sha256": sha256(path)}

    def held(days: MarketDays, seed: int) -> Days:
        rng = np.random.default_rng(seed)
        drawn = [draw(rng, days, tested, len(days.close)) for _ in range(BASKETS_A_DAY)]
        return Days(drawn)

    def draw_file(rng: np.random.Generator, days: int) -> EpisodeBatch:
        return draw(rng, train, _one_size(rng, config.basket), days)

    return Arena(
        path.resolve().parent.name,
        draw_file,
        lambda: held(select, SELECT_SEED),
        lambda _: held(select, SELECT_SEED),
        lambda _: held(test, TEST_SEED),
        source,
    )


def windows(
    path: Path, bars_per_step: int, price_limit_bp: int = 0, back: int = 0
) -> tuple[MarketDays, MarketDays, MarketDays]:
    """Training, selection and test days of a file, in this order of time.

    The test window is that of the file, or the one that is ``back`` windows as long before it.
    """
    beside = path.parent / "split.json"
    if beside.is_file():
        last, start, end = split_days(beside)
        days = from_file(path, bars_per_step, end, price_limit_bp=price_limit_bp)
        known = sum(date <= last for date in days.dates)
        tested = [start <= date <= end for date in days.dates]
        if not any(tested):
            raise BarsError(f"{path} has no days from {start} to {end}, as {beside} says")
        first, count = tested.index(True), sum(tested)
    else:
        days = from_file(path, bars_per_step, price_limit_bp=price_limit_bp)
        count = max(1, round(TEST_SHARE * len(days.close)))
        known = first = len(days.close) - count
    first -= back * count
    known = min(known, first)
    chosen = known - max(1, round(SELECT_SHARE * known))
    if chosen < 1:
        raise BarsError(
            f"{path} has {max(known, 0)} days before test window {back} (of {count}); training and "
            "selection need one each: bring more days" + ", or a smaller --window" * bool(back)
        )
    train, select = days.only(slice(0, chosen)), days.only(slice(chosen, known))
    return train, select, days.only(slice(first, first + count))


def split_days(beside: Path) -> tuple[str, str, str]:
    """Last training day, first and last test day of a ``split.json``; raises BarsError."""
    try:
        split = json.loads(beside.read_text(encoding="utf-8"))["split"]
        dates = [split["train"][1], *split["valid"][:2]]
        last, start, end = (dt.date.fromisoformat(date).isoformat() for date in dates)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise BarsError(
            f"{beside} does not name its days ({error!r}); it must hold "
            '{"split": {"train": [first, last], "valid": [first, last]}} with dates as YYYY-MM-DD, '
            "or not be there"
        ) from error
    if not last < start <= end:
        raise BarsError(
            f"{beside}: train ends on {last} and valid is {start} to {end}; "
            "the test days must come after those of training"
        )
    return last, start, end


def _one_size(rng: np.random.Generator, basket: BasketConfig) -> BasketConfig:
    """Baskets of one size for a batch, so that nothing is padded."""
    orders = int(rng.integers(basket.orders[0], basket.orders[1] + 1))
    return dataclasses.replace(basket, orders=(orders, orders))
