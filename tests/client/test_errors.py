"""The error tree: which answer becomes which error, and nothing that an answer holds crashes it."""

from __future__ import annotations

import json
import pickle
from typing import Any

import httpx
import pytest

from service.client import (
    BadInput,
    Concord,
    ConcordError,
    Conflict,
    Failed,
    FieldError,
    Invalid,
    NotFound,
    Problem,
    ProtocolError,
    Refused,
    Unauthorized,
    Unavailable,
)
from service.errors import PROBLEMS
from tests.client.wires import Line
from tests.service.api import day

FAMILIES = {400: Invalid, 401: Unauthorized, 403: Unauthorized, 404: NotFound, 405: Refused}
FAMILIES |= {408: Refused, 409: Conflict, 413: Invalid, 415: Invalid, 422: Invalid, 500: Failed}


def refused(connect: Line, answer: httpx.Response) -> Any:
    with pytest.raises(ConcordError) as caught:
        connect(answer, retry_s_max=0).day("d")
    return caught.value


@pytest.mark.parametrize("code", list(PROBLEMS))
def test_every_problem_has_its_family(connect: Line, code: str) -> None:
    status, title = PROBLEMS[code]
    body = {"code": code, "title": title, "detail": "why", "status": status}
    error = refused(connect, httpx.Response(status, json=body))
    assert type(error) is (Unavailable if status in (429, 503) else FAMILIES[status])
    assert code in str(error)


def test_a_refusal_tells_all(connect: Line) -> None:
    body = day()
    body["orders"]["side"] = ["BUY", "HOLD"]
    with pytest.raises(Invalid) as caught:
        connect().open_day("d", **body)
    error = caught.value
    assert (error.status, error.code) == (422, "BAD_FIELD")
    assert error.errors[0] == FieldError("orders.side.1", "Input should be 'BUY' or 'SELL'")
    assert error.instance.startswith("urn:concord:request:")
    assert "orders.side.1: Input should be" in str(error)
    assert "PUT /v1/days/d: 422 BAD_FIELD" in str(error)


STRANGE = {
    "unknown code": ({"code": "TEAPOT", "detail": "x", "spout": [1]}, {"spout": [1]}),
    "code only": ({"code": "X"}, {}),
    "wrong errors": ({"code": "X", "errors": "none"}, {}),
    "strange rows": ({"code": "X", "errors": [1, {}, {"where": 3}]}, {}),
    "wrong kinds": ({"code": "X", "detail": {"a": 1}, "title": None, "instance": []}, {}),
}


@pytest.mark.parametrize(("body", "extra"), STRANGE.values(), ids=STRANGE)
def test_an_unknown_problem_is_a_problem(connect: Line, body: Any, extra: Any) -> None:
    error = refused(connect, httpx.Response(418, json=body))
    assert type(error) is Refused
    assert (error.code, error.extra) == (body["code"], extra)
    assert "418" in str(error)


NOT_OURS = {
    "a proxy's page": httpx.Response(403, html="<html>proxy</html>"),
    "json without code": httpx.Response(404, json={"detail": "Not Found"}),
    "code of a number": httpx.Response(400, json={"code": 7}),
    "a list": httpx.Response(400, json=[1]),
    "deep nesting": httpx.Response(400, text="[" * 100_000),
    "nothing": httpx.Response(500),
    "redirect": httpx.Response(307, headers={"Location": "http://elsewhere"}),
    "redirect in our words": httpx.Response(302, json={"code": "X"}),
    "no json": httpx.Response(200, text="<html>hello</html>"),
    "no body": httpx.Response(204),
    "another json": httpx.Response(200, json={"hello": "world"}),
    "no object": httpx.Response(200, json=None),
    "not utf-8": httpx.Response(200, content=b"\xff\xfe{}"),
}


@pytest.mark.parametrize("answer", NOT_OURS.values(), ids=NOT_OURS)
def test_an_answer_of_somebody_else(connect: Line, answer: httpx.Response) -> None:
    error = refused(connect, answer)
    assert type(error) is ProtocolError
    assert (error.status, error.raw) == (answer.status_code, answer.content)
    assert str(error).startswith(f"GET /v1/days/d: answered {answer.status_code}")
    assert len(str(error)) < 1_000


@pytest.mark.parametrize(
    ("change", "told"),
    [({"step": "1"}, "step"), ({"cash": {}}, "cash.cash_minor"), ({"times": ["x"]}, "times.0")],
)
def test_a_field_of_another_kind_is_named(connect: Line, change: Any, told: str) -> None:
    body = connect().open_day("d", **day()).json | change
    error = refused(connect, httpx.Response(200, json=body))
    assert type(error) is ProtocolError
    assert error.what.startswith(f"{told}: ")


def test_fields_of_a_newer_service_do_no_harm(connect: Line) -> None:
    opened = connect().open_day("d", **day())
    newer = opened.json | {"mood": "fine", "cash": opened.json["cash"] | {"gold": 1}}
    state = connect(httpx.Response(200, json=newer)).day("d")
    assert (state, state.json["mood"]) == (opened, "fine")


def test_a_body_that_cannot_be_unpacked() -> None:
    packed = {"Content-Encoding": "gzip"}

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=httpx.ByteStream(b"not packed at all"), headers=packed)

    transport = httpx.MockTransport(answer)
    with (
        Concord("http://service", "k.s", transport=transport) as concord,
        pytest.raises(ProtocolError, match="unreadable"),
    ):
        concord.day("d")


EVERY: list[ConcordError] = [
    BadInput("line 3"),
    Invalid("PUT /v1", 422, {"code": "X", "errors": [{"where": "a", "what": "b"}], "more": 1}),
    Unavailable("PUT /v1", 3, "503", {"code": "BUSY"}),
    ProtocolError("PUT /v1", 200, "no json", b"<html>"),
]


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_errors_travel_between_processes(error: ConcordError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_the_tree() -> None:
    assert issubclass(Problem, ConcordError)
    assert {kind.__base__ for kind in (Unauthorized, NotFound, Conflict, Invalid)} == {Refused}
    assert {kind.__base__ for kind in (Refused, Failed)} == {Problem}
    assert json.dumps(Invalid("r", 422, {"code": "A"}).extra) == "{}"
