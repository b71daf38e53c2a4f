"""Batches of trading days: B days of up to N orders each, drawn from days of bars.

Sides, sizes and initial cash come from the basket rules of ``service.play.orders``: what the demo
trades is what training trades. Nothing here looks at what a day will bring.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np

from service.core.limits import (
    CASH_BUFFER_BP_DEFAULT,
    CHILD_NOTIONAL_MINOR_MAX,
    CHILD_QTY_MAX,
    PARTICIPATION_PPM_MAX,
)
from service.core.orders import BUY, SELL, Orders, Proceeds, Rules
from service.core.units import BP, Array, ceil_div
from service.play.orders import SIZE_SHARE_MAX, draw_sizes, initial_cash_minor
from training.markets import COLUMNS, Ints, MarketDays

Value = TypeVar("Value")
Pair = tuple[int, int]
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class BasketConfig:
    """What orders a day has."""

    orders: Pair = (20, 20)
    """Fewest and most orders of a day; the number is uniform between them."""
    buy_share: Range = (0.5, 0.5)
    """Least and largest share of orders that buy; uniform between them."""
    margin_bp: Range = (200.0, 200.0)
    """Initial cash over what an even schedule needs at the opening prices; uniform between."""
    lot: int = 1
    """Shares in a lot, the same for all orders."""
    cash_buffer_bp: int = CASH_BUFFER_BP_DEFAULT
    """How far above the last price a buy reserves cash."""
    ticks_per_minor: int = 100
    """Ticks of 1e-4 in one minor unit of the account currency."""
    proceeds: Proceeds = Proceeds.REPORTED
    """When sales pay: once reported (as the service does), or same_step (the paper's setting)."""


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars int64 ``[B, M, N]``, prices in ticks, volume in shares."""

    open: Array
    high: Array
    low: Array
    close: Array
    price: Array
    volume: Array


@dataclass(frozen=True, slots=True)
class EpisodeBatch:
    """B days before their opening: ``orders`` ``[B, N]``, ``cash_minor`` ``[B]`` and the bars to
    come ``[B, M, N]``, ``bars_per_step`` of them in each of the T steps of ``rules``."""

    orders: Orders
    rules: Rules
    cash_minor: Array
    bars: Bars
    bars_per_step: int

    @property
    def agent_steps(self) -> int:
        """Decisions of orders in the whole batch, padding included."""
        size: int = self.orders.side.shape[0] * self.orders.side.shape[1]
        return size * self.rules.steps


def draw(
    rng: np.random.Generator, days: MarketDays, config: BasketConfig, count: int
) -> EpisodeBatch:
    """``count`` episodes in NumPy: random days, random symbols of each, random orders.

    Where there are as many days as episodes each day is used once, in order.
    """
    every = len(days.close)
    day = np.arange(count) if every == count else rng.integers(0, every, count)
    column = _choose_symbols(rng, days, day, config)
    row = day[:, None]
    live = np.arange(column.shape[1]) < rng.integers(*_inclusive(config.orders), (count, 1))
    known = days.reference
    adv_qty = known.adv_qty[row, column]
    qty = np.where(live, draw_sizes(rng, adv_qty // days.steps, config.lot), 0)
    side = _sides(rng, live, config.buy_share)
    nothing = np.zeros_like(qty)
    orders = Orders(
        side=side,
        order_qty=qty,
        lot=nothing + config.lot,
        limit_px=nothing,
        start_step=nothing + 1,
        end_step=nothing + days.steps,
        live=live,
        prev_close=known.prev_close[row, column],
        adv_qty=adv_qty,
        vol_ppm=known.vol_ppm[row, column],
        profile_ppm=known.profile_ppm[row, :, column].transpose(0, 2, 1),
    )
    bars = {name: getattr(days, name)[row, :, column].transpose(0, 2, 1) for name in COLUMNS}
    cash = _cash(rng, orders, bars["open"][:, 0], days.steps, config)
    return EpisodeBatch(orders, _rules(days.steps, config), cash, Bars(**bars), days.bars_per_step)


def take_day(batch: EpisodeBatch, at: int) -> EpisodeBatch:
    """One day ``[n]`` of a NumPy batch with its live orders only, as the service would hold it."""
    live = batch.orders.live[at]
    picked = map_arrays(batch, lambda array: array[at])
    picked = replace(picked, orders=map_arrays(picked.orders, lambda array: array[..., live]))
    return replace(picked, bars=map_arrays(picked.bars, lambda array: array[..., live]))


def to_device(batch: EpisodeBatch, device: Any = "cpu") -> EpisodeBatch:
    """The batch as torch tensors."""
    import torch

    def move(array: Array) -> Array:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return map_arrays(batch, move)


def map_arrays(value: Value, change: Callable[[Array], Array]) -> Value:
    """A frozen value with ``change`` applied to each of its arrays, at any depth."""
    changes: dict[str, Any] = {}
    for field in fields(value):  # type: ignore[arg-type]
        part = getattr(value, field.name)
        if hasattr(part, "dtype"):
            changes[field.name] = change(part)
        elif is_dataclass(part):
            changes[field.name] = map_arrays(part, change)
    return replace(value, **changes)  # type: ignore[type-var]


def _choose_symbols(
    rng: np.random.Generator, days: MarketDays, day: Ints, config: BasketConfig
) -> Ints:
    """Columns ``[B, N]`` of different symbols that trade enough for one lot, ascending."""
    wanted = config.orders[1]
    enough = days.reference.adv_qty * SIZE_SHARE_MAX >= config.lot * days.steps
    scarce = int(enough.sum(axis=1).min())
    if wanted > scarce:
        raise ValueError(f"{wanted} orders a day asked for, but one day has {scarce} symbols")
    key = np.where(enough[day], rng.random((len(day), enough.shape[1])), 2.0)
    return np.sort(np.argpartition(key, wanted - 1, axis=1)[:, :wanted], axis=1)


def _sides(rng: np.random.Generator, live: Any, buy_share: Range) -> Ints:
    """BUY for a share of each day's live orders, chosen at random; ``[B, N]``."""
    share = rng.uniform(*buy_share, (len(live), 1))
    buys = np.rint(share * live.sum(axis=1, keepdims=True))
    key = np.where(live, rng.random(live.shape), 2.0)
    rank = np.argsort(np.argsort(key, axis=1), axis=1)
    return np.where(rank < buys, BUY, SELL)


def _cash(
    rng: np.random.Generator, orders: Orders, arrival: Ints, steps: int, config: BasketConfig
) -> Ints:
    """What an even schedule needs at the opening prices, and a margin of the day; ``[B]``."""
    need = initial_cash_minor(
        orders.side,
        orders.order_qty,
        arrival,
        steps,
        lot=config.lot,
        margin_bp=0,
        buffer_bp=config.cash_buffer_bp,
        ticks_per_minor=config.ticks_per_minor,
    )
    margin = np.rint(rng.uniform(*config.margin_bp, need.shape)).astype(np.int64)
    return np.asarray(ceil_div(need * (BP + margin), BP))


def _rules(steps: int, config: BasketConfig) -> Rules:
    return Rules(
        steps=steps,
        ticks_per_minor=config.ticks_per_minor,
        cash_buffer_bp=config.cash_buffer_bp,
        child_qty_max=CHILD_QTY_MAX,
        child_notional_minor_max=CHILD_NOTIONAL_MINOR_MAX,
        participation_ppm_max=PARTICIPATION_PPM_MAX,
        proceeds=config.proceeds,
    )


def _inclusive(pair: Pair) -> Pair:
    return pair[0], pair[1] + 1
