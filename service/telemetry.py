"""What is told of a request: one structured line per command, counters and latencies.

The only module that imports structlog. Nothing here can fail a command. Lines name days, clients
and codes, and count children; prices, volumes, cash and keys stay in the store.
"""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import structlog

from service.commits import ACTIVE
from service.core.day import Status
from service.core.decide import Decided
from service.errors import MEDIA_TYPE, RETRY_AFTER_S, Code, Problem
from service.manifest import ModelRefused
from service.measured import SPENT, Spent
from service.meters import Meters
from service.plans import Effect
from service.rack import Rack
from service.shadow import Stop

PROBES = frozenset({"/livez", "/readyz", "/metrics"})
"""Answered however busy the service is: an overload must not look like a death."""
REQUEST_ID_HEADER = "x-request-id"
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Message, Receive, Send], Awaitable[None]]


def configure_logs(level: str) -> None:
    """JSON lines on standard error, ``level`` and above."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def note(what: str, level: str = "info", **facts: Any) -> None:
    """Log one line of the process."""
    _say(structlog.get_logger(), level, what, facts)


def _say(log: Any, level: str, what: str, facts: dict[str, Any]) -> None:
    # a log on a full disk or a closed pipe must not take back an answer that is durable
    with suppress(OSError, ValueError):
        getattr(log, level)(what, **facts)


def in_every_line(**facts: str) -> None:
    """Put ``facts`` into every further line of the request that is being served."""
    structlog.contextvars.bind_contextvars(**facts)


class Telemetry:
    """The metrics of one application of that ``version``, and its log."""

    def __init__(self, version: str) -> None:
        self.meters = Meters()
        self.meters.identify(version)
        self._log = structlog.get_logger()

    def committed(self, client: str, day_id: str, command: str, effect: Effect) -> None:
        """Count and log a command that is durable; what goes wrong here takes nothing back."""
        try:
            self._committed(client, day_id, command, effect)
        except Exception as error:
            self.failed("telemetry", error)

    def _committed(self, client: str, day_id: str, command: str, effect: Effect) -> None:
        codes = [alarm.code.value for alarm in effect.alarms]
        facts: dict[str, Any] = {
            "client": client,
            "day_id": day_id,
            "command": command,
            "step": effect.live.day.step,
            "alarms": codes,
        }
        self._count(client, day_id, command, effect)
        self._stopped(facts, effect.stops)
        if effect.decided is not None:
            facts |= self._decided(effect, effect.decided, SPENT.get() or Spent())
        _say(self._log, "warning" if codes else "info", "committed", facts)

    def _stopped(self, facts: dict[str, Any], stops: Sequence[Stop]) -> None:
        """A shadow harms nobody, but who tries it must hear that it failed."""
        for stop in stops:
            self.meters.decisions.shadow_stops.labels(stop.code).inc()
            told = facts | {"shadow": stop.policy, "code": stop.code, "exc_info": stop.defect}
            _say(self._log, "error" if stop.defect else "warning", "shadow stopped", told)

    def _count(self, client: str, day_id: str, command: str, effect: Effect) -> None:
        meters = self.meters.decisions
        meters.commands.labels(command.partition(":")[0]).inc()
        for alarm in effect.alarms:
            meters.alarms.labels(alarm.code).inc()
        is_open = effect.live.day.status is Status.OPEN
        self.meters.open_days.note(client, day_id, is_open=is_open)

    def _decided(self, effect: Effect, decided: Decided, spent: Spent) -> dict[str, Any]:
        terms, choice = effect.live.terms, decided.decision
        told = {
            "policy": terms.policy,
            "model": terms.model,
            "fallback": decided.failure,
            "cash_cut": bool(choice.cut),
            "orders": int(choice.child_qty.size),
            "children": int(np.count_nonzero(choice.child_qty)),
            "reasons": _changed(decided),
        }
        took_s = {"policy": spent.policy_s, "commit": spent.commit_s, "latency": spent.total_s()}
        self._measure(told, took_s)
        return told | {f"{name}_ms": round(1_000 * s, 3) for name, s in took_s.items()}

    def _measure(self, told: dict[str, Any], took_s: dict[str, float]) -> None:
        meters, policy = self.meters.decisions, told["policy"]
        meters.steps.labels(policy, "false" if told["fallback"] is None else "true").inc()
        meters.seconds.labels(policy).observe(took_s["latency"])
        for part in ("policy", "commit"):
            meters.part_seconds.labels(policy, part).observe(took_s[part])
        if told["cash_cut"]:
            meters.cash_cuts.labels(policy).inc()
        meters.children.labels(policy).inc(told["children"])
        for reason, count in told["reasons"].items():
            meters.changed.labels(reason).inc(count)

    def state_set(self, scope: str, state: str) -> None:
        """Log who was told to trade how: a client, a day of a client, or everyone (``*``)."""
        level = "info" if state == ACTIVE else "warning"
        _say(self._log, level, "trading", {"scope": scope, "state": state})

    def models_looked_at(self, outcome: Rack | ModelRefused) -> None:
        """Count and log what came of a look at the models folder."""
        if isinstance(outcome, ModelRefused):
            self.meters.models.loads.labels("refused").inc()
            _say(self._log, "error", "models refused", {"problem": str(outcome)})
            return
        current = {name: each.model for name, each in outcome.current.items()}
        self.meters.models.decide_now(current, len(outcome.held))
        self.meters.decisions.expect(current)
        held = sorted("@".join(version) for version in outcome.held)
        _say(self._log, "info", "models", {"held": held, "retiring": len(outcome.since_s)})

    def refused(self, code: Code) -> None:
        """Count a problem that is answered."""
        self.meters.requests.problems.labels(code).inc()

    def failed(self, what: str, error: BaseException) -> None:
        """Log a defect with its trace."""
        _say(self._log, "error", what, {"exc_info": error})


def _changed(decided: Decided) -> dict[str, int]:
    """How many children each rule changed, by its reason code."""
    counts: dict[str, int] = {}
    for stage in decided.decision.stages:
        if count := int(np.count_nonzero(stage.before != stage.after)):
            counts[stage.reason] = counts.get(stage.reason, 0) + count
    return counts


class Observed:
    """ASGI middleware: a request id, a latency, a count, and a bound on requests at once."""

    def __init__(self, app: Asgi, telemetry: Telemetry, requests_max: int) -> None:
        self._app = app
        self._telemetry = telemetry
        self._meters = telemetry.meters.requests
        self._requests_max = requests_max
        self._serving = 0
        self._meters.serving.set_function(lambda: self._serving)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        in_every_line(request_id=request_id)
        spent = Spent()
        SPENT.set(spent)
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (REQUEST_ID_HEADER.encode(), request_id.encode()),
                ]
            await send(message)

        self._serving += 1
        try:
            if self._serving > self._requests_max and scope["path"] not in PROBES:
                self._telemetry.refused(Code.OVERLOADED)
                await _overloaded(request_id, answer)
            else:
                await self._app(scope, receive, answer)
        finally:
            self._serving -= 1
            route = route_of(scope)
            self._meters.answered.labels(route, status).inc()
            self._meters.seconds.labels(route).observe(spent.total_s())


def route_of(scope: Message) -> str:
    """The path of the route that took a request, without what the caller put into it."""
    return getattr(scope.get("route"), "path", "unmatched")


async def _overloaded(request_id: str, send: Send) -> None:
    problem = Problem(Code.OVERLOADED, "repeat the request later, or raise connections_max")
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"retry-after", str(RETRY_AFTER_S).encode()),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": problem.body(request_id)})
