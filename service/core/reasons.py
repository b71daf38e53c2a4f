"""Reason codes of child orders: why a child differs from what the policy wished.

Imports units only. One row per code; docs/reasons.md lists them with the numbers each compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from service.core.units import Array


class Reason(StrEnum):
    """Why the volume of a child order was changed (or a shortfall remained)."""

    URGENCY = "URGENCY"
    WOULD_PRICE = "WOULD_PRICE"
    MIN_VOLUME = "MIN_VOLUME"
    WINDOW = "WINDOW"
    FORCED_FINAL = "FORCED_FINAL"
    REMAINING = "REMAINING"
    HALTED = "HALTED"
    REDUCING = "REDUCING"
    PAUSED = "PAUSED"
    SYMBOL_HALT = "SYMBOL_HALT"
    LIMIT_PRICE = "LIMIT_PRICE"
    COLLAR_CLOSE = "COLLAR_CLOSE"
    COLLAR_ARRIVAL = "COLLAR_ARRIVAL"
    CAP_QTY = "CAP_QTY"
    CAP_NOTIONAL = "CAP_NOTIONAL"
    CAP_VOLUME = "CAP_VOLUME"
    MAX_VOLUME = "MAX_VOLUME"
    GROSS = "GROSS"
    NET_MAX = "NET_MAX"
    NET_MIN = "NET_MIN"
    BALANCE = "BALANCE"
    LOT = "LOT"
    CASH = "CASH"
    MIN_QTY = "MIN_QTY"
    FALLBACK = "FALLBACK"
    NOT_FILLED = "NOT_FILLED"
    WORKING_AT_CLOSE = "WORKING_AT_CLOSE"
    CLOSED_EARLY = "CLOSED_EARLY"
    CANCELED = "CANCELED"
    BEST_EFFORT = "BEST_EFFORT"


COMPARED = {
    Reason.URGENCY: "the policy's wish, the wish of the schedule that urgency blends it with",
    Reason.WOULD_PRICE: "the last price, the order's would price",
    Reason.MIN_VOLUME: "the wished volume, the least share of the symbol's volume",
    Reason.WINDOW: "this decision's step, the step at which the order starts or ended",
    Reason.FORCED_FINAL: "the wished volume, all that remains and must go out now",
    Reason.REMAINING: "the wished volume, what is neither filled nor working",
    Reason.HALTED: "the wished volume, zero: the day, client or service is halted",
    Reason.REDUCING: "the wished volume, zero: only sales may trade",
    Reason.PAUSED: "the wished volume, zero: the order is paused",
    Reason.SYMBOL_HALT: "the wished volume, zero: the snapshot says that the symbol is halted",
    Reason.LIMIT_PRICE: "the last price, the order's limit price",
    Reason.COLLAR_CLOSE: "the last price, the furthest from the previous close",
    Reason.COLLAR_ARRIVAL: "the last price, the furthest from the arrival price",
    Reason.CAP_QTY: "the wished volume, the largest child volume allowed",
    Reason.CAP_NOTIONAL: "the wished volume, the volume that the largest child notional allows",
    Reason.CAP_VOLUME: "the wished volume, the allowed share of the expected market volume",
    Reason.MAX_VOLUME: "the wished volume, the largest share of the symbol's volume",
    Reason.GROSS: "value of this step's children, what the day may still trade (minor units)",
    Reason.NET_MAX: "value of this step's buys, what may still be bought net (minor units)",
    Reason.NET_MIN: "value of this step's sales, what may still be sold net (minor units)",
    Reason.BALANCE: "value of this side's children, what keeps it level with the other (minor)",
    Reason.LOT: "the volume before rounding, the order's lot",
    Reason.CASH: "cash that all buys of this step need, cash that is free (minor units)",
    Reason.MIN_QTY: "the volume that was left to send, the order's smallest child",
    Reason.FALLBACK: "the model's policy failed: the cash-aware TWAP decided",
    Reason.NOT_FILLED: "shares sent as children, shares filled",
    Reason.WORKING_AT_CLOSE: "shares still working, zero",
    Reason.CLOSED_EARLY: "decisions taken, decisions scheduled",
    Reason.CANCELED: "the order was cancelled; what was filled by then stays",
    Reason.BEST_EFFORT: "the order was not to be forced out at its end",
}
"""The two numbers that each code compares, in the order (observed, limit)."""


SAFETY = frozenset(
    {
        Reason.HALTED,
        Reason.REDUCING,
        Reason.PAUSED,
        Reason.SYMBOL_HALT,
        Reason.LIMIT_PRICE,
        Reason.COLLAR_CLOSE,
        Reason.COLLAR_ARRIVAL,
        Reason.CAP_QTY,
        Reason.CAP_NOTIONAL,
        Reason.CAP_VOLUME,
        Reason.MAX_VOLUME,
        Reason.GROSS,
        Reason.NET_MAX,
        Reason.NET_MIN,
        Reason.BALANCE,
        Reason.CASH,
        Reason.MIN_QTY,
    }
)
"""The codes whose cuts a report counts and prices: what could have traded but for a rule."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One rule of allocation: volumes before and after it, and the numbers it compared.

    Arrays int64 ``[..., N]``, numbers broadcastable to it; it applies where ``before != after``.
    """

    reason: Reason
    before: Array
    after: Array
    observed: Array | int
    limit: Array | int
