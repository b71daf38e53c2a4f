"""What a policy sees of a day. Imports contract, day and units.

Every feature is element-wise, or an integer sum over the orders: such sums do not depend on the
order of their terms, so a padded, permuted or batched day yields the same bits (NumPy and torch
alike). Moves are signed by side (positive: the price moved in the order's favour) and measured in
daily standard deviations; a move "relative" is what is left after the basket's mean move.

All quotients are formed in one division over a stack of rows, because on a live day the number of
array calls, not their size, is what takes time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.core.contract import FEATURES
from service.core.day import Day
from service.core.orders import BUY
from service.core.units import PPM, Array, at_least, between, check, namespace

MOVE_MAX = 5.0
"""Moves are clipped to this many daily standard deviations."""
RATIO_MAX = 2.0
"""Ratios of cash or sales to what the buys need are clipped here; also "nothing is needed"."""
VOLUME_RATIO_MAX = 4.0
VOLATILITY_TYPICAL_PPM = 20_000
"""Daily volatility (2%) that the volatility feature maps to 1."""
_SIGNED = ("arrival_move", "last_move", "twap_move", "overnight_gap")
_RELATIVE = ("arrival_move", "last_move", "twap_move")
_MILLI = 1_000.0

Rows = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Observation:
    """``features`` float32 ``[..., N, F]`` in the order of FEATURES; ``live`` bool ``[..., N]``."""

    features: Array
    live: Array


def observe(day: Day) -> Observation:
    """The observation before decision ``day.step + 1`` of a day that saw its snapshot."""
    xp = namespace(day.cum_qty)
    quotients = _divide(xp, _progress(day) | _moves(day) | _liquidity(xp, day) | _basket(xp, day))
    rows = _scaled_moves(xp, day, quotients) | _bounded(xp, day, quotients)
    check(rows.keys() == set(FEATURES), "the features computed are those of the contract")
    # rows first, then one view with the features last: a row at a time is what memory likes
    stacked = _stack(xp, [rows[name] for name in FEATURES])
    stacked *= xp.astype(day.orders.live, stacked.dtype)
    return Observation(xp.moveaxis(stacked, 0, -1), day.orders.live)


def _progress(day: Day) -> dict[str, tuple[Array, Array]]:
    orders, decision = day.orders, day.step + 1
    left = day.force_step - decision
    return {
        "elapsed": (decision - orders.start_step, orders.window),
        "remaining": (day.remaining, orders.order_qty),
        "last_chance": (orders.side * orders.side, left * (left > 0) + 1),
    }


def _moves(day: Day) -> dict[str, tuple[Array, Array]]:
    """Price moves as exact integer quotients."""
    orders, last = day.orders, day.last_px
    middle, known_close = day.high_px + day.low_px, orders.prev_close > 0
    return {
        "arrival_move": (last - day.arrival_px, day.arrival_px),
        "last_move": (day.move_px, last - day.move_px),
        "twap_move": (last * day.intervals - day.sum_px, day.sum_px),
        "range_position": (orders.side * (last + last - middle), day.high_px - day.low_px),
        "last_range": (day.bar_range, last),
        "overnight_gap": ((day.arrival_px - orders.prev_close) * known_close, orders.prev_close),
    }


def _liquidity(xp: Any, day: Day) -> dict[str, tuple[Array, Array]]:
    orders = day.orders
    seen = max(day.step - 1, 0)  # the interval that the last bar covers, counted from 0
    expected = orders.adv_qty * orders.profile_ppm[..., seen, :] // PPM * (day.step > 0)
    typical = xp.full_like(orders.vol_ppm, VOLATILITY_TYPICAL_PPM)
    return {
        "volume_surprise": ((day.bar_volume - expected) * (expected > 0), expected),
        "size_in_volume": (10 * day.remaining * (orders.adv_qty > 0), orders.adv_qty),
        "volatility": (orders.vol_ppm, typical),
    }


def _basket(xp: Any, day: Day) -> dict[str, tuple[Array, Array]]:
    live = xp.astype(day.orders.live, day.cum_qty.dtype)
    value = live * (day.remaining * day.last_px // day.rules.ticks_per_minor)
    bought = value * (day.orders.side == BUY)
    need = xp.sum(bought, axis=-1, keepdims=True)
    sales = xp.sum(value - bought, axis=-1, keepdims=True)
    cash = xp.asarray(day.spendable_minor)[..., None]
    own_side = xp.where(day.orders.side == BUY, need, sales)
    return {
        "cash_to_need": (cash * (cash > 0), need),
        "sales_to_need": (sales, need),
        "share_of_basket": (value * xp.sum(live, axis=-1, keepdims=True), own_side),
        "buy_weight": (need, need + sales),
    }


def _divide(xp: Any, quotients: dict[str, tuple[Array, Array]]) -> Rows:
    """Every ``part / whole`` in float32, rows ``[..., N]`` by name; 0 / 0 is 0.

    Wholes are never negative; where one is 0 its part is 0, or the row is replaced later.
    """
    parts = _stack(xp, [part for part, _ in quotients.values()])
    wholes = _stack(xp, [whole for _, whole in quotients.values()])
    parts /= at_least(wholes, 1.0)
    return {name: parts[row, ...] for row, name in enumerate(quotients)}


def _scaled_moves(xp: Any, day: Day, ratio: Rows) -> Rows:
    """Moves in daily standard deviations, signed by side, and what the basket does not share."""
    volatility = xp.astype(day.orders.vol_ppm, xp.float32)
    # array by array: torch turns scalar / array into a reciprocal, which rounds twice
    scale = xp.full_like(volatility, PPM) / volatility
    moves = _stack(xp, [ratio[name] for name in (*_SIGNED, "last_range")])
    moves *= scale
    moves = between(moves, -MOVE_MAX, MOVE_MAX)
    side = xp.astype(day.orders.side, xp.float32)
    signed = moves[: len(_SIGNED)] * side
    relative = _relative(xp, day, moves[: len(_RELATIVE)]) * side
    rows = {name: signed[i, ...] for i, name in enumerate(_SIGNED)}
    rows |= {f"{name}_relative": relative[i, ...] for i, name in enumerate(_RELATIVE)}
    return rows | {"last_range": moves[-1, ...], "side": side}


def _relative(xp: Any, day: Day, moves: Array) -> Array:
    """``moves`` less the basket's mean move; the mean is an integer sum of thousandths."""
    live = xp.astype(day.orders.live, day.cum_qty.dtype)
    total = xp.sum(xp.astype(moves * _MILLI, live.dtype) * live, axis=-1, keepdims=True)
    count = xp.sum(live, axis=-1, keepdims=True)
    mean = total // (count + (count == 0))
    return moves - xp.astype(mean, xp.float32) / xp.full_like(moves[..., :1], _MILLI)


def _bounded(xp: Any, day: Day, ratio: Rows) -> Rows:
    """The remaining features, clipped to the ranges that a network takes well."""
    elapsed = between(ratio["elapsed"], 0.0, 1.0)
    cover = between(_stack(xp, [ratio["cash_to_need"], ratio["sales_to_need"]]), 0, RATIO_MAX)
    # nothing to buy: cash and sales cover the need, whatever they are
    cover = xp.where(ratio["buy_weight"] > 0, cover, RATIO_MAX)
    return {
        "elapsed": elapsed,
        "remaining": ratio["remaining"],
        "behind_even": elapsed + ratio["remaining"] - 1.0,
        "last_chance": ratio["last_chance"],
        "range_position": ratio["range_position"],
        "volume_surprise": between(ratio["volume_surprise"], -1.0, VOLUME_RATIO_MAX),
        "size_in_volume": between(ratio["size_in_volume"], 0.0, VOLUME_RATIO_MAX),
        "volatility": between(ratio["volatility"], 0.0, MOVE_MAX),
        "tradable": xp.astype(day.tradable, xp.float32),
        "cash_to_need": cover[0, ...],
        "sales_to_need": cover[1, ...],
        "share_of_basket": between(ratio["share_of_basket"], 0.0, MOVE_MAX),
        "buy_weight": ratio["buy_weight"],
    }


def _stack(xp: Any, rows: list[Array]) -> Array:
    """Rows ``[..., N]`` (or broadcastable to the first) in float32, ``[R, ..., N]``."""
    like = rows[0]
    stacked = xp.empty((len(rows), *like.shape), dtype=xp.float32, device=like.device)
    for i, row in enumerate(rows):
        stacked[i, ...] = row
    return stacked
