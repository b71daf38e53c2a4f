"""Logs and metrics: one structured line per command, counters and latencies for Prometheus.

The only module that imports structlog and prometheus_client. Nothing here can fail a command.
"""

from __future__ import annotations

import logging
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import structlog
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from service.errors import MEDIA_TYPE, RETRY_AFTER_S, Code, Problem
from service.plans import Effect

METRICS_TYPE = CONTENT_TYPE_LATEST
PROBES = frozenset({"/livez", "/readyz", "/metrics"})
"""Answered however busy the service is: an overload must not look like a death."""
REQUEST_ID_HEADER = "x-request-id"
_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
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


class Telemetry:
    """The counters of one application, and its log."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._log = structlog.get_logger()
        self.requests = self._counter("requests", "Requests answered", ("route", "status"))
        self.seconds = Histogram(
            "concord_request_seconds",
            "Time to answer",
            ("route",),
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self.decisions = self._counter("decisions", "Steps decided", ("policy", "fallback"))
        self.cash_cuts = self._counter("cash_cuts", "Steps in which cash cut a buy", ("policy",))
        self.alarms = self._counter("alarms", "Facts to look at", ("code",))
        self.ready = Gauge(
            "concord_ready", "1 when the service may decide", registry=self._registry
        )

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"concord_{name}", text, labels, registry=self._registry)

    def expose(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def committed(self, client: str, day_id: str, command: str, effect: Effect) -> None:
        """Count and log a command that is durable."""
        day = effect.live.day
        facts: dict[str, Any] = {
            "client": client,
            "day_id": day_id,
            "command": command,
            "step": day.step,
            "cash_minor": int(day.cash_minor),
            "alarms": [alarm.code for alarm in effect.alarms],
        }
        if effect.decided is not None:
            facts |= self._decided(effect)
        for alarm in effect.alarms:
            self.alarms.labels(alarm.code).inc()
        self._say("warning" if effect.alarms else "info", "committed", **facts)

    def _decided(self, effect: Effect) -> dict[str, Any]:
        decided, policy = effect.decided, effect.live.terms.policy
        if decided is None:
            return {}
        cut, failure = bool(decided.decision.cut), decided.failure
        self.decisions.labels(policy, str(failure is not None).lower()).inc()
        if cut:
            self.cash_cuts.labels(policy).inc()
        child_qty = int(decided.decision.child_qty.sum())
        return {"policy": policy, "child_qty": child_qty, "cash_cut": cut, "fallback": failure}

    def failed(self, what: str, error: BaseException) -> None:
        """Log a defect with its trace."""
        self._say("error", what, exc_info=error)

    def note(self, what: str, **facts: Any) -> None:
        """Log one line."""
        self._say("info", what, **facts)

    def _say(self, level: str, what: str, **facts: Any) -> None:
        # a log on a full disk or a closed pipe must not take back an answer that is durable
        with suppress(OSError, ValueError):
            getattr(self._log, level)(what, **facts)


class Observed:
    """ASGI middleware: a request id, a latency, a count, and a bound on requests at once."""

    def __init__(self, app: Asgi, telemetry: Telemetry, requests_max: int) -> None:
        self._app = app
        self._telemetry = telemetry
        self._requests_max = requests_max
        self._serving = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started = time.perf_counter()
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
                await _overloaded(request_id, answer)
            else:
                await self._app(scope, receive, answer)
        finally:
            self._serving -= 1
            route = getattr(scope.get("route"), "path", "unmatched")
            self._telemetry.requests.labels(route, status).inc()
            self._telemetry.seconds.labels(route).observe(time.perf_counter() - started)


async def _overloaded(request_id: str, send: Send) -> None:
    problem = Problem(Code.OVERLOADED, "repeat the request later, or raise connections_max")
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"retry-after", str(RETRY_AFTER_S).encode()),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": problem.body(request_id)})
