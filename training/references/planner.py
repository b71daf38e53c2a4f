"""The planner: at every step the best schedule for the prices that are to be expected from now.

It knows the truth about expectations, but plans as if they were certain: it never waits for a
better price that only chance can bring. What it misses against ``informed`` is the value of
waiting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from service.core.day import Day
from service.core.policy import Intent
from service.core.units import BP, floor_to_lot
from training.lab import Truth
from training.references.gains import Floats, best_schedule


@dataclass(frozen=True, slots=True)
class Planner:
    """A policy for NumPy batches ``[B, N]`` of the days that ``truth`` belongs to."""

    truth: Truth
    caution_bp: float = 0.0
    """How much dearer buys, and cheaper sales, the coming step's cash is planned for."""

    def __call__(self, day: Day, observation: Any = None) -> Intent:
        """The first step of the best schedule for what remains; wish int64 ``[B, N]``."""
        wish = np.zeros_like(day.remaining)
        if day.step + 1 == day.rules.steps:
            return Intent(wish=day.remaining)
        log, price = expected(self.truth, day.step)
        for at in range(len(wish)):
            wish[at] = self._first(day, log[at], price[at], at)
        return Intent(wish=floor_to_lot(wish, day.orders.lot))

    def _first(self, day: Day, log: Floats, price: Floats, at: int) -> Floats:
        """Shares ``[N]`` of the day ``at``, given its expected prices ``[H, N]``."""
        orders, remaining = day.orders, day.remaining[at]
        active = remaining > 0
        wish = np.zeros(len(remaining))
        if not active.any():
            return wish
        side, left = orders.side[at][active, None], remaining[active, None]
        share = left / orders.order_qty[at][active, None]
        anchor = orders.prev_close[at][active, None] / day.rules.ticks_per_minor
        flow = side * left * anchor * price[:, active].T
        flow[:, 0] *= 1 - side[:, 0] * self.caution_bp / BP
        worth = side * share * log[:, active].T
        shares = best_schedule(worth, flow, float(day.cash_minor[at]))
        # the solver's 1e-9 below a whole order must not leave a share behind
        wish[active] = np.floor(left[:, 0] * np.clip(shares[:, 0], 0, 1) + 1e-4)
        return wish


def expected(truth: Truth, step: int) -> tuple[Floats, Floats]:
    """Expected log price and expected price over the anchor, of the intervals after decision
    ``step`` (counted from 0) given the state before the first of them; ``[B, H, N]`` each."""
    state, sd = truth.state[:, step], truth.sd[:, step:]
    log, price = np.empty_like(sd), np.empty_like(sd)
    variance = np.zeros_like(state)
    for ahead in range(sd.shape[1]):
        log[:, ahead] = truth.reversion**ahead * state
        price[:, ahead] = np.exp(log[:, ahead] + variance / 2 + sd[:, ahead] ** 2 / 8)
        carried = (truth.reversion + truth.momentum) ** 2 * sd[:, ahead] ** 2
        variance = truth.reversion**2 * variance + carried
    return log, price
