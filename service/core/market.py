"""What the market tells: bars and fills. Imports units only."""

from __future__ import annotations

from dataclasses import dataclass

from service.core.units import Array, namespace


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One bar per order for the time since the last decision; int64 ``[..., N]``.

    Prices in ticks, volume in shares. ``price`` is the interval price p_t (see
    :func:`interval`), ``halted`` (bool) is True where the symbol may not trade.
    Before the first decision all prices are the opening or indicative one and volume is 0.
    """

    open: Array
    high: Array
    low: Array
    close: Array
    price: Array
    volume: Array
    halted: Array


@dataclass(frozen=True, slots=True)
class Fills:
    """What happened to working volume since the last settlement; int64 ``[..., N]``.

    ``qty`` shares executed for ``notional`` (ticks x shares) and ``cash_minor`` (positive, paid by
    buys, received by sells); ``beyond_qty`` is the part of ``qty`` that was not working any more
    (late or too large); ``ended_qty`` was working and ended without a fill (cancelled, rejected,
    expired); ``reserved_minor`` is what the volume still working keeps reserved.
    """

    qty: Array
    notional: Array
    cash_minor: Array
    beyond_qty: Array
    ended_qty: Array
    reserved_minor: Array


def opening(price: Array) -> Snapshot:
    """The snapshot before the first decision: one price, no range, no volume."""
    xp = namespace(price)
    nothing = xp.zeros_like(price)
    return Snapshot(price, price, price, price, price, nothing, nothing > 0)


def mean_price(open_: Array, high: Array, low: Array, close: Array) -> Array:
    """Price of a bar without a volume-weighted one: (o + h + l + c) / 4, rounded half up."""
    return (open_ + high + low + close + 2) // 4


def interval(
    open_: Array, high: Array, low: Array, close: Array, price: Array, volume: Array
) -> Snapshot:
    """Merge the m bars ``[..., m, N]`` of one decision interval into a snapshot ``[..., N]``.

    The interval price p_t is what equal volume per bar obtains: the mean of the bar prices over
    the bars that traded, rounded half up; the last close where none traded. This is the one
    definition that paper fills, the simulator and every metric use: the paper spreads a step's
    volume equally over its minutes. Bars do not say who is suspended, so nothing is ``halted``.
    """
    xp = namespace(close)
    traded = volume > 0
    bars = xp.sum(xp.astype(traded, close.dtype), axis=-2)
    total = xp.sum(xp.where(traded, price, xp.zeros_like(price)), axis=-2)
    ones = xp.ones_like(bars)
    mean = (2 * total + bars) // xp.maximum(2 * bars, ones)
    last = close[..., -1, :]
    return Snapshot(
        open=open_[..., 0, :],
        high=xp.max(high, axis=-2),
        low=xp.min(low, axis=-2),
        close=last,
        price=xp.where(bars > 0, mean, last),
        volume=xp.sum(volume, axis=-2),
        halted=bars < 0,
    )
