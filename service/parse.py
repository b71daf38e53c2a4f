"""From the wire to the core: validated bodies become days, snapshots and reports.

Imports wire, calendar, live, errors and the core. Ranges are checked on whole arrays; every error
names what to change and the place, by column and position.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from service.calendar import session_times_us, to_us
from service.core.book import TRADES, Report
from service.core.contract import N_MAX, STEPS_MAX
from service.core.day import BUY, SELL, Orders, Rules, open_day
from service.core.market import Snapshot, mean_price, opening
from service.core.units import (
    BP,
    CASH_MINOR_MAX,
    PPM,
    PRICE_SCALE,
    PRICE_TICKS_MAX,
)
from service.errors import Code, Problem
from service.live import LiveDay, Terms, begin
from service.wire import (
    Execution,
    OpenDay,
    OrderColumns,
    ReferenceColumns,
    Session,
    SnapshotColumns,
    Times,
)

VOL_BP_DEFAULT = 200
"""Daily volatility of a symbol without one: 2%."""
VOL_BP_MAX = 10_000
VOLUME_MAX = 2**40
SHOWN_MAX = 10
# ISO 4217 currencies whose minor unit is not a hundredth
_MINOR_DIGITS = {
    **dict.fromkeys(("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF").split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
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
    _same_length("orders", columns, n)
    _unique("orders.cl_ord_id", columns.cl_ord_id)
    side = np.where(np.array([s == "BUY" for s in columns.side]), BUY, SELL)[rank]
    qty = np.array(columns.order_qty, dtype=np.int64)[rank]
    lot = _column(columns.lot_size, n, 1)[rank]
    start = _column(columns.start_step, n, 1)[rank]
    end = _column(columns.end_step, n, steps)[rank]
    _check_orders(side, qty, lot, start, end, steps)
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
    given = np.array([np.nan if px is None else px for px in columns.limit_px], dtype=float)
    absent = np.isnan(given)
    return np.where(absent, 0, ticks("orders.limit_px", np.where(absent, 1.0, given)))


def _check_orders(
    side: np.ndarray,
    qty: np.ndarray,
    lot: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    steps: int,
) -> None:
    """Positions in these errors are places in cl_ord_id order."""
    odd = (side == BUY) & (qty % lot != 0)
    _refuse(Code.BAD_ORDER, odd, "a BUY order_qty must be a multiple of its lot_size")
    _refuse(Code.BAD_ORDER, start > end, "start_step must not be after end_step")
    _refuse(Code.BAD_ORDER, end > steps, f"end_step must be at most {steps}, the day's steps")


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
    _same_length("reference", known, len(known.symbol))
    _unique("reference.symbol", known.symbol)
    row = {symbol: i for i, symbol in enumerate(known.symbol)}
    at = np.array([row.get(symbol, -1) for symbol in symbols])
    for name, values in _reference_columns(known, steps).items():
        picked = np.moveaxis(values[at], 0, -1)
        found[name] = np.where(at >= 0, picked, found[name])
    return found


def _reference_columns(known: ReferenceColumns, steps: int) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {}
    if known.prev_close is not None:
        columns["prev_close"] = ticks("reference.prev_close", np.array(known.prev_close))
    if known.adv_qty is not None:
        columns["adv_qty"] = np.array(known.adv_qty, dtype=np.int64)
    if known.daily_vol_bp is not None:
        vol = np.array(known.daily_vol_bp)
        wrong = ~((vol > 0) & (vol <= VOL_BP_MAX))
        _refuse(Code.BAD_FIELD, wrong, f"daily_vol_bp must be above 0, at most {VOL_BP_MAX}")
        columns["vol_ppm"] = np.maximum(np.rint(vol * (PPM // BP)), 1).astype(np.int64)
    if known.volume_profile is not None:
        columns["profile_ppm"] = _profile(known.volume_profile, steps)
    return columns


def _profile(rows: list[list[float]], steps: int) -> np.ndarray:
    """Volume shares by step, each row scaled to one; ``[symbols, steps]`` in ppm."""
    if any(len(row) != steps for row in rows):
        raise Problem(Code.COLUMNS_DIFFER, f"each volume_profile needs {steps} shares, one a step")
    shares = np.array(rows, dtype=float).reshape(len(rows), steps)
    with np.errstate(over="ignore"):  # what overflows is refused below
        total = shares.sum(axis=1, keepdims=True)
    wrong = (shares < 0).any(axis=1) | (total[:, 0] <= 0) | (total[:, 0] > PPM)
    _refuse(Code.BAD_FIELD, wrong, "volume_profile shares must be >= 0 and not all 0")
    return _whole(shares / total * PPM)


def snapshot(live: LiveDay, columns: SnapshotColumns) -> Snapshot:
    """One bar per order from one bar per symbol; before the first decision only opens count."""
    _same_length("snapshot", columns, len(columns.symbols))
    at = _places(live, columns.symbols)
    o, h, lo, c = (
        ticks(f"snapshot.{name}", np.array(getattr(columns, name)))[at]
        for name in ("open", "high", "low", "close")
    )
    wrong = (h < lo) | (o > h) | (o < lo) | (c > h) | (c < lo)
    _refuse(Code.BAD_PRICE, wrong, "each bar needs low <= open, close <= high")
    volume = _volumes(columns.volume)[at]
    _check_notional(live, h)
    halted = volume < 0
    if columns.status is not None:
        halted = np.array([status == "HALT" for status in columns.status])[at]
    if live.day.step == 0:
        return _halting(opening(o), halted)
    price = mean_price(o, h, lo, c)
    if columns.vwap is not None:
        price = ticks("snapshot.vwap", np.array(columns.vwap))[at]
        outside = (price < lo) | (price > h)
        _refuse(Code.BAD_PRICE, outside, "each vwap must lie between low and high")
    return Snapshot(o, h, lo, c, price, volume, halted)


def _halting(bar: Snapshot, halted: np.ndarray) -> Snapshot:
    return Snapshot(bar.open, bar.high, bar.low, bar.close, bar.price, bar.volume, halted)


def _volumes(values: list[int]) -> np.ndarray:
    if values and not (0 <= min(values) and max(values) <= VOLUME_MAX):
        raise Problem(Code.BAD_VOLUME, f"each snapshot.volume must be 0 to {VOLUME_MAX} shares")
    return np.array(values, dtype=np.int64)


def _places(live: LiveDay, symbols: list[str]) -> np.ndarray:
    row = {symbol: i for i, symbol in enumerate(symbols)}
    if len(row) != len(symbols):
        raise Problem(Code.DUPLICATE_ID, "each symbol may occur once in snapshot.symbols")
    at = [row.get(symbol, -1) for symbol in live.terms.symbols]
    if -1 in at:
        missing = sorted({s for s, i in zip(live.terms.symbols, at, strict=True) if i < 0})
        raise Problem(
            Code.SYMBOL_MISSING,
            f"add a bar for {len(missing)} more symbol(s) of the day, see missing",
            missing=missing[:SHOWN_MAX],
        )
    return np.array(at)


def _check_notional(live: LiveDay, high: np.ndarray) -> None:
    """Orders, and all sales beside the cash, must stay in the range of exact arithmetic."""
    day = live.day
    per_minor = day.rules.ticks_per_minor
    # half: a buy reserves up to 1.5 times the last price; a paper sale fills up to the high
    worth = day.orders.order_qty * high // per_minor
    _refuse(
        Code.NOTIONAL_TOO_LARGE,
        worth > CASH_MINOR_MAX // 2,
        f"an order may be worth at most {CASH_MINOR_MAX // 2} minor units at its bar's high",
    )
    sales = int((worth * (day.orders.side == SELL)).sum())
    if int(day.cash_minor) + sales > CASH_MINOR_MAX:
        raise Problem(
            Code.NOTIONAL_TOO_LARGE,
            f"cash and all sales together may be worth at most {CASH_MINOR_MAX} minor units",
        )


def reports(live: LiveDay, executions: Sequence[Execution]) -> list[Report]:
    """Execution reports by order number; raises BAD_EXECUTION with the position."""
    _unique("executions.exec_id", [execution.exec_id for execution in executions])
    listed = [_report(live, i, execution) for i, execution in enumerate(executions)]
    if sum(report.qty * report.px for report in listed) > _ticks_max(live):
        raise Problem(
            Code.NOTIONAL_TOO_LARGE,
            f"the fills of one request may be worth at most {CASH_MINOR_MAX} minor units",
        )
    return listed


def _ticks_max(live: LiveDay) -> int:
    return CASH_MINOR_MAX * live.day.rules.ticks_per_minor


def _report(live: LiveDay, index: int, execution: Execution) -> Report:
    cl_ord_id, step = _named(index, execution)
    order = live.numbers.get(cl_ord_id)
    if order is None:
        raise bad_execution(index, "no such order in this day")
    if step is not None and not 1 <= step <= live.day.step:
        raise bad_execution(index, f"no such child: {live.day.step} steps have been decided")
    trade = execution.exec_type in TRADES
    if trade == (execution.last_qty is None) or trade == (execution.last_px is None):
        needs = "needs" if trade else "must not have"
        raise bad_execution(index, f"{execution.exec_type} {needs} last_qty and last_px")
    qty, px = execution.last_qty or 0, 0
    if execution.last_px is not None:
        px = int(ticks(f"executions.{index}.last_px", np.array([execution.last_px]))[0])
    if qty * px > _ticks_max(live):
        raise bad_execution(index, f"one fill may be worth at most {CASH_MINOR_MAX} minor units")
    return Report(execution.exec_id, order, step, execution.exec_type, qty, px)


def _named(index: int, execution: Execution) -> tuple[str, int | None]:
    """The order that a report names, and the child's step if it names a child."""
    if (execution.cl_ord_id is None) == (execution.child_id is None):
        raise bad_execution(index, "send either cl_ord_id or child_id")
    if execution.child_id is None:
        return execution.cl_ord_id or "", None
    cl_ord_id, _, step = execution.child_id.rpartition("/")
    return cl_ord_id, int(step)


def bad_execution(index: int, why: str) -> Problem:
    """A refusal of one execution: nothing of the request was booked."""
    return Problem(Code.BAD_EXECUTION, why, errors=[(f"executions.{index}", why)])


def ticks(where: str, prices: np.ndarray) -> np.ndarray:
    """Prices in 1e-4 units, rounded half to even; raises BAD_PRICE outside the bounds."""
    with np.errstate(over="ignore"):  # what overflows is refused below
        whole = np.rint(prices * PRICE_SCALE)
    wrong = ~((whole >= 1) & (whole <= PRICE_TICKS_MAX))
    top = PRICE_TICKS_MAX / PRICE_SCALE
    _refuse(Code.BAD_PRICE, wrong, f"{where} must be 0.0001 to {top}")
    return _whole(whole)


def _whole(values: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.rint(values).astype(np.int64)
    return rounded


def _refuse(code: Code, wrong: np.ndarray, what: str) -> None:
    if wrong.any():
        places = [int(i) for i in np.flatnonzero(wrong)[:SHOWN_MAX]]
        raise Problem(code, what, positions=places, count=int(wrong.sum()))


def _same_length(
    block: str, columns: OrderColumns | ReferenceColumns | SnapshotColumns, n: int
) -> None:
    for name in type(columns).model_fields:
        values = getattr(columns, name)
        if values is not None and len(values) != n:
            raise Problem(
                Code.COLUMNS_DIFFER, f"{block}.{name} has {len(values)} entries, {n} are needed"
            )


def _unique(where: str, values: Iterable[str]) -> None:
    listed = list(values)
    if len(set(listed)) != len(listed):
        raise Problem(Code.DUPLICATE_ID, f"each value of {where} may occur once")
