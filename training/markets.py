"""Days of bars with what was known before each opens: generated, or read from a Parquet file.

NumPy on purpose: episodes are drawn from it once per batch, and only then go to the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.play.bars import BarsError, DayBars, days, merge, read_days
from service.play.orders import DAYS_BEFORE, Reference, reference_arrays
from service.play.sample import SampleMarket, generate_arrays

Ints = npt.NDArray[np.int64]

COLUMNS = ("open", "high", "low", "close", "price", "volume")


@dataclass(frozen=True, slots=True)
class MarketDays:
    """D days of M bars of S symbols; bars int64 ``[D, M, S]`` in ticks and shares.

    ``reference`` holds what was known before each open: ``[D, S]``, its profile ``[D, T, S]``.
    """

    open: Ints
    high: Ints
    low: Ints
    close: Ints
    price: Ints
    volume: Ints
    reference: Reference
    bars_per_step: int

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
        bars = {name: getattr(self, name)[chosen] for name in COLUMNS}
        return MarketDays(**bars, reference=reference, bars_per_step=self.bars_per_step)


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
    return MarketDays(**columns, reference=known, bars_per_step=bars_per_step)


def from_file(path: Path, bars_per_step: int, last: str | None = None) -> MarketDays:
    """The days of a Parquet file up to the date ``last`` that have a day before them.

    Only symbols with every bar of every day, and days as long as most of them. Reference data come
    from up to DAYS_BEFORE earlier days, never from the day itself.
    """
    dates = [date for date in days(path) if last is None or date <= last]
    held = read_days(path, dates)
    usual = max({len(day.starts) for day in held}, key=[len(d.starts) for d in held].count)
    held = [day for day in held if len(day.starts) == usual]
    if len(held) < 2:
        raise BarsError(f"{path} has {len(held)} full days; training needs at least 2")
    symbols = sorted(set(held[0].symbols).intersection(*(day.symbols for day in held)))
    if not symbols:
        raise BarsError(f"{path}: no symbol has every bar of every day; give a shorter file")
    columns = {name: _stacked(held, symbols, name) for name in COLUMNS}
    known = _known(held, symbols, columns["open"], bars_per_step)
    later = {name: columns[name][1:] for name in COLUMNS}
    return MarketDays(**later, reference=known, bars_per_step=bars_per_step)


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
