"""Generated market days with a planted, known edge. Imports core and NumPy.

Every log price is a fair price (a random walk with a factor common to all symbols and a part of
its own) plus a deviation that reverts to zero (an Ornstein-Uhlenbeck process, stationary at the
open). Volatility and volume are high at both ends of the day. Who trades while the deviation is in
its favour beats an even schedule: that is the edge, and :class:`SampleMarket` sets how large it is.
The same generator and parameters give the same day; training makes millions of steps with it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from service.core.units import PPM, PRICE_SCALE
from service.play.day_bars import Bars, BarsError, DayBars, Floats, Ints
from service.play.planted import (
    SampleMarket,
    Symbols,
    draw_symbols,
    perfect_gain_bp,
    reverting_sd,
    smile,
)

__all__ = [
    "SampleDays",
    "SampleMarket",
    "generate",
    "generate_arrays",
    "generate_days",
    "perfect_gain_bp",
]

DATE = "2026-11-20"
"""The date of a generated sample day."""
CENT = 100
"""Ticks in a cent: generated prices are quoted in cents."""
OPEN_MINUTE = 9 * 60 + 30
_BLOCK = 15_000  # bars made at a time, so that temporaries stay in the processor's cache


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleDays(Bars):
    """D generated days; bars int64 ``[D, M, S]``.

    What was known before each open: ``prev_close`` ticks, ``adv_qty`` shares a day and ``vol_ppm``
    daily volatility, int64 ``[D, S]``; ``profile_ppm`` the expected share of volume by bar ``[M]``.
    ``deviation`` is the planted truth that no policy may see: the log deviation from the fair price
    at the start of each bar, float32 ``[D, M, S]``.
    """

    prev_close: Ints
    adv_qty: Ints
    vol_ppm: Ints
    profile_ppm: Ints
    deviation: npt.NDArray[np.float32]


def generate(seed: int, symbols: int = 40, bars: int = 48, minutes_per_bar: int = 5) -> DayBars:
    """One sample day of M ``bars`` of S ``symbols``."""
    return generate_days(seed, 1, symbols, bars, minutes_per_bar)[0]


def generate_days(
    seed: int,
    count: int,
    symbols: int = 40,
    bars: int = 48,
    minutes_per_bar: int = 5,
    market: SampleMarket | None = None,
) -> list[DayBars]:
    """``count`` consecutive trading days of the same symbols; the last one is dated DATE."""
    market, rng = market or SampleMarket(), np.random.default_rng(seed)
    names = tuple(f"S{number:0{max(2, len(str(symbols)))}}" for number in range(1, symbols + 1))
    starts, kept = _starts(bars, minutes_per_bar), draw_symbols(rng, market, (1, symbols))
    made: list[DayBars] = []
    for date in _dates(count):
        day = _empty(1, bars, symbols, market)
        fair = _block(rng, market, kept, day, slice(0, 1))
        night = market.overnight_volatility * rng.standard_normal(fair.shape) * kept.relative
        kept = replace(kept, price=fair * np.exp(night))
        columns = {field.name: getattr(day, field.name)[0] for field in fields(Bars)}
        made.append(DayBars(date=date, symbols=names, starts=starts, **columns))
    return made


def generate_arrays(
    rng: np.random.Generator, market: SampleMarket, days: int, bars: int = 48, symbols: int = 40
) -> SampleDays:
    """``days`` unrelated days, each with its own symbols: an endless supply for training."""
    made = _empty(days, bars, symbols, market)
    together = max(1, _BLOCK // (bars * symbols))
    for first in range(0, days, together):
        block = slice(first, min(first + together, days))
        kept = draw_symbols(rng, market, (block.stop - first, symbols))
        _block(rng, market, kept, made, block)
    return made


def _empty(days: int, bars: int, symbols: int, market: SampleMarket) -> SampleDays:
    if min(days, bars, symbols) < 1:
        raise BarsError(f"{days} days, {bars} bars, {symbols} symbols: each must be at least 1")
    grid, once = (days, bars, symbols), (days, symbols)
    profile = np.cumsum(smile(bars, market.volume_smile))
    upto = np.rint(PPM * profile / profile[-1]).astype(np.int64)
    return SampleDays(
        open=np.empty(grid, dtype=np.int64),
        high=np.empty(grid, dtype=np.int64),
        low=np.empty(grid, dtype=np.int64),
        close=np.empty(grid, dtype=np.int64),
        price=np.empty(grid, dtype=np.int64),
        volume=np.empty(grid, dtype=np.int64),
        prev_close=np.empty(once, dtype=np.int64),
        adv_qty=np.empty(once, dtype=np.int64),
        vol_ppm=np.empty(once, dtype=np.int64),
        profile_ppm=np.diff(upto, prepend=0),
        deviation=np.empty(grid, dtype=np.float32),
    )


def _block(
    rng: np.random.Generator,
    market: SampleMarket,
    kept: Symbols,
    made: SampleDays,
    block: slice,
) -> Floats:
    """Write the days ``block`` of ``made``; answers the fair price at their end ``[d, S]``."""
    bars = made.close.shape[1]
    shape = smile(bars, market.volatility_smile)
    shape *= market.daily_volatility / np.sqrt(np.sum(shape**2))
    scale = shape[:, None, None] * kept.relative  # standard deviation of one bar, [M, d, S]
    fair = _fair(rng, market, kept, scale)
    deviation = _deviation(rng, market, kept, scale)
    path = np.concatenate([deviation[:1], fair + deviation[1:]])
    breadth = _write_prices(rng, kept, made, block, path, scale)
    _write_volume(rng, market, kept, made, block, breadth)
    _write_known(rng, market, kept, made, block)
    made.deviation[block] = deviation[:-1].transpose(1, 0, 2)
    return np.asarray(kept.price * np.exp(fair[-1]))


def _fair(rng: np.random.Generator, market: SampleMarket, kept: Symbols, scale: Floats) -> Floats:
    """Log fair price at the end of each bar over that at the open; ``[M, d, S]``."""
    bars, days, _ = scale.shape
    fair = rng.standard_normal(scale.shape)
    fair *= np.sqrt(1 - market.common_share)
    factor = np.sqrt(market.common_share) * rng.standard_normal((bars, days, 1))
    fair += kept.beta * factor
    fair *= scale
    fair *= np.sqrt(1 - market.reverting_share)
    return np.cumsum(fair, axis=0, out=fair)


def _deviation(
    rng: np.random.Generator, market: SampleMarket, kept: Symbols, scale: Floats
) -> Floats:
    """Log deviation at the open and at each bar's end; ``[M + 1, d, S]``."""
    held = 0.5 ** (1 / market.half_life_bars)
    bars, days, symbols = scale.shape
    deviation = rng.standard_normal((bars + 1, days, symbols))
    deviation[0] *= reverting_sd(market, bars) * kept.relative
    deviation[1:] *= np.sqrt(market.reverting_share) * scale
    for bar in range(bars):
        deviation[bar + 1] += held * deviation[bar]
    return deviation


def _write_prices(
    rng: np.random.Generator,
    kept: Symbols,
    made: SampleDays,
    block: slice,
    path: Floats,
    scale: Floats,
) -> Floats:
    """Bars of a Brownian motion through ``path`` ``[M + 1, d, S]``, with the exact laws of its
    highest, its lowest and its mean price in a bar; answers the range over the usual one."""
    opened, close = path[:-1], path[1:]
    middle, squared, variance = opened + close, (close - opened) ** 2, 2 * scale**2
    above = np.sqrt(squared + variance * rng.standard_exponential(close.shape))
    below = np.sqrt(squared + variance * rng.standard_exponential(close.shape))
    mean = rng.standard_normal(close.shape)
    mean *= scale / np.sqrt(12)
    mean += middle / 2
    made.open[block] = _ticks(kept, opened, CENT)
    made.close[block] = _ticks(kept, close, CENT)
    made.high[block] = _ticks(kept, (middle + above) / 2, CENT)
    made.low[block] = _ticks(kept, (middle - below) / 2, CENT)
    made.price[block] = np.clip(_ticks(kept, mean, 1), made.low[block], made.high[block])
    usual: Floats = np.sqrt(8 / np.pi) * scale
    return (above + below) / (2 * usual)


def _ticks(kept: Symbols, path: Floats, tick: int) -> Floats:
    """Log prices ``[M, d, S]`` over the fair price at the open as ticks ``[d, M, S]``."""
    units: Floats = np.rint(kept.price * (PRICE_SCALE / tick) * np.exp(path))
    units *= tick
    return np.swapaxes(units, 0, 1)


def _write_volume(
    rng: np.random.Generator,
    market: SampleMarket,
    kept: Symbols,
    made: SampleDays,
    block: slice,
    breadth: Floats,
) -> None:
    """Volume by profile, more on busy days and in bars of a large range ``breadth``."""
    noise = market.volume_noise * rng.standard_normal(breadth.shape)
    noise += market.volume_noise * rng.standard_normal(kept.volume.shape)
    noise -= market.volume_noise**2  # the mean of the product of both factors is one
    volume = np.exp(noise, out=noise)
    volume *= (1 + breadth) / 2
    volume *= kept.volume * (made.profile_ppm[:, None, None] / PPM)
    made.volume[block] = np.rint(volume, out=volume).transpose(1, 0, 2)


def _write_known(
    rng: np.random.Generator, market: SampleMarket, kept: Symbols, made: SampleDays, block: slice
) -> None:
    """Last night's close, and yesterday's estimates of volume and volatility."""
    night, deviation, volume, volatility = rng.standard_normal((4, *kept.price.shape))
    move = market.overnight_volatility * night
    move += reverting_sd(market, made.close.shape[1]) * deviation
    close = kept.price * np.exp(move * kept.relative) * (PRICE_SCALE / CENT)
    made.prev_close[block] = np.rint(close) * CENT
    made.adv_qty[block] = np.rint(kept.volume * np.exp(0.1 * volume))
    estimate = market.daily_volatility * kept.relative * np.exp(0.1 * volatility)
    made.vol_ppm[block] = np.rint(PPM * estimate)


def _starts(bars: int, minutes_per_bar: int) -> tuple[str, ...]:
    """Bar starts from 09:30 on."""
    last = OPEN_MINUTE + bars * minutes_per_bar
    if minutes_per_bar < 1 or last > 1_440:
        raise BarsError(f"{bars} bars of {minutes_per_bar} minutes do not fit into 09:30 to 24:00")
    minutes = range(OPEN_MINUTE, last, minutes_per_bar)
    return tuple(f"{minute // 60:02}:{minute % 60:02}" for minute in minutes)


def _dates(count: int) -> list[str]:
    """``count`` working days up to DATE, ascending."""
    day = np.datetime64(DATE)
    return [str(np.busday_offset(day, -back)) for back in range(count - 1, -1, -1)]
