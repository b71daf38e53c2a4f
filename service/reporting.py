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
from service.render import Json, alarm_rows, canceled_qty, cash, order_columns
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
        "filled_pct": _mean(100.0 * metrics.filled_share(day), day.target > 0),
        "eg_bp": _mean(eg, day.target > 0),
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
            "canceled_qty": canceled_qty(day),
            "shortfall_qty": shortfall,
            "shortfall_reason": _shortfall_reasons(live, shortfall),
        },
        "cuts": _cuts(live),
        "alarms": alarm_rows(live, alarms),
    }


def _mean(values: np.ndarray, counts: np.ndarray) -> float | None:
    """Mean over the orders that count: one that was cancelled before it traded is none."""
    return round(float(values[counts].mean()), 6) if counts.any() else None


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
    # what was filled before any price was seen has nothing to be compared with
    return int(np.rint(np.where(price > 0, cost, 0.0)).sum())


def _participation(day: Day) -> list[float | None]:
    """Filled shares in percent of the symbol's volume in the order's window."""
    pairs = zip(day.cum_qty.tolist(), day.seen_volume.tolist(), strict=True)
    return [round(100.0 * qty / volume, 6) if volume else None for qty, volume in pairs]


def _cuts(live: LiveDay) -> list[Json]:
    """What each safety rule cut of each order, and what that cost against the order's TWAP; None
    for cuts of a decision whose interval was never seen."""
    tally, ids = live.tally, live.terms.cl_ord_ids
    costs = cost_minor(tally, live.day, np.asarray(metrics.twap_price(live.day))).tolist()
    priced = zip(tally.cuts[:, :3].tolist(), costs, strict=True)
    rows = [*priced, *((row, None) for row in tally.pending.tolist())]
    return [
        {"code": REASONS[code], "cl_ord_id": ids[order], "cut_qty": qty, "cost_minor": cost}
        for (code, order, qty), cost in rows
    ]


def _average(day: Day) -> list[float | None]:
    """Average fill price; None for an order that was not filled at all."""
    pairs = zip(day.cum_notional.tolist(), day.cum_qty.tolist(), strict=True)
    return [round(notional / qty / PRICE_SCALE, 6) if qty else None for notional, qty in pairs]


def _shortfall_reasons(live: LiveDay, shortfall: np.ndarray) -> list[str | None]:
    day = live.day
    early = day.step < day.orders.end_step  # an order whose window is over was not cut off
    style, reasons = day.orders.style, list[str | None]()
    canceled = np.zeros(len(shortfall), dtype=bool) if style is None else style.canceled
    for i, short in enumerate(shortfall.tolist()):
        if not short:
            reasons.append(None)
        elif canceled[i]:
            reasons.append(Reason.CANCELED)
        elif day.working[i] >= short:  # all of it was sent
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
