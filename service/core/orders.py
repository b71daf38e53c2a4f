"""What the portfolio manager asked for and what holds for the whole day. Imports units only."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum
from typing import Any

from service.core.units import PPM, Array, namespace

BUY = -1
"""Acquire: the paper's d = -1."""
SELL = 1
"""Liquidate: the paper's d = +1."""


class Proceeds(StrEnum):
    """When sales pay: once their fills are reported, or within the step (the paper's setting)."""

    REPORTED = "reported"
    SAME_STEP = "same_step"


OPENING, CLOSING = 1, 2
"""Bits of an order's auctions."""


@dataclass(frozen=True, slots=True)
class Style:
    """How single orders are to be worked, beside the policy; int64 ``[..., N]`` but for flags.

    ``paused`` (bool): send nothing. ``canceled`` (bool): wants no more than what is filled or
    working, for ever. ``best_effort`` (bool): nothing is forced out at the end.
    ``urgency_pct`` -100..100: how far the policy's wish is moved towards the even schedule (below
    0) or a front-loaded one (above). ``participation_ppm_min`` (best effort) and ``_max`` (hard,
    0: none): share of the symbol's volume since the order's start, what is expected of the coming
    interval counted. Where the last price is ``would_px`` (ticks, 0: none) or better,
    ``would_ppm`` of what remains is wished. ``min_qty``: no smaller child, but for the rest.
    ``auction``: the auctions that its children may go to (1 opening, 2 closing, 3 both), an advice
    to whoever routes them, which no rule reads.
    """

    paused: Array
    canceled: Array
    best_effort: Array
    urgency_pct: Array
    participation_ppm_min: Array
    participation_ppm_max: Array
    would_px: Array
    would_ppm: Array
    min_qty: Array
    auction: Array


@dataclass(frozen=True, slots=True)
class Orders:
    """What the portfolio manager asked for; int64 ``[..., N]``, sorted by cl_ord_id.

    ``side`` is BUY or SELL, ``limit_px`` is in ticks (0: none), the window of an order is the
    decisions ``start_step..end_step`` inclusive, counted from 1; ``live`` (bool) is False for
    padding. Reference data: ``prev_close`` in ticks, ``adv_qty`` in shares a day (0: unknown),
    ``vol_ppm`` the daily volatility, ``profile_ppm`` ``[..., T, N]`` the share of the day's volume
    by step. ``style`` None: every order is worked as the policy alone wants it.
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
    style: Style | None = None

    @property
    def window(self) -> Array:
        """Decisions in each order's window; int64 ``[..., N]``."""
        return self.end_step - self.start_step + 1


def plain_style(like: Array) -> Style:
    """The style of orders that have none of their own; columns as ``like``, int64 ``[..., N]``."""
    zero = namespace(like).zeros_like(like)
    never = zero > 0
    return Style(
        paused=never,
        canceled=never,
        best_effort=never,
        urgency_pct=zero,
        participation_ppm_min=zero,
        participation_ppm_max=zero,
        would_px=zero,
        would_ppm=zero + PPM,
        min_qty=zero,
        auction=zero,
    )


def joined_orders(first: Orders, then: Orders) -> Orders:
    """Both, the second behind the first; if one has a style, the other gets a plain one."""
    xp = namespace(first.side)
    if (first.style is None) != (then.style is None):
        first, then = (replace(o, style=o.style or plain_style(o.side)) for o in (first, then))

    def joined(a: Any, b: Any) -> Any:
        if is_dataclass(a):
            pairs = {f.name: joined(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)}
            return replace(a, **pairs)  # type: ignore[type-var]
        return a if a is None else xp.concat([a, b], axis=-1)

    both: Orders = joined(first, then)
    return both


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for the whole day.

    ``steps`` decisions T, ``ticks_per_minor`` ticks in one minor unit, ``cash_buffer_bp`` how far
    above the last price a buy reserves cash, and the hard limits of one child order.

    Of the basket, None where there is no limit: ``cash_floor_minor`` cash that no buy touches;
    ``gross_notional_minor_max`` value traded in the day, ``net_notional_minor_min`` and ``_max``
    value bought less value sold, ``balance_ppm_max`` how far the completed share of one side may
    be ahead of the other's; ``collar_close_bp`` and ``collar_arrival_bp`` how far a price may be
    from the previous close and from the arrival price.
    """

    steps: int
    ticks_per_minor: int
    cash_buffer_bp: int
    child_qty_max: int
    child_notional_minor_max: int
    participation_ppm_max: int
    proceeds: Proceeds = Proceeds.REPORTED
    cash_floor_minor: int = 0
    gross_notional_minor_max: int | None = None
    net_notional_minor_min: int | None = None
    net_notional_minor_max: int | None = None
    balance_ppm_max: int | None = None
    collar_close_bp: int | None = None
    collar_arrival_bp: int | None = None
