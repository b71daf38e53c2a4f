"""Bodies that nobody should send: refused with a stable code, never a 500, never repeated."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from copy import deepcopy
from typing import Any

import pytest

from service.atoms import EXECUTIONS_MAX
from service.reading import PARTS_MAX
from tests.service.api import (
    Api,
    Json,
    Reply,
    assert_problem,
    bars,
    changed,
    day,
    encoded,
    fill,
    order,
    step,
)

MARK = "zQ7marker"
FULL_DAY = day(
    order("A", "BUY", 100, lot_size=1, limit_px=20.0, start_step=1, end_step=4),
    order("B", "SELL", 60, lot_size=1, limit_px=None, start_step=1, end_step=4),
    limits={"cash_buffer_bp": 100, "child_qty_max": 50, "snapshot_age_s_max": 60},
    reference={
        "symbol": ["SA"],
        "prev_close": [10.0],
        "adv_qty": [1_000],
        "daily_vol_bp": [150.0],
        "volume_profile": [[1.0, 1.0, 1.0, 1.0]],
    },
    holdings={"SB": 60},
)
FULL_STEP = step(
    2, bars(vwap=[10.0, 10.0], status=["TRADING", "HALT"]), fill("e1", "A/1", 1), fill("e2", "A", 1)
)
COMMANDS: dict[str, tuple[str, str, Json]] = {
    "open": ("PUT", "/v1/days/new", FULL_DAY),
    "step": ("POST", "/v1/days/d/steps/2", FULL_STEP),
    "executions": ("POST", "/v1/days/d/executions", {"executions": [fill("e3", "A/1", 1)]}),
    "close": ("POST", "/v1/days/d/close", {"as_of": FULL_STEP["as_of"], "snapshot": bars()}),
    "state": ("PUT", "/v1/state", {"state": "ACTIVE"}),
}


@pytest.fixture(scope="module")
def running() -> Iterator[Api]:
    """One service for the module: what is refused must not change it."""
    with Api(options={"body_bytes_max": 300_000, "body_wait_s_max": 0.05}) as api:
        assert api.open(FULL_DAY).status == 200
        assert api.step(1, step(1)).status == 200
        yield api


def everything(api: Api) -> Any:
    """All that the store holds."""
    return deepcopy((api.store._days, api.store._states))


def refuse(api: Api, name: str, body: Any, **more: Any) -> Reply:
    """Send ``body`` as one of the commands: a 4xx problem, no echo, and nothing done."""
    method, path, _ = COMMANDS[name]
    before = everything(api)
    reply = api.call(method, path, body, **more)
    assert 400 <= reply.status < 500, reply.body
    assert reply.code
    assert_problem(reply, reply.status, reply.code)
    assert MARK.encode() not in reply.body
    assert MARK not in str(reply.headers)
    assert everything(api) == before
    return reply


def places(value: Any, path: str = "") -> Iterator[str]:
    """Every position of a JSON value, as dotted paths."""
    children = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in children:
        here = f"{path}.{key}" if path else str(key)
        yield here
        if isinstance(child, dict | list) and not path.startswith("holdings"):
            yield from places(child, here)


WRONG: dict[str, Any] = {
    "text": MARK,
    "object": {MARK: MARK},
    "list": [MARK],
    "odd text": f"{MARK}\x00 /ä",
    "huge": 10**400,
    "tiny": -1e308,
    "true": True,
    "null": None,
}
# where any text of the right form may stand, and what may be null
FREE_TEXT = {
    "account",
    "orders.cl_ord_id.0",
    "orders.cl_ord_id.1",
    "orders.symbol.0",
    "reference.symbol.0",
    "executions.0.exec_id",
    "executions.1.exec_id",
    "snapshot.symbols.0",
}
OPTIONAL = set(
    "limit_px lot_size start_step end_step reference holdings vwap status as_of snapshot "
    "prev_close adv_qty daily_vol_bp volume_profile".split()
)


NULLABLE = {"limit_px", "prev_close", "adv_qty", "daily_vol_bp"}


def is_right(name: str, path: str, kind: str) -> bool:
    """Whether this wrong value happens to be acceptable at this place."""
    names = path.split(".")
    if kind == "null":
        must = {"step": {"as_of", "snapshot"}}.get(name, set())
        return path not in must and (
            names[-1] in OPTIONAL or (names[-2:-1] and names[-2] in NULLABLE)
        )
    return (path in FREE_TEXT and kind == "text") or (path, kind) == ("reference.symbol", "list")


PLACES = [(name, path) for name, (_, _, body) in COMMANDS.items() for path in places(body)]


@pytest.mark.parametrize(("name", "path"), PLACES)
def test_a_wrong_value_anywhere_is_refused_and_not_repeated(
    running: Api, name: str, path: str
) -> None:
    for kind, value in WRONG.items():
        if not is_right(name, path, kind):
            refuse(running, name, changed(COMMANDS[name][2], path, value))


OBJECTS = [
    *(("open", where) for where in ("", "orders.", "limits.", "reference.", "schedule.")),
    *(("step", where) for where in ("", "snapshot.", "executions.0.")),
    *(("executions", where) for where in ("", "executions.0.")),
    *(("close", where) for where in ("", "snapshot.")),
    ("state", ""),
]


@pytest.mark.parametrize(("name", "where"), OBJECTS)
def test_an_unknown_field_is_refused_by_every_object(running: Api, name: str, where: str) -> None:
    reply = refuse(running, name, changed(COMMANDS[name][2], where + MARK, MARK))
    assert_problem(reply, 422, "BAD_FIELD")
    assert reply.json["errors"][0]["where"].endswith("(unknown field)")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_missing_field_is_named_or_optional(running: Api, name: str) -> None:
    body = COMMANDS[name][2]
    required = {
        "open": {"account", "currency", "schedule", "cash_minor", "orders"},
        "step": {"as_of", "snapshot"},
        "executions": {"executions"},
        "close": set(),
        "state": {"state"},
    }[name]
    for field in required:
        reply = refuse(running, name, {k: v for k, v in body.items() if k != field})
        assert_problem(reply, 422, "BAD_FIELD")
        assert any(error["where"].startswith(field) for error in reply.json["errors"])


RAW: dict[str, bytes] = {
    "nothing": b"",
    "white space": b" \r\n\t",
    "no JSON": MARK.encode(),
    "half a body": encoded(FULL_DAY)[:-1],
    "two bodies": encoded(FULL_DAY) * 2,
    "a comma too much": encoded(FULL_DAY)[:-1] + b",}",
    "single quotes": encoded(FULL_DAY).replace(b'"', b"'"),
    "a comment": b"/* x */" + encoded(FULL_DAY),
    "a byte order mark": b"\xef\xbb\xbf" + encoded(FULL_DAY),
    "UTF-16": encoded(FULL_DAY).decode().encode("utf-16"),
    "Latin-1": encoded(FULL_DAY).replace(b"fund-1", b"f\xe4"),
    "a truncated character": encoded(FULL_DAY).replace(b"fund-1", b"\xe2\x82"),
    "an overlong character": encoded(FULL_DAY).replace(b"fund-1", b"\xc0\xaf"),
    "an encoded surrogate": encoded(FULL_DAY).replace(b"fund-1", b"\xed\xa0\x80"),
    "a lone surrogate": encoded(FULL_DAY).replace(b"fund-1", b"\\ud800"),
    "a lone low surrogate": encoded(FULL_DAY).replace(b"fund-1", b"\\udc00"),
    "a raw control character": encoded(FULL_DAY).replace(b"fund-1", b"a\x01"),
    "lists in lists": b"[" * 20_000,
    "closed lists in lists": b"[" * 20_000 + b"]" * 20_000,
    "objects in objects": b'{"a":' * 20_000,
    "a nest in a field": encoded(FULL_DAY).replace(b'"fund-1"', b"[" * 5_000 + b"]" * 5_000),
    "NaN": encoded(FULL_DAY).replace(b"20.0", b"NaN"),
    "Infinity": encoded(FULL_DAY).replace(b"20.0", b"Infinity"),
    "-Infinity": encoded(FULL_DAY).replace(b"20.0", b"-Infinity"),
    "1e400 as a price": encoded(FULL_DAY).replace(b"20.0", b"1e400"),
    "1e400 as cash": encoded(FULL_DAY).replace(b"100000000", b"1e400"),
    "400 digits": encoded(FULL_DAY).replace(b"100000000", b"9" * 400),
    "5,000 digits": encoded(FULL_DAY).replace(b"100000000", b"9" * 5_000),
    "5,000 decimals": encoded(FULL_DAY).replace(b"100000000", b"1." + b"9" * 5_000),
    "a hexadecimal number": encoded(FULL_DAY).replace(b"100000000", b"0x10"),
    "a leading zero": encoded(FULL_DAY).replace(b"100000000", b"0100"),
    "a leading plus": encoded(FULL_DAY).replace(b"100000000", b"+1"),
    "true": b"true",
    "null": b"null",
    "a number": b"1",
    "a string": json.dumps(MARK).encode(),
    "a list": b"[]",
    "an empty object": b"{}",
}


@pytest.mark.parametrize("raw", RAW.values(), ids=RAW.keys())
@pytest.mark.parametrize("name", ["open", "step", "executions", "state"])
def test_a_broken_body_is_refused(running: Api, name: str, raw: bytes) -> None:
    assert refuse(running, name, raw).status in (400, 422)


def test_what_is_no_json_says_so(running: Api) -> None:
    for name in ("nothing", "half a body", "Latin-1", "a lone surrogate", "lists in lists"):
        assert_problem(refuse(running, "open", RAW[name]), 400, "NOT_JSON")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("state", b'{"state": "ACTIVE"}', b'{"state": "HALTED", "state": "ACTIVE"}'),
        ("state", b'{"state": "ACTIVE"}', b'{"state" :"ACTIVE","state"\n:"ACTIVE"}'),
        ("state", b'{"state": "ACTIVE"}', b'{"state":"ACTIVE","\\u0073tate":"ACTIVE"}'),
        ("open", b'"account"', b'"cash_minor": 1, "account"'),
        ("open", b'"cl_ord_id"', b'"side": ["BUY", "BUY"], "cl_ord_id"'),
        ("open", b'"SB": 60', b'"SB": 60, "SB": 61'),
        ("step", b'"high"', b'"open": [1, 1], "high"'),
        ("executions", b'"exec_id"', b'"last_qty": 1, "exec_id"'),
    ],
)
def test_a_name_that_occurs_twice_is_refused(
    running: Api, name: str, old: bytes, new: bytes
) -> None:
    raw = encoded(COMMANDS[name][2]).replace(old, new, 1)
    assert raw != encoded(COMMANDS[name][2])
    assert_problem(refuse(running, name, raw), 422, "BAD_FIELD")


def test_text_that_looks_like_names_is_only_text(api: Api) -> None:
    odd = r'":,"[{'
    assert api.open(day(order(odd, "BUY", 1, symbol=odd), account=odd)).status == 200
    assert api.step(1, step(1, bars([odd]))).json["orders"]["cl_ord_id"] == [odd]


def test_a_million_wrong_entries_cost_little(api: Api) -> None:
    bodies = [
        b'{"orders":{"cl_ord_id":[' + b",".join([b"[]"] * 1_000_000) + b"]}}",
        b'{"orders":{"order_qty":[' + b",".join([b'""'] * 1_000_000) + b"]}}",
        b"{" + b",".join(b'"x%d":1' % i for i in range(PARTS_MAX + 1)) + b"}",
        b'{"holdings":{' + b",".join(b'" %d":-1' % i for i in range(PARTS_MAX // 2)) + b"}}",
        b'{"reference":{"volume_profile":[' + b",".join([b"[0]"] * 900_000) + b"]}}",
        b'{"schedule":{"times":[' + b",".join([b"0"] * 1_000_000) + b"]}}",
    ]
    for body in bodies:
        begun = time.process_time()
        assert_problem(api.open(body), 422, "BAD_FIELD")
        assert time.process_time() - begun < 2


@pytest.mark.parametrize("kind", [None, "", "text/plain", "application/jsonp", "application/xml"])
def test_another_content_type_is_refused(running: Api, kind: str | None) -> None:
    for name, (_, _, body) in COMMANDS.items():
        assert_problem(refuse(running, name, body, kind=kind), 415, "NOT_JSON_TYPE")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON"])
def test_a_content_type_may_have_parameters_and_any_case(api: Api, kind: str) -> None:
    assert api.open(day(), kind=kind).status == 200


# size and speed


def padded(size: int) -> bytes:
    raw = encoded(day())
    return raw + b" " * (size - len(raw))


def test_a_body_at_the_limit_passes_and_one_more_byte_is_refused() -> None:
    with Api(options={"body_bytes_max": 4_096}) as api:
        assert_problem(api.open(padded(4_097)), 413, "BODY_TOO_LARGE")
        assert_problem(api.call("GET", "/v1/days/d"), 404, "DAY_NOT_FOUND")
        assert api.open(padded(4_096)).status == 200


def test_an_endless_body_is_refused_after_the_limit(running: Api) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1_000
            yield b" " * 1_000

    assert_problem(refuse(running, "open", None, chunks=endless), 413, "BODY_TOO_LARGE")
    assert sent <= running.settings.body_bytes_max + 2_000


def test_a_body_in_small_pieces_is_read(api: Api) -> None:
    raw = encoded(day())

    async def pieces() -> AsyncIterator[bytes]:
        for i in range(0, len(raw), 7):
            yield raw[i : i + 7]
        yield b""

    assert api.call("PUT", "/v1/days/d", chunks=pieces).status == 200


def test_a_body_that_does_not_arrive_in_time_is_refused(running: Api) -> None:
    async def slow() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.02)

    assert_problem(refuse(running, "open", None, chunks=slow), 408, "BODY_TOO_SLOW")


def test_a_caller_who_leaves_half_way_changes_nothing(running: Api) -> None:
    async def gone() -> AsyncIterator[bytes]:
        yield encoded(FULL_DAY)[:100]
        raise ConnectionError

    assert_problem(refuse(running, "open", None, chunks=gone), 408, "BODY_TOO_SLOW")


def test_more_requests_at_once_than_allowed_are_turned_away() -> None:
    with Api(options={"connections_max": 2}) as api:
        free = asyncio.Event()

        async def waiting() -> AsyncIterator[bytes]:
            await free.wait()
            yield encoded(day())

        async def crowd() -> list[Reply]:
            held = [
                asyncio.ensure_future(api.request("PUT", f"/v1/days/d{i}", chunks=waiting))
                for i in range(2)
            ]
            await asyncio.sleep(0)
            turned_away = await api.request("GET", "/v1/days/d0")
            probe = await api.request("GET", "/livez")
            free.set()
            return [turned_away, probe, *await asyncio.gather(*held)]

        first, *others = api.run(crowd())
        assert_problem(first, 503, "OVERLOADED")
        assert first.headers["retry-after"] == "1"
        assert [reply.status for reply in others] == [200, 200, 200]


def test_executions_have_a_limit(api: Api) -> None:
    api.open(day(order("A", "BUY", 10_000), cash_minor=2**40))
    api.step(1, step(1, bars(["SA"])))
    fills = [fill(f"e{i}", "A/1", 1) for i in range(EXECUTIONS_MAX + 1)]
    before = everything(api)
    assert_problem(api.report(fills), 422, "BAD_FIELD")
    assert everything(api) == before
    assert api.report(fills[:-1]).status == 200
    assert api.row("A")["cum_qty"] == EXECUTIONS_MAX


def test_fills_that_no_arithmetic_holds_are_refused(api: Api) -> None:
    api.open(day(currency="JPY"))
    api.step(1, step(1))
    before = everything(api)
    px = 2**43 / 2**28 - 1  # each alone is worth what one fill may be worth
    fills = [fill(f"e{i}", "A", 2**28 - 1, px) for i in range(300)]
    assert_problem(api.report(fills), 422, "NOTIONAL_TOO_LARGE")
    assert everything(api) == before


def test_buys_and_sales_that_even_out_cannot_pass_the_bounds(api: Api) -> None:
    api.open(day(currency="JPY", cash_minor=2**42 - 1))
    api.step(1, step(1))
    px = 2**41 / 2**28
    replies = [
        api.report([fill(f"{side}{i}", side, 2**28 - 1, px)]) for i in range(8) for side in "AB"
    ]
    assert {reply.code for reply in replies} == {None, "NOTIONAL_TOO_LARGE"}
    assert abs(api.state()["cash"]["cash_minor"]) < 2**43
    report = api.close().json
    assert all(0 < px < 2**34 for px in report["orders"]["avg_px"])
