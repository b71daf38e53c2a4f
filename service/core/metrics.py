"""How well a day was executed: the paper's metrics from a day's state. Imports day and units.

Formulas: paper section 6 (EG, POS, GLR, TOC, ARR). A volume that was not filled is marked at the
last interval's price and reported beside EG as completion. float64 arrays ``[..., N]``.
"""

from __future__ import annotations

from service.core.day import Day
from service.core.units import BP, Array, at_least, namespace


def twap_price(day: Day) -> Array:
    """Mean interval price over the order's window in ticks; the arrival price where none traded."""
    xp = namespace(day.cum_qty)
    count = xp.astype(at_least(day.intervals, 1), xp.float64)
    mean = xp.astype(day.sum_px, xp.float64) / count
    return xp.where(day.intervals > 0, mean, xp.astype(day.arrival_px, xp.float64))


def average_price(day: Day) -> Array:
    """Average price of the whole target in ticks, what is not filled marked at the
    price of the last interval of its window."""
    xp = namespace(day.cum_qty)
    marked = day.cum_notional + (day.remaining + day.working) * day.mark_px
    whole = at_least(day.cum_qty + day.remaining + day.working, 1)
    return xp.astype(marked, xp.float64) / xp.astype(whole, xp.float64)


def execution_gain_bp(day: Day) -> Array:
    """EG of every order against its TWAP: 1e4 d (p - p_twap) / p_twap."""
    xp = namespace(day.cum_qty)
    base, price = twap_price(day), average_price(day)
    gain = BP * xp.astype(day.orders.side, xp.float64) * (price - base)
    known = (base > 0) & (price > 0)  # an order that was cancelled before it traded has no price
    return xp.where(known, gain / xp.where(base > 0, base, 1.0), 0.0)


def slippage_arrival_bp(day: Day) -> Array:
    """Cost against the arrival price, positive when worse."""
    return slippage_bp(day, day.arrival_px)


def slippage_bp(day: Day, price: Array) -> Array:
    """Cost against ``price`` (ticks ``[..., N]``), positive when worse: -1e4 d (p - p_0) / p_0;
    0 where there is no such price."""
    xp = namespace(day.cum_qty)
    base, obtained = xp.astype(price, xp.float64), average_price(day)
    cost = -BP * xp.astype(day.orders.side, xp.float64) * (obtained - base)
    known = (base > 0) & (obtained > 0)
    return xp.where(known, cost / xp.where(base > 0, base, 1.0), 0.0)


def filled_share(day: Day) -> Array:
    """Filled share of each target, at most 1."""
    xp = namespace(day.cum_qty)
    whole = at_least(day.orders.order_qty, 1)  # padding has no target
    filled = xp.minimum(day.cum_qty, day.orders.order_qty)
    return xp.astype(filled, xp.float64) / xp.astype(whole, xp.float64)


def conflict_share(day: Day) -> Array:
    """TOC: share of the day's steps in which the cash rule cut a buy; float64 ``[...]``."""
    xp = namespace(day.cum_qty)
    return xp.astype(xp.asarray(day.conflicts), xp.float64) / day.rules.steps
