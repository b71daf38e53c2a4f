"""Orders that trade by the price of cash: how near a policy comes to the informed bound.

A witness from below. Before every decision the best multipliers for what is left are sought again,
and every order trades or waits by its own dynamic programme at those prices of cash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from service.core.day import Day
from service.core.orders import BUY
from service.core.policy import Intent
from service.core.units import BP, floor_to_lot
from training.lab import LabMarket, Truth
from training.references.gains import Floats
from training.references.informed import COARSE, FINE, multipliers, remaining
from training.references.stopping import charge, first_weights, make_grid

SEARCH = 60
"""Steps of the search for multipliers before each decision."""


@dataclass(frozen=True, slots=True)
class Priced:
    """A policy for NumPy batches ``[B, N]`` of the days that ``truth`` belongs to."""

    truth: Truth
    lab: LabMarket
    charged: bool = True
    """False: cash costs nothing, every order stops at its best as if it were alone."""
    caution_bp: float = 0.0
    """How much dearer buys, and cheaper sales, the coming step's cash is planned for."""

    def __call__(self, day: Day, observation: Any = None) -> Intent:
        """Whole orders, those on the margin in part; wish int64 ``[B, N]``."""
        if day.step + 1 == day.rules.steps:
            return Intent(wish=day.remaining)
        left = remaining(day, self.truth, self.lab)
        price = torch.zeros(len(left.cash), day.rules.steps - 1 - day.step, dtype=torch.float64)
        if self.charged:
            price, _ = multipliers(make_grid(self.lab, COARSE), left, SEARCH)
        fine = make_grid(self.lab, FINE)
        edge = charge(fine, left, first_weights(fine, left), price).edge.numpy()
        share = (edge >= 0).astype(np.float64)
        if self.charged:
            share = self._within_cash(day, share, edge / left.weight.clamp(min=1e-9).numpy())
        return Intent(wish=floor_to_lot(_shares(day, share), day.orders.lot))

    def _within_cash(self, day: Day, share: Floats, edge: Floats) -> Floats:
        """Where cash runs short, buys that gain least wait and sales that lose least go now.

        ``share`` of what remains ``[B, N]``, ``edge`` of trading now per value of the order.
        """
        buys = day.orders.side == BUY
        price = np.exp(self.truth.state[:, day.step] + self.truth.sd[:, day.step] ** 2 / 8)
        price *= 1 - day.orders.side * self.caution_bp / BP
        value = day.remaining * day.orders.prev_close / day.rules.ticks_per_minor * price
        short = -(day.cash_minor + (day.orders.side * share * value).sum(axis=1))
        helps = np.where(buys == (share > 0), value, 0.0)
        order = np.argsort(np.where(helps > 0, abs(edge), np.inf), axis=1)
        each = np.take_along_axis(helps, order, axis=1)
        before = np.cumsum(each, axis=1) - each
        part = np.clip(short[:, None] - before, 0, each) / np.maximum(each, 1.0)
        given = np.take_along_axis(part, np.argsort(order, axis=1), axis=1)
        return np.asarray(np.where(share > 0, share - given * buys, given * ~buys))


def _shares(day: Day, share: Floats) -> Any:
    """Shares for parts ``[B, N]`` of what remains: sales round up, buys down."""
    sales, buys = np.ceil(day.remaining * share), np.floor(day.remaining * share)
    return np.where(day.orders.side == BUY, buys, sales).astype(np.int64)
