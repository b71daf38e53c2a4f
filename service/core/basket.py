"""Limits of the whole basket: gross, net, and how far one side may be ahead of the other.

Imports day, orders, reasons and units. Each rule cuts the children that it concerns by one factor,
at last prices, in minor units. What has not filled yet is counted where it uses a limit up and not
where it would give room.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from service.core.day import Day
from service.core.orders import BUY
from service.core.reasons import Reason, Stage
from service.core.units import CASH_MINOR_MAX, PPM, RHO_BITS, Array, at_least, namespace


@dataclass(frozen=True, slots=True)
class Room:
    """What ``reason`` leaves to the children where ``counts`` (bool ``[..., N]``) is True.

    ``minor`` int64 ``[..., 1]``, never negative.
    """

    reason: Reason
    counts: Array
    minor: Array


def rooms(day: Day) -> Iterator[Room]:
    """The basket's limits that are set, in the order in which they cut."""
    rules, buys = day.rules, day.orders.side == BUY
    filled = day.cum_notional // rules.ticks_per_minor
    working = _value(day, day.working)
    used = _total(filled + working)
    if rules.gross_notional_minor_max is not None:
        left = _bounded(rules.gross_notional_minor_max - used)
        yield Room(Reason.GROSS, day.orders.live, left)
    net = _total(filled * -day.orders.side)
    if rules.net_notional_minor_max is not None:
        ahead = net + _total(working * buys)
        yield Room(Reason.NET_MAX, buys, _bounded(rules.net_notional_minor_max - ahead))
    if rules.net_notional_minor_min is not None:
        ahead = net - _total(working * ~buys)
        yield Room(Reason.NET_MIN, ~buys, _bounded(ahead - rules.net_notional_minor_min))
    if rules.balance_ppm_max is not None:
        for side in (buys, ~buys):
            yield Room(Reason.BALANCE, side, _level(day, side, rules.balance_ppm_max))


def _level(day: Day, side: Array, band_ppm: int) -> Array:
    """What the orders of ``side`` may trade to be at most ``band_ppm`` ahead of the others.

    Shares of the value of all orders of a side; a basket with one side only is not held back.
    """
    xp = namespace(day.cum_qty)
    whole = _value(day, day.target)
    ours, others = (_total(whole * part) for part in (side, ~side))
    theirs = _total(_value(day, day.cum_qty) * ~side)
    share = xp.where(others > 0, _ppm(theirs, at_least(others, 1)), PPM)
    allowed_ppm = xp.clip(share + band_ppm, None, PPM)
    allowed = ours // PPM * allowed_ppm + ours % PPM * allowed_ppm // PPM
    done = _total(_value(day, day.cum_qty + day.working) * side)
    return _bounded(xp.where(allowed_ppm >= PPM, ours, allowed) - done)


def _ppm(part: Array, whole: Array) -> Array:
    """part / whole in millionths, in two steps: a part times a million may not fit."""
    thousandths = part * 1_000
    return thousandths // whole * 1_000 + thousandths % whole * 1_000 // whole


def _bounded(minor: Array) -> Array:
    """Room in the range in which the factor of a cut is exact."""
    return namespace(minor).clip(minor, 0, CASH_MINOR_MAX)


def within(day: Day, qty: Array, room: Room) -> Stage:
    """``qty`` shares (int64 ``[..., N]``) cut by one factor to what ``room`` leaves."""
    xp, whole = namespace(qty), 1 << RHO_BITS
    need = needed(day, qty, room)
    rho = xp.minimum((room.minor << RHO_BITS) // at_least(need, 1), xp.full_like(need, whole - 1))
    least, most = (qty * factor >> RHO_BITS for factor in (rho, rho + 1))
    # the factor is rounded: up where that still fits, so that a tenth of 600 is 60
    shared = xp.where(needed(day, most, room) <= room.minor, most, least)
    after = xp.where((need > room.minor) & room.counts, shared, qty)
    return Stage(room.reason, qty, after, need, room.minor)


def needed(day: Day, qty: Array, room: Room) -> Array:
    """Value of the children that ``room`` counts; int64 ``[..., 1]``."""
    return _total(_value(day, qty * room.counts))


def _value(day: Day, qty: Array) -> Array:
    return qty * day.last_px // day.rules.ticks_per_minor


def _total(value: Array) -> Array:
    return namespace(value).sum(value, axis=-1, keepdims=True)
