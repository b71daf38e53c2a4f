"""Everything that a call of the client can raise, as one tree. Imports nothing of the service.

    ConcordError
    ├── BadInput        what was given cannot be sent: nothing was sent
    ├── Problem         the service answered with problem details (RFC 9457)
    │   ├── Refused     4xx: nothing was changed, something has to be
    │   │   ├── Unauthorized   401, 403
    │   │   ├── NotFound       404
    │   │   ├── Conflict       409
    │   │   └── Invalid        400, 413, 415, 422
    │   └── Failed      5xx that is not about reaching the service: a defect of it
    ├── Unavailable     no definite answer in time: in doubt, repeating it is safe
    └── ProtocolError   an answer that is not what the contract says

Arguments are kept in ``args``, so that every error can be pickled and raised in another process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_STANDARD = frozenset({"type", "title", "status", "code", "detail", "instance", "errors"})
_SHOWN_MAX = 300


class ConcordError(Exception):
    """Base of all errors of the client."""


class BadInput(ConcordError):
    """A file, a frame or a value that cannot be sent; the message names line and column."""


class FieldError(NamedTuple):
    """One wrong field of a request: ``where`` it is, and ``what`` is wrong with it."""

    where: str
    what: str


class Problem(ConcordError):
    """The service's own words about a request that it did not carry out.

    ``code`` is stable, branch on it (a code that this client does not know is a string like any
    other); ``detail`` is for people. ``extra`` holds the further members of the problem, such as
    ``expected_step``; ``instance`` names the request in the service's log.
    """

    def __init__(self, request: str, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(request, status, dict(body))
        self.request = request
        self.status = status
        self.code, self.title, self.detail, self.instance = (
            str(body.get(name, "")) for name in ("code", "title", "detail", "instance")
        )
        self.errors = _field_errors(body.get("errors"))
        self.extra = {name: value for name, value in body.items() if name not in _STANDARD}

    def __str__(self) -> str:
        more = [f"{where}: {what}" for where, what in self.errors]
        more += [f"{name}={value!r}" for name, value in self.extra.items()]
        told = f"{self.request}: {self.status} {self.code}: {self.detail}"
        return "\n  ".join([told, *more, *filter(None, [self.instance])])


class Refused(Problem):
    """A 4xx: nothing was changed, and the same would be refused again (but for 408: too slow)."""


class Unauthorized(Refused):
    """401 or 403: no valid key, or one without the scope of this call."""


class NotFound(Refused):
    """404: no such day, step, report or path."""


class Conflict(Refused):
    """409: the command does not follow, or was carried out before with other bytes."""


class Invalid(Refused):
    """400, 413, 415 or 422: the content is not acceptable; see ``errors`` and ``extra``."""


class Failed(Problem):
    """A 5xx that no waiting mends: report the ``instance``.

    ``LAW_BROKEN`` changed nothing; after ``INTERNAL`` the same command may be sent once more.
    """


class Unavailable(ConcordError):
    """No definite answer in ``retry_s_max`` seconds: whether it was carried out is unknown.

    Sending the same bytes again, later or from another process, is safe: a command is carried out
    at most once. Not so a trading state (``repeatable`` False), see ``Concord.set_state``. ``last``
    says what the last of ``attempts`` met, ``problem`` holds the problem details of a 503.
    """

    def __init__(
        self,
        request: str,
        attempts: int,
        last: str,
        problem: Mapping[str, Any] | None = None,
        repeatable: bool = True,
    ) -> None:
        super().__init__(request, attempts, last, problem, repeatable)
        self.request = request
        self.repeatable = repeatable
        self.attempts = attempts
        self.last = last
        self.problem = dict(problem or {})

    def __str__(self) -> str:
        told = f"{self.request}: no definite answer after {self.attempts} attempt(s), the last: "
        told += f"{self.last}. Whether it was carried out is unknown; "
        if self.repeatable:
            return told + "the same bytes may be sent again."
        return told + "see what was set meanwhile before you send it again."


class ProtocolError(ConcordError):
    """The answer is not one of this service: a proxy's page, another server, a foreign version.

    What was done is unknown; ``raw`` is what came. After the cause is mended, the same bytes may be
    sent again.
    """

    def __init__(self, request: str, status: int, what: str, raw: bytes = b"") -> None:
        super().__init__(request, status, what, raw)
        self.request = request
        self.status = status
        self.what = what
        self.raw = raw

    def __str__(self) -> str:
        shown = self.raw[:_SHOWN_MAX].decode(errors="replace")
        return f"{self.request}: answered {self.status}, {self.what}: {shown!r}"


_FAMILIES: dict[int, type[Refused]] = {
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    409: Conflict,
    **dict.fromkeys((400, 413, 415, 422), Invalid),
}


def problem(request: str, status: int, body: Mapping[str, Any]) -> Problem:
    """The error for problem details that came with ``status``."""
    kind = _FAMILIES.get(status, Refused) if status < 500 else Failed
    return kind(request, status, body)


def _field_errors(errors: Any) -> tuple[FieldError, ...]:
    rows = errors if isinstance(errors, list) else []
    return tuple(
        FieldError(str(row.get("where", "")), str(row.get("what", "")))
        for row in rows
        if isinstance(row, dict)
    )
