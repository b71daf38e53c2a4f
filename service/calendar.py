"""Decision times from an exchange calendar. The only module that imports exchange_calendars.

The library (and pandas with it) is loaded when the first schedule names an exchange; lunch breaks
and half days are its knowledge, not ours.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

from service.errors import Code, Problem

US_PER_MINUTE = 60_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def session_times_us(exchange: str, day: date, step_minutes: int) -> tuple[int, ...]:
    """Decision times in microseconds since 1970 (UTC): one at the start of every step.

    A step never spans a lunch break; the last one before a break or the close may be shorter.
    Raises CALENDAR_MISSING for an unknown exchange or a day without a session.
    """
    calendar = _calendar(exchange)
    try:
        held = calendar.is_session(day.isoformat())
    except (ValueError, OverflowError):  # the library's out-of-bounds errors, and pandas' own
        held = False
    if not held:
        raise Problem(Code.CALENDAR_MISSING, "the calendar has no session on this date")
    minutes = calendar.session_minutes(day.isoformat())
    trading = [int(minute.timestamp()) // 60 for minute in minutes]
    starts: list[int] = []
    for minute, before in zip(trading, [None, *trading[:-1]], strict=True):
        resumed = before is None or minute - before > 1
        if resumed or minute - starts[-1] == step_minutes:
            starts.append(minute)
    return tuple(minute * US_PER_MINUTE for minute in starts)


@lru_cache(maxsize=8)
def _calendar(exchange: str) -> Any:
    try:
        import exchange_calendars
    except ModuleNotFoundError:
        raise Problem(
            Code.CALENDAR_MISSING,
            "this installation has no exchange calendars: send schedule.times, or install the "
            "extra concord-execution[calendars]",
        ) from None
    try:
        # minutes are named by their start, as decisions are
        return exchange_calendars.get_calendar(exchange, side="left")
    except exchange_calendars.errors.InvalidCalendarName:
        raise Problem(Code.CALENDAR_MISSING, "use the MIC of an exchange, such as XNYS") from None


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 (UTC)."""
    since = moment.astimezone(UTC) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def from_us(moment_us: int) -> str:
    """RFC 3339 in UTC."""
    moment = _EPOCH + timedelta(microseconds=moment_us)
    return moment.isoformat().replace("+00:00", "Z")
