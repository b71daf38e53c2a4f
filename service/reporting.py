"""The report of a day: what was obtained, and what was not and why. Imports render, live, the core.

Formulas are in service/core/metrics.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.core import metrics
from service.core.alarms import Alarm
from service.core.day import Day
from service.core.reasons import Reason
from service.core.units import PRICE_SCALE
from service.live import LiveDay
from service.render import Json, alarm_rows, cash, order_columns
from service.tally import REASONS, cost_minor


def report(day_id: str, live: LiveDay, alarms: Sequence[Alarm]) -> Json:
    """The report of a closed day; formulas in service/core/metrics.py."""
    day, eg = live.day, metrics.execution_gain_bp(live.day)
    shortfall = day.orders.order_qty - day.cum_qty
    shortfall = np.where(shortfall > 0, shortfall, 0)
    prices = _prices(live)
    return {
        "day_id": day_id,
        "account": live.terms.account,
        "currency": live.terms.currency,
        "policy": live.terms.policy,
        "model": live.terms.model,
        "decisions": day.step,
        "steps": day.rules.steps,
        "fallbacks": live.fallbacks,
        "alarm_count": live.alarms,
        "filled_pct": round(100.0 * float(metrics.filled_share(day).mean()), 6),
        "eg_bp": round(float(eg.mean()), 6),
        "toc_pct": round(100.0 * float(metrics.conflict_share(day)), 6),
        "opening_cash_minor": live.terms.opening_cash_minor,
        "cash": cash(day),
        "traded_minor": int((day.cum_notional // day.rules.ticks_per_minor).sum()),
        "cost_minor": {name: _basket_cost(day, px) for name, px in prices.items()},
        "orders": order_columns(live, np.arange(eg.size))
        | {
            "avg_px": _average(day),
            **{f"{name}_px": np.round(px / PRICE_SCALE, 6) for name, px in prices.items()},
            "eg_bp": np.round(eg, 6),
            **{
                f"slippage_{name}_bp": np.round(metrics.slippage_bp(day, px), 6)
                for name, px in prices.items()
                if name != "twap"
            },
            "filled_pct": np.round(100.0 * metrics.filled_share(day), 6),
            "participation_pct": _participation(day),
            "conflict_steps": live.tally.conflicts,
            "shortfall_qty": shortfall,
            "shortfall_reason": _shortfall_reasons(live, shortfall),
        },
        "cuts": _cuts(live),
        "alarms": alarm_rows(live, alarms),
    }


def _prices(live: LiveDay) -> dict[str, np.ndarray]:
    """What orders are measured against, ticks float64 ``[N]``: the mean and the volume-weighted
    price of the order's window, its arrival price, and the day's last price."""
    day, volume = live.day, live.day.seen_volume
    twap = np.asarray(metrics.twap_price(day))
    vwap = np.where(volume > 0, live.tally.value / np.maximum(volume, 1), twap)
    arrival, last = (px.astype(np.float64) for px in (day.arrival_px, day.last_px))
    return {"arrival": arrival, "twap": twap, "vwap": vwap, "close": last}


def _basket_cost(day: Day, price: np.ndarray) -> int:
    """What the fills of all orders cost against ``price``, minor units; positive when worse."""
    usual = day.cum_qty * price
    cost = -day.orders.side * (day.cum_notional - usual) / day.rules.ticks_per_minor
    return int(np.rint(cost).sum())


def _participation(day: Day) -> list[float | None]:
    """Filled shares in percent of the symbol's volume in the order's window."""
    pairs = zip(day.cum_qty.tolist(), day.seen_volume.tolist(), strict=True)
    return [round(100.0 * qty / volume, 6) if volume else None for qty, volume in pairs]


def _cuts(live: LiveDay) -> list[Json]:
    """What each safety rule cut of each order, and what that cost against the order's TWAP."""
    costs = cost_minor(live.tally, live.day, np.asarray(metrics.twap_price(live.day)))
    return [
        {
            "code": REASONS[reason],
            "cl_ord_id": live.terms.cl_ord_ids[order],
            "cut_qty": qty,
            "cost_minor": cost,
        }
        for (reason, order, qty, _), cost in zip(
            live.tally.cuts.tolist(), costs.tolist(), strict=True
        )
    ]


def _average(day: Day) -> list[float | None]:
    """Average fill price; None for an order that was not filled at all."""
    pairs = zip(day.cum_notional.tolist(), day.cum_qty.tolist(), strict=True)
    return [round(notional / qty / PRICE_SCALE, 6) if qty else None for notional, qty in pairs]


def _shortfall_reasons(live: LiveDay, shortfall: np.ndarray) -> list[str | None]:
    day = live.day
    early = day.step < day.orders.end_step  # an order whose window is over was not cut off
    reasons: list[str | None] = []
    for i, short in enumerate(shortfall.tolist()):
        if live.canceled_qty[i] >= 0:
            reasons.append(Reason.CANCELED)
        elif not short:
            reasons.append(None)
        elif day.working[i]:
            reasons.append(Reason.WORKING_AT_CLOSE)
        elif live.blocked[i]:
            reasons.append(REASONS[live.blocked[i] - 1])
        else:
            reasons.append(Reason.CLOSED_EARLY if early[i] else _unforced(day, i))
    return reasons


def _unforced(day: Day, order: int) -> Reason:
    style = day.orders.style
    best_effort = style is not None and bool(style.best_effort[order])
    return Reason.BEST_EFFORT if best_effort else Reason.NOT_FILLED
