"""OpenTelemetry traces: a span for each request, in it one for each store call and each wish.

The only module that imports opentelemetry. It is imported only where CONCORD_OTEL_ENDPOINT is set:
without the switch there are no spans, no thread and no SDK. Spans carry routes, policies, counts
and outcomes, never a path as it was sent, a body, a key, a price or a volume.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service import __version__
from service.commits import Commit, Outcome, Store
from service.core.day import Day
from service.core.observe import Observation
from service.core.policy import Intent, Policy
from service.measured import StoreAround, outcome_name
from service.telemetry import PROBES, Asgi, Message, Receive, Send, in_every_line, route_of

EXPORT_S_MAX = 2.0
"""Longest time that one batch of spans may take to send, its repetitions included."""
TRACES_PATH = "/v1/traces"
_UNTRACED = frozenset({"ping", "durability_problems", "figures"})
"""Calls of probes."""
_METHODS = frozenset({"GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH"})
Headers = Iterable[tuple[bytes, bytes]]


class Tracing:
    """Spans of one application, given to ``processor``; put around its parts by create_app."""

    def __init__(self, processor: SpanProcessor) -> None:
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": "concord", "service.version": __version__}),
            # a caller that traces decides for its own requests; the others are all traced
            sampler=ParentBased(ALWAYS_ON),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("concord", __version__)

    def requests(self, app: Asgi) -> Asgi:
        """``app`` with a span for each request, below the caller's by its ``traceparent``."""
        return _TracedRequests(app, self._tracer)

    def store(self, store: Store) -> Store:
        """``store`` with a span for each load, commit and state that a request needs."""
        return _TracedStore(store, self._tracer)

    def policy(self, name: str, policy: Policy) -> Policy:
        """``policy`` with a span for each wish."""
        return _traced(name, policy, self._tracer)

    def close(self) -> None:
        """Send what is left; a collector that is away costs EXPORT_S_MAX for each batch."""
        self._provider.shutdown()


def to_collector(endpoint: str, tell: Callable[..., None]) -> Tracing:
    """Traces sent to ``endpoint``, the base address of an OTLP/HTTP collector.

    Sending happens in a thread of its own and drops what a collector does not take; ``tell`` hears
    what the SDK has to say of that.
    """
    _quiet(tell)
    url = endpoint.rstrip("/").removesuffix(TRACES_PATH) + TRACES_PATH
    exporter = OTLPSpanExporter(endpoint=url, timeout=EXPORT_S_MAX)
    return Tracing(BatchSpanProcessor(exporter))


class _ToLog(logging.Handler):
    """Lines of the SDK into the service's log, which is JSON only."""

    def __init__(self, tell: Callable[..., None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one line."""
        self._tell("tracing", text=record.getMessage())


def _quiet(tell: Callable[..., None]) -> None:
    logger = logging.getLogger("opentelemetry")
    logger.handlers = [_ToLog(tell)]
    logger.propagate = False


class _FromHeaders(Getter[Headers]):
    """Reads ASGI headers."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        """The values of one header; None where there is none."""
        name = key.lower().encode()
        return [value.decode("latin-1") for held, value in carrier if held == name] or None

    def keys(self, carrier: Headers) -> list[str]:
        """The names of all headers."""
        return [name.decode("latin-1") for name, _ in carrier]


_FROM_HEADERS = _FromHeaders()
_W3C = TraceContextTextMapPropagator()


@contextmanager
def _span(
    tracer: Tracer,
    name: str,
    kind: SpanKind,
    attributes: Mapping[str, str | int],
    parent: Context | None = None,
) -> Iterator[Span]:
    """A current span; an error marks it by its type, since a message may say what it was about."""
    with tracer.start_as_current_span(
        name,
        parent,
        kind,
        dict(attributes),
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except BaseException as error:
            _fail(span, type(error).__name__)
            raise


def _fail(span: Span, what: str) -> None:
    span.set_attribute("error.type", what)
    span.set_status(Status(StatusCode.ERROR))


class _TracedRequests:
    """ASGI middleware; the probes are left out, they come every few seconds and tell nothing."""

    def __init__(self, app: Asgi, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request inside a span."""
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        parent = _W3C.extract(scope["headers"], Context(), _FROM_HEADERS)
        known = {"http.request.method": method, **_identified(scope)}
        with _span(self._tracer, method, SpanKind.SERVER, known, parent) as span:
            in_every_line(trace_id=trace.format_trace_id(span.get_span_context().trace_id))
            try:
                await self._app(scope, receive, _watching(send, span))
            finally:
                span.update_name(f"{method} {route_of(scope)}")
                span.set_attribute("http.route", route_of(scope))


def _identified(scope: Message) -> dict[str, str]:
    request_id = scope.get("state", {}).get("request_id")
    return {"concord.request_id": request_id} if request_id else {}


def _watching(send: Send, span: Span) -> Send:
    """``send`` that puts the answer's status on ``span``."""

    async def watched(message: Message) -> None:
        if message["type"] == "http.response.start":
            status = message["status"]
            span.set_attribute("http.response.status_code", status)
            if status >= 500:
                _fail(span, str(status))
        await send(message)

    return watched


class _TracedStore(StoreAround):
    """A store with spans, but for what /readyz, /metrics and nobody's request ask it."""

    def __init__(self, store: Store, tracer: Tracer) -> None:
        super().__init__(store)
        self._tracer = tracer

    async def commit(self, commit: Commit) -> Outcome:
        with self._span("commit") as span:
            outcome = await self._store.commit(commit)
            span.set_attribute("concord.command", commit.command.partition(":")[0])
            span.set_attribute("concord.outcome", outcome_name(outcome))
            return outcome

    def _call(self, name: str) -> AbstractContextManager[object]:
        if name in _UNTRACED or (name == "load" and not _has_request()):
            return nullcontext()
        return self._span(name)

    def _span(self, name: str) -> AbstractContextManager[Span]:
        known = {"db.system.name": "redis", "db.operation.name": name}
        return _span(self._tracer, f"store {name}", SpanKind.CLIENT, known)


def _has_request() -> bool:
    """Whether a request is traced: /metrics reads the store too, for nobody's command."""
    return trace.get_current_span().get_span_context().is_valid


def _traced(name: str, policy: Policy, tracer: Tracer) -> Policy:
    def decide(day: Day, observation: Observation) -> Intent:
        orders: int = day.cum_qty.shape[-1]
        known: Mapping[str, str | int] = {"concord.policy": name, "concord.orders": orders}
        with _span(tracer, "policy", SpanKind.INTERNAL, known):
            return policy(day, observation)

    return decide
