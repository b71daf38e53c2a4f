"""What the references share: the log gain, and the linear programme of a basket under cash.

All references and the policies compared with them count the same gain, in bp of an order's value:

    1e4 d (sum of executed shares x log price + unfilled share x log last price - mean log price),

the mean over the intervals of the day, averaged over the live orders of each day. The logarithm
makes the gain of the lab market linear in its state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog
from scipy.sparse import csc_array

from service.core.day import Day
from service.core.observe import observe
from service.core.policy import Policy
from service.core.units import BP, Array, namespace
from training.episodes import EpisodeBatch
from training.simulator import Market, advance, begin, prepare

Floats = npt.NDArray[np.float64]


def play_logged(
    batch: EpisodeBatch,
    policy: Policy | Callable[[Day, Any], Any],
    market: Market | None = None,
) -> tuple[Day, Array]:
    """The days after their last interval under ``policy``, and their log gain in bp; ``[B]``.

    For days whose orders are all there at the open and stay as they are.
    """
    market = market or prepare(batch)
    day, xp = begin(batch, market), namespace(batch.cash_minor)
    earned = xp.astype(batch.orders.order_qty, xp.float64) * 0.0
    for _ in range(batch.rules.steps):
        step = advance(day, policy(day, observe(day)).wish, market)
        qty = xp.astype(step.fills.qty, xp.float64)
        price = xp.astype(step.fills.notional, xp.float64) / xp.where(qty > 0, qty, 1.0)
        earned = earned + qty * xp.log(xp.where(qty > 0, price, 1.0))
        day = step.day
    return day, _mean_gain_bp(day, earned, market)


def _mean_gain_bp(day: Day, earned: Array, market: Market) -> Array:
    """Log gain ``[B]`` of days that sold or bought for ``earned`` (shares x log price)."""
    xp, orders = namespace(earned), day.orders
    left = xp.astype(orders.order_qty - day.cum_qty, xp.float64)
    whole = xp.astype(xp.where(orders.live, orders.order_qty, 1), xp.float64)
    mean = sum(_log(snapshot.price) for snapshot in market.snapshots[1:]) / day.rules.steps
    share = (earned + left * _log(day.mark_px)) / whole - mean
    gain = BP * xp.astype(orders.side, xp.float64) * share
    return mean_over_orders(xp.where(orders.live, gain, 0.0), orders.live)


def mean_over_orders(values: Array, live: Array) -> Array:
    """Mean of ``values`` ``[B, N]`` over live orders (0 elsewhere); ``[B]``."""
    xp = namespace(values)
    return xp.sum(values, axis=-1) / xp.sum(xp.astype(live, values.dtype), axis=-1)


def _log(price: Array) -> Array:
    xp = namespace(price)
    return xp.log(xp.astype(price, xp.float64))


def best_schedule(worth: Floats, flow: Floats, cash: float) -> Floats:
    """Shares ``[n, H]`` of n orders over H steps with the largest sum of ``worth`` x share.

    Every order trades whole. ``flow`` is the cash that the whole order brings in a step (negative:
    pays); ``cash`` plus all flows so far is never negative but after the last step, where what is
    due goes out anyway.
    """
    orders, steps = worth.shape
    if steps == 1:
        return np.ones_like(worth)
    scale = float(np.abs(flow).max()) or 1.0
    left = np.zeros(orders + steps - 1)
    left[:orders], left[orders] = 1.0, cash / scale
    cost = np.concatenate([-worth.ravel(), np.zeros(steps - 1)])
    # HiGHS solves to 1e-7 of the cost: in bp-sized numbers that is nothing
    cost *= 1.0 / (np.abs(worth).max() or 1.0)
    solved = linprog(cost, A_eq=_rows(flow / scale), b_eq=left, method="highs-ds")
    if solved.x is None:
        raise ValueError(f"no schedule: {solved.message}")
    return np.asarray(solved.x[: orders * steps].reshape(orders, steps))


def _rows(flow: Floats) -> csc_array:
    """Every order whole, then cash: c_t - c_{t-1} - flows of t = 0; columns are the shares
    ``[n x H]``, then c_1 .. c_{H-1}."""
    orders, steps = flow.shape
    order, step = np.divmod(np.arange(orders * steps), steps)
    early = step < steps - 1  # the last step has no cash row
    held = np.arange(steps - 1)
    rows = [order, orders + step[early], orders + held, orders + 1 + held[:-1]]
    share = np.arange(orders * steps)
    columns = [share, share[early], orders * steps + held, orders * steps + held[:-1]]
    ones = np.ones(steps - 1)
    values = [np.ones(orders * steps), -flow.ravel()[early], ones, -ones[:-1]]
    shape = (orders + steps - 1, orders * steps + steps - 1)
    where = (np.concatenate(rows), np.concatenate(columns))
    return csc_array((np.concatenate(values), where), shape=shape)
