"""What each route takes, needs, answers and refuses, as one table. Imports types, auth and errors.

A route without a row here is an error of the OpenAPI document, and its tests say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service import wire
from service.answers import Answered, Bookings, Day, Decision, Instructed, Models, Record
from service.atoms import Strict
from service.auth import Scope
from service.errors import Code
from service.outcomes import Log, Report, State

TAGS = {
    "days": "A trading day: open it, decide step by step, report executions, instruct, close.",
    "records": "What is on record of a day: its state, decisions, report and log.",
    "models": "What decides: versions of models and rules, side by side.",
    "trading state": "ACTIVE, REDUCING (sales only) or HALTED; the strictest that holds counts.",
    "probes": "Liveness, readiness and Prometheus metrics; they need no key.",
}
NO_OPERATION = (Code.PATH_NOT_FOUND, Code.METHOD_NOT_ALLOWED)
"""Answered where there is no operation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route. ``once``: a command that is carried out once and answered again as it was.

    ``key`` is how an Idempotency-Key must name it, ``table`` what its rows are when it is asked
    for as CSV or Parquet, ``codes`` what it refuses beside what all routes of its kind do.
    """

    tag: str
    summary: str
    scope: Scope | None = None
    body: type[Strict] | None = None
    reply: type[Answered] | None = None
    once: bool = False
    key: str | None = None
    table: str | None = None
    codes: Sequence[Code] = ()

    def refusals(self, path: str) -> list[Code]:
        """Every problem that ``path`` may answer, in the order of Code."""
        found = {*self.codes, Code.INTERNAL}
        if self.scope is not None:
            found |= {Code.UNAUTHENTICATED, Code.SCOPE_MISSING}
            found |= {Code.STORE_UNAVAILABLE, Code.OVERLOADED}
        if self.scope in (Scope.TRADE, Scope.OBSERVE):
            found.add(Code.RATE_LIMITED)
        if self.body is not None:
            found |= {*_BODY}
        if self.once:
            found |= {Code.LAW_BROKEN, Code.BUSY, Code.OTHER_VERSION}
        if self.key is not None:
            found.add(Code.IDEMPOTENCY_KEY_MISMATCH)
        if "{day_id}" in path:
            found.add(Code.BAD_DAY_ID)
        return [code for code in Code if code in found]


_BODY = (
    Code.NOT_JSON,
    Code.NOT_JSON_TYPE,
    Code.BODY_TOO_LARGE,
    Code.BODY_TOO_SLOW,
    Code.BAD_FIELD,
)
_ORDERS = (
    Code.TOO_MANY_ORDERS,
    Code.COLUMNS_DIFFER,
    Code.DUPLICATE_ID,
    Code.BAD_ORDER,
    Code.BAD_PRICE,
    Code.HOLDINGS_SHORT,
    Code.GROSS_TOO_LARGE,
)
_EXECUTIONS = (
    Code.DAY_NOT_FOUND,
    Code.DUPLICATE_ID,
    Code.BAD_PRICE,
    Code.NOTIONAL_TOO_LARGE,
    Code.PAPER_DAY,
    Code.BAD_EXECUTION,
    Code.EXEC_ID_REUSED,
)
_BARS = (
    Code.COLUMNS_DIFFER,
    Code.BAD_VOLUME,
    Code.SYMBOL_MISSING,
    Code.STALE_SNAPSHOT,
    Code.DAY_CLOSED,
    Code.BODY_CHANGED,
)


OPERATIONS = {
    "open_day": Operation(
        tag="days",
        summary="Open a day",
        scope=Scope.TRADE,
        body=wire.OpenDay,
        reply=Day,
        once=True,
        key="<day_id>:open",
        codes=(
            *_ORDERS,
            Code.BODY_CHANGED,
            Code.BAD_SCHEDULE,
            Code.CALENDAR_MISSING,
            Code.UNKNOWN_POLICY,
        ),
    ),
    "day": Operation(
        tag="records",
        summary="The state of a day",
        scope=Scope.OBSERVE,
        reply=Day,
        codes=(Code.DAY_NOT_FOUND, Code.OTHER_VERSION),
    ),
    "step": Operation(
        tag="days",
        summary="Take a decision",
        scope=Scope.TRADE,
        body=wire.Step,
        reply=Decision,
        once=True,
        key="<day_id>:<n>",
        codes=(*_EXECUTIONS, *_BARS, Code.STEP_GAP, Code.AS_OF_TOO_LATE, Code.MODEL_MISSING),
    ),
    "decision": Operation(
        tag="records",
        summary="A recorded decision",
        scope=Scope.OBSERVE,
        reply=Record,
        codes=(Code.DAY_NOT_FOUND, Code.STEP_NOT_FOUND, Code.OTHER_VERSION, Code.BAD_FIELD),
    ),
    "executions": Operation(
        tag="days",
        summary="Report executions",
        scope=Scope.TRADE,
        body=wire.ExecutionBatch,
        reply=Bookings,
        once=True,
        codes=_EXECUTIONS,
    ),
    "instruct": Operation(
        tag="days",
        summary="Change orders",
        scope=Scope.TRADE,
        body=wire.Instructions,
        reply=Instructed,
        once=True,
        codes=(
            *_ORDERS,
            Code.DAY_NOT_FOUND,
            Code.DAY_CLOSED,
            Code.BODY_CHANGED,
            Code.INSTRUCTIONS_REFUSED,
            Code.NOTIONAL_TOO_LARGE,
        ),
    ),
    "close": Operation(
        tag="days",
        summary="Close a day",
        scope=Scope.TRADE,
        body=wire.Close,
        reply=Report,
        once=True,
        key="<day_id>:close",
        codes=(*_EXECUTIONS, *_BARS, Code.DAY_NOT_STARTED, Code.CLOSE_NEEDS_SNAPSHOT),
    ),
    "report": Operation(
        tag="records",
        summary="The report of a closed day",
        scope=Scope.OBSERVE,
        reply=Report,
        table="one row per order: day_id, account, currency, policy, then the columns of `orders`",
        codes=(Code.DAY_NOT_FOUND, Code.STEP_NOT_FOUND, Code.BAD_FIELD),
    ),
    "log": Operation(
        tag="records",
        summary="Every command of a day",
        scope=Scope.OBSERVE,
        reply=Log,
        table="one row per command: day_id, client, then the fields of `commands`",
        codes=(Code.DAY_NOT_FOUND, Code.BAD_FIELD),
    ),
    "set_day_state": Operation(
        tag="trading state",
        summary="Set the trading state of a day",
        scope=Scope.HALT,
        body=wire.TradingState,
        reply=State,
        codes=(Code.DAY_NOT_FOUND,),
    ),
    "set_state": Operation(
        tag="trading state",
        summary="Set the trading state of the caller's days",
        scope=Scope.HALT,
        body=wire.TradingState,
        reply=State,
    ),
    "set_service_state": Operation(
        tag="trading state",
        summary="Set the trading state of all clients' days",
        scope=Scope.ADMIN,
        body=wire.TradingState,
        reply=State,
    ),
    "day_state": Operation(
        tag="trading state",
        summary="The state that was set for a day",
        scope=Scope.OBSERVE,
        reply=State,
        codes=(Code.DAY_NOT_FOUND,),
    ),
    "state": Operation(
        tag="trading state",
        summary="The state that was set for all days of the caller",
        scope=Scope.OBSERVE,
        reply=State,
    ),
    "service_state": Operation(
        tag="trading state",
        summary="The state that was set for all clients' days",
        scope=Scope.OBSERVE,
        reply=State,
    ),
    "models": Operation(
        tag="models",
        summary="What decides now",
        scope=Scope.OBSERVE,
        reply=Models,
    ),
    "reload_models": Operation(
        tag="models",
        summary="Load what the models folder lists now",
        scope=Scope.ADMIN,
        reply=Models,
        codes=(Code.MODEL_REFUSED,),
    ),
    "livez": Operation(tag="probes", summary="Whether the process answers"),
    "readyz": Operation(
        tag="probes",
        summary="Whether the service can trade",
        codes=(Code.NOT_READY, Code.STORE_UNAVAILABLE),
    ),
    "metrics": Operation(tag="probes", summary="Prometheus metrics"),
}
"""By the name of the function that handles the route, which is its operationId."""
