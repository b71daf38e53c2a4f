"""Days of bars with what was known before each opens: generated, or read from a Parquet file.

NumPy on purpose: episodes are drawn from it once per batch, and only then go to the device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.core.units import BP
from service.play.bars import BarsError, DayBars, days, merge, read_days
from service.play.orders import DAYS_BEFORE, Reference, reference_arrays
from service.play.sample import SampleMarket, generate_arrays

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

COLUMNS = ("open", "high", "low", "close", "price", "volume")
FLAGS = ("halted", "locked")
LIMIT_ROUNDING = 100
"""Ticks (one cent) between a price limit and the quoted price that it is rounded to."""


@dataclass(frozen=True, slots=True)
class MarketDays:
    """D days of M bars of S symbols; bars int64 ``[D, M, S]`` in ticks and shares.

    ``reference`` holds what was known before each open: ``[D, S]``, its profile ``[D, T, S]``;
    ``past_return`` ``[D, S]`` what each symbol gained in up to DAYS_BEFORE days before. ``halted``
    and ``locked`` ``[D, M, S]`` are as in ``episodes.Bars``; None: nowhere, or not known. ``dates``
    are those of the days, none where they are generated.
    """

    open: Ints
    high: Ints
    low: Ints
    close: Ints
    price: Ints
    volume: Ints
    reference: Reference
    bars_per_step: int
    past_return: Floats | None = None
    halted: Bools | None = None
    locked: Ints | None = None
    dates: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Decisions in a day: T."""
        return -(-int(self.close.shape[1]) // self.bars_per_step)

    def only(self, chosen: slice) -> MarketDays:
        """The days ``chosen``."""
        known = self.reference
        reference = Reference(
            known.prev_close[chosen],
            known.adv_qty[chosen],
            known.vol_ppm[chosen],
            known.profile_ppm[chosen],
        )
        held = {name: getattr(self, name) for name in (*COLUMNS, *FLAGS, "past_return")}
        arrays = {name: array[chosen] for name, array in held.items() if array is not None}
        return replace(self, **arrays, reference=reference, dates=self.dates[chosen])


def generated(
    rng: np.random.Generator,
    market: SampleMarket,
    count: int,
    bars: int,
    bars_per_step: int,
    symbols: int,
) -> MarketDays:
    """``count`` unrelated days of the sample market, each with symbols of its own."""
    made = generate_arrays(rng, market, count, bars, symbols)
    starts = np.arange(0, bars, bars_per_step)
    profile = np.add.reduceat(made.profile_ppm, starts)
    shape = (count, len(starts), symbols)
    known = Reference(
        prev_close=made.prev_close,
        adv_qty=made.adv_qty,
        vol_ppm=made.vol_ppm,
        profile_ppm=np.broadcast_to(profile[:, None], shape),
    )
    columns = {name: getattr(made, name) for name in COLUMNS}
    past = np.zeros((count, symbols))  # unrelated days: nothing was gained before
    return MarketDays(**columns, reference=known, bars_per_step=bars_per_step, past_return=past)


def from_file(
    path: Path, bars_per_step: int, last: str | None = None, price_limit_bp: int = 0
) -> MarketDays:
    """The days of a Parquet file up to the date ``last`` that have a day before them.

    Only symbols with every bar of every day, and days as long as most of them. Reference data come
    from up to DAYS_BEFORE earlier days, never from the day itself. With ``price_limit_bp`` bars
    that stand still this far from the last close count as locked.
    """
    dates = [date for date in days(path) if last is None or date <= last]
    if not dates:
        raise BarsError(f"{path} has no days up to {last}, the last that its split asks for")
    held = read_days(path, dates)
    usual = max({len(day.starts) for day in held}, key=[len(d.starts) for d in held].count)
    held = [day for day in held if len(day.starts) == usual]
    if len(held) < 2:
        raise BarsError(f"{path} has {len(held)} full days; training needs at least 2")
    symbols = sorted(set(held[0].symbols).intersection(*(day.symbols for day in held)))
    if not symbols:
        raise BarsError(f"{path}: no symbol has every bar of every day; give a shorter file")
    columns: dict[str, Any] = {name: _stacked(held, symbols, name) for name in COLUMNS}
    known = _known(held, symbols, columns["open"], bars_per_step)
    found = MarketDays(
        **{name: columns[name][1:] for name in COLUMNS},
        reference=known,
        bars_per_step=bars_per_step,
        past_return=_past_return(columns["open"], columns["close"]),
        dates=tuple(day.date for day in held[1:]),
    )
    return replace(found, locked=_locked(found, price_limit_bp)) if price_limit_bp else found


def _stacked(held: list[DayBars], symbols: list[str], name: str) -> Ints:
    places = [{symbol: at for at, symbol in enumerate(day.symbols)} for day in held]
    chosen = [[place[symbol] for symbol in symbols] for place in places]
    pairs = zip(held, chosen, strict=True)
    return np.stack([getattr(day, name)[:, at] for day, at in pairs])


def _known(held: list[DayBars], symbols: list[str], open_: Ints, bars_per_step: int) -> Reference:
    """Reference data before the second and every later day; ``[D - 1, ...]``."""
    merged = [merge(day, bars_per_step) for day in held]
    places = [np.searchsorted(np.array(day.symbols), symbols) for day in held]
    pairs = list(zip(merged, places, strict=True))
    close = np.stack([[part.close[at] for part in parts] for parts, at in pairs])
    volume = np.stack([[part.volume[at] for part in parts] for parts, at in pairs])
    rows = [
        reference_arrays(open_[past, 0], close[past], volume[past])
        for past in (slice(max(0, day - DAYS_BEFORE), day) for day in range(1, len(held)))
    ]
    return Reference(
        prev_close=np.stack([row.prev_close for row in rows]),
        adv_qty=np.stack([row.adv_qty for row in rows]),
        vol_ppm=np.stack([row.vol_ppm for row in rows]),
        profile_ppm=np.stack([row.profile_ppm for row in rows]),
    )


def _past_return(open_: Ints, close: Ints) -> Floats:
    """What each symbol gained before the second and every later day; ``[D - 1, S]``."""
    later = np.arange(1, len(close))
    first = np.maximum(later - DAYS_BEFORE, 0)
    return np.asarray(close[later - 1, -1] / open_[first, 0] - 1)


def _locked(days: MarketDays, limit_bp: int) -> Ints:
    """1 or -1 where a bar traded at one price only, its limit ``limit_bp`` from the last close."""
    last = days.reference.prev_close[:, None]
    still = (days.high == days.low) & (days.volume > 0)
    up = abs(days.close * BP - last * (BP + limit_bp)) <= LIMIT_ROUNDING * BP
    down = abs(days.close * BP - last * (BP - limit_bp)) <= LIMIT_ROUNDING * BP
    return np.asarray(still * (up.astype(np.int64) - down.astype(np.int64)))
