"""From the opening's body to a live day: schedule, orders, reference data, rules.

Imports columns, wire, calendar, live, errors and the core.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.calendar import session_times_us, to_us
from service.columns import refuse, same_length, ticks, unique, whole
from service.core.contract import N_MAX, STEPS_MAX
from service.core.day import open_day
from service.core.orders import BUY, SELL, Orders, Rules
from service.core.units import BP, PPM, PRICE_SCALE
from service.errors import Code, Problem
from service.live import LiveDay, Terms, begin
from service.wire import OpenDay, OrderColumns, ReferenceColumns, Session, Times

VOL_BP_DEFAULT = 200
"""Daily volatility of a symbol without one: 2%."""
VOL_BP_MAX = 10_000
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
    ids = body.orders.cl_ord_id
    rank = sorted(range(len(ids)), key=ids.__getitem__)  # the canonical order of the orders
    orders = _orders(body, rank, len(times))
    symbols = tuple(body.orders.symbol[i] for i in rank)
    _check_holdings(body.holdings, symbols, orders)
    limits = body.limits
    rules = Rules(
        steps=len(times),
        ticks_per_minor=PRICE_SCALE // 10 ** _MINOR_DIGITS.get(body.currency, 2),
        cash_buffer_bp=limits.cash_buffer_bp,
        child_qty_max=limits.child_qty_max,
        child_notional_minor_max=limits.child_notional_minor_max,
        participation_ppm_max=limits.participation_ppm_max,
    )
    terms = Terms(
        account=body.account,
        currency=body.currency,
        times_us=times,
        policy=body.policy,
        model=model,
        fills=body.fills,
        snapshot_age_s_max=limits.snapshot_age_s_max,
        opening_cash_minor=body.cash_minor,
        cl_ord_ids=tuple(ids[i] for i in rank),
        symbols=symbols,
    )
    return begin(terms, open_day(orders, rules, np.int64(body.cash_minor)))


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


def _orders(body: OpenDay, rank: list[int], steps: int) -> Orders:
    columns, n = body.orders, len(rank)
    if n > N_MAX:
        raise Problem(Code.TOO_MANY_ORDERS, f"send at most {N_MAX} orders, this is {n}")
    same_length("orders", columns, n)
    unique("orders.cl_ord_id", columns.cl_ord_id)
    side = np.where(np.array([s == "BUY" for s in columns.side]), BUY, SELL)[rank]
    qty = np.array(columns.order_qty, dtype=np.int64)[rank]
    lot = _column(columns.lot_size, n, 1)[rank]
    start = _column(columns.start_step, n, 1)[rank]
    end = _column(columns.end_step, n, steps)[rank]
    _check_orders(side, qty, lot, start, end, steps, np.array(rank))
    return Orders(
        side=side,
        order_qty=qty,
        lot=lot,
        limit_px=_limits(columns, n)[rank],
        start_step=start,
        end_step=end,
        live=qty > 0,
        **_reference(body.reference, [columns.symbol[i] for i in rank], steps),
    )


def _column(values: Sequence[int] | None, n: int, default: int) -> np.ndarray:
    return np.full(n, default) if values is None else np.array(values, dtype=np.int64)


def _limits(columns: OrderColumns, n: int) -> np.ndarray:
    if columns.limit_px is None:
        return np.zeros(n, dtype=np.int64)
    px, absent = _optional(columns.limit_px)
    return np.where(absent, 0, ticks("orders.limit_px", px))


def _check_orders(
    side: np.ndarray,
    qty: np.ndarray,
    lot: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    steps: int,
    at: np.ndarray,
) -> None:
    odd = (side == BUY) & (qty % lot != 0)
    refuse(Code.BAD_ORDER, odd, "a BUY order_qty must be a multiple of its lot_size", at)
    refuse(Code.BAD_ORDER, start > end, "start_step must not be after end_step", at)
    refuse(Code.BAD_ORDER, end > steps, f"end_step must be at most {steps}, the day's steps", at)


def _check_holdings(
    holdings: dict[str, int] | None, symbols: tuple[str, ...], orders: Orders
) -> None:
    """Without holdings the account is taken to hold exactly what it sells."""
    if holdings is None:
        return
    sold: dict[str, int] = {}
    for symbol, side, qty in zip(symbols, orders.side, orders.order_qty, strict=True):
        if side == SELL:
            sold[symbol] = sold.get(symbol, 0) + int(qty)
    short = sum(qty > holdings.get(symbol, 0) for symbol, qty in sold.items())
    if short:
        raise Problem(Code.HOLDINGS_SHORT, f"{short} symbol(s) are sold beyond their holdings")


def _reference(
    known: ReferenceColumns | None, symbols: list[str], steps: int
) -> dict[str, np.ndarray]:
    """Reference data by order; fallbacks: no gap, unknown volume, 2% volatility, even profile."""
    n = len(symbols)
    even = np.full((steps, n), PPM // steps, dtype=np.int64)
    vol_ppm = np.full(n, VOL_BP_DEFAULT * PPM // BP)
    zero = np.zeros(n, dtype=np.int64)
    found = {"prev_close": zero, "adv_qty": zero, "vol_ppm": vol_ppm, "profile_ppm": even}
    if known is None:
        return found
    same_length("reference", known, len(known.symbol))
    unique("reference.symbol", known.symbol)
    row = {symbol: i for i, symbol in enumerate(known.symbol)}
    at = np.array([row.get(symbol, -1) for symbol in symbols])
    for name, values in _reference_columns(known, steps).items():
        picked = np.moveaxis(values[at], 0, -1)
        given = (at >= 0) & (picked >= 0)  # an absent value keeps the fallback
        found[name] = np.where(given, picked, found[name])
    return found


def _reference_columns(known: ReferenceColumns, steps: int) -> dict[str, np.ndarray]:
    """The given columns; -1 stands for a symbol without the value."""
    columns: dict[str, np.ndarray] = {}
    if known.prev_close is not None:
        px, absent = _optional(known.prev_close)
        columns["prev_close"] = np.where(absent, -1, ticks("reference.prev_close", px))
    if known.adv_qty is not None:
        adv, absent = _optional(known.adv_qty)
        columns["adv_qty"] = np.where(absent, -1, whole(adv))
    if known.daily_vol_bp is not None:
        vol, absent = _optional(known.daily_vol_bp)
        wrong = ~((vol > 0) & (vol <= VOL_BP_MAX))
        refuse(Code.BAD_FIELD, wrong, f"daily_vol_bp must be above 0, at most {VOL_BP_MAX}")
        vol_ppm = np.maximum(np.rint(vol * (PPM // BP)), 1).astype(np.int64)
        columns["vol_ppm"] = np.where(absent, -1, vol_ppm)
    if known.volume_profile is not None:
        columns["profile_ppm"] = _profile(known.volume_profile, steps)
    return columns


def _optional(values: Sequence[float | None]) -> tuple[np.ndarray, np.ndarray]:
    """Values with an acceptable 1 where they are absent, and where that is."""
    absent = np.array([value is None for value in values])
    return np.array([1 if value is None else value for value in values], dtype=float), absent


def _profile(rows: list[list[float]], steps: int) -> np.ndarray:
    """Volume shares by step, each row scaled to one; ``[symbols, steps]`` in ppm."""
    if any(len(row) != steps for row in rows):
        raise Problem(Code.COLUMNS_DIFFER, f"each volume_profile needs {steps} shares, one a step")
    shares = np.array(rows, dtype=float).reshape(len(rows), steps)
    with np.errstate(over="ignore"):  # what overflows is refused below
        total = shares.sum(axis=1, keepdims=True)
    wrong = (shares < 0).any(axis=1) | (total[:, 0] <= 0) | (total[:, 0] > PPM)
    refuse(Code.BAD_FIELD, wrong, "volume_profile shares must be >= 0 and not all 0")
    return whole(shares / total * PPM)
