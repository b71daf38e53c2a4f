"""Every error that a caller can meet, as one table: code -> status and title.

Imports orjson only. A :class:`Problem` travels from wherever it is found to the application, which
answers RFC 9457 problem details. Problems never repeat the caller's input, they say what to change.

    400  the body is no JSON           401  no valid key            403  the key lacks the scope
    404  no such day, step or path     405  no such method          408  the body came too slowly
    409  the command does not follow   413  too large               415  not application/json
    422  the content is not acceptable 429  too many requests       500  a law would be broken
    503  not ready, or store away
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import orjson

MEDIA_TYPE = "application/problem+json"


class Code(StrEnum):
    """Stable names of problems; docs/errors.md explains each."""

    NOT_JSON = "NOT_JSON"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    SCOPE_MISSING = "SCOPE_MISSING"
    DAY_NOT_FOUND = "DAY_NOT_FOUND"
    STEP_NOT_FOUND = "STEP_NOT_FOUND"
    PATH_NOT_FOUND = "PATH_NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    BODY_TOO_SLOW = "BODY_TOO_SLOW"
    BODY_CHANGED = "BODY_CHANGED"
    STEP_GAP = "STEP_GAP"
    DAY_CLOSED = "DAY_CLOSED"
    DAY_NOT_STARTED = "DAY_NOT_STARTED"
    IDEMPOTENCY_KEY_MISMATCH = "IDEMPOTENCY_KEY_MISMATCH"
    EXEC_ID_REUSED = "EXEC_ID_REUSED"
    INSTRUCTIONS_REFUSED = "INSTRUCTIONS_REFUSED"
    CLOSE_NEEDS_SNAPSHOT = "CLOSE_NEEDS_SNAPSHOT"
    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    NOT_JSON_TYPE = "NOT_JSON_TYPE"
    RATE_LIMITED = "RATE_LIMITED"
    MODEL_MISSING = "MODEL_MISSING"
    MODEL_REFUSED = "MODEL_REFUSED"
    OTHER_VERSION = "OTHER_VERSION"
    BAD_FIELD = "BAD_FIELD"
    BAD_DAY_ID = "BAD_DAY_ID"
    BAD_SCHEDULE = "BAD_SCHEDULE"
    CALENDAR_MISSING = "CALENDAR_MISSING"
    TOO_MANY_ORDERS = "TOO_MANY_ORDERS"
    COLUMNS_DIFFER = "COLUMNS_DIFFER"
    DUPLICATE_ID = "DUPLICATE_ID"
    BAD_ORDER = "BAD_ORDER"
    HOLDINGS_SHORT = "HOLDINGS_SHORT"
    GROSS_TOO_LARGE = "GROSS_TOO_LARGE"
    UNKNOWN_POLICY = "UNKNOWN_POLICY"
    BAD_PRICE = "BAD_PRICE"
    BAD_VOLUME = "BAD_VOLUME"
    SYMBOL_MISSING = "SYMBOL_MISSING"
    NOTIONAL_TOO_LARGE = "NOTIONAL_TOO_LARGE"
    STALE_SNAPSHOT = "STALE_SNAPSHOT"
    AS_OF_TOO_LATE = "AS_OF_TOO_LATE"
    PAPER_DAY = "PAPER_DAY"
    BAD_EXECUTION = "BAD_EXECUTION"
    LAW_BROKEN = "LAW_BROKEN"
    INTERNAL = "INTERNAL"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    NOT_READY = "NOT_READY"
    BUSY = "BUSY"
    OVERLOADED = "OVERLOADED"


PROBLEMS: dict[Code, tuple[int, str]] = {
    Code.NOT_JSON: (400, "The body is not valid JSON"),
    Code.UNAUTHENTICATED: (401, "No valid API key"),
    Code.SCOPE_MISSING: (403, "The API key lacks the scope of this call"),
    Code.DAY_NOT_FOUND: (404, "This client has no such day"),
    Code.STEP_NOT_FOUND: (404, "This step has not been decided"),
    Code.PATH_NOT_FOUND: (404, "There is nothing at this path"),
    Code.METHOD_NOT_ALLOWED: (405, "This path does not take this method"),
    Code.BODY_TOO_SLOW: (408, "The body did not arrive in time"),
    Code.BODY_CHANGED: (409, "This command was already carried out with another body"),
    Code.STEP_GAP: (409, "Another step is expected"),
    Code.DAY_CLOSED: (409, "The day is closed"),
    Code.DAY_NOT_STARTED: (409, "The day has no decision yet"),
    Code.IDEMPOTENCY_KEY_MISMATCH: (409, "The Idempotency-Key names another command"),
    Code.EXEC_ID_REUSED: (409, "An exec_id was reported before with other content"),
    Code.INSTRUCTIONS_REFUSED: (409, "Orders are not in a state for these instructions"),
    Code.CLOSE_NEEDS_SNAPSHOT: (409, "Working paper children need the last interval's bars"),
    Code.BODY_TOO_LARGE: (413, "The body is too large"),
    Code.NOT_JSON_TYPE: (415, "The content type is not application/json"),
    Code.RATE_LIMITED: (429, "This client asks too often"),
    Code.MODEL_MISSING: (409, "The day's model is not installed"),
    Code.MODEL_REFUSED: (409, "The models folder was refused; what was loaded goes on"),
    Code.OTHER_VERSION: (409, "The day belongs to another version of the service"),
    Code.BAD_FIELD: (422, "A field is missing, unknown or of the wrong kind"),
    Code.BAD_DAY_ID: (422, "The day id is not acceptable"),
    Code.BAD_SCHEDULE: (422, "The decision schedule is not acceptable"),
    Code.CALENDAR_MISSING: (422, "The exchange calendar cannot be resolved"),
    Code.TOO_MANY_ORDERS: (422, "The day has too many orders"),
    Code.COLUMNS_DIFFER: (422, "Columns of one block differ in length"),
    Code.DUPLICATE_ID: (422, "An identifier occurs twice"),
    Code.BAD_ORDER: (422, "An order is not acceptable"),
    Code.HOLDINGS_SHORT: (422, "Sales exceed holdings"),
    Code.GROSS_TOO_LARGE: (422, "The day is worth more than its gross limit"),
    Code.UNKNOWN_POLICY: (422, "No such policy is installed"),
    Code.BAD_PRICE: (422, "A price is not acceptable"),
    Code.BAD_VOLUME: (422, "A volume is not acceptable"),
    Code.SYMBOL_MISSING: (422, "The snapshot lacks symbols of the day"),
    Code.NOTIONAL_TOO_LARGE: (422, "An order or the basket is worth more than the limit"),
    Code.STALE_SNAPSHOT: (422, "The snapshot is older than this step allows"),
    Code.AS_OF_TOO_LATE: (422, "The snapshot is dated long after its step"),
    Code.PAPER_DAY: (422, "A paper day takes no executions"),
    Code.BAD_EXECUTION: (422, "An execution contradicts itself or the book"),
    Code.LAW_BROKEN: (500, "The decision would break a law of the service and was refused"),
    Code.INTERNAL: (500, "The service failed"),
    Code.STORE_UNAVAILABLE: (503, "The store does not answer"),
    Code.NOT_READY: (503, "The service is not ready"),
    Code.OVERLOADED: (503, "Too many requests are being served"),
    Code.BUSY: (503, "The day is changing faster than this request could follow"),
}

RETRY_AFTER_S = 1
"""Answered with every 503: the same request may be sent again after this time."""


class Problem(Exception):
    """An answer other than success: ``code`` from the table, ``detail`` says what to change.

    ``extra`` are further members of the problem body, such as ``expected_step``; ``errors`` lists
    single fields as (where, what).
    """

    def __init__(
        self,
        code: Code,
        detail: str,
        *,
        errors: Sequence[tuple[str, str]] = (),
        **extra: Any,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.errors = errors
        self.extra = extra

    @property
    def status(self) -> int:
        """HTTP status."""
        return PROBLEMS[self.code][0]

    def body(self, request_id: str) -> bytes:
        """RFC 9457 problem details as JSON."""
        status, title = PROBLEMS[self.code]
        details = {
            "type": f"urn:concord:problem:{self.code.lower().replace('_', '-')}",
            "title": title,
            "status": status,
            "code": self.code,
            "detail": self.detail,
            "instance": f"urn:concord:request:{request_id}",
            **self.extra,
        }
        if self.errors:
            details["errors"] = [{"where": where, "what": what} for where, what in self.errors]
        return orjson.dumps(details)
