"""What the portfolio manager asked for and what holds for the whole day. Imports units only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from service.core.units import Array

BUY = -1
"""Acquire: the paper's d = -1."""
SELL = 1
"""Liquidate: the paper's d = +1."""


class Proceeds(StrEnum):
    """When sales pay: once their fills are reported, or within the step (the paper's setting)."""

    REPORTED = "reported"
    SAME_STEP = "same_step"


@dataclass(frozen=True, slots=True)
class Orders:
    """What the portfolio manager asked for; int64 ``[..., N]``, sorted by cl_ord_id.

    ``side`` is BUY or SELL, ``limit_px`` is in ticks (0: none), the window of an order is the
    decisions ``start_step..end_step`` inclusive, counted from 1; ``live`` (bool) is False for
    padding. Reference data: ``prev_close`` in ticks, ``adv_qty`` in shares a day (0: unknown),
    ``vol_ppm`` the daily volatility, ``profile_ppm`` ``[..., T, N]`` the share of the day's volume
    by step.
    """

    side: Array
    order_qty: Array
    lot: Array
    limit_px: Array
    start_step: Array
    end_step: Array
    live: Array
    prev_close: Array
    adv_qty: Array
    vol_ppm: Array
    profile_ppm: Array

    @property
    def window(self) -> Array:
        """Decisions in each order's window; int64 ``[..., N]``."""
        return self.end_step - self.start_step + 1


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for the whole day.

    ``steps`` decisions T, ``ticks_per_minor`` ticks in one minor unit, ``cash_buffer_bp`` how far
    above the last price a buy reserves cash, and the hard limits of one child order.
    """

    steps: int
    ticks_per_minor: int
    cash_buffer_bp: int
    child_qty_max: int
    child_notional_minor_max: int
    participation_ppm_max: int
    proceeds: Proceeds = Proceeds.REPORTED
