"""Schedules as policies: TWAP, VWAP and Almgren-Chriss. Imports day, observe, policy and units.

Each follows a cumulative schedule C(t) of the target over the order's own window and wishes what
is missing from it, so a child that was cut or not filled is caught up at the next step.
"""

from __future__ import annotations

from service.core.day import Day
from service.core.observe import Observation
from service.core.policy import Intent, Policy
from service.core.units import PPM, Array, at_least, namespace, round_to_lot

AC_RISK_AVERSION = 1e-2
"""Almgren-Chriss lambda. The paper does not give it: chosen so that an order of 2% daily
volatility over 8 steps trades its first half in about the first third of the day."""
AC_TEMPORARY_IMPACT = 2.5e-6
"""Almgren-Chriss eta (paper section 8)."""


def twap(day: Day, observation: Observation | None = None) -> Intent:
    """Even slices over the order's window; wish int64 ``[..., N]``."""
    done, window = _decisions_done(day), day.orders.window
    return _catch_up(day, done, window)


def vwap(day: Day, observation: Observation | None = None) -> Intent:
    """Slices in proportion to the order's volume profile over its window."""
    xp, orders = namespace(day.cum_qty), day.orders
    steps = xp.arange(1, day.rules.steps + 1, dtype=orders.side.dtype)[:, None]
    start, end = orders.start_step[..., None, :], orders.end_step[..., None, :]
    profile = xp.where((steps >= start) & (steps <= end), orders.profile_ppm, 0)
    whole = at_least(xp.sum(profile, axis=-2), 1)
    until_now = xp.where(steps <= day.step + 1, profile, 0)
    return _catch_up(day, xp.sum(until_now, axis=-2), whole)


def almgren_chriss(day: Day, observation: Observation | None = None) -> Intent:
    """Front-loaded slices: share done after t of L steps is 1 - sinh(k(L - t)) / sinh(kL)."""
    xp, orders = namespace(day.cum_qty), day.orders
    sigma = xp.astype(orders.vol_ppm, xp.float64) / PPM / day.rules.steps**0.5
    kappa_squared = AC_RISK_AVERSION * sigma * sigma / AC_TEMPORARY_IMPACT
    kappa = at_least(xp.acosh(kappa_squared / 2 + 1), 1e-6)
    window = xp.astype(orders.window, xp.float64)
    left = window - xp.astype(_decisions_done(day), xp.float64)
    # exp form of the ratio of sinh, which cannot overflow for long windows
    ahead = xp.exp(-kappa * (window - left)) * (1 - xp.exp(-2 * kappa * left))
    share = 1 - ahead / (1 - xp.exp(-2 * kappa * window))
    done_ppm = xp.astype(share * PPM, orders.side.dtype)
    return _catch_up(day, done_ppm, xp.full_like(day.cum_qty, PPM))


def _decisions_done(day: Day) -> Array:
    """Decisions of the order's window up to and with the coming one; int64 ``[..., N]``."""
    xp, orders = namespace(day.cum_qty), day.orders
    done = day.step + 2 - orders.start_step
    return xp.minimum(at_least(done, 0), orders.window)


def _catch_up(day: Day, part: Array, whole: Array) -> Intent:
    """Wish what is missing from ``order_qty * part / whole``, rounded cumulatively to lots."""
    orders = day.orders
    scheduled = round_to_lot(orders.order_qty * part, whole, orders.lot)
    wish = at_least(scheduled - day.cum_qty - day.working, 0)
    return Intent(wish=wish)


BASELINES: dict[str, Policy] = {
    "twap": twap,
    "vwap": vwap,
    "ac": almgren_chriss,
}
"""The rule-based policies by the name that the API and the command line use."""
