"""Traces behind their switch: what a request's spans are, and that without the switch there is
nothing."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service.commits import MemoryStore, StoreUnavailable
from service.telemetry import configure_logs
from service.tracing import Tracing, to_collector
from tests.service.api import Api, Failing, day, step

ROOT = Path(__file__).parents[2]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STEP = "POST /v1/days/{day_id}/steps/{n}"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def api(exporter: InMemorySpanExporter) -> Iterator[Api]:
    """A service whose spans end in ``exporter``."""
    with Api(tracing=Tracing(SimpleSpanProcessor(exporter))) as started:
        yield started


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """The finished spans by their names; a repeated one is its last."""
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_step_is_a_span_with_its_policy_and_its_commit(
    api: Api, exporter: InMemorySpanExporter
) -> None:
    api.open(day())
    exporter.clear()
    reply = api.step(1, step(1))
    found = spans(exporter)
    request, policy, commit = found[STEP], found["policy"], found["store commit"]
    assert request.kind is SpanKind.SERVER
    assert request.parent is None
    for child in (policy, commit):
        assert child.parent is not None
        assert child.parent.span_id == request.context.span_id
    assert dict(request.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/days/{day_id}/steps/{n}",
        "http.response.status_code": 200,
        "concord.request_id": reply.headers["x-request-id"],
    }
    assert dict(policy.attributes or {}) == {"concord.policy": "twap", "concord.orders": 2}
    told = dict(commit.attributes or {})
    assert (told["concord.command"], told["concord.outcome"]) == ("step", "committed")
    assert request.resource.attributes["service.name"] == "concord"


def test_the_trace_of_a_caller_is_continued(api: Api, exporter: InMemorySpanExporter) -> None:
    api.open(day())
    exporter.clear()
    api.step(1, step(1), headers=[("traceparent", f"00-{TRACE}-{PARENT}-01")])
    request = spans(exporter)[STEP]
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == PARENT
    assert {f"{span.context.trace_id:032x}" for span in exporter.get_finished_spans()} == {TRACE}


@pytest.mark.parametrize("header", ["00-zz-1-01", "", "x" * 5_000, f"00-{'0' * 32}-{PARENT}-01"])
def test_a_wrong_traceparent_is_no_reason_to_refuse(
    api: Api, exporter: InMemorySpanExporter, header: str
) -> None:
    assert api.open(day(), headers=[("traceparent", header)]).status == 200
    assert spans(exporter)["PUT /v1/days/{day_id}"].parent is None


def test_a_caller_that_does_not_sample_is_not_traced(
    api: Api, exporter: InMemorySpanExporter
) -> None:
    assert api.open(day(), headers=[("traceparent", f"00-{TRACE}-{PARENT}-00")]).status == 200
    assert not exporter.get_finished_spans()


def test_requests_at_once_have_traces_of_their_own(
    api: Api, exporter: InMemorySpanExporter
) -> None:
    api.race(*(api.request("PUT", f"/v1/days/d{n}", day()) for n in range(5)))
    commits = [span for span in exporter.get_finished_spans() if span.name == "store commit"]
    assert len({span.context.trace_id for span in commits}) == 5


def test_the_log_names_the_trace(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    configure_logs("info")
    try:
        api.open(day(), headers=[("traceparent", f"00-{TRACE}-{PARENT}-01")])
    finally:
        structlog.reset_defaults()
    assert json.loads(log.getvalue().splitlines()[-1])["trace_id"] == TRACE


def test_probes_and_what_they_read_are_no_spans(api: Api, exporter: InMemorySpanExporter) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        assert api.call("GET", path).status == 200
    assert not exporter.get_finished_spans()


def test_errors_are_marked_by_their_type_only() -> None:
    exporter, store = InMemorySpanExporter(), Failing(MemoryStore())
    with Api(store=store, tracing=Tracing(SimpleSpanProcessor(exporter))) as api:
        store.fail = {"commit": lambda: StoreUnavailable("secret address")}
        assert api.open(day(policy="failing")).status == 503
        assert api.open(day(policy="failing")).status == 200
        api.step(1, step(1))
    found = {
        span.name: (span.attributes or {})["error.type"]
        for span in exporter.get_finished_spans()
        if span.status.status_code is StatusCode.ERROR
    }
    assert found == {
        "store commit": "StoreUnavailable",
        "PUT /v1/days/{day_id}": "503",
        "policy": "PolicyFailed",
    }
    told = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert "secret" not in told
    assert "desk" not in told


# the switch

OFF = """
import builtins, sys
usual, asked = builtins.__import__, []

def watch(name, globals=None, *rest):
    importer = (globals or {}).get("__name__", "")
    if name.startswith("opentelemetry") and importer.startswith("service"):
        asked.append((importer, name))
    return usual(name, globals, *rest)

builtins.__import__ = watch
from tests.service.api import Api, day, step
import service.__main__
with Api() as api:
    assert api.open(day()).status == 200
    assert api.step(1, step(1), headers=[("traceparent", "00-%s-%s-01")]).status == 200
heavy = ("service.tracing", "opentelemetry.sdk.trace", "opentelemetry.exporter")
print(asked, [name for name in heavy if name in sys.modules])
"""


def test_nothing_of_it_is_imported_without_the_switch() -> None:
    """The web framework and the Redis client import what they find of it; the service nothing."""
    command = [sys.executable, "-c", OFF % (TRACE, PARENT)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[] []", done.stderr


def started(tmp_path: Path, code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A start of the service that ends by itself."""
    environment = os.environ | {"CONCORD_DATA_DIR": str(tmp_path), "CONCORD_PORT": "0"} | settings
    return subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nfrom service.__main__ import main\nmain()"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("missing", ["opentelemetry.sdk", "opentelemetry.exporter"])
def test_a_start_without_the_extra_says_what_to_install(tmp_path: Path, missing: str) -> None:
    done = started(
        tmp_path,
        f"sys.modules[{missing!r}] = None",
        CONCORD_OTEL_ENDPOINT="http://127.0.0.1:4318",
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("concord cannot start: CONCORD_OTEL_ENDPOINT is set, but ")
    assert "pip install 'concord-execution[otel]'" in done.stderr


@pytest.mark.parametrize(
    "wrong", ["127.0.0.1:4318", "http://user:secret@host:4318", "", "grpc://x"]
)
def test_a_wrong_endpoint_ends_the_start_in_one_sentence(tmp_path: Path, wrong: str) -> None:
    done = started(tmp_path, "", CONCORD_OTEL_ENDPOINT=wrong)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("concord cannot start: CONCORD_OTEL_ENDPOINT: ")
    assert "secret" not in done.stderr


class _Collector(HTTPServer):
    """Takes what is sent to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.taken: list[tuple[str, bytes]] = []


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert isinstance(self.server, _Collector)
        self.server.taken.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.mark.parametrize("path", ["", "/", "/v1/traces"])
def test_spans_reach_a_collector(path: str) -> None:
    with _Collector() as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{collector.server_port}{path}"
        tracing = to_collector(address, lambda *_, **__: None)
        with Api(tracing=tracing) as api:
            assert api.open(day()).status == 200
        tracing.close()
        collector.shutdown()
    [(at, body)] = collector.taken
    assert at == "/v1/traces"
    assert b"PUT /v1/days/{day_id}" in body


def test_a_collector_that_is_away_is_told_in_the_log_and_costs_nothing_else() -> None:
    told: list[str] = []
    tracing = to_collector("http://127.0.0.1:9", lambda what, text: told.append(f"{what}: {text}"))
    with Api(tracing=tracing) as api:
        assert api.open(day()).status == 200
    tracing.close()
    assert told
    assert all(line.startswith("tracing: ") for line in told)
