"""Every call of both clients against the real application, and what its reply says."""

from __future__ import annotations

import dataclasses
import json
import typing
from datetime import UTC, datetime

import httpx
import pytest

from service import wire
from service.client import BadInput, Concord, Conflict, NotFound, Unauthorized, commands, replies
from tests.client.wires import REFUSED, Fault, Line, Wire
from tests.service.api import ADMIN, HALTER, OPEN, WATCHER, Api, bars, day, fill, step


def test_a_whole_day(connect: Line) -> None:
    concord = connect()
    opened = concord.open_day("d", **day(policy="talking"))
    assert (opened.day_id, opened.step, opened.next_step, opened.replayed) == ("d", 0, 1, False)
    assert opened.times[0] == OPEN
    first = concord.step("d", 1, **step(1))
    assert [(c.child_id, c.side, c.qty) for c in first.children] == [
        ("A/1", "BUY", 250),
        ("B/1", "SELL", 150),
    ]
    assert first.as_of == datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
    booked = concord.executions("d", [fill("x1", "A/1", 250)])
    assert (booked.result, booked.orders.cum_qty) == (["BOOKED"], [250])
    record = concord.decision("d", 1)
    assert record.decision == first
    assert [r.action for r in record.rounds] == [[4, 4], [1, 1]]
    assert record.request["as_of"] == "2026-11-20T14:30:00Z"
    concord.step("d", 2, **step(2, bars(), fill("x2", "B/1", 150)))
    state = concord.day("d")
    assert (state.orders.cum_qty, state.cash.free_minor > 0) == ([250, 150], True)
    closed = concord.close("d", snapshot=bars())
    assert closed == concord.report("d")
    assert (closed.orders.shortfall_qty, closed.decisions) == ([750, 450], 2)


def test_children_that_do_not_trade_are_not_sent(connect: Line) -> None:
    concord = connect()
    concord.open_day("d", **day(policy="none"))
    decision = concord.step("d", 1, **step(1))
    assert (decision.orders.child_qty, decision.children) == ([0, 0], [])
    assert (decision.orders.child_id, decision.fallback) == ([None, None], False)


def test_instructions(connect: Line) -> None:
    concord = connect()
    concord.open_day("d", **day())
    changed = concord.instructions("d", "stop-a", cancel=["A"])
    assert (changed.instruction_id, changed.orders.cl_ord_id) == ("stop-a", ["A"])
    assert json.loads(connect.wire.seen[-1]) == {"instruction_id": "stop-a", "cancel": ["A"]}
    assert concord.instructions("d", "stop-a", cancel=["A"]).replayed


def test_states(connect: Line) -> None:
    connect().open_day("d", **day())
    for state in ("HALTED", "REDUCING", "ACTIVE"):
        assert connect(key=HALTER).set_state(state).state == state
        assert connect().day("d").trading == state
    connect().set_day_state("d", "HALTED")
    assert connect().day("d").trading == "HALTED"
    assert connect(key=ADMIN).set_service_state("REDUCING").json == {"state": "REDUCING"}
    found = (connect().day_state("d"), connect().state(), connect().service_state())
    assert [each.state for each in found] == ["HALTED", "ACTIVE", "REDUCING"]


def test_probes(connect: Line) -> None:
    concord = connect(key=None)
    assert concord.health()
    assert concord.ready()
    unsafe = httpx.Response(503, json={"code": "NOT_READY", "detail": "the store is not safe"})
    ready = connect(unsafe).ready()
    assert (bool(ready), ready.detail) == (False, "503: NOT_READY: the store is not safe")
    assert not connect(REFUSED).health()
    assert not connect(httpx.Response(404)).ready()
    assert "unreadable" in connect(Fault(httpx.DecodingError)).health().detail


def test_who_may_call(connect: Line) -> None:
    with pytest.raises(Unauthorized, match="UNAUTHENTICATED") as caught:
        connect(key="desk.wrong").day("d")
    assert caught.value.status == 401
    with pytest.raises(Unauthorized, match="SCOPE_MISSING"):
        connect(key=WATCHER).open_day("d", **day())


def test_what_is_not_there(connect: Line) -> None:
    concord = connect()
    with pytest.raises(NotFound, match="DAY_NOT_FOUND"):
        concord.day("d")
    concord.open_day("d", **day())
    with pytest.raises(NotFound, match="STEP_NOT_FOUND"):
        concord.report("d")
    with pytest.raises(Conflict) as caught:
        concord.step("d", 3, **step(3))
    assert (caught.value.code, caught.value.extra["expected_step"]) == ("STEP_GAP", 1)


@pytest.mark.parametrize("day_id", ["a b", "a/b", "ä", "a?b", "..%2f"])
def test_a_day_id_stays_one_part_of_the_path(connect: Line, day_id: str) -> None:
    with pytest.raises(Exception, match=r"BAD_DAY_ID|PATH_NOT_FOUND"):
        connect().open_day(day_id, **day())


@pytest.mark.parametrize("day_id", ["", ".", ".."])
def test_a_day_id_that_a_path_loses(connect: Line, day_id: str) -> None:
    with pytest.raises(BadInput, match="cannot be part of a path"):
        connect().day(day_id)


def test_a_base_url_may_have_a_path() -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, json={"state": "HALTED"})

    transport = httpx.MockTransport(answer)
    with Concord("https://host/concord/", "k.s", transport=transport) as concord:
        concord.set_state("HALTED")
    assert seen == ["https://host/concord/v1/state"]


@pytest.mark.parametrize(
    ("url", "key", "options"),
    [
        ("service:8000", "k.s", {}),
        ("http://", "k.s", {}),
        ("http://host:port", "k.s", {}),
        ("http://service", "k.s\n", {}),
        ("http://service", "k.ß", {}),
        ("https://service", "k.s", {"verify": "/nowhere.pem"}),
        ("https://service", "k.s", {"cert": ("/nowhere.pem", "/nowhere.key")}),
    ],
)
def test_options_that_cannot_work(url: str, key: str, options: dict[str, typing.Any]) -> None:
    with pytest.raises(BadInput):
        Concord(url, key, **options)


def test_both_clients_give_the_same() -> None:
    raws = []
    for kind in ("sync", "async"):
        with Api() as api:
            concord = Line(api, kind, Wire(api, ()))()
            told = [concord.open_day("d", **day()), concord.step("d", 1, **step(1))]
            told += [concord.day("d"), concord.decision("d", 1)]
            told += [concord.close("d", snapshot=bars(), executions=[fill("x", "A", 250)])]
            raws.append([reply.raw for reply in told])
    assert raws[0] == raws[1]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (commands.OpenDay, wire.OpenDay),
        (commands.Step, wire.Step),
        (commands.Close, wire.Close),
    ],
)
def test_every_field_of_a_body_can_be_given(ours: type, theirs: type[wire.Strict]) -> None:
    assert set(ours.__annotations__) == set(theirs.model_fields)


def _unread(value: object, json_value: object, where: str) -> list[str]:
    """Fields of an answer that its reply has no place for."""
    if isinstance(value, list) and isinstance(json_value, list) and value:
        return _unread(value[0], json_value[0], where)
    if not dataclasses.is_dataclass(value):
        return []
    assert isinstance(json_value, dict)
    names = {field.name for field in dataclasses.fields(value)}
    unread = [f"{where}.{name}" for name in json_value if name not in names]
    for name in names & set(json_value):
        unread += _unread(getattr(value, name), json_value[name], f"{where}.{name}")
    return unread


def test_every_field_of_an_answer_has_its_place(api: Api) -> None:
    concord = Line(api, "sync", Wire(api, ()))()
    told: list[replies.Reply] = [concord.open_day("d", **day(policy="talking"))]
    told += [concord.step("d", 1, **step(1)), concord.decision("d", 1), concord.day("d")]
    told += [concord.executions("d", [fill("x", "A/1", 250, px=99.0)])]
    told += [concord.instructions("d", "i", pause=["A"]), concord.close("d"), concord.log("d")]
    assert concord.log("d").commands[0]["command"] == "open"
    unread = [name for r in told for name in _unread(r, r.json, type(r).__name__)]
    assert unread == []
