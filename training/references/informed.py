"""The informed bound: what no policy without foresight can pass on average.

Such a policy knows at most the state of every order, which is all that the past says of prices to
come. Charge cash instead of rationing it: with multipliers lambda_s >= 0 on the cash after step s
(none after the last) and L_t their sum from t on, the basket falls apart into orders, and every
share of an order is stopped once. For n orders of side d and weight w (value at the anchor):

    V_t(m) = max(d E[log price | m] / n + d w L_t E[price / anchor | m],  E[V_{t+1}(m') | m]),

at the last step the first of the two. The sum of V over orders, plus c_0 L_1, less the expected
mean price, bounds every policy, whatever lambda; the best is sought for every day. Multipliers
set at the open cannot follow the day, so the bound is close where chance averages out over orders.
"""

from __future__ import annotations

import numpy as np
import torch

from service.core.day import Day
from service.core.units import BP
from training.episodes import EpisodeBatch
from training.lab import LabMarket, Truth
from training.references.gains import Floats, mean_over_orders
from training.references.stopping import Baskets, Grid, charge, first_weights, make_grid
from training.simulator import begin, prepare

FINE = 129
COARSE = 33
"""Points of the grid of the bound, and of the one on which multipliers are sought."""
SEARCH = 60
POLISH = 15
"""Steps of the search on the coarse grid, and then on the fine one."""
DAYS_AT_ONCE = 32
"""Few enough that a day's values stay in the processor's cache."""
_STEP = 0.2
_FORGET = (0.8, 0.95)


def informed_bp(batch: EpisodeBatch, truth: Truth, lab: LabMarket) -> Floats:
    """Bound in bp on the expected log gain of any policy without foresight; ``[B]``."""
    left = remaining(begin(batch, prepare(batch)), truth, lab)
    coarse, fine = make_grid(lab, COARSE), make_grid(lab, FINE)
    price, _ = multipliers(coarse, left, SEARCH)
    _, bound = multipliers(fine, left, POLISH, price)
    return _over_mean_bp(bound, left, truth)


def unconstrained_bp(batch: EpisodeBatch, truth: Truth, lab: LabMarket) -> Floats:
    """The same without a limit on cash; ``[B]``."""
    left = remaining(begin(batch, prepare(batch)), truth, lab)
    _, bound = multipliers(make_grid(lab, FINE), left, 0)
    return _over_mean_bp(bound, left, truth)


def _over_mean_bp(value: torch.Tensor, left: Baskets, truth: Truth) -> Floats:
    """``value`` ``[B]`` (log) against the mean price to be expected at the open, in bp."""
    steps = truth.state.shape[1]
    mean = np.mean(truth.reversion ** np.arange(steps))
    return np.asarray(BP * (value - mean * (left.share * left.side * left.state).sum(1)).numpy())


def remaining(day: Day, truth: Truth, lab: LabMarket) -> Baskets:
    """What is left of NumPy days ``[B, N]`` before their next decision."""
    orders = day.orders
    anchor = orders.order_qty * orders.prev_close / day.rules.ticks_per_minor
    count = orders.live.sum(axis=1, keepdims=True)
    mean = mean_over_orders(anchor, orders.live)[:, None]
    share = day.remaining / np.maximum(orders.order_qty, 1) / count
    unit = truth.sd[:, 0, 0] / lab.step_sd()[0]
    rows = (orders.side, anchor / mean, share, truth.state[:, day.step])
    days = (day.cash_minor / (mean * count)[:, 0], unit)
    return Baskets(day.step, *(torch.from_numpy(row.astype(np.float64)) for row in (*rows, *days)))


def multipliers(
    grid: Grid, left: Baskets, steps: int, start: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best multipliers ``[B, H - 1]`` found in ``steps`` (from 0 or ``start``), and their
    bound on the value of ``left`` (log); ``[B]``."""
    days = len(left.cash)
    if start is None:
        start = torch.zeros(days, len(grid.sd) - 1 - left.step, dtype=torch.float64)
    cuts = [slice(at, at + DAYS_AT_ONCE) for at in range(0, days, DAYS_AT_ONCE)]
    rate = _STEP if not start.any() else _STEP / 10
    found = [_search(grid, left.part(cut), start[cut], steps, rate) for cut in cuts]
    return torch.cat([price for price, _ in found]), torch.cat([bound for _, bound in found])


def _search(
    grid: Grid, left: Baskets, price: torch.Tensor, steps: int, rate: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Adam with a falling rate, projected; any multipliers bound, so the lowest seen counts."""
    first = first_weights(grid, left)
    unit = (left.unit * float(grid.sd.norm()))[:, None]
    best, lowest = price, charge(grid, left, first, price)
    bound, slope = lowest.bound, lowest.slope
    mean, square = torch.zeros_like(price), torch.zeros_like(price)
    for step in range(1, steps + 1):
        mean = _FORGET[0] * mean + (1 - _FORGET[0]) * slope
        square = _FORGET[1] * square + (1 - _FORGET[1]) * slope * slope
        size = (square / (1 - _FORGET[1] ** step)).sqrt() + 1e-6
        move = mean / (1 - _FORGET[0] ** step) / size
        fall = rate * (1 - (step - 1) / steps) ** 1.5
        price = (price - fall * unit * move).clamp(min=0)
        seen = charge(grid, left, first, price)
        slope, better = seen.slope, seen.bound < bound
        best = torch.where(better[:, None], price, best)
        bound = torch.where(better, seen.bound, bound)
    return best, bound
