"""Checks on whole columns of a body. Imports errors and the core's units.

Every error names what to change and the place, by column and position, never the value.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from service.core.units import PRICE_SCALE, PRICE_TICKS_MAX
from service.errors import Code, Problem
from service.wire import OrderColumns, ReferenceColumns, SnapshotColumns

SHOWN_MAX = 10
"""Positions shown in one error."""


def ticks(where: str, prices: np.ndarray, at: np.ndarray | None = None) -> np.ndarray:
    """Prices in 1e-4 units, rounded half to even; raises BAD_PRICE outside the bounds.

    ``at`` gives the place of each price in the caller's column, where it is another.
    """
    with np.errstate(over="ignore"):  # what overflows is refused below
        scaled = np.rint(prices * PRICE_SCALE)
    wrong = ~((scaled >= 1) & (scaled <= PRICE_TICKS_MAX))
    top = PRICE_TICKS_MAX / PRICE_SCALE
    refuse(Code.BAD_PRICE, wrong, f"{where} must be 0.0001 to {top}", at)
    return whole(scaled)


def whole(values: np.ndarray) -> np.ndarray:
    """Rounded half to even; int64."""
    rounded: np.ndarray = np.rint(values).astype(np.int64)
    return rounded


def refuse(code: Code, wrong: np.ndarray, what: str, at: np.ndarray | None = None) -> None:
    """Raise ``code`` with the positions in the caller's column where ``wrong`` is True."""
    if wrong.any():
        places = np.flatnonzero(wrong) if at is None else np.unique(at[wrong])
        shown = [int(i) for i in places[:SHOWN_MAX]]
        raise Problem(code, what, positions=shown, count=int(places.size))


def same_length(
    block: str, columns: OrderColumns | ReferenceColumns | SnapshotColumns, n: int
) -> None:
    """Raise COLUMNS_DIFFER unless every given column has ``n`` entries."""
    for name in type(columns).model_fields:
        values = getattr(columns, name)
        if values is not None and len(values) != n:
            raise Problem(
                Code.COLUMNS_DIFFER, f"{block}.{name} has {len(values)} entries, {n} are needed"
            )


def unique(where: str, values: Iterable[str]) -> None:
    """Raise DUPLICATE_ID unless all values differ."""
    listed = list(values)
    if len(set(listed)) != len(listed):
        raise Problem(Code.DUPLICATE_ID, f"each value of {where} may occur once")
