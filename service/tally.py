"""What a report needs beside the core's day: volume-weighted prices, and what cuts cost.

Imports the core and NumPy. A cut is known when it is made; its price is the interval's that it
missed, so it waits for the next snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from service.core.day import Day
from service.core.decide import Decided
from service.core.market import Snapshot
from service.core.reasons import SAFETY, Reason

REASONS = tuple(Reason)


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over a day. ``value`` float64 ``[N]``: interval price x volume in the order's window
    (ticks x shares); ``conflicts`` int64 ``[N]``: steps in which cash cut the order; ``cuts`` int64
    ``[M, 4]``: reason, order, shares cut, their value at the interval's price in minor units;
    ``pending`` int64 ``[P, 3]``: reason, order and shares of the last decision's cuts.
    """

    value: np.ndarray
    conflicts: np.ndarray
    cuts: np.ndarray
    pending: np.ndarray


def start(orders: int) -> Tally:
    """Before the first decision."""
    whole = np.zeros(orders, dtype=np.int64)
    return Tally(whole.astype(np.float64), whole, _table(4), _table(3))


def widened(tally: Tally, more: int) -> Tally:
    """With ``more`` orders behind those that it has."""
    fresh = start(more)
    return replace(
        tally,
        value=np.concatenate([tally.value, fresh.value]),
        conflicts=np.concatenate([tally.conflicts, fresh.conflicts]),
    )


def seen(tally: Tally, before: Day, after: Day, snapshot: Snapshot) -> Tally:
    """After a snapshot was marked: its volume counts, and the last cuts have their price."""
    counted = (after.seen_volume - before.seen_volume).astype(np.float64)
    cuts = _merged(tally.cuts, _priced(tally.pending, after, snapshot))
    value = tally.value + counted * snapshot.price
    return replace(tally, value=value, cuts=cuts, pending=_table(3))


def decided(tally: Tally, choice: Decided) -> Tally:
    """After a decision: what its safety rules cut, order by order."""
    rows, conflicts = [_table(3)], tally.conflicts
    for stage in choice.decision.stages:
        if stage.reason in SAFETY:
            less = stage.before - stage.after
            (at,) = np.nonzero(less > 0)
            rows.append(_columns(np.full_like(at, REASONS.index(stage.reason)), at, less[at]))
            if stage.reason is Reason.CASH:
                conflicts = conflicts + (less > 0)
    return replace(tally, conflicts=conflicts, pending=np.concatenate(rows))


def cost_minor(tally: Tally, day: Day, reference_px: np.ndarray) -> np.ndarray:
    """What each row of ``cuts`` cost, minor units int64 ``[M]``: d (shares x price missed - shares
    x reference), ``reference_px`` (ticks ``[N]``) being what an order obtains on average."""
    order, qty, value = tally.cuts[:, 1], tally.cuts[:, 2], tally.cuts[:, 3]
    usual = np.rint(qty * reference_px[order] / day.rules.ticks_per_minor).astype(np.int64)
    return np.asarray(day.orders.side[order] * (value - usual))


def _priced(pending: np.ndarray, day: Day, snapshot: Snapshot) -> np.ndarray:
    reason, order, qty = pending.T
    value = qty * snapshot.price[order] // day.rules.ticks_per_minor
    return _columns(reason, order, qty, value)


def _merged(held: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """Rows of the same reason and order as one, in their order."""
    rows = np.concatenate([held, fresh])
    keys, at = np.unique(rows[:, :2], axis=0, return_inverse=True)
    sums = np.zeros((len(keys), 2), dtype=np.int64)
    np.add.at(sums, at.reshape(-1), rows[:, 2:])
    return np.concatenate([keys, sums], axis=1)


def _columns(*columns: np.ndarray) -> np.ndarray:
    return np.stack(columns, axis=1).astype(np.int64)


def _table(columns: int) -> np.ndarray:
    return np.zeros((0, columns), dtype=np.int64)
