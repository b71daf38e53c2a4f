"""What the demo client sends: the bodies of a day, made from bars and orders.

Bars are the market of this client: before each decision it sends the bar of the interval that has
passed, and where it reports fills, it fills every child as paper fills do, at the interval price.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.client.adapters import snapshot_columns
from service.client.commands import OpenDay, Step
from service.core.fills import execute
from service.core.market import Snapshot, opening
from service.core.orders import BUY
from service.core.units import PRICE_SCALE
from service.play.day_bars import DayBars, bar_minutes, merge, minute
from service.play.orders import Basket, Reference

Json = dict[str, Any]
PAPER, REPORTED = "paper", "reported"
CURRENCY = "USD"
"""Of every demo account; any currency with cents is played alike."""


@dataclass(frozen=True, slots=True)
class Script:
    """One day to play: ``steps[n]`` is the bar of interval n + 1 of every symbol that is traded.

    ``times`` are the moments of the decisions, ``end`` the end of the last interval. Bars carry no
    time zone: exchange-local times are sent as if they were UTC.
    """

    day_id: str
    policy: str
    fills: str
    basket: Basket
    opening: Snapshot
    steps: tuple[Snapshot, ...]
    times: tuple[str, ...]
    end: str


def script(
    day: DayBars,
    basket: Basket,
    step_bars: int,
    *,
    day_id: str,
    policy: str,
    fills: str,
) -> Script:
    """The day as it will be played, with decisions every ``step_bars`` bars."""
    last = minute(day.starts[-1]) + bar_minutes(day)
    return Script(
        day_id=day_id,
        policy=policy,
        fills=fills,
        basket=basket,
        opening=opening(day.open[0, basket.column]),
        steps=tuple(_of(step, basket) for step in merge(day, step_bars)),
        times=tuple(_moment(day.date, minute(start)) for start in day.starts[::step_bars]),
        end=_moment(day.date, last),
    )


def open_body(play: Script) -> OpenDay:
    """Body of PUT /v1/days/{day_id}."""
    basket = play.basket
    orders: Json = {
        "cl_ord_id": list(basket.cl_ord_id),
        "symbol": list(basket.symbol),
        "side": ["BUY" if side == BUY else "SELL" for side in basket.side],
        "order_qty": basket.order_qty.tolist(),
        "lot_size": [basket.lot] * len(basket.symbol),
    }
    if basket.limit_px is not None:
        orders["limit_px"] = [px / PRICE_SCALE or None for px in basket.limit_px.tolist()]
    body: OpenDay = {
        "account": "demo",
        "currency": CURRENCY,
        "schedule": {"times": list(play.times), "end": play.end},
        "cash_minor": basket.cash_minor,
        "orders": orders,
        "policy": play.policy,
        "fills": play.fills,
    }
    if basket.reference is not None:
        body["reference"] = _reference(basket.symbol, basket.reference)
    return body


def step_body(play: Script, step: int, executions: Sequence[Json]) -> Step:
    """Body of POST …/steps/{step}, counted from 1: the bar of the interval before it."""
    bar = play.opening if step == 1 else play.steps[step - 2]
    return _body(play, play.times[step - 1], bar, executions)


def close_body(play: Script, executions: Sequence[Json]) -> Step:
    """Body of POST …/close: the bar of the last interval."""
    return _body(play, play.end, play.steps[-1], executions)


def executions(play: Script, decision: Json) -> list[Json]:
    """Reports for the children of ``decision`` at the end of its interval, by the paper rule."""
    orders, bar = decision["orders"], play.steps[decision["step"] - 1]
    place = {cl_ord_id: at for at, cl_ord_id in enumerate(play.basket.cl_ord_id)}
    at = np.array([place[cl_ord_id] for cl_ord_id in orders["cl_ord_id"]], dtype=np.int64)
    protect = np.array([px or 0.0 for px in orders["protect_px"]]) * PRICE_SCALE
    sent = np.array(orders["child_qty"], dtype=np.int64)
    basket = play.basket
    filled, px = execute(
        basket.side[at],
        sent,
        np.rint(protect).astype(np.int64),
        np.broadcast_to(basket.lot, basket.side.shape)[at],
        _at(bar, at),
    )
    rows = zip(orders["child_id"], sent.tolist(), filled.tolist(), px.tolist(), strict=True)
    return [report for row in rows if row[0] for report in _reports(*row)]


def _reports(child: str, sent: int, filled: int, px: int) -> list[Json]:
    """A fill, a partial fill and the end of the rest, or the end of all."""
    exec_id = f"X-{child.replace('/', '-')}"
    trade: Json = {"exec_id": exec_id, "child_id": child, "last_qty": filled}
    trade["last_px"] = px / PRICE_SCALE
    if filled == sent:
        return [trade | {"exec_type": "FILL"}]
    ended: Json = {"exec_id": f"{exec_id}-E", "child_id": child, "exec_type": "EXPIRED"}
    return [trade | {"exec_type": "PARTIAL_FILL"}, ended] if filled else [ended]


def _at(bar: Snapshot, at: np.ndarray) -> Snapshot:
    names = ("open", "high", "low", "close", "price", "volume", "halted")
    return Snapshot(*(getattr(bar, name)[at] for name in names))


def _body(play: Script, as_of: str, bar: Snapshot, reports: Sequence[Json]) -> Step:
    return {
        "as_of": as_of,
        "snapshot": snapshot_columns(play.basket.symbol, bar),
        "executions": list(reports),
    }


def _reference(symbols: Sequence[str], known: Reference) -> Json:
    return {
        "symbol": list(symbols),
        "prev_close": (known.prev_close / PRICE_SCALE).tolist(),
        "adv_qty": known.adv_qty.tolist(),
        "daily_vol_bp": (known.vol_ppm / 100).tolist(),
        "volume_profile": (known.profile_ppm.T / 1e6).tolist(),
    }


def _of(step: Snapshot, basket: Basket) -> Snapshot:
    """The bars of the orders' symbols."""
    return _at(step, basket.column)


def _moment(date: str, minute: int) -> str:
    midnight = dt.datetime.fromisoformat(f"{date}T00:00:00+00:00")
    return (midnight + dt.timedelta(minutes=minute)).isoformat()
