"""Orders that arrive, are amended and are cancelled during the day.

A change applies before a given decision and is not known earlier: until an order arrives it has no
quantity and is not live, so no policy sees it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from service.core.day import Day
from service.core.orders import BUY, Orders
from service.core.units import (
    BP,
    QTY_MAX,
    Array,
    at_least,
    buy_cost_minor,
    ceil_div,
    floor_to_lot,
    namespace,
    round_to_lot,
    sell_proceeds_minor,
)
from training.baskets import BasketConfig, Range, some_of
from training.markets import Ints

AMENDED = (0.5, 1.5)
"""An amended target is this share of the old one; uniform between."""


@dataclass(frozen=True, slots=True)
class Changes:
    """``order_qty`` int64 ``[..., T, N]``: what the manager asks for at each decision.

    0 is a cancel, from then on to the end of the day: the window ends with the decision before.
    Padding asks for 0 all day.
    """

    order_qty: Array


def instructed(day: Day, changes: Changes) -> Day:
    """The day as its manager wants it before decision ``day.step + 1``.

    Targets never fall below what is filled or working. An order is live from its arrival on; one
    that is cancelled before it traded is gone, one that is cancelled later wants no more.
    """
    xp, orders = namespace(day.cum_qty), day.orders
    asked = changes.order_qty[..., day.step, :] * (orders.start_step <= day.step + 1)
    qty = xp.maximum(asked, day.cum_qty + day.working)
    gone = (asked == 0) & (orders.start_step <= day.step) & (orders.end_step > day.step)
    end = xp.where(gone, day.step, orders.end_step)
    return replace(day, orders=replace(orders, order_qty=qty, end_step=end, live=qty > 0))


def last_steps(orders: Orders, changes: Changes) -> Array:
    """The decision with which each order's window ends, cancels counted; int64 ``[..., N]``."""
    xp = namespace(orders.end_step)
    asked = xp.sum(xp.astype(changes.order_qty > 0, orders.end_step.dtype), axis=-2)
    return xp.maximum(xp.minimum(orders.end_step, asked), orders.start_step)


def draw_windows(rng: np.random.Generator, orders: Orders, steps: int, share: Range) -> Orders:
    """Orders of B days, a ``share`` of them with windows inside the day; never the first order."""
    later = _share_of(rng, orders.live, share)
    start = np.where(later, rng.integers(min(2, steps), steps + 1, later.shape), 1)
    end = rng.integers(np.minimum(start + 1, steps), steps + 1)
    return replace(orders, start_step=start, end_step=np.where(later, end, steps))


def draw_changes(
    rng: np.random.Generator, orders: Orders, steps: int, config: BasketConfig
) -> Changes:
    """What is asked for at each decision of B days; amended and cancelled inside the windows.

    The first order of a day is never cancelled: a day without orders is none.
    """
    decision = np.arange(1, steps + 1)[:, None]
    amended = _share_of(rng, orders.live, config.amend_share)
    factor = rng.uniform(*AMENDED, orders.order_qty.shape)
    qty = floor_to_lot((orders.order_qty * factor).astype(np.int64), orders.lot)
    qty = np.clip(qty, orders.lot, floor_to_lot(QTY_MAX, orders.lot))[:, None]
    asked = np.broadcast_to(orders.order_qty[:, None], (*qty.shape[:1], steps, qty.shape[2]))
    asked = np.where(decision >= _moment(rng, orders, amended, steps), qty, asked)
    cancelled = _share_of(rng, orders.live, config.cancel_share)
    gone = decision >= _moment(rng, orders, cancelled, steps)
    return Changes(np.where(gone, 0, asked))


def windowed_need(
    orders: Orders, arrival: Ints, steps: int, config: BasketConfig, margin_bp: Ints | int = 0
) -> Ints:
    """As ``initial_cash_minor``, but every order is spread evenly over a window of its own.

    Changes of targets are not in it: nobody knows them at the open. Minor units, int64 ``[B]``.
    """
    ticks, reserve_bp = config.ticks_per_minor, BP + config.cash_buffer_bp
    reserve_px = ceil_div(arrival * reserve_bp // BP, ticks) * ticks
    buys, peak = orders.side == BUY, np.zeros(len(arrival), dtype=np.int64)
    done = _even(orders, 0)
    for step in range(1, steps + 1):
        last, done = done, _even(orders, step)
        # sales are complete one step before the day's last, unless they come only then
        whole = (orders.start_step < step) & (step == steps)
        sold = np.where(whole, orders.order_qty, last) * ~buys
        paid = buy_cost_minor(last * buys, arrival, ticks)
        paid += buy_cost_minor((done - last) * buys, reserve_px, ticks)
        received = sell_proceeds_minor(sold, arrival, ticks)
        need = paid.sum(axis=-1) * (BP + margin_bp) - received.sum(axis=-1) * (BP - margin_bp)
        peak = np.maximum(peak, need)
    return np.asarray(ceil_div(peak, BP))


def _even(orders: Orders, step: int) -> Ints:
    """Shares that an even schedule has traded after ``step``; ``[B, N]``."""
    done = np.minimum(at_least(step + 1 - orders.start_step, 0), orders.window)
    part = round_to_lot(orders.order_qty * done, orders.window, orders.lot)
    return np.asarray(np.where(done == orders.window, orders.order_qty, part))


def _share_of(rng: np.random.Generator, live: Ints, share: Range) -> Ints:
    """A share of each day's live orders, never the first; bool ``[B, N]``."""
    others = live & (np.arange(live.shape[1]) > 0)
    count = np.rint(rng.uniform(*share, (len(live), 1)) * live.sum(axis=1, keepdims=True))
    return np.asarray(some_of(rng, others, np.minimum(count, others.sum(axis=1, keepdims=True))))


def _moment(rng: np.random.Generator, orders: Orders, chosen: Ints, steps: int) -> Ints:
    """A decision after the first of each chosen order's window, else none; ``[B, 1, N]``."""
    latest = np.maximum(orders.end_step, orders.start_step + 1)
    at = rng.integers(orders.start_step + 1, latest + 1)
    return np.asarray(np.where(chosen & (orders.window > 1), at, steps + 1))[:, None]
