"""Reason codes of child orders: why a child differs from what the policy wished.

Imports units only. One row per code; docs/reasons.md lists them with the numbers each compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from service.core.units import Array


class Reason(StrEnum):
    """Why the volume of a child order was changed (or a shortfall remained)."""

    WINDOW = "WINDOW"
    FORCED_FINAL = "FORCED_FINAL"
    REMAINING = "REMAINING"
    HALTED = "HALTED"
    REDUCING = "REDUCING"
    SYMBOL_HALT = "SYMBOL_HALT"
    LIMIT_PRICE = "LIMIT_PRICE"
    CAP_QTY = "CAP_QTY"
    CAP_NOTIONAL = "CAP_NOTIONAL"
    CAP_VOLUME = "CAP_VOLUME"
    LOT = "LOT"
    CASH = "CASH"
    FALLBACK = "FALLBACK"
    NOT_FILLED = "NOT_FILLED"
    WORKING_AT_CLOSE = "WORKING_AT_CLOSE"
    CLOSED_EARLY = "CLOSED_EARLY"


COMPARED = {
    Reason.WINDOW: "this decision's step, the step at which the order starts or ended",
    Reason.FORCED_FINAL: "the wished volume, all that remains and must go out now",
    Reason.REMAINING: "the wished volume, what is neither filled nor working",
    Reason.HALTED: "the wished volume, zero: the day, client or service is halted",
    Reason.REDUCING: "the wished volume, zero: only sales may trade",
    Reason.SYMBOL_HALT: "the wished volume, zero: the snapshot says that the symbol is halted",
    Reason.LIMIT_PRICE: "the last price, the order's limit price",
    Reason.CAP_QTY: "the wished volume, the largest child volume allowed",
    Reason.CAP_NOTIONAL: "the wished volume, the volume that the largest child notional allows",
    Reason.CAP_VOLUME: "the wished volume, the allowed share of the expected market volume",
    Reason.LOT: "the volume before rounding, the order's lot",
    Reason.CASH: "cash that all buys of this step need, cash that is free (minor units)",
    Reason.FALLBACK: "the model's policy failed: the cash-aware TWAP decided",
    Reason.NOT_FILLED: "shares sent as children, shares filled",
    Reason.WORKING_AT_CLOSE: "shares still working, zero",
    Reason.CLOSED_EARLY: "decisions taken, decisions scheduled",
}
"""The two numbers that each code compares, in the order (observed, limit)."""


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
