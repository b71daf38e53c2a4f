"""Units, bounds and exact integer arithmetic. Imports NumPy and array_api_compat only.

Prices are integers in 1e-4 currency units (ticks), volumes are shares, cash is in minor units of
the account currency. The bounds below are chosen together so that no product or sum that the core
forms leaves int64, and so that every number on the wire stays below 2**53 (JSON, Lua doubles).
"""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np

Array = Any  # a NumPy array or a torch tensor; shapes are given in docstrings

PRICE_SCALE = 10_000
"""Ticks in one currency unit."""
PRICE_TICKS_MAX = 2**34 - 1
"""Largest price, 1,717,986.9183 currency units."""
QTY_MAX = 2**28 - 1
"""Largest order, 268,435,455 shares."""
CASH_MINOR_MAX = 2**43 - 1
"""Largest cash balance and largest notional of one order, in minor units."""
PPM = 1_000_000
BP = 10_000
RHO_BITS = 20
"""Binary digits of the pro-rata factor: 2**43 << 20 is the largest product it forms."""

_LARGEST_PRODUCT = max(PRICE_TICKS_MAX * QTY_MAX, CASH_MINOR_MAX << RHO_BITS)


class InvariantViolation(Exception):
    """A law of the core does not hold: a defect of Concord, never of the caller."""


def check(ok: bool, law: str) -> None:
    """Raise :class:`InvariantViolation` naming ``law`` unless ``ok`` (survives ``python -O``)."""
    if not ok:
        raise InvariantViolation(law)


check(_LARGEST_PRODUCT < 2**63, "the bounds keep every product inside int64")


def namespace(array: Array) -> Any:
    """The array-API namespace of ``array``; NumPy is answered without a look-up."""
    return np if isinstance(array, np.ndarray) else array_api_compat.array_namespace(array)


def on_host(array: Array) -> bool:
    """Whether looking at ``array`` costs nothing: NumPy, or a torch tensor on the CPU."""
    return isinstance(array, np.ndarray | np.generic) or str(array.device) == "cpu"


def at_least(array: Array, low: float) -> Array:
    """``array`` with everything below ``low`` raised to it."""
    if isinstance(array, np.ndarray):  # a tenth of the time of numpy.clip on a live day
        return np.maximum(array, low)
    return namespace(array).clip(array, min=low)


def between(array: Array, low: float, high: float) -> Array:
    """``array`` clipped to ``low..high``."""
    if isinstance(array, np.ndarray):
        return np.minimum(np.maximum(array, low), high)
    return namespace(array).clip(array, low, high)


def ceil_div(numerator: Array, denominator: Array | int) -> Array:
    """``ceil(numerator / denominator)`` for integers, denominator positive."""
    return (numerator + (denominator - 1)) // denominator


def floor_to_lot(qty: Array, lot: Array) -> Array:
    """The largest multiple of ``lot`` not above ``qty``."""
    return qty // lot * lot


def round_to_lot(numerator: Array, denominator: Array | int, lot: Array) -> Array:
    """``numerator / denominator`` shares rounded half up to a multiple of ``lot``."""
    return (2 * numerator + denominator * lot) // (2 * denominator * lot) * lot


def buy_cost_minor(qty: Array, px: Array, ticks_per_minor: int) -> Array:
    """Money paid for ``qty`` shares at ``px`` ticks: rounded up, once per execution."""
    return ceil_div(qty * px, ticks_per_minor)


def sell_proceeds_minor(qty: Array, px: Array, ticks_per_minor: int) -> Array:
    """Money received for ``qty`` shares at ``px`` ticks: rounded down, once per execution."""
    return qty * px // ticks_per_minor
