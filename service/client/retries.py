"""When a call is sent again, and for how long: the rules of both clients. Imports tenacity.

Why repeating is safe: every command has a natural key (a day's opening, step n, the close, an
instruction_id, the exec_id of each execution), and the service commits a command under its key at
most once, together with a digest of its bytes and the reply. The same bytes again are answered with
the recorded reply; so a request whose answer was lost can be repeated until it is answered, and
what it did is done once. It must be the very same bytes, which is why a command is encoded once.
Executions have no key in their path, but every exec_id is one: it is booked once, whatever batch it
comes in. Reading changes nothing.

Repeated are: no connection, a connection that broke, a timeout, 429, 502, 503 and 504. No other 4xx
is repeated, since the same bytes would be refused again, nor a 500, which is a defect.
The one command that is not once-only is a trading state: the last one to arrive holds. HALTED is
repeated, any other state is sent once, since a repetition could undo a halt of somebody else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_before_delay,
    wait_exception,
    wait_random_exponential,
)

from service.client.commands import Command
from service.client.errors import Unavailable
from service.client.reading import Answer, details, doubtful

IN_DOUBT = frozenset({429, 502, 503, 504})
RETRY_S_MAX = 60.0
PAUSE_S_MIN, PAUSE_S_FIRST, PAUSE_S_MAX = 0.02, 0.1, 5.0
"""A pause is drawn between the least and a ceiling that doubles from the first to the largest."""
_log = logging.getLogger(__name__)


class InDoubt(Exception):
    """One attempt without a definite answer; ``retry_after_s`` is what the service asked for."""

    def __init__(
        self, what: str, retry_after_s: float = 0.0, problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(what)
        self.retry_after_s = retry_after_s
        self.problem = problem


def definite(answer: Answer) -> Answer:
    """The answer, if it is one; raises InDoubt for what only says that there is none."""
    if answer.status not in IN_DOUBT:
        return answer
    wait = retry_after_s(answer.headers.get("retry-after", ""))
    raise InDoubt(doubtful(answer), wait, details(answer.content))


def repeating(command: Command[Any], retry_s_max: float) -> Retrying:
    """Calls a function until it is out of doubt, or raises Unavailable."""
    return Retrying(**_rules(command, retry_s_max))


def repeating_async(command: Command[Any], retry_s_max: float) -> AsyncRetrying:
    """The same for a coroutine function."""
    return AsyncRetrying(**_rules(command, retry_s_max))


def attempts(retrying: Retrying | AsyncRetrying) -> int:
    """How often the call was sent."""
    return int(retrying.statistics["attempt_number"])


def _rules(command: Command[Any], retry_s_max: float) -> dict[str, Any]:
    backoff = wait_random_exponential(multiplier=PAUSE_S_FIRST, max=PAUSE_S_MAX, min=PAUSE_S_MIN)
    return {
        "retry": retry_if_exception_type(InDoubt),
        # added, not the larger of both: callers that were sent away together come back apart
        "wait": wait_exception(_asked) + backoff,
        "stop": stop_before_delay(0.0 if command.once else retry_s_max),
        "before_sleep": _noting(command),
        "retry_error_callback": _giving_up(command),
    }


def _asked(error: BaseException) -> float:
    return error.retry_after_s if isinstance(error, InDoubt) else 0.0


def _noting(command: Command[Any]) -> Callable[[RetryCallState], None]:
    def note(state: RetryCallState) -> None:
        pause = state.upcoming_sleep
        _log.info("%s: %s; again in %.2f s", command, _doubt(state), pause)

    return note


def _giving_up(command: Command[Any]) -> Callable[[RetryCallState], NoReturn]:
    def give_up(state: RetryCallState) -> NoReturn:
        doubt = _doubt(state)
        problem = doubt.problem if isinstance(doubt, InDoubt) else None
        told = (str(command), state.attempt_number, str(doubt), problem, not command.once)
        raise Unavailable(*told) from doubt

    return give_up


def _doubt(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def retry_after_s(header: str) -> float:
    """Seconds of a Retry-After header, a number or a date; 0 for none or nonsense."""
    if header.isascii() and header.isdigit():
        return float(header)
    try:
        until = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return 0.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
