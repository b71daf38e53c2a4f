"""Pre-trade limits: prices that protect a child, and the largest child.

Imports day, orders, reasons and units.
"""

from __future__ import annotations

from dataclasses import dataclass

from service.core.day import Day
from service.core.orders import BUY, Style
from service.core.reasons import Reason
from service.core.units import (
    BP,
    CASH_MINOR_MAX,
    PPM,
    PRICE_TICKS_MAX,
    QTY_MAX,
    Array,
    at_least,
    ceil_div,
    namespace,
)

CASH_BUFFER_BP_DEFAULT = 300
"""Wide enough that a half-hour bar hardly ever passes it: an even schedule fills 99.999%."""
CASH_BUFFER_BP_MAX = 5_000
"""A buy may reserve at most 1.5 times its last price."""
CHILD_QTY_MAX = QTY_MAX
CHILD_NOTIONAL_MINOR_MAX = CASH_MINOR_MAX
ORDER_NOTIONAL_MINOR_MAX = CASH_MINOR_MAX // 2
"""Half: a buy reserves up to 1.5 times the last price, a paper sale fills up to the high."""
PARTICIPATION_PPM_MAX = PPM
"""Children are at most the whole volume that the interval is expected to trade."""


@dataclass(frozen=True, slots=True)
class Protection:
    """Prices of the children of one decision in ticks; int64 ``[..., N]``.

    ``protect_px`` goes to the market: no fill of a buy above it, none of a sale below it (0: none).
    ``reserve_px`` is the price at which a buy reserves cash: ``protect_px`` rounded up to whole
    minor units, so that no split into executions, each rounded up, can cost more.
    """

    protect_px: Array
    reserve_px: Array


def protection(day: Day) -> Protection:
    """Protect buys at the lower of their limit and last x (1 + cash_buffer_bp), sales at theirs;
    neither leaves a collar."""
    xp, limit = namespace(day.last_px), day.orders.limit_px
    buys = day.orders.side == BUY
    buffered = day.last_px * (BP + day.rules.cash_buffer_bp) // BP
    capped = xp.where(limit > 0, xp.minimum(limit, buffered), buffered)
    protect = xp.where(buys, capped, limit)
    for low, high in collars(day).values():
        protect = xp.where(buys, xp.minimum(protect, high), xp.maximum(protect, low))
    ticks = day.rules.ticks_per_minor
    return Protection(protect, ceil_div(protect, ticks) * ticks)


def collars(day: Day) -> dict[Reason, tuple[Array, Array]]:
    """Lowest and highest price of each collar in ticks; int64 ``[..., N]``.

    An order without the reference price has none: 0 and the largest price.
    """
    xp, rules, found = namespace(day.last_px), day.rules, {}
    for reason, width_bp, reference in (
        (Reason.COLLAR_CLOSE, rules.collar_close_bp, day.orders.prev_close),
        (Reason.COLLAR_ARRIVAL, rules.collar_arrival_bp, day.arrival_px),
    ):
        if width_bp is not None:
            known = reference > 0
            high = reference * (BP + width_bp) // BP
            low = ceil_div(reference * (BP - width_bp), BP)
            found[reason] = (low * known, xp.where(known, high, PRICE_TICKS_MAX))
    return found


def through_limit(day: Day) -> Array:
    """Where the last price is worse than the order's limit; bool ``[..., N]``."""
    limit, last, buys = day.orders.limit_px, day.last_px, day.orders.side == BUY
    return (limit > 0) & ((buys & (last > limit)) | (~buys & (last < limit)))


def notional_qty_max(day: Day) -> Array:
    """The most shares whose value at the last price keeps the notional cap; int64 ``[..., N]``."""
    cap = day.rules.child_notional_minor_max * day.rules.ticks_per_minor
    return cap // at_least(day.last_px, 1)


def volume_qty_max(day: Day) -> Array:
    """The most shares that the participation cap allows in the coming interval; int64 ``[..., N]``.

    The expected volume is average daily volume x profile; an order without a known average daily
    volume is not capped.
    """
    xp, orders = namespace(day.last_px), day.orders
    coming = min(day.step, day.rules.steps - 1)
    expected = orders.adv_qty * orders.profile_ppm[..., coming, :] // PPM
    allowed = expected * day.rules.participation_ppm_max // PPM
    return xp.where(orders.adv_qty > 0, allowed, xp.zeros_like(allowed) + QTY_MAX)


def participation_qty(day: Day, ppm: Array) -> Array:
    """What ``ppm`` of the symbol's volume since the order's start still allows; int64 ``[..., N]``.

    The volume that was seen and the one expected of the coming interval: average daily volume x
    profile, the last bar's where the average is not known.
    """
    xp, orders = namespace(day.last_px), day.orders
    coming = min(day.step, day.rules.steps - 1)
    expected = orders.adv_qty * orders.profile_ppm[..., coming, :] // PPM
    volume = day.seen_volume + xp.where(orders.adv_qty > 0, expected, day.bar_volume)
    # in two parts: a day's volume times a million does not fit
    part = volume // PPM * ppm + volume % PPM * ppm // PPM
    return at_least(part - day.cum_qty - day.working, 0)


def most_of_volume(day: Day, style: Style) -> Array:
    """The largest child that each order's own participation allows; int64 ``[..., N]``."""
    xp, ppm = namespace(day.last_px), style.participation_ppm_max
    return xp.where(ppm > 0, participation_qty(day, ppm), xp.full_like(ppm, QTY_MAX))
