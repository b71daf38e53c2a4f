"""Every call as a value: method, path and the bytes of its body, made once. No network here.

A service that answers "the same command, the same bytes" with the recorded answer is repeated
safely by whoever still has the bytes. So a :class:`Command` is built once, every repetition sends
its ``content``, and an OMS that must survive its own crash writes ``content`` down before it sends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NotRequired, TypedDict, TypeVar, Unpack
from urllib.parse import quote

from service.client import replies, reports
from service.client.columns import encoded
from service.client.errors import BadInput

Columns = Mapping[str, Any]
"""Columns by name: lists, NumPy arrays, pandas or polars series, all of one length."""
Rows = Sequence[Mapping[str, Any]]
Moment = datetime | str
"""An aware datetime, or RFC 3339."""
ReplyT = TypeVar("ReplyT", bound=replies.Reply)
ReplyT_co = TypeVar("ReplyT_co", bound=replies.Reply, covariant=True)
HARMLESS = "HALTED"


class OpenDay(TypedDict):
    """Fields of an opening, docs/api.md; ``cash_minor`` in minor units."""

    account: str
    currency: str
    schedule: Mapping[str, Any]
    cash_minor: int
    orders: Columns
    policy: NotRequired[str]
    shadows: NotRequired[Sequence[str]]
    fills: NotRequired[str]
    limits: NotRequired[Mapping[str, int]]
    reference: NotRequired[Columns]
    holdings: NotRequired[Mapping[str, int]]


class Step(TypedDict):
    """Fields of a step: what was seen at ``as_of``, and what the broker reported since."""

    as_of: Moment
    snapshot: Columns
    executions: NotRequired[Rows]


class Close(TypedDict, total=False):
    """Fields of a close: the bars of the last interval and the last executions."""

    as_of: Moment
    snapshot: Columns
    executions: Rows


@dataclass(frozen=True, slots=True)
class Command(Generic[ReplyT_co]):
    """One call. ``reply`` is what its answer is read as; ``once`` keeps it from being repeated."""

    method: str
    path: str
    reply: type[ReplyT_co]
    content: bytes | None = None
    once: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


LIVE = Command("GET", "/livez", replies.Reply, once=True)
READY = Command("GET", "/readyz", replies.Reply, once=True)


def open_day(day_id: str, **fields: Unpack[OpenDay]) -> Command[replies.Day]:
    """PUT /v1/days/{day_id}."""
    return Command("PUT", _day(day_id), replies.Day, encoded(fields))


def day(day_id: str) -> Command[replies.Day]:
    """GET /v1/days/{day_id}."""
    return Command("GET", _day(day_id), replies.Day)


def step(day_id: str, n: int, **fields: Unpack[Step]) -> Command[replies.Decision]:
    """POST /v1/days/{day_id}/steps/{n}."""
    return Command("POST", f"{_day(day_id)}/steps/{n:d}", replies.Decision, encoded(fields))


def decision(day_id: str, n: int) -> Command[replies.Record]:
    """GET /v1/days/{day_id}/steps/{n}."""
    return Command("GET", f"{_day(day_id)}/steps/{n:d}", replies.Record)


def executions(day_id: str, reported: Rows) -> Command[replies.Bookings]:
    """POST /v1/days/{day_id}/executions."""
    content = encoded({"executions": reported})
    return Command("POST", f"{_day(day_id)}/executions", replies.Bookings, content)


def instructions(day_id: str, instruction_id: str, **fields: Any) -> Command[replies.Instructed]:
    """POST /v1/days/{day_id}/instructions; the fields go as they are."""
    content = encoded({"instruction_id": instruction_id, **fields})
    return Command("POST", f"{_day(day_id)}/instructions", replies.Instructed, content)


def close(day_id: str, **fields: Unpack[Close]) -> Command[reports.Report]:
    """POST /v1/days/{day_id}/close."""
    return Command("POST", f"{_day(day_id)}/close", reports.Report, encoded(fields))


def report(day_id: str) -> Command[reports.Report]:
    """GET /v1/days/{day_id}/report."""
    return Command("GET", f"{_day(day_id)}/report", reports.Report)


def log(day_id: str) -> Command[reports.Log]:
    """GET /v1/days/{day_id}/log."""
    return Command("GET", f"{_day(day_id)}/log", reports.Log)


def set_day_state(day_id: str, state: str) -> Command[replies.State]:
    """PUT /v1/days/{day_id}/state."""
    return _state(f"{_day(day_id)}/state", state)


def set_state(state: str) -> Command[replies.State]:
    """PUT /v1/state."""
    return _state("/v1/state", state)


def set_service_state(state: str) -> Command[replies.State]:
    """PUT /v1/service/state."""
    return _state("/v1/service/state", state)


def day_state(day_id: str) -> Command[replies.State]:
    """GET /v1/days/{day_id}/state."""
    return Command("GET", f"{_day(day_id)}/state", replies.State)


def state() -> Command[replies.State]:
    """GET /v1/state."""
    return Command("GET", "/v1/state", replies.State)


def service_state() -> Command[replies.State]:
    """GET /v1/service/state."""
    return Command("GET", "/v1/service/state", replies.State)


def models() -> Command[reports.Models]:
    """GET /v1/models."""
    return Command("GET", "/v1/models", reports.Models)


def reload_models() -> Command[reports.Models]:
    """POST /v1/models/reload."""
    return Command("POST", "/v1/models/reload", reports.Models)


def _state(path: str, state: str) -> Command[replies.State]:
    # the last state to arrive holds: a late repetition of any other one could end another's halt
    content, once = encoded({"state": state}), state != HARMLESS
    return Command("PUT", path, replies.State, content, once)


def _day(day_id: str) -> str:
    if not day_id.strip("."):  # a URL would lose it, and name another resource
        raise BadInput(f"day_id {day_id!r} cannot be part of a path; use letters or digits")
    return f"/v1/days/{quote(day_id, safe='')}"
