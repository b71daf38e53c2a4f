"""The client's side of a trading day: open, one decision after another, close. Imports httpx.

Every command is safe to repeat, since the service answers a repeated one with the recorded bytes.
So whatever leaves a request in doubt (no connection, no answer, 503) is repeated with the same
body, and any other refusal ends the day with the service's own problem details.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from service.play.script import REPORTED, Json, Script, close_body, executions, open_body, step_body

RETRY_S_MAX = 60.0
"""How long one command is repeated before the client gives up."""
_PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0)
_IN_DOUBT = frozenset({502, 503, 504})


class ServiceError(Exception):
    """The service refused a command or cannot be reached; the message holds its own words."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply: its JSON, the milliseconds it took, and how often the request was repeated."""

    json: Json
    ms: float
    repeats: int


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision as the client saw it: answer, record with its rounds, state of the day."""

    decision: Json
    record: Json
    state: Json
    ms: float


@dataclass(slots=True)
class Played:
    """A day after its close: the service's report and the client's own measurements."""

    report: Json = field(default_factory=dict)
    step_ms: list[float] = field(default_factory=list)
    repeats: int = 0


class Caller:
    """Sends commands to one service with one API key; use it as a context manager."""

    def __init__(self, url: str, key: str, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._client = httpx.Client(
            base_url=url, headers=headers, timeout=10.0, transport=transport, trust_env=False
        )

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def call(self, method: str, path: str, body: Json | None = None) -> Answer:
        """The answer to one command, which is repeated until it is out of doubt."""
        content = None if body is None else json.dumps(body).encode()
        give_up, repeats = time.monotonic() + RETRY_S_MAX, 0
        while True:
            begun = time.perf_counter()
            reply, doubt = self._once(method, path, content)
            ms = 1e3 * (time.perf_counter() - begun)
            if reply is not None:
                return Answer(_accepted(method, path, reply), ms, repeats)
            if time.monotonic() > give_up:
                raise ServiceError(f"{method} {path}: no answer for {RETRY_S_MAX:.0f} s ({doubt})")
            time.sleep(_PAUSES_S[min(repeats, len(_PAUSES_S) - 1)])
            repeats += 1

    def _once(
        self, method: str, path: str, content: bytes | None
    ) -> tuple[httpx.Response | None, str]:
        """The reply, or None and why it is in doubt."""
        try:
            reply = self._client.request(method, path, content=content)
        except httpx.TransportError as error:
            return None, f"{type(error).__name__}: {error}"
        return (None, f"{reply.status_code}") if reply.status_code in _IN_DOUBT else (reply, "")


def play(
    caller: Caller, day: Script, watch: Callable[[Decided], None] = lambda decided: None
) -> Played:
    """Play ``day`` from its opening to its close; ``watch`` sees every decision."""
    path, played = f"/v1/days/{day.day_id}", Played()

    def send(method: str, place: str, body: Json | None = None) -> Answer:
        answer = caller.call(method, path + place, body)
        played.repeats += answer.repeats
        return answer

    send("PUT", "", open_body(day))
    reports: list[Json] = []
    for step in range(1, len(day.times) + 1):
        answer = send("POST", f"/steps/{step}", step_body(day, step, reports))
        played.step_ms.append(answer.ms)
        reports = executions(day, answer.json) if day.fills == REPORTED else []
        record = send("GET", f"/steps/{step}").json
        watch(Decided(answer.json, record, send("GET", "").json, answer.ms))
    played.report = send("POST", "/close", close_body(day, reports)).json
    return played


def _accepted(method: str, path: str, reply: httpx.Response) -> Json:
    """The body of a successful reply; raises ServiceError with the problem details of another."""
    try:
        body = reply.json()
    except ValueError:
        body = None
    if reply.is_success and isinstance(body, dict):
        return body
    details = json.dumps(body, indent=2) if isinstance(body, dict) else reply.text[:1_000]
    raise ServiceError(f"{method} {path} was answered {reply.status_code}:\n{details}")
