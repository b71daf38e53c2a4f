"""The clairvoyant bound: what a day allows to whoever knows its prices beforehand."""

from __future__ import annotations

import numpy as np

from service.core.units import BP
from training.episodes import EpisodeBatch
from training.references.gains import Floats, best_schedule
from training.simulator import prepare


def clairvoyant_bp(batch: EpisodeBatch) -> Floats:
    """Largest log gain in bp with perfect foresight, cash never negative; NumPy batch, ``[B]``.

    Shares may be split at will, so no policy gains more on any day (beside rounding).
    """
    price = np.stack([snapshot.price for snapshot in prepare(batch).snapshots[1:]], axis=-1)
    days = range(len(batch.cash_minor))
    return np.array([_day_bp(batch, price[at].astype(np.float64), at) for at in days])


def _day_bp(batch: EpisodeBatch, price: Floats, at: int) -> float:
    """The day ``at`` with interval prices ``[N, T]`` in ticks."""
    orders, live = batch.orders, batch.orders.live[at]
    side, qty = orders.side[at][live, None], orders.order_qty[at][live, None]
    worth = side * (np.log(price[live]) - np.log(price[live]).mean(axis=1, keepdims=True))
    flow = side * qty * price[live] / batch.rules.ticks_per_minor
    shares = best_schedule(worth, flow, float(batch.cash_minor[at]))
    return float(BP * (worth * shares).sum(axis=1).mean())
