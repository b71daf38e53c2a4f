"""The real application called in process as a raw ASGI server would, and bodies to send to it.

``Api`` owns an event loop and the application's lifespan; ``day``, ``bars`` and ``step`` build
bodies that are accepted as they are, so that a test changes only what it is about.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from service import auth
from service.app import Tracing, create_app
from service.commits import MemoryStore, Store
from service.core.baselines import BASELINES
from service.core.contract import ACTIONS
from service.core.day import Day
from service.core.observe import Observation
from service.core.policy import Intent, Policy, PolicyFailed, Rounds
from service.desk import Desk
from service.operations import NO_OPERATION, OPERATIONS
from service.outcomes import Problem
from service.rack import Fixed, Installed, Models, Source
from service.records import Records
from service.settings import Settings

Json = dict[str, Any]
OPEN = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
STEP_MINUTES = 30
WORD = "open-sesame"
DESK, OTHER, WATCHER, HALTER, ADMIN = (
    f"{name}.{WORD}" for name in ("desk", "other", "watcher", "halter", "admin")
)
_KEYS = {
    "desk": ("desk", ["trade", "observe", "halt"]),
    "other": ("other", ["trade", "observe", "halt"]),
    "watcher": ("desk", ["observe"]),
    "halter": ("desk", ["halt"]),
    "admin": ("operations", ["admin"]),
}


@dataclass(frozen=True)
class Reply:
    """What came back: status, headers in lower case, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The problem's code; None for a success."""
        return self.json["code"] if self.status >= 400 else None

    @property
    def replayed(self) -> bool:
        return self.headers.get("replayed") == "true"


class Failing:
    """A store whose next calls fail, before or after the work is done."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.fail: dict[str, Callable[[], BaseException]] = {}
        self.after = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*args: Any) -> Any:
            error = self.fail.pop(name, None)
            if error is not None and not self.after:
                raise error()
            answer = await method(*args)
            if error is not None:
                raise error()
            return answer

        return call


def write_keys(path: Path) -> Path:
    """A keys file with one key for each role of these tests."""
    digest = hashlib.sha256(WORD.encode()).hexdigest()
    keys = [
        {"id": key, "client": client, "digest": digest, "scopes": scopes}
        for key, (client, scopes) in _KEYS.items()
    ]
    path.write_text(json.dumps({"keys": keys}))
    path.chmod(0o600)
    return path


def keyring() -> auth.Keyring:
    """The same keys without a file."""
    digest = hashlib.sha256(WORD.encode()).hexdigest()
    return auth.Keyring(
        {
            key: auth._Key(digest, auth.Client(client, frozenset(map(auth.Scope, scopes))))
            for key, (client, scopes) in _KEYS.items()
        }
    )


def _wishing(wish: Callable[[Day], Any]) -> Policy:
    return lambda day, observation: Intent(wish(day))


def _failing(day: Day, observation: Observation) -> Intent:
    raise PolicyFailed("the model does not answer")


def _talking(day: Day, observation: Observation) -> Intent:
    """Two rounds of exchange: first everything, then a quarter, with sure probabilities."""
    n = day.cum_qty.size
    actions = np.array([[4] * n, [1] * n])
    probabilities = np.eye(ACTIONS, dtype=np.float32)[actions]
    return Intent(day.orders.order_qty // 4, Rounds(actions, probabilities))


def _limit(day: Day) -> Any:
    return np.full_like(day.cum_qty, 2**62)


FAKES: dict[str, Policy] = {
    "all": _wishing(lambda day: day.orders.order_qty),
    "none": _wishing(lambda day: np.zeros_like(day.cum_qty)),
    "failing": _failing,
    "nan": _wishing(lambda day: np.full(day.cum_qty.shape, np.nan)),
    "infinite": _wishing(lambda day: np.full(day.cum_qty.shape, np.inf)),
    "float": _wishing(lambda day: day.orders.order_qty / 2),
    "short": _wishing(lambda day: day.orders.order_qty[:-1]),
    "negative": _wishing(lambda day: -day.orders.order_qty),
    "huge": _wishing(_limit),
    "talking": _talking,
}


def installed(**more: Policy) -> dict[str, Installed]:
    """Baselines and fakes, each with a model description."""
    policies = {**BASELINES, **FAKES, **more}
    return {
        name: Installed(policy, {"name": name, "version": "1", "fingerprint": "f" * 16})
        for name, policy in policies.items()
    }


@dataclass
class Api:
    """The service in process; use it as a context manager."""

    store: Any = field(default_factory=MemoryStore)
    policies: dict[str, Installed] = field(default_factory=installed)
    source: Source | None = None
    options: Json = field(default_factory=dict)
    tracing: Tracing | None = None

    def __enter__(self) -> Api:
        quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
        structlog.configure(wrapper_class=quiet)
        self._stack = ExitStack()
        self._runner = self._stack.enter_context(asyncio.Runner())
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _start(self) -> None:
        self.settings = Settings(**self.options)
        self.app = create_app(
            self.settings, self.store, self.source or Fixed(self.policies), keyring(), self.tracing
        )
        lifespan = self.app.router.lifespan_context(self.app)
        self.parts = dict(self._runner.run(lifespan.__aenter__()))
        self._stack.callback(lambda: self._runner.run(lifespan.__aexit__(None, None, None)))

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def restart(self, store: Store | None = None) -> None:
        """As a new process over the same store, or over another one: nothing is remembered."""
        self.store = store or self.store
        days = self.settings.days_cached_max
        models = Models(self.source or Fixed(self.policies), self.store.pins)
        self.parts["desk"] = Desk(self.store, models, days, lambda *_: None)
        self.parts["records"] = Records(self.store)

    def run(self, work: Awaitable[Any]) -> Any:
        """Wait for ``work`` on the loop of the application."""

        async def waiting() -> Any:
            return await work

        return self._runner.run(waiting())

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> Reply:
        """The reply to one request; ``body`` is JSON, or bytes as they are."""
        reply: Reply = self.run(self.request(method, path, body, **more))
        return reply

    def race(self, *calls: Awaitable[Reply]) -> list[Reply]:
        """The replies to requests that are all under way at once."""

        async def together() -> list[Reply]:
            return await asyncio.gather(*calls)

        return self._runner.run(together())

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = DESK,
        headers: Iterable[tuple[str, str]] = (),
        kind: str | None = "application/json",
        chunks: Callable[[], AsyncIterator[bytes]] | None = None,
    ) -> Reply:
        raw = encoded(body)
        given = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        if kind is not None:
            given.append((b"content-type", kind.encode()))
        if key is not None:
            given.append((b"authorization", f"Bearer {key}".encode()))
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": given,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
            "state": dict(self.parts),
        }
        reply = await _exchange(self.app, scope, chunks() if chunks else _once(raw))
        assert_described(scope, reply)
        return reply

    # the commands of one day, named by what they do

    def open(self, body: Json, day_id: str = "d", **more: Any) -> Reply:
        return self.call("PUT", f"/v1/days/{day_id}", body, **more)

    def step(self, n: int, body: Any, day_id: str = "d", **more: Any) -> Reply:
        return self.call("POST", f"/v1/days/{day_id}/steps/{n}", body, **more)

    def report(self, executions: list[Json], day_id: str = "d", **more: Any) -> Reply:
        body = {"executions": executions}
        return self.call("POST", f"/v1/days/{day_id}/executions", body, **more)

    def close(self, body: Json | None = None, day_id: str = "d", **more: Any) -> Reply:
        return self.call("POST", f"/v1/days/{day_id}/close", body or {}, **more)

    def state(self, day_id: str = "d") -> Any:
        reply = self.call("GET", f"/v1/days/{day_id}")
        assert reply.status == 200, reply.body
        return reply.json

    def instruct(self, instruction_id: str, day_id: str = "d", **body: Any) -> Reply:
        body = {"instruction_id": instruction_id, **body}
        return self.call("POST", f"/v1/days/{day_id}/instructions", body)

    def trading(self, state: str, **more: Any) -> Reply:
        return self.call("PUT", "/v1/state", {"state": state}, **more)

    def row(self, cl_ord_id: str, day_id: str = "d") -> Json:
        """One order of the day's state."""
        return row(self.state(day_id), cl_ord_id)


async def _once(raw: bytes) -> AsyncIterator[bytes]:
    yield raw


async def _exchange(app: Any, scope: Json, body: AsyncIterator[bytes]) -> Reply:
    sent: list[Json] = []

    async def receive() -> Json:
        try:
            return {"type": "http.request", "body": await anext(body), "more_body": True}
        except StopAsyncIteration:
            return {"type": "http.request", "body": b"", "more_body": False}
        except ConnectionError:
            return {"type": "http.disconnect"}

    async def send(message: Json) -> None:
        sent.append(message)

    try:
        await app(scope, receive, send)
    except Exception:  # a server answers what was sent and writes the rest to its log
        if not sent:
            raise
    start = sent[0]
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return Reply(start["status"], headers, b"".join(m.get("body", b"") for m in sent[1:]))


def encoded(body: Any) -> bytes:
    """A body as bytes."""
    if isinstance(body, bytes):
        return body
    return b"" if body is None else json.dumps(body).encode()


def times(steps: int) -> list[str]:
    """Decision times from the open, one every half hour."""
    return [moment(n) for n in range(1, steps + 1)]


def moment(n: int, late_s: float = 0) -> str:
    """The scheduled time of decision ``n``."""
    at = OPEN + timedelta(minutes=STEP_MINUTES * (n - 1), seconds=late_s)
    return at.isoformat().replace("+00:00", "Z")


def order(cl_ord_id: str, side: str, order_qty: int, symbol: str = "", **more: Any) -> Json:
    """One order as a row; ``day`` turns rows into columns."""
    symbol = symbol or f"S{cl_ord_id}"
    return {
        "cl_ord_id": cl_ord_id,
        "symbol": symbol,
        "side": side,
        "order_qty": order_qty,
        **more,
    }


PLAIN: Json = {
    "urgency_pct": 0,
    "completion": "MUST",
    "participation_ppm_min": None,
    "participation_ppm_max": None,
    "would_px": None,
    "would_ppm": 1_000_000,
    "min_qty": 0,
    "auction": "NONE",
}
"""How an order is answered to be worked when nothing was asked."""
BUY_AND_SELL = (order("A", "BUY", 1_000), order("B", "SELL", 600))


def day(*orders: Json, steps: int = 4, **changes: Any) -> Json:
    """The body that opens a day."""
    rows = orders or BUY_AND_SELL
    body: Json = {
        "account": "fund-1",
        "currency": "USD",
        "schedule": {"times": times(steps)},
        "cash_minor": 100_000_000,
        "orders": {name: [row[name] for row in rows] for name in rows[0]},
        "policy": "twap",
        **changes,
    }
    # protections are then round numbers: 10.0 is protected at 10.1
    body["limits"] = {"cash_buffer_bp": 100} | body.get("limits", {})
    return body


def bars(symbols: Sequence[str] = ("SA", "SB"), px: float = 10.0, **columns: Any) -> Json:
    """A snapshot: flat bars at ``px`` that traded; ``columns`` replace whole columns."""
    n = len(symbols)
    flat = {name: [px] * n for name in ("open", "high", "low", "close")}
    return {"symbols": list(symbols), **flat, "volume": [10_000] * n, **columns}


def step(n: int, snapshot: Json | None = None, *executions: Json, **changes: Any) -> Json:
    """The body of decision ``n``."""
    body: Json = {"as_of": moment(n), "snapshot": snapshot or bars(), **changes}
    return body | ({"executions": list(executions)} if executions else {})


def fill(exec_id: str, child: str, qty: int, px: float = 10.0, kind: str = "TRADE") -> Json:
    """A fill of a child (``A/1``) or of an order (``A``)."""
    return {**_named(exec_id, child, kind), "last_qty": qty, "last_px": px}


def end(exec_id: str, child: str, kind: str = "CANCELED") -> Json:
    """The end of a child or of an order's children."""
    return _named(exec_id, child, kind)


def _named(exec_id: str, child: str, kind: str) -> Json:
    name = "child_id" if "/" in child else "cl_ord_id"
    return {"exec_id": exec_id, name: child, "exec_type": kind}


def row(reply: Json, cl_ord_id: str) -> Json:
    """One order of a reply's columns."""
    columns = reply["orders"]
    at = columns["cl_ord_id"].index(cl_ord_id)
    return {name: values[at] for name, values in columns.items()}


def codes(reply: Json, cl_ord_id: str) -> list[str]:
    """Reason codes of one child."""
    return [reason["code"] for reason in row(reply, cl_ord_id)["reasons"]]


def alarms(reply: Json) -> list[str]:
    """Codes of a reply's alarms."""
    return [alarm["code"] for alarm in reply["alarms"]]


def changed(body: Json, path: str, value: Any) -> Json:
    """A copy of ``body`` with another value at a dotted path."""
    copy = deepcopy(body)
    *parents, last = path.split(".")
    place: Any = copy
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place[name]
    if isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
    return copy


def assert_described(scope: Json, reply: Reply) -> None:
    """The OpenAPI document has a place for everything in the reply, and lists its problem."""
    route = scope.get("route")
    if route is None or route.name == "openapi":
        return
    row = OPERATIONS[route.name]
    if reply.status >= 400:
        assert reply.code in {*row.refusals(route.path), *NO_OPERATION}, (route.name, reply.code)
        Problem.model_validate_json(reply.body, extra="forbid")
    elif row.reply is not None and reply.headers["content-type"] == "application/json":
        row.reply.model_validate_json(reply.body, extra="forbid")


def assert_problem(reply: Reply, status: int, code: str) -> None:
    """The reply is RFC 9457 problem details with this status and code."""
    found = (reply.status, reply.json.get("code") if reply.body else None)
    assert found == (status, code), (found, reply.body[:500])
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json
    assert problem["status"] == status
    assert problem["instance"].removeprefix("urn:concord:request:")
    assert problem["type"].startswith("urn:concord:problem:")
    assert problem["title"]
    assert problem["detail"]
