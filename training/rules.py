"""The schedules that learned methods are compared with: the core's, and one that minds its cash.

TWAP asks for even slices and lets the cash rule cut what cash does not pay, which counts as a
conflict. ``twap_sync`` looks first: what a fair comparison with methods that coordinate needs.
"""

from __future__ import annotations

from service.core.baselines import BASELINES, twap
from service.core.day import Day
from service.core.limits import protection
from service.core.observe import Observation
from service.core.orders import BUY, Proceeds
from service.core.policy import Intent, Policy
from service.core.units import (
    BP,
    RHO_BITS,
    Array,
    at_least,
    buy_cost_minor,
    floor_to_lot,
    namespace,
    sell_proceeds_minor,
)


def twap_sync(day: Day, observation: Observation | None = None) -> Intent:
    """Even slices, all buys scaled by the one factor that cash pays; wish int64 ``[..., N]``.

    Buys are priced as the service protects them; where sales pay within the step, theirs are
    expected below the last price by as much. What is scaled away is caught up later, so buys stay
    in step with each other. Only at the last decision, when everything must go out, cash may cut.
    """
    xp, ticks = namespace(day.cum_qty), day.rules.ticks_per_minor
    wish = twap(day).wish
    buys = wish * (day.orders.side == BUY)
    cost = buy_cost_minor(buys, protection(day).reserve_px, ticks)
    need = xp.sum(cost, axis=-1, keepdims=True)
    free = xp.expand_dims(xp.asarray(day.free_cash_minor), axis=-1)
    if day.rules.proceeds is Proceeds.SAME_STEP:
        free = free + xp.sum(_proceeds(day, wish - buys), axis=-1, keepdims=True)
    payable = xp.minimum(at_least(free, 0), need)
    scaled = buys * ((payable << RHO_BITS) // at_least(need, 1)) >> RHO_BITS
    return Intent(wish=wish - buys + floor_to_lot(scaled, day.orders.lot))


def _proceeds(day: Day, sales: Array) -> Array:
    """What ``sales`` shares pay at least within the step, minor units; only what can trade."""
    low = day.last_px * (BP - day.rules.cash_buffer_bp) // BP
    return sell_proceeds_minor(sales * ~day.halted, low, day.rules.ticks_per_minor)


RULES: dict[str, Policy] = {**BASELINES, "twap-sync": twap_sync}
"""The rule-based methods by name."""
