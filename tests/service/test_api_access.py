"""Who may call what, the probes, and the description of the interface."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import structlog

from service import auth
from service import keys as keys_tool
from service.app import Unsafe
from service.commits import MemoryStore, StoreUnavailable
from service.errors import Code, Problem
from service.wire import COMMANDS
from tests.service.api import (
    ADMIN,
    DESK,
    HALTER,
    OTHER,
    WATCHER,
    WORD,
    Api,
    Failing,
    assert_problem,
    day,
    fill,
    step,
    write_keys,
)

CALLS: list[tuple[str, str, Any, str]] = [
    ("PUT", "/v1/days/new", day(), "trade"),
    ("GET", "/v1/days/d", None, "observe"),
    ("POST", "/v1/days/d/steps/2", step(2), "trade"),
    ("GET", "/v1/days/d/steps/1", None, "observe"),
    ("POST", "/v1/days/d/executions", {"executions": [fill("e", "A/1", 1)]}, "trade"),
    ("POST", "/v1/days/d/instructions", {"instruction_id": "i", "pause": ["A"]}, "trade"),
    ("PUT", "/v1/days/d/state", {"state": "ACTIVE"}, "halt"),
    ("POST", "/v1/days/d/close", {}, "trade"),
    ("GET", "/v1/days/d/report", None, "observe"),
    ("GET", "/v1/days/d/log", None, "observe"),
    ("PUT", "/v1/state", {"state": "ACTIVE"}, "halt"),
    ("PUT", "/v1/service/state", {"state": "ACTIVE"}, "admin"),
    ("GET", "/v1/days/d/state", None, "observe"),
    ("GET", "/v1/state", None, "observe"),
    ("GET", "/v1/service/state", None, "observe"),
    ("GET", "/v1/models", None, "observe"),
    ("POST", "/v1/models/reload", None, "admin"),
]
SCOPES = {
    DESK: {"trade", "observe", "halt"},
    WATCHER: {"observe"},
    HALTER: {"halt"},
    ADMIN: {"admin"},
}
OPEN_PATHS = {"/livez", "/readyz", "/metrics"}
PUBLIC = {"title", "status", "code", "detail", "type", "instance"}


@pytest.fixture
def begun(api: Api) -> Api:
    api.open(day())
    api.step(1, step(1))
    return api


def template(path: str) -> str:
    return re.sub(r"/days/[^/]+", "/days/{day_id}", re.sub(r"/steps/\d+", "/steps/{n}", path))


def test_every_path_of_the_service_is_in_these_tests(api: Api) -> None:
    document = api.call("GET", "/openapi.json").json
    described = {(m.upper(), p) for p, item in document["paths"].items() for m in item}
    tested = {(method, template(path)) for method, path, _, _ in CALLS}
    assert described == tested | {("GET", path) for path in OPEN_PATHS}


NO_KEYS = [
    None,
    "",
    "Bearer",
    "Bearer ",
    "Bearer .",
    f"Bearer desk.{WORD}x",
    f"Bearer desk.{WORD[:-1]}",
    "Bearer desk.",
    "Bearer desk",
    f"Bearer nobody.{WORD}",
    f"Bearer .{WORD}",
    f"Bearer  desk.{WORD}",
    f"Basic desk.{WORD}",
    f"desk.{WORD}",
    f"Bearer desk.{WORD} ",
    "Bearer desk.\xff",
]


@pytest.mark.parametrize(("method", "path", "body", "scope"), CALLS)
def test_without_a_valid_key_nothing_is_served(
    begun: Api, method: str, path: str, body: Any, scope: str
) -> None:
    before = begun.call("GET", "/v1/days/d").body
    for authorization in NO_KEYS:
        headers = [] if authorization is None else [("Authorization", authorization)]
        reply = begun.call(method, path, body, key=None, headers=headers)
        assert_problem(reply, 401, "UNAUTHENTICATED")
        assert reply.headers["www-authenticate"] == "Bearer"
        assert set(reply.json) == PUBLIC
    assert begun.call("GET", "/v1/days/d").body == before


@pytest.mark.parametrize(("method", "path", "body", "scope"), CALLS)
@pytest.mark.parametrize("key", SCOPES)
def test_a_key_does_what_its_scopes_say(
    begun: Api, method: str, path: str, body: Any, scope: str, key: str
) -> None:
    reply = begun.call(method, path, body, key=key)
    if scope in SCOPES[key]:
        assert reply.code in (None, "STEP_NOT_FOUND")
    else:
        assert_problem(reply, 403, "SCOPE_MISSING")


@pytest.mark.parametrize(("method", "path", "body", "scope"), CALLS)
def test_the_day_of_another_client_is_not_there(
    begun: Api, method: str, path: str, body: Any, scope: str
) -> None:
    before = begun.call("GET", "/v1/days/d").body
    reply = begun.call(method, path, body, key=OTHER)
    if "/days/d" in path:
        assert_problem(reply, 404, "DAY_NOT_FOUND")
        assert set(reply.json) == PUBLIC
    assert begun.call("GET", "/v1/days/d").body == before


def test_two_clients_may_use_the_same_day_id(begun: Api) -> None:
    assert begun.open(day(cash_minor=1), key=OTHER).status == 200
    assert begun.state()["cash"]["cash_minor"] == 100_000_000


def test_the_scheme_may_be_written_in_any_case(begun: Api) -> None:
    headers = [("Authorization", f"bEARER {DESK}")]
    assert begun.call("GET", "/v1/days/d", key=None, headers=headers).status == 200


def test_a_key_is_checked_before_the_body_is_read(api: Api) -> None:
    async def never() -> Any:
        pytest.fail("the body was read")
        yield b""

    assert api.call("PUT", "/v1/days/d", key=None, chunks=never).status == 401


# the keys file


def client(keys: auth.Keyring, key: str) -> auth.Client:
    return keys.client(f"Bearer {key}")


def test_keys_are_read_from_a_private_file(tmp_path: Path) -> None:
    keys = auth.load(write_keys(tmp_path / "keys.json"))
    assert client(keys, DESK).name == "desk"
    assert client(keys, WATCHER).scopes == {auth.Scope.OBSERVE}
    assert WORD not in repr(keys)
    with pytest.raises(Problem) as refused:
        client(keys, f"desk.{WORD}!")
    assert refused.value.code is Code.UNAUTHENTICATED


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_of_its_owner_is_accepted(tmp_path: Path, mode: int) -> None:
    path = write_keys(tmp_path / "keys.json")
    path.chmod(mode)
    auth.load(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777])
def test_a_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = write_keys(tmp_path / "keys.json")
    path.chmod(mode)
    with pytest.raises(auth.KeysRefused, match="chmod 600"):
        auth.load(path)


ENTRY = {"id": "k", "client": "c", "digest": "00" * 32, "scopes": ["trade"]}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "x",
        "[]",
        "{}",
        '{"keys": 1}',
        '{"keys": [1]}',
        *(
            json.dumps({"keys": [ENTRY | change]})
            for change in (
                {"digest": "00" * 31},
                {"digest": "zz" * 32},
                {"scopes": "trade"},
                {"scopes": ["everything"]},
                {"client": ""},
                {"client": "a b"},
                {"client": "*"},  # the name of everyone in the store
                {"client": "a/b"},
                {"client": "x" * 65},
            )
        ),
        *(json.dumps({"keys": [{k: v for k, v in ENTRY.items() if k != name}]}) for name in ENTRY),
    ],
)
def test_a_malformed_keys_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(auth.KeysRefused, match="not a keys file"):
        auth.load(path)


def test_a_first_key_is_private_and_works(tmp_path: Path) -> None:
    keys, secret = tmp_path / "new" / "keys.json", tmp_path / "new" / "dev.key"
    umask = os.umask(0)
    try:
        keys_tool.bootstrap(keys, secret)
    finally:
        os.umask(umask)
    for path in (keys, secret):
        assert path.stat().st_mode & 0o777 == 0o600
    assert keys.parent.stat().st_mode & 0o777 == 0o700
    key = secret.read_text().strip()
    assert key.partition(".")[2] not in keys.read_text()
    found = client(auth.load(keys), key)
    assert auth.Scope.ADMIN not in found.scopes


def test_a_second_first_start_keeps_the_key(tmp_path: Path) -> None:
    """Two starts at once both see no keys; the one that is served must stay the one on file."""
    keys, secret = tmp_path / "keys.json", tmp_path / "dev.key"
    keys_tool.bootstrap(keys, secret)
    before = secret.read_bytes(), keys.read_bytes()
    keys_tool.bootstrap(keys, secret)
    assert (secret.read_bytes(), keys.read_bytes()) == before


# probes


def test_probes_need_no_key(api: Api) -> None:
    assert api.call("GET", "/livez", key=None, kind=None).body == b"ok\n"
    assert api.call("GET", "/readyz", key=None, kind=None).body == b"ready\n"
    assert api.call("GET", "/metrics", key=None, kind=None).status == 200


def gauge(api: Api, name: str) -> float:
    text = api.call("GET", "/metrics").body.decode()
    [line] = [line for line in text.splitlines() if line.startswith(name + " ")]
    return float(line.rpartition(" ")[2])


def test_a_store_that_is_not_durable_is_not_ready() -> None:
    store = MemoryStore()
    with Api(store=store) as api:
        assert gauge(api, "concord_ready") == 1

        async def problems() -> list[str]:
            return ["appendfsync is everysec: set appendfsync to always"]

        store.durability_problems = problems  # type: ignore[method-assign]
        reply = api.call("GET", "/readyz")
        assert_problem(reply, 503, "NOT_READY")
        assert "appendfsync" in reply.json["problems"][0]
        assert gauge(api, "concord_ready") == 0
        assert api.call("GET", "/livez").status == 200
        del store.durability_problems  # type: ignore[method-assign]
        assert api.call("GET", "/readyz").status == 200
        assert gauge(api, "concord_ready") == 1


def test_a_store_that_is_away_is_not_ready() -> None:
    store = Failing(MemoryStore())
    with Api(store=store) as api:
        store.fail = {"durability_problems": lambda: StoreUnavailable("gone")}
        assert_problem(api.call("GET", "/readyz"), 503, "STORE_UNAVAILABLE")
        assert gauge(api, "concord_ready") == 0


def test_the_service_does_not_start_over_an_unsafe_store() -> None:
    store = MemoryStore()

    async def problems() -> list[str]:
        return ["appendonly is no"]

    store.durability_problems = problems  # type: ignore[method-assign]
    with pytest.raises(Unsafe, match="appendonly is no"), Api(store=store):
        pytest.fail("it started")


def test_metrics_count_what_happened(api: Api) -> None:
    api.open(day(policy="failing", cash_minor=101_000))
    api.step(1, step(1))
    api.step(1, step(1))
    api.report([fill("e", "A/1", 5, 99.0)])
    api.call("GET", "/v1/nothing")
    text = api.call("GET", "/metrics").body.decode()
    for line in (
        'concord_decisions_total{fallback="true",policy="failing"} 1.0',
        'concord_cash_cuts_total{policy="failing"} 1.0',
        'concord_alarms_total{code="PROTECT_BREACH"} 1.0',
        'concord_requests_total{route="/v1/days/{day_id}/steps/{n}",status="200"} 2.0',
        'concord_requests_total{route="unmatched",status="404"} 1.0',
        'concord_request_seconds_count{route="/v1/days/{day_id}"} 1.0',
    ):
        assert line in text


def test_a_log_that_cannot_be_written_takes_no_answer_back(api: Api) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(0),
        logger_factory=structlog.WriteLoggerFactory(file=Full()),
    )
    try:
        assert api.open(day()).status == 200
    finally:
        structlog.reset_defaults()


def test_every_reply_names_its_request(api: Api) -> None:
    replies = [api.call("GET", "/livez"), api.call("GET", "/v1/days/d"), api.open(day())]
    ids = [reply.headers["x-request-id"] for reply in replies]
    assert len(set(ids)) == 3
    assert replies[1].json["instance"] == f"urn:concord:request:{ids[1]}"


# paths, methods and the OpenAPI document


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/days", "/v1/days/", "/v2/days/d", "/v1/days/d/", "/docs", "/redoc"]
)
def test_there_is_nothing_elsewhere(api: Api, path: str) -> None:
    assert_problem(api.call("GET", path), 404, "PATH_NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/v1/days/d"),
        ("POST", "/v1/days/d"),
        ("PATCH", "/v1/days/d"),
        ("GET", "/v1/days/d/close"),
        ("PUT", "/v1/days/d/steps/1"),
        ("OPTIONS", "/v1/days/d"),
        ("POST", "/v1/state"),
        ("POST", "/livez"),
    ],
)
def test_other_methods_are_refused(api: Api, method: str, path: str) -> None:
    assert_problem(api.call(method, path), 405, "METHOD_NOT_ALLOWED")


def test_the_document_describes_every_body(api: Api) -> None:
    document = api.call("GET", "/openapi.json").json
    schemas = document["components"]["schemas"]
    found = set()
    for item in document["paths"].values():
        for method, operation in item.items():
            assert operation.get("description"), operation
            if method == "get" or "requestBody" not in operation:
                continue
            content = operation["requestBody"]["content"]["application/json"]
            found.add(content["schema"]["$ref"].rpartition("/")[2])
    assert found == {model.__name__ for model in COMMANDS}
    references = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document))
    assert set(references) <= set(schemas)
    for name in found:
        assert schemas[name]["additionalProperties"] is False
    limits = schemas["LimitFields"]["properties"]
    assert limits["cash_buffer_bp"]["maximum"] == 5_000


def test_no_body_takes_an_address(api: Api) -> None:
    schemas = api.call("GET", "/openapi.json").json["components"]["schemas"]
    names = {name for schema in schemas.values() for name in schema.get("properties", {})}
    assert not [name for name in names if re.search(r"url|uri|host|path|callback", name)]
