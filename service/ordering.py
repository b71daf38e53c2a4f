"""From columns of orders and of reference data to the core's Orders. Imports columns, wire, errors.

An opening and an instruction that adds orders send the same columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from service.atoms import AUCTIONS
from service.columns import refuse, same_length, ticks, unique, whole
from service.core.contract import N_MAX
from service.core.orders import BUY, SELL, Orders, Style, plain_style
from service.core.units import BP, PPM
from service.errors import Code, Problem
from service.wire import OrderColumns, ReferenceColumns

VOL_BP_DEFAULT = 200
"""Daily volatility of a symbol without one: 2%."""
VOL_BP_MAX = 10_000
STYLES = (
    "urgency_pct", "completion", "participation_ppm_min", "participation_ppm_max", "would_px",
    "would_ppm", "min_qty", "auction",
)  # fmt: skip
"""Columns of an order's style on the wire."""
STYLE_FIELDS = {"completion": "best_effort"}
"""Those that the core has under another name."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Orders in their canonical order, by ``cl_ord_id``."""

    cl_ord_ids: tuple[str, ...]
    symbols: tuple[str, ...]
    orders: Orders


def listed_orders(
    columns: OrderColumns, reference: ReferenceColumns | None, steps: int, first_step: int = 1
) -> Listed:
    """The orders of ``columns`` for a day of ``steps``; ``first_step`` is the decision at which
    they can start."""
    ids = columns.cl_ord_id
    rank = sorted(range(len(ids)), key=ids.__getitem__)
    orders = _orders(columns, reference, rank, steps, first_step)
    symbols = tuple(columns.symbol[i] for i in rank)
    return Listed(tuple(ids[i] for i in rank), symbols, orders)


def _orders(
    columns: OrderColumns,
    reference: ReferenceColumns | None,
    rank: list[int],
    steps: int,
    first_step: int,
) -> Orders:
    n = len(rank)
    if n > N_MAX:
        raise Problem(Code.TOO_MANY_ORDERS, f"send at most {N_MAX} orders, this is {n}")
    same_length("orders", columns, n)
    unique("orders.cl_ord_id", columns.cl_ord_id)
    side = np.where(np.array([s == "BUY" for s in columns.side]), BUY, SELL)[rank]
    qty = np.array(columns.order_qty, dtype=np.int64)[rank]
    lot = _column(columns.lot_size, n, 1)[rank]
    start = np.maximum(_column(columns.start_step, n, first_step)[rank], first_step)
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
        style=_style(columns, rank, qty),
        **_reference(reference, [columns.symbol[i] for i in rank], steps),
    )


def _style(columns: OrderColumns, rank: list[int], qty: np.ndarray) -> Style | None:
    """How the orders are to be worked; None where all are worked as the policy alone wants it."""
    given = {name: getattr(columns, name) for name in STYLES}
    made = {
        STYLE_FIELDS.get(name, name): style_column(name, values)[rank]
        for name, values in given.items()
        if values is not None
    }
    if not made:
        return None
    style = replace(plain_style(qty), **made)
    _check_style(style, qty, np.array(rank))
    return style


def style_column(name: str, values: Sequence[Any]) -> np.ndarray:
    """One column of a style from its wire form; None is what an order without it has."""
    if name == "completion":
        return np.array([value == "BEST_EFFORT" for value in values])
    if name == "auction":
        return np.array([AUCTIONS.index(value) for value in values], dtype=np.int64)
    if name == "would_px":
        return prices(name, values)
    default = PPM if name == "would_ppm" else 0
    return np.array([default if value is None else value for value in values], dtype=np.int64)


def _check_style(style: Style, qty: np.ndarray, at: np.ndarray) -> None:
    least, most = style.participation_ppm_min, style.participation_ppm_max
    refuse(
        Code.BAD_ORDER,
        (least > most) & (most > 0),
        "participation_ppm_min must not be above _max",
        at,
    )
    refuse(Code.BAD_ORDER, style.min_qty > qty, "min_qty must not be above order_qty", at)


def _column(values: Sequence[int] | None, n: int, default: int) -> np.ndarray:
    return np.full(n, default) if values is None else np.array(values, dtype=np.int64)


def prices(where: str, values: Sequence[float | None]) -> np.ndarray:
    """Prices in ticks, 0 for None; raises BAD_PRICE."""
    px, absent = _optional(values)
    return np.where(absent, 0, ticks(where, px))


def _limits(columns: OrderColumns, n: int) -> np.ndarray:
    if columns.limit_px is None:
        return np.zeros(n, dtype=np.int64)
    return prices("orders.limit_px", columns.limit_px)


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
