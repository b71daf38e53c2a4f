"""From the opening's body to a live day: schedule, rules, terms.

Imports ordering, wire, calendar, live, errors and the core.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.calendar import session_times_us, to_us
from service.core.contract import STEPS_MAX
from service.core.day import open_day
from service.core.orders import SELL, Orders, Rules
from service.core.units import PRICE_SCALE
from service.errors import Code, Problem
from service.live import LiveDay, Terms, begin
from service.ordering import listed_orders
from service.wire import OpenDay, Session, Times

# ISO 4217 currencies whose minor unit is not a hundredth
_MINOR_DIGITS = {
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF".split(), 0),
    **dict.fromkeys("UGX UYI VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
    **dict.fromkeys("CLF UYW".split(), 4),
}


def opened(body: OpenDay, model: dict[str, str]) -> LiveDay:
    """The live day that an opening asks for; ``model`` describes the policy that it pins."""
    times = _times_us(body.schedule)
    listed = listed_orders(body.orders, body.reference, len(times))
    orders = listed.orders
    check_holdings(body.holdings, listed.symbols, orders.side, orders.order_qty)
    limits = body.limits
    asked = limits.model_dump(exclude={"snapshot_age_s_max"})
    per_minor = PRICE_SCALE // 10 ** _MINOR_DIGITS.get(body.currency, 2)
    rules = Rules(steps=len(times), ticks_per_minor=per_minor, **asked)
    check_gross(rules, orders, orders.order_qty)
    terms = Terms(
        account=body.account,
        currency=body.currency,
        times_us=times,
        policy=body.policy.partition("@")[0],
        model=model,
        fills=body.fills,
        snapshot_age_s_max=limits.snapshot_age_s_max,
        opening_cash_minor=body.cash_minor,
        cl_ord_ids=listed.cl_ord_ids,
        symbols=listed.symbols,
        holdings=body.holdings,
    )
    return begin(terms, open_day(orders, rules, np.int64(body.cash_minor)))


def check_gross(rules: Rules, orders: Orders, wanted: np.ndarray) -> None:
    """A mix-up of units dies before the first child: the whole day at prices that are known."""
    most = rules.gross_notional_minor_max
    if most is None:
        return
    px = np.asarray(np.where(orders.prev_close > 0, orders.prev_close, orders.limit_px))
    unpriced = int(((wanted > 0) & ~(px > 0)).sum())
    if unpriced:
        raise Problem(
            Code.BAD_ORDER,
            f"{unpriced} order(s) have neither a prev_close nor a limit_px, which a day with "
            "gross_notional_minor_max needs",
        )
    worth = int((wanted * px // rules.ticks_per_minor).sum())
    if worth > most:
        raise Problem(
            Code.GROSS_TOO_LARGE,
            f"the orders of the day are worth {worth} minor units, gross_notional_minor_max is "
            f"{most}",
            observed=worth,
            limit=most,
        )


def warm(body: OpenDay) -> None:
    """Load what a schedule needs (pandas, a calendar): seconds at first, so never in the loop."""
    if isinstance(body.schedule, Session):
        _times_us(body.schedule)


def _times_us(schedule: Times | Session) -> tuple[int, ...]:
    if isinstance(schedule, Session):
        times = session_times_us(schedule.exchange, schedule.date, schedule.step_minutes)
    else:
        times = tuple(to_us(moment) for moment in schedule.times)
        end = () if schedule.end is None else (to_us(schedule.end),)
        if any(a >= b for a, b in zip((*times, *end), (*times, *end)[1:], strict=False)):
            raise Problem(Code.BAD_SCHEDULE, "send times in strictly increasing order, end last")
    if len(times) > STEPS_MAX:
        raise Problem(Code.BAD_SCHEDULE, f"use at most {STEPS_MAX} steps, this gives {len(times)}")
    return times


def check_holdings(
    holdings: dict[str, int] | None, symbols: Sequence[str], side: np.ndarray, wanted: np.ndarray
) -> None:
    """Raise HOLDINGS_SHORT where more of a symbol is sold than is held; None: nobody knows."""
    if holdings is None:
        return
    sold: dict[str, int] = {}
    for symbol, each, qty in zip(symbols, side, wanted, strict=True):
        if each == SELL:
            sold[symbol] = sold.get(symbol, 0) + int(qty)
    short = sum(qty > holdings.get(symbol, 0) for symbol, qty in sold.items())
    if short:
        raise Problem(Code.HOLDINGS_SHORT, f"{short} symbol(s) are sold beyond their holdings")
