"""A day of bars as a value, and the checks that a file's numbers must pass. Imports core, NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from service.core.market import Snapshot, interval, mean_price
from service.core.units import PRICE_SCALE, PRICE_TICKS_MAX

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

PRICES = ("open", "high", "low", "close")
VOLUME_MAX = 2**40
"""Most shares in one bar; the service takes as many in one snapshot."""
VWAP_SLACK = 0.05
"""A vwap further outside low..high than this share is in another unit; nearer ones are clipped."""


class BarsError(Exception):
    """Bars cannot be used; the message says where the fault is and what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """M bars of S symbols on any number of days; arrays int64 ``[..., M, S]``.

    Prices in ticks of 1e-4; ``price`` is the volume-weighted price of a bar where it is known and
    ``market.mean_price`` elsewhere; ``volume`` is in shares, 0 where nothing traded.
    """

    open: Ints
    high: Ints
    low: Ints
    close: Ints
    price: Ints
    volume: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class DayBars(Bars):
    """The bars of one day; arrays int64 ``[M, S]``.

    ``symbols`` are sorted, ``starts`` are the exchange-local bar starts 'HH:MM'.
    """

    date: str
    symbols: tuple[str, ...]
    starts: tuple[str, ...]


def merge(bars: Bars, bars_per_step: int) -> list[Snapshot]:
    """One snapshot ``[..., S]`` per step of ``bars_per_step`` consecutive bars.

    The last step may be shorter. Bars are consecutive: a lunch break between two does not count.
    """
    if bars_per_step < 1:
        raise BarsError(f"bars_per_step is {bars_per_step}; it must be at least 1")
    columns = (bars.open, bars.high, bars.low, bars.close, bars.price, bars.volume)
    cuts = range(0, bars.close.shape[-2], bars_per_step)
    return [interval(*(c[..., at : at + bars_per_step, :] for c in columns)) for at in cuts]


def bars_per_step(day: DayBars, step_minutes: int) -> int:
    """How many bars of ``day`` make a step of ``step_minutes``."""
    bar = bar_minutes(day)
    if step_minutes < bar or step_minutes % bar:
        raise BarsError(f"steps of {step_minutes} minutes: choose a multiple of the bars' {bar}")
    return step_minutes // bar


def bar_minutes(day: DayBars) -> int:
    """Minutes from one bar to the next; a lunch break is longer and does not count."""
    return int(min(np.diff([minute(start) for start in day.starts]), default=1))


def minute(start: str) -> int:
    """Minutes since midnight of 'HH:MM'."""
    hours, minutes = start.split(":")
    return 60 * int(hours) + int(minutes)


@dataclass(frozen=True, slots=True)
class Sheet:
    """One day of a file in currency units: ``columns`` float64 ``[M, S]``, NaN where missing.

    ``where`` names the file and the day for messages.
    """

    where: str
    date: str
    symbols: tuple[str, ...]
    starts: tuple[str, ...]
    columns: Mapping[str, Floats]

    def fail(self, what: str, change: str) -> NoReturn:
        """Raise :class:`BarsError` for this day."""
        raise BarsError(f"{self.where}: {what}; {change}")

    def refuse(self, bad: Bools, what: str, change: str) -> None:
        """Raise for the first bar that is ``bad`` (bool ``[M, S]``), saying how many are."""
        if np.any(bad):
            at, s = np.argwhere(bad)[0]
            count = int(np.count_nonzero(bad))
            bars = "bar has" if count == 1 else "bars have"
            self.fail(f"{count} {bars} {what}, first {self.symbols[s]} {self.starts[at]}", change)

    def checked(self) -> DayBars:
        """The day in ticks and shares, or :class:`BarsError` for the first thing wrong."""
        open_, high, low, close = (self._ticks(name) for name in PRICES)
        self.refuse(high < low, "high below low", "correct or drop them")
        outside = (np.maximum(open_, close) > high) | (np.minimum(open_, close) < low)
        self.refuse(outside, "open or close outside low..high", "widen low..high to hold them")
        volume = self._shares()
        price = self._weighted(low, high, mean_price(open_, high, low, close))
        return DayBars(
            date=self.date,
            symbols=self.symbols,
            starts=self.starts,
            open=open_,
            high=high,
            low=low,
            close=close,
            price=price,
            volume=volume,
        )

    def _ticks(self, name: str) -> Ints:
        values, most = self.columns[name], PRICE_TICKS_MAX / PRICE_SCALE
        self.refuse(~np.isfinite(values), f"{name} missing or not finite", "fill or drop them")
        self.refuse(values <= 0, f"{name} zero or negative", "prices must be positive")
        small = values * PRICE_SCALE < 0.5
        self.refuse(small, f"{name} below {1 / PRICE_SCALE}", "quote a smaller currency unit")
        self.refuse(values > most, f"{name} above {most:.0f}", "quote a larger currency unit")
        return _nearest(values * PRICE_SCALE)

    def _shares(self) -> Ints:
        volume = self.columns["volume"]
        self.refuse(~np.isfinite(volume), "volume missing or not finite", "write 0 for no trade")
        self.refuse(volume < 0, "negative volume", "volumes are shares, 0 or more")
        self.refuse(volume > VOLUME_MAX, f"volume above {VOLUME_MAX}", "give it in shares")
        filled = self.columns.get("filled")
        return _nearest(volume if filled is None else np.where(filled > 0, 0.0, volume))

    def _weighted(self, low: Ints, high: Ints, otherwise: Ints) -> Ints:
        """The vwap inside low..high where one is given and something traded."""
        vwap = self.columns.get("vwap")
        if vwap is None:
            return otherwise
        given = np.isfinite(vwap) & (self.columns["volume"] > 0)
        ticks = np.where(given, vwap, 0.0) * PRICE_SCALE
        far = (ticks < low * (1 - VWAP_SLACK)) | (ticks > high * (1 + VWAP_SLACK))
        self.refuse(given & far, "a vwap far outside low..high", "check its unit")
        return np.where(given, np.clip(_nearest(ticks), low, high), otherwise)


def _nearest(values: Floats) -> Ints:
    return np.rint(values).astype(np.int64)
