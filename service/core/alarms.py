"""Facts that a desk should look at, each with two numbers. Imports the standard library."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class AlarmCode(StrEnum):
    """Facts that a desk should look at."""

    LATE_FILL = "LATE_FILL"
    OVERFILL = "OVERFILL"
    TRADE_CANCELED = "TRADE_CANCELED"
    TRADE_CORRECTED = "TRADE_CORRECTED"
    PROTECT_BREACH = "PROTECT_BREACH"
    CASH_BREACH = "CASH_BREACH"
    CASH_FLOOR = "CASH_FLOOR"
    NOTHING_WORKING = "NOTHING_WORKING"
    AFTER_CLOSE = "AFTER_CLOSE"


ALARMS = {
    AlarmCode.LATE_FILL: "shares filled, shares that were still working",
    AlarmCode.OVERFILL: "shares filled and working, the order's quantity",
    AlarmCode.TRADE_CANCELED: "shares taken back, shares of them that are working again",
    AlarmCode.TRADE_CORRECTED: "shares after the correction, shares before",
    AlarmCode.PROTECT_BREACH: "the fill's price, the price that protected the child",
    AlarmCode.CASH_BREACH: "free cash after the fill, zero (minor units)",
    AlarmCode.CASH_FLOOR: "free cash after the fill, the day's floor (minor units)",
    AlarmCode.NOTHING_WORKING: "the step of the child that a report ended, zero shares working",
    AlarmCode.AFTER_CLOSE: "the step at which the day was closed, zero",
}
"""The two numbers of each alarm, in the order (observed, limit)."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A fact to look at, with the two numbers that ALARMS names."""

    code: AlarmCode
    order: int
    exec_id: str
    observed: int
    limit: int
