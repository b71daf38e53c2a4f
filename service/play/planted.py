"""What is planted in a generated market, and what knowing it is worth. Imports NumPy only."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from service.play.day_bars import BarsError, Floats


@dataclass(frozen=True, slots=True)
class SampleMarket:
    """What is planted in a generated market.

    With the defaults, perfect knowledge of the deviations gains 27 bp over an even schedule of
    eight steps of six bars, and the best filter of past prices about 12 bp (measured on 20,000
    orders, standard error 0.5).
    """

    half_life_bars: float = 6.0
    """Bars in which half of a deviation from the fair price is gone."""
    reverting_share: float = 0.5
    """Share of the variance of one bar's return that belongs to the reverting deviation."""
    common_share: float = 0.3
    """Share of the variance of the fair return that all symbols have in common (at beta 1)."""
    daily_volatility: float = 0.02
    """Standard deviation of a day's return from open to close, were nothing to revert."""
    volatility_spread: float = 0.3
    """Log-normal standard deviation of the volatility from symbol to symbol."""
    overnight_volatility: float = 0.008
    """Standard deviation of the fair price's change overnight."""
    volatility_smile: float = 1.0
    """How much more volatile the ends of the day are than its middle: 1 means twice."""
    volume_smile: float = 2.0
    """How much more is traded at the ends of the day than in its middle: 2 means three times."""
    volume_noise: float = 0.4
    """Log-normal standard deviation of a bar's volume around its profile."""
    turnover: float = 4e7
    """Median of the money traded in a symbol in one day, in currency units."""
    turnover_spread: float = 1.0
    """Log-normal standard deviation of that from symbol to symbol."""
    lowest_price: float = 5.0
    highest_price: float = 500.0
    """Prices are spread log-uniformly between these."""

    def __post_init__(self) -> None:
        numbers = asdict(self)
        for name, value in numbers.items():
            most = 1.0 if name.endswith("share") else 1e12
            if not 0 <= value <= most:
                raise BarsError(f"{name} is {value}; it must be between 0 and {most:g}")
        for name in ("half_life_bars", "lowest_price"):
            if numbers[name] <= 0:
                raise BarsError(f"{name} is {numbers[name]}; it must be positive")
        if self.highest_price < self.lowest_price:
            raise BarsError(f"highest_price is {self.highest_price}, below lowest_price; raise it")


@dataclass(frozen=True, slots=True)
class Symbols:
    """What a symbol keeps from day to day; float64 ``[..., S]``.

    ``price`` in currency units at the open, ``relative`` volatility over that of the market,
    ``beta`` to the common factor, ``volume`` in shares a day.
    """

    price: Floats
    relative: Floats
    beta: Floats
    volume: Floats


def draw_symbols(rng: np.random.Generator, market: SampleMarket, shape: tuple[int, ...]) -> Symbols:
    """Symbols of ``shape`` ``[..., S]``."""
    low, high = np.log(market.lowest_price), np.log(market.highest_price)
    price = np.exp(rng.uniform(low, high, shape))
    spread = rng.standard_normal((3, *shape))
    turnover = market.turnover * np.exp(market.turnover_spread * spread[0])
    relative = np.exp(market.volatility_spread * spread[1])
    beta = np.clip(1 + 0.25 * spread[2], 0.3, 1.7)
    return Symbols(price, relative, beta, turnover / price)


def reverting_sd(market: SampleMarket, bars: int) -> float:
    """Standard deviation of the log deviation, for a symbol of median volatility."""
    kept = 0.5 ** (1 / market.half_life_bars)
    innovation = market.daily_volatility * np.sqrt(market.reverting_share / bars)
    return float(innovation / np.sqrt(1 - kept**2))


def perfect_gain_bp(market: SampleMarket, bars: int = 48, bars_per_step: int = 6) -> float:
    """Gain over TWAP of who sees the deviation and stops optimally, in basis points.

    Optimal stopping by backward induction: the whole order goes in the step whose expected price
    beats waiting. The fair price is a martingale, so only the deviation counts; the smile of the
    volatility, cash and lots are left out. No policy that sees prices alone gains as much.
    """
    kept, sd = 0.5 ** (1 / market.half_life_bars), reverting_sd(market, bars)
    grid = np.linspace(-6, 6, 601)  # deviations in stationary standard deviations
    weight = np.exp(-(grid**2) / 2)
    within = np.mean(kept ** (np.arange(bars_per_step) + 0.5))
    step_kept = kept**bars_per_step
    noise = np.sqrt(1 - step_kept**2)
    transition = np.exp(-(((grid[None, :] - step_kept * grid[:, None]) / noise) ** 2) / 2)
    transition /= transition.sum(axis=1, keepdims=True)
    value = within * grid
    for _ in range(-(-bars // bars_per_step) - 1):
        value = np.maximum(within * grid, transition @ value)
    spread = np.exp(market.volatility_spread**2 / 2)  # mean volatility over the median one
    return float(1e4 * sd * spread * (weight @ value) / weight.sum())


def smile(bars: int, height: float) -> Floats:
    """1 + ``height`` at both ends of the day over 1 in its middle; ``[M]``."""
    place = (np.arange(bars) + 0.5) / bars * 2 - 1
    return 1 + height * place**2
