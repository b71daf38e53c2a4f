"""Batches of trading days: B days of up to N orders each, drawn from days of bars.

Sizes and initial cash follow the basket rules of ``service.play.orders``. Nothing here looks at
what a day will bring.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np

from service.core.limits import (
    CHILD_NOTIONAL_MINOR_MAX,
    CHILD_QTY_MAX,
    PARTICIPATION_PPM_MAX,
)
from service.core.orders import Orders, Rules
from service.core.units import BP, Array, ceil_div
from training.baskets import BasketConfig, draw_basket
from training.changes import Changes, draw_changes, draw_windows, windowed_need
from training.errors import Refused
from training.markets import COLUMNS, FLAGS, Ints, MarketDays

__all__ = ["Bars", "BasketConfig", "EpisodeBatch", "draw", "map_arrays", "take_day", "to_device"]

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars int64 ``[B, M, N]``, prices in ticks, volume in shares.

    ``halted`` (bool) is True where the symbol may not trade; ``locked`` is 1 where a bar stands at
    its upper price limit (nobody can buy), -1 at its lower one (nobody can sell). None: nowhere.
    """

    open: Array
    high: Array
    low: Array
    close: Array
    price: Array
    volume: Array
    halted: Array | None = None
    locked: Array | None = None


@dataclass(frozen=True, slots=True)
class EpisodeBatch:
    """B days before their opening: ``orders`` ``[B, N]``, ``cash_minor`` ``[B]`` and the bars to
    come ``[B, M, N]``, ``bars_per_step`` of them in each of the T steps of ``rules``.

    ``volume_cap_ppm`` is the largest share of a bar's volume that a child takes in it (0: any);
    the first ``latency_bars`` of an interval pass before what was decided for it can trade;
    with ``changes`` orders come and change during the day, without them all are there at the open.
    """

    orders: Orders
    rules: Rules
    cash_minor: Array
    bars: Bars
    bars_per_step: int
    volume_cap_ppm: int = 0
    changes: Changes | None = None
    latency_bars: int = 0

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
    if not 0 <= config.latency_bars < days.bars_per_step:
        raise Refused(
            f"--latency-bars is {config.latency_bars}; an interval has {days.bars_per_step} bars, "
            "and at least one must be left to trade in"
        )
    day = np.arange(count) if every == count else rng.integers(0, every, count)
    basket = draw_basket(rng, days, day, config)
    row, column = day[:, None], basket.column
    known, nothing = days.reference, np.zeros_like(basket.qty)
    orders = Orders(
        side=basket.side,
        order_qty=basket.qty,
        lot=nothing + config.lot,
        limit_px=nothing,
        start_step=nothing + 1,
        end_step=nothing + days.steps,
        live=basket.live,
        prev_close=known.prev_close[row, column],
        adv_qty=known.adv_qty[row, column],
        vol_ppm=known.vol_ppm[row, column],
        profile_ppm=known.profile_ppm[row, :, column].transpose(0, 2, 1),
    )
    if config.changes:
        orders = draw_windows(rng, orders, days.steps, config.arrive_share)
    bars = _bars(days, row, column)
    cash = _cash(rng, orders, bars.open[:, 0], days.steps, config)
    return EpisodeBatch(
        orders,
        rules_of(days.steps, config),
        cash,
        bars,
        days.bars_per_step,
        config.volume_cap_ppm,
        draw_changes(rng, orders, days.steps, config) if config.changes else None,
        config.latency_bars,
    )


def take_day(batch: EpisodeBatch, at: int) -> EpisodeBatch:
    """One day ``[n]`` of a NumPy batch with its live orders only, as the service would hold it."""
    live = batch.orders.live[at]
    picked = map_arrays(batch, lambda array: array[at])
    picked = replace(picked, orders=map_arrays(picked.orders, lambda array: array[..., live]))
    bars = map_arrays(picked.bars, lambda array: array[..., live])
    changes = picked.changes and map_arrays(picked.changes, lambda array: array[..., live])
    return replace(picked, bars=bars, changes=changes)


def some_days(batch: EpisodeBatch, chosen: slice) -> EpisodeBatch:
    """The days ``chosen`` of a batch, padding included."""
    return map_arrays(batch, lambda array: array[chosen])


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


def _bars(days: MarketDays, row: Ints, column: Ints) -> Bars:
    """The bars of the symbols ``column`` ``[B, N]`` of the days ``row`` ``[B, 1]``."""
    held = {name: getattr(days, name) for name in (*COLUMNS, *FLAGS)}
    chosen = {
        name: array[row, :, column].transpose(0, 2, 1)
        for name, array in held.items()
        if array is not None
    }
    return Bars(**chosen)


def _cash(
    rng: np.random.Generator, orders: Orders, arrival: Ints, steps: int, config: BasketConfig
) -> Ints:
    """What an even schedule needs at the opening prices, and a margin of the day; ``[B]``."""
    margin = np.rint(rng.uniform(*config.margin_bp, len(arrival))).astype(np.int64)
    on_legs = margin if config.margin_on == "legs" else 0
    need = windowed_need(orders, arrival, steps, config, on_legs)
    return np.asarray(ceil_div(need * (BP + margin - on_legs), BP))


def rules_of(steps: int, config: BasketConfig) -> Rules:
    """What holds for whole days of ``steps`` decisions with baskets of ``config``."""
    return Rules(
        steps=steps,
        ticks_per_minor=config.ticks_per_minor,
        cash_buffer_bp=config.cash_buffer_bp,
        child_qty_max=CHILD_QTY_MAX,
        child_notional_minor_max=CHILD_NOTIONAL_MINOR_MAX,
        participation_ppm_max=PARTICIPATION_PPM_MAX,
        proceeds=config.proceeds,
    )
