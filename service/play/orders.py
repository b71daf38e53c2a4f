"""The day's orders, made from bars: sizes, initial cash and reference data. Imports core, NumPy.

Nothing here looks at what the day will bring: sizes and reference data come from the days before
(sizes from the day itself only where a file holds no other), cash from the opening prices. Only
symbols suspended for the whole day are known beforehand, and left out. The numeric functions take
any number of leading axes, so training makes its baskets with the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.core.contract import N_MAX
from service.core.limits import CASH_BUFFER_BP_DEFAULT
from service.core.orders import BUY, SELL
from service.core.units import (
    BP,
    CASH_MINOR_MAX,
    PPM,
    PRICE_SCALE,
    QTY_MAX,
    buy_cost_minor,
    ceil_div,
    floor_to_lot,
    round_to_lot,
    sell_proceeds_minor,
)
from service.play.day_bars import Bools, DayBars, Floats, Ints, merge

SIZE_LOG_MEAN = -3.28
SIZE_LOG_SD = 1.14
"""Order size over one step's mean volume is log-normal with these (paper section 5)."""
SIZE_SHARE_MAX = 0.5
"""Largest order over one step's mean volume; the log-normal alone passes it in 1.2% of draws."""
BUY_SHARE = 0.6
"""Share of the basket's value that is bought: sales must pay for most of the buys."""
MARGIN_BP = 200
"""How far initial cash allows buys to become dearer, and sales cheaper, than at the open."""
CASH_BUFFER_BP = CASH_BUFFER_BP_DEFAULT
"""How far above the last price a buy reserves cash; the service's default."""
DAYS_BEFORE = 20
"""Past days that reference data are taken from, where there are as many."""


class OrdersError(Exception):
    """No orders can be made from these bars; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What is known of each symbol before the open; int64 ``[..., N]``.

    ``prev_close`` ticks, ``adv_qty`` shares a day, ``vol_ppm`` daily volatility, ``profile_ppm``
    ``[..., T, N]`` the share of a day's volume by step, which sums to a million.
    """

    prev_close: Ints
    adv_qty: Ints
    vol_ppm: Ints
    profile_ppm: Ints


@dataclass(frozen=True, slots=True)
class Basket:
    """N orders of one day, sorted by ``cl_ord_id``; arrays int64 ``[N]``.

    ``side`` is BUY or SELL, ``column`` the place of the order's symbol in the day's bars,
    ``limit_px`` ticks or None for no limits, ``cash_minor`` the cash that the day opens with,
    ``reference`` None where no earlier day is known.
    """

    cl_ord_id: tuple[str, ...]
    symbol: tuple[str, ...]
    column: Ints
    side: Ints
    order_qty: Ints
    lot: int
    cash_minor: int
    limit_px: Ints | None = None
    reference: Reference | None = None


def make_orders(
    day: DayBars,
    previous: Sequence[DayBars],
    bars_per_step: int,
    seed: int,
    n: int = 20,
    *,
    buy_share: float = BUY_SHARE,
    lot: int = 1,
    margin_bp: int = MARGIN_BP,
    ticks_per_minor: int = 100,
) -> Basket:
    """``n`` orders in different symbols of ``day``, sized by the volumes of ``previous`` days.

    Previous days with other bars than ``day`` (half days) are left out.
    """
    rng = np.random.default_rng(seed)
    known = [past for past in previous if past.starts == day.starts][-DAYS_BEFORE:]
    step_volume = mean_step_volume(known or [day], day.symbols, bars_per_step)
    usable = np.flatnonzero(_usable(day, step_volume, lot))
    if not 1 <= n <= min(len(usable), N_MAX):
        most = min(len(usable), N_MAX)
        raise OrdersError(f"{n} orders asked for; {day.date} has symbols for 1 to {most}")
    column = np.sort(rng.permutation(usable)[:n])
    arrival, steps = day.open[0, column], -(-len(day.starts) // bars_per_step)
    qty = draw_sizes(rng, step_volume[column], lot)
    _bounded(qty, arrival, ticks_per_minor)
    side = draw_sides(rng, qty * arrival, buy_share)
    cash = initial_cash_minor(
        side, qty, arrival, steps, lot=lot, margin_bp=margin_bp, ticks_per_minor=ticks_per_minor
    )
    symbols = tuple(day.symbols[at] for at in column)
    return Basket(
        cl_ord_id=tuple(f"{day.date.replace('-', '')}-{k:04}" for k in range(1, n + 1)),
        symbol=symbols,
        column=column.astype(np.int64),
        side=side,
        order_qty=qty,
        lot=lot,
        cash_minor=int(cash),
        reference=reference(known, symbols, bars_per_step) if known else None,
    )


def draw_sizes(
    rng: np.random.Generator,
    step_volume: Ints,
    lot: Ints | int,
    share_max: float = SIZE_SHARE_MAX,
) -> Ints:
    """Order sizes for symbols that trade ``step_volume`` shares in a mean step; ``[..., N]``.

    Log-normal shares of it, whole lots, at least one and at most ``share_max`` (or one lot).
    """
    share = np.exp(rng.normal(SIZE_LOG_MEAN, SIZE_LOG_SD, step_volume.shape))
    wanted = np.rint(np.minimum(share, share_max) * step_volume).astype(np.int64)
    most = np.minimum((share_max * step_volume).astype(np.int64), QTY_MAX)
    qty = np.minimum(round_to_lot(wanted, 1, lot), floor_to_lot(most, lot))
    return np.asarray(np.maximum(qty, lot), dtype=np.int64)


def draw_sides(rng: np.random.Generator, value: Ints, buy_share: float = BUY_SHARE) -> Ints:
    """BUY or SELL for orders worth ``value`` ``[..., N]``, so that ``buy_share`` of it is bought.

    From the largest order down, each goes to the side that lacks more; ties are drawn.
    """
    order = np.argsort(-value, axis=-1, kind="stable")
    bought, sold = np.zeros((2, *value.shape[:-1], 1))
    side = np.zeros_like(value)
    for rank in range(value.shape[-1]):
        at = order[..., rank : rank + 1]
        worth = np.take_along_axis(value, at, axis=-1)
        lack = sold * buy_share - bought * (1 - buy_share)
        buys = (lack > 0) | ((lack == 0) & (rng.random(lack.shape) < buy_share))
        np.put_along_axis(side, at, np.where(buys, BUY, SELL), axis=-1)
        bought, sold = bought + worth * buys, sold + worth * ~buys
    return side


def initial_cash_minor(
    side: Ints,
    qty: Ints,
    arrival_px: Ints,
    steps: int,
    *,
    lot: Ints | int = 1,
    margin_bp: int = MARGIN_BP,
    buffer_bp: int = CASH_BUFFER_BP,
    ticks_per_minor: int = 100,
) -> Ints:
    """Cash in minor units with which an even schedule never runs short; ``[...]``.

    The largest over t of (1 + margin) x the buys of steps 1..t, those of step t at the price at
    which they reserve cash, less (1 - margin) x the sales of steps 1..t-1, all at the opening
    prices. Sales are complete at step T-1, since proceeds count once reported. ``side``, ``qty``
    and ``arrival_px`` (ticks) are ``[..., N]``.

    The margin is on both legs, not on their difference, because prices move both: with it on the
    difference a basket of equal sides cut its even schedule in 10-19% of the steps of five data
    sets at 2%, with it on the legs in 0.3% at most.
    """
    buys, sells = np.where(side == BUY, qty, 0), np.where(side == SELL, qty, 0)
    reserve_px = ceil_div(arrival_px * (BP + buffer_bp) // BP, ticks_per_minor) * ticks_per_minor
    peak = np.zeros(side.shape[:-1], dtype=np.int64)
    for step in range(1, steps + 1):
        bought = round_to_lot(buys * (step - 1), steps, lot)
        buying = np.where(step == steps, buys, round_to_lot(buys * step, steps, lot)) - bought
        # a day of one step pays for its buys before it has sold anything
        sold = sells if step == steps > 1 else round_to_lot(sells * (step - 1), steps, lot)
        paid = buy_cost_minor(bought, arrival_px, ticks_per_minor)
        paid += buy_cost_minor(buying, reserve_px, ticks_per_minor)
        received = sell_proceeds_minor(sold, arrival_px, ticks_per_minor)
        need = paid.sum(axis=-1) * (BP + margin_bp) - received.sum(axis=-1) * (BP - margin_bp)
        peak = np.maximum(peak, need)
    return np.asarray(ceil_div(peak, BP), dtype=np.int64)


def reference(previous: Sequence[DayBars], symbols: Sequence[str], bars_per_step: int) -> Reference:
    """Reference data of ``symbols`` from the days before, which all must have them."""
    columns = [_columns(day, symbols) for day in previous]
    parts = [merge(day, bars_per_step) for day in previous]
    opened = np.stack([day.open[0, at] for day, at in zip(previous, columns, strict=True)])
    pairs = list(zip(parts, columns, strict=True))
    close = np.stack([[snapshot.close[at] for snapshot in part] for part, at in pairs])
    volume = np.stack([[snapshot.volume[at] for snapshot in part] for part, at in pairs])
    return reference_arrays(opened, close, volume)


def reference_arrays(open_px: Ints, close: Ints, volume: Ints) -> Reference:
    """Reference data ``[..., N]`` from P past days of T steps.

    ``open_px`` is ``[..., P, N]``, the opening prices; ``close``, ``volume`` ``[..., P, T, N]``, by
    step. The volatility is the root mean square over days of the moves from step to step within a
    day: nights are not in it, since no order is open then.
    """
    path = np.concatenate([open_px[..., None, :], close], axis=-2)
    moves: Floats = np.diff(np.log(path.astype(np.float64)), axis=-2)
    volatility = np.sqrt(np.mean(np.sum(moves**2, axis=-2), axis=-2))
    by_step = volume.sum(axis=-3)
    whole = np.maximum(by_step.sum(axis=-2, keepdims=True), 1)
    share = np.cumsum(by_step, axis=-2) / whole
    upto = np.rint(share * PPM).astype(np.int64)
    return Reference(
        prev_close=close[..., -1, -1, :],
        adv_qty=np.rint(volume.sum(axis=-2).mean(axis=-2)).astype(np.int64),
        vol_ppm=np.maximum(np.rint(volatility * PPM), 1).astype(np.int64),
        profile_ppm=np.diff(upto, axis=-2, prepend=0),
    )


def mean_step_volume(days: Sequence[DayBars], symbols: Sequence[str], bars_per_step: int) -> Ints:
    """Shares that each of ``symbols`` trades in a mean step, 0 where a day lacks it; ``[N]``."""
    steps = -(-len(days[0].starts) // bars_per_step)
    total = np.zeros(len(symbols), dtype=np.int64)
    everywhere = np.ones(len(symbols), dtype=np.bool_)
    for day in days:
        traded = dict(zip(day.symbols, day.volume.sum(axis=0).tolist(), strict=True))
        volume = np.array([traded.get(symbol, 0) for symbol in symbols], dtype=np.int64)
        total, everywhere = total + volume, everywhere & (volume > 0)
    return np.where(everywhere, total // (steps * len(days)), 0)


def _usable(day: DayBars, step_volume: Ints, lot: int) -> Bools:
    """Symbols that trade today, traded every day before, and enough for one lot."""
    enough = SIZE_SHARE_MAX * step_volume >= lot
    return np.asarray(enough & (day.volume.sum(axis=0) > 0))


def _columns(day: DayBars, symbols: Sequence[str]) -> Ints:
    place = {symbol: at for at, symbol in enumerate(day.symbols)}
    return np.array([place[symbol] for symbol in symbols], dtype=np.int64)


def _bounded(qty: Ints, arrival_px: Ints, ticks_per_minor: int) -> None:
    value = qty.astype(np.float64) * arrival_px / ticks_per_minor
    if value.sum() * 2 > CASH_MINOR_MAX:
        most = CASH_MINOR_MAX * ticks_per_minor // PRICE_SCALE
        raise OrdersError(f"the orders are worth more than {most} currency units; ask for fewer")
