"""What days that are over say about a method, day by day.

Metrics of orders are those of the core (paper.md section 6). Everything is also kept by calendar
day, several baskets of one day averaged: orders of one day share its market, so days are what
intervals resample (intervals.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.core import metrics
from service.core.day import Day
from service.core.units import BP
from training.simulator import RewardConfig

Floats = npt.NDArray[np.float64]

USUAL = RewardConfig()
MEANS = (
    "slippage_bp",
    "shortfall_bp",
    "slippage_arrival_bp",
    "filled_pct",
    "low_water_pct",
    "toc_pct",
)
"""Numbers of a score that are plain means over its days; EG, POS and GLR are means over orders."""


@dataclass(frozen=True, slots=True)
class Score:
    """One method on D days; costs are positive when worse.

    ``slippage_bp`` cost of a basket against TWAP over its value, ``shortfall_bp`` the same against
    arrival prices; ``slippage_arrival_bp`` the mean of the orders' own, as the core has it.
    ``low_water_pct``: least cash of a day over its initial cash. ``log_gain_bp``: the gain that the
    references count, None where it was not asked for. ``days``: float64 ``[D]`` of each.
    """

    eg_bp: float
    toc_pct: float
    pos: float
    glr: float
    arr_pct: float
    slippage_bp: float
    shortfall_bp: float
    slippage_arrival_bp: float
    filled_pct: float
    low_water_pct: float
    log_gain_bp: float | None
    days: dict[str, Floats]

    @property
    def day_eg_bp(self) -> Floats:
        """Mean EG of the orders of each day; ``[D]``."""
        return self.days["eg_bp"]

    def objective_bp(self, reward: RewardConfig = USUAL) -> float:
        """What models are compared by: EG, or what is gained in money, less the paper's cash
        penalty of every conflict."""
        gain = self.eg_bp if reward.weight == "order" else -self.slippage_bp
        return gain - BP * reward.sigma * float(self.days["conflicts"].mean())


def score(finished: list[Day], log_gain_bp: list[Floats] | None = None) -> Score:
    """The metrics of days after their last interval; one NumPy ``[D, N]`` for each basket of the
    same D days, with the log gains ``[D]`` of each."""
    each = [_of_days(day) for day in finished]
    days = {name: np.mean([part[name] for part in each], axis=0) for name in each[0]}
    if log_gain_bp is not None:
        days["log_gain_bp"] = np.mean(log_gain_bp, axis=0)
    eg = np.concatenate([metrics.execution_gain_bp(day)[day.orders.live] for day in finished])
    gains, losses, mean = eg[eg > 0], eg[eg < 0], float(eg.mean())
    return Score(
        eg_bp=mean,
        pos=float((eg > 0).mean()),
        glr=float(gains.mean() / -losses.mean()) if len(gains) and len(losses) else 1.0,
        arr_pct=100 * float((1 + 0.1 * mean / BP) ** 250 - 1),
        log_gain_bp=float(days["log_gain_bp"].mean()) if log_gain_bp is not None else None,
        days=days,
        **{name: float(days[name].mean()) for name in MEANS},
    )


def _of_days(day: Day) -> dict[str, Floats]:
    """Values of each day of ``[D, N]``; ``[D]``."""
    orders, filled = day.orders, metrics.filled_share(day)
    twap, arrival = metrics.twap_price(day), day.arrival_px.astype(np.float64)
    return {
        "eg_bp": _mean(metrics.execution_gain_bp(day), orders.live),
        "slippage_bp": cost_bp(day, twap),
        "shortfall_bp": cost_bp(day, arrival),
        "slippage_arrival_bp": _mean(metrics.slippage_arrival_bp(day), orders.live),
        "filled_pct": 100 * _mean(filled, orders.live),
        "low_water_pct": 100 * low_water(day),
        "conflicts": np.asarray(day.conflicts, dtype=np.float64),
        "toc_pct": 100 * np.asarray(metrics.conflict_share(day)),
    }


def cost_bp(day: Day, benchmark: Floats) -> Floats:
    """What a basket lost against ``benchmark`` prices ``[D, N]`` (ticks), over its value at them.

    -1e4 sum d (notional - qty x benchmark) / sum qty x benchmark, the target filled or marked; so
    large orders weigh more. ``[D]``.
    """
    qty = np.maximum(day.orders.order_qty, day.cum_qty) * day.orders.live
    lost = -day.orders.side * qty * (metrics.average_price(day) - benchmark)
    return np.asarray(BP * lost.sum(axis=-1) / np.maximum((qty * benchmark).sum(axis=-1), 1.0))


def low_water(day: Day) -> Floats:
    """Least cash of the day over its initial cash, 1 where it began with none; ``[D]``.

    Initial cash is what trading left and took, to a minor unit per execution.
    """
    traded = (day.orders.side * day.cum_notional).sum(axis=-1) / day.rules.ticks_per_minor
    initial = day.cash_minor - traded
    share = day.min_cash_minor / np.maximum(initial, 1.0)
    return np.asarray(np.where(initial >= 1, np.minimum(share, 1.0), 1.0))


def _mean(values: Any, live: Any) -> Floats:
    return np.asarray((values * live).sum(axis=-1) / live.sum(axis=-1), dtype=np.float64)
