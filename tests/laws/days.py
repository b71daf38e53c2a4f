"""Random days with adversarial corners, shared by the law tests; NumPy arrays ``[B, N]``."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from service.core.day import Day, open_day
from service.core.limits import CHILD_NOTIONAL_MINOR_MAX, CHILD_QTY_MAX, PARTICIPATION_PPM_MAX
from service.core.market import Snapshot, opening
from service.core.orders import BUY, SELL, Orders, Proceeds, Rules, Style
from service.core.units import PPM


@dataclass(frozen=True)
class Shape:
    """Sizes of one random batch of days."""

    batch: int
    orders: int
    steps: int


def random_orders(rng: np.random.Generator, shape: Shape) -> Orders:
    """Orders of every kind: lots, limits, windows, one share, padding."""
    size = (shape.batch, shape.orders)
    lot = rng.choice([1, 1, 7, 100], size)
    side = rng.choice([BUY, SELL], size)
    qty = lot * rng.integers(1, 60, size)
    odd = np.where(side == SELL, rng.integers(0, 100, size) % lot, 0)
    start = np.minimum(rng.choice([1, 1, 1, 2, 3], size), shape.steps)
    end = np.maximum(start, np.where(rng.random(size) < 0.7, shape.steps, shape.steps - 1))
    live = rng.random(size) < 0.9
    limit = np.where(rng.random(size) < 0.2, rng.integers(9_000, 1_100_000, size), 0)
    profile = rng.integers(0, 2 * PPM // shape.steps, (shape.batch, shape.steps, shape.orders))
    return Orders(
        side=side,
        order_qty=np.where(live, qty + odd, 0),
        lot=lot,
        limit_px=limit,
        start_step=start,
        end_step=end,
        live=live,
        prev_close=rng.integers(10_000, 1_000_000, size),
        adv_qty=rng.choice([0, 10, 100_000], size),
        vol_ppm=rng.integers(1_000, 60_000, size),
        profile_ppm=profile,
        style=random_style(rng, size) if rng.random() < 0.5 else None,
    )


def random_style(rng: np.random.Generator, size: tuple[int, int]) -> Style:
    """Styles of every kind, most of them off."""

    def sometimes(*values: int) -> np.ndarray:
        return np.where(rng.random(size) < 0.3, rng.choice(values, size), 0)

    return Style(
        paused=rng.random(size) < 0.1,
        canceled=rng.random(size) < 0.1,
        best_effort=rng.random(size) < 0.2,
        urgency_pct=sometimes(-100, -30, 1, 50, 100),
        participation_ppm_min=sometimes(1, 50_000, PPM),
        participation_ppm_max=sometimes(1, 50_000, PPM),
        would_px=sometimes(9_000, 500_000, 2_000_000),
        would_ppm=rng.choice([1, 300_000, PPM], size),
        min_qty=sometimes(1, 10, 500),
        auction=sometimes(1, 2, 3),
    )


def random_rules(rng: np.random.Generator, steps: int) -> Rules:
    """Rules from loose to tight."""
    return Rules(
        steps=steps,
        ticks_per_minor=int(rng.choice([10, 100, 10_000])),
        cash_buffer_bp=int(rng.choice([0, 1, 100])),
        child_qty_max=int(rng.choice([5, CHILD_QTY_MAX])),
        child_notional_minor_max=int(rng.choice([100_000, CHILD_NOTIONAL_MINOR_MAX])),
        participation_ppm_max=int(rng.choice([50_000, PARTICIPATION_PPM_MAX])),
        proceeds=Proceeds.REPORTED,
        cash_floor_minor=int(rng.choice([0, 0, 100_000])),
        gross_notional_minor_max=_perhaps(rng, 50_000, 5_000_000),
        net_notional_minor_min=_perhaps(rng, 0, -100_000),
        net_notional_minor_max=_perhaps(rng, 0, 100_000),
        balance_ppm_max=_perhaps(rng, 10_000, 300_000),
        collar_close_bp=_perhaps(rng, 1, 5_000),
        collar_arrival_bp=_perhaps(rng, 1, 200),
    )


def _perhaps(rng: np.random.Generator, *values: int) -> int | None:
    return int(rng.choice(values)) if rng.random() < 0.25 else None


def random_day(rng: np.random.Generator, shape: Shape) -> Day:
    """A batch of days before their first decision, from broke to rich."""
    orders = random_orders(rng, shape)
    rules = random_rules(rng, shape.steps)
    worth = (orders.order_qty * 500_000 // rules.ticks_per_minor).sum(axis=-1)
    cash = (worth * rng.choice([0.0, 0.05, 0.3, 2.0], shape.batch)).astype(np.int64)
    return open_day(orders, rules, cash)


def first_snapshot(rng: np.random.Generator, shape: Shape) -> Snapshot:
    """Opening prices."""
    return opening(rng.integers(10_000, 1_000_000, (shape.batch, shape.orders)))


def next_snapshot(rng: np.random.Generator, day: Day) -> Snapshot:
    """A bar that moved up to a few percent, sometimes halted, sometimes without volume."""
    size = day.last_px.shape
    close = np.maximum(day.last_px * rng.integers(9_600, 10_400, size) // 10_000, 1)
    low = np.minimum(close, day.last_px) - rng.integers(0, 50, size)
    low = np.maximum(low, 1)
    high = np.maximum(close, day.last_px) + rng.integers(0, 50, size)
    price = (low + high) // 2
    volume = rng.choice([0, 10, 1_000_000], size)
    return Snapshot(day.last_px, high, low, close, price, volume, rng.random(size) < 0.05)


def wishes(rng: np.random.Generator, day: Day) -> np.ndarray:
    """What a policy that knows no limits may ask for."""
    size = day.cum_qty.shape
    return day.orders.order_qty * rng.choice([0, 1, 2, 4, 9], size) // 4


def take(value: object, pick: object) -> object:
    """A frozen value with every array indexed on its leading axes by ``pick``."""
    changes = {}
    for field in fields(value):  # type: ignore[arg-type]
        part = getattr(value, field.name)
        if isinstance(part, np.ndarray):
            changes[field.name] = part[pick]
        elif hasattr(part, "__dataclass_fields__") and not isinstance(part, Rules):
            changes[field.name] = take(part, pick)
    return replace(value, **changes)  # type: ignore[type-var]


def convert(value: object, to: object) -> object:
    """A frozen value with every array passed through ``to`` (for example into torch)."""
    changes = {}
    for field in fields(value):  # type: ignore[arg-type]
        part = getattr(value, field.name)
        if hasattr(part, "dtype"):
            changes[field.name] = to(part)  # type: ignore[operator]
        elif hasattr(part, "__dataclass_fields__") and not isinstance(part, Rules):
            changes[field.name] = convert(part, to)
    return replace(value, **changes)  # type: ignore[type-var]
