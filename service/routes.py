"""The paths: read, authenticate, hand to the desk, answer. Imports fastapi, desk, auth, wire.

No handler computes anything; errors are raised as problems and answered in app.py. What a route
takes, answers and refuses is in operations.py, under the name of its function.
"""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from service import render, wire
from service.auth import Client, Scope
from service.commits import GLOBAL_SCOPE
from service.desk import Desk
from service.errors import Code, Problem
from service.manifest import ModelRefused
from service.rack import Models
from service.reading import read
from service.records import Answer, Records
from service.tables import MEDIA_TYPES, checked_format, log_as, report_as

REPLAYED_HEADER = "Replayed"
STEP_MAX_DIGITS = 4
router = APIRouter(prefix="/v1")


@router.put("/days/{day_id}")
async def open_day(request: Request, day_id: str) -> Response:
    """Open a day: orders, cash, schedule, policy, limits."""
    client, raw = await _command(request, Scope.TRADE, f"{day_id}:open")
    return _answer(await _desk(request).open(client.name, day_id, raw))


@router.get("/days/{day_id}")
async def day(request: Request, day_id: str) -> Response:
    """The state of a day."""
    return _answer(
        await _records(request).day((await _client(request, Scope.OBSERVE)).name, day_id)
    )


@router.post("/days/{day_id}/steps/{n}")
async def step(request: Request, day_id: str, n: str) -> Response:
    """Take decision n: a snapshot in, a child volume for every open order out."""
    client, raw = await _command(request, Scope.TRADE, f"{day_id}:{n}")
    return _answer(await _desk(request).step(client.name, day_id, _step(n), raw))


@router.get("/days/{day_id}/steps/{n}")
async def decision(request: Request, day_id: str, n: str) -> Response:
    """The recorded decision n with every round of its exchange."""
    client = await _client(request, Scope.OBSERVE)
    return _answer(await _records(request).decision(client.name, day_id, _step(n)))


@router.post("/days/{day_id}/executions")
async def executions(request: Request, day_id: str) -> Response:
    """Book executions between steps."""
    client, raw = await _command(request, Scope.TRADE, None)
    return _answer(await _desk(request).executions(client.name, day_id, raw))


@router.post("/days/{day_id}/instructions")
async def instruct(request: Request, day_id: str) -> Response:
    """Cancel, pause, resume, amend or add orders; it holds from the next decision on."""
    client, raw = await _command(request, Scope.TRADE, None)
    return _answer(await _desk(request).instruct(client.name, day_id, raw))


@router.post("/days/{day_id}/close")
async def close(request: Request, day_id: str) -> Response:
    """Close a day and answer its report."""
    client, raw = await _command(request, Scope.TRADE, f"{day_id}:close")
    return _answer(await _desk(request).close(client.name, day_id, raw))


@router.get("/days/{day_id}/report")
async def report(request: Request, day_id: str) -> Response:
    """The report that the close answered, as ?format=json (default), csv or parquet."""
    client, kind = await _client(request, Scope.OBSERVE), _format(request)
    answer = await _records(request).report(client.name, day_id)
    return Response(report_as(answer.body, kind), media_type=MEDIA_TYPES[kind])


@router.get("/days/{day_id}/log")
async def log(request: Request, day_id: str) -> Response:
    """Every command of a day with the bytes that came and went, as ?format=json, csv or parquet."""
    client, kind = await _client(request, Scope.OBSERVE), _format(request)
    answer = await _records(request).log(client.name, day_id)
    return Response(log_as(answer.body, kind), media_type=MEDIA_TYPES[kind])


@router.get("/days/{day_id}/state")
async def day_state(request: Request, day_id: str) -> Response:
    """The trading state that was set for one day; the strictest of the three holds."""
    client = await _client(request, Scope.OBSERVE)
    return _answer(await _records(request).day_state(client.name, day_id))


@router.get("/state")
async def state(request: Request) -> Response:
    """The trading state that was set for all of the caller's days."""
    client = await _client(request, Scope.OBSERVE)
    return _answer(await _records(request).state(client.name))


@router.get("/service/state")
async def service_state(request: Request) -> Response:
    """The trading state that was set for every client's days."""
    await _client(request, Scope.OBSERVE)
    return _answer(await _records(request).state(GLOBAL_SCOPE))


@router.put("/days/{day_id}/state")
async def set_day_state(request: Request, day_id: str) -> Response:
    """Set the trading state of one day: ACTIVE, REDUCING or HALTED."""
    client, raw = await _command(request, Scope.HALT, None)
    state = read(wire.TradingState, raw).state
    return _answer(await _desk(request).set_day_state(client.name, day_id, state))


@router.put("/state")
async def set_state(request: Request) -> Response:
    """Set the trading state of all of the caller's days: ACTIVE, REDUCING or HALTED."""
    client, raw = await _command(request, Scope.HALT, None)
    state = read(wire.TradingState, raw).state
    return _answer(await _desk(request).set_state(client.name, state))


@router.put("/service/state")
async def set_service_state(request: Request) -> Response:
    """Set the trading state of every client's days: ACTIVE, REDUCING or HALTED."""
    _, raw = await _command(request, Scope.ADMIN, None)
    state = read(wire.TradingState, raw).state
    return _answer(await _desk(request).set_state(GLOBAL_SCOPE, state))


@router.get("/models")
async def models(request: Request) -> Response:
    """What decides now: every version that is loaded."""
    await _client(request, Scope.OBSERVE)
    return _answer(Answer(render.dump(_models(request).shown())))


@router.post("/models/reload")
async def reload_models(request: Request) -> Response:
    """Load what the models folder lists now, for days that are opened from now on (scope admin).

    Without it a change is seen within a second; the answer has the number of open days of each.
    """
    await _client(request, Scope.ADMIN)
    held = _models(request)
    try:
        changed = await held.reload()
    except ModelRefused as refused:
        raise Problem(Code.MODEL_REFUSED, str(refused)) from None
    return _answer(Answer(render.dump({"changed": changed, **held.shown(await held.open_days())})))


def _models(request: Request) -> Models:
    models: Models = request.state.models
    return models


def _format(request: Request) -> str:
    return checked_format(request.query_params.get("format", "json"))


def _records(request: Request) -> Records:
    records: Records = request.state.records
    return records


def _desk(request: Request) -> Desk:
    desk: Desk = request.state.desk
    return desk


async def _client(request: Request, scope: Scope) -> Client:
    client: Client = request.state.keyring.client(request.headers.get("authorization"))
    client.need(scope)
    if scope in (Scope.TRADE, Scope.OBSERVE):  # whoever stops trading is never told to wait
        await request.state.quotas.take(client)
    return client


async def _command(request: Request, scope: Scope, key: str | None) -> tuple[Client, bytes]:
    """Who commands, and the raw body; a given Idempotency-Key must name this command."""
    client = await _client(request, scope)
    given = request.headers.get("idempotency-key")
    if key is not None and given is not None and given.strip('"') != key:
        raise Problem(
            Code.IDEMPOTENCY_KEY_MISMATCH,
            "use <day_id>:<step>, <day_id>:open or <day_id>:close, or leave the header out",
        )
    return client, await _body(request, client)


async def _body(request: Request, client: Client) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(Code.NOT_JSON_TYPE, "send Content-Type: application/json")
    settings = request.state.settings
    most = min(settings.body_bytes_max, client.body_bytes_max or settings.body_bytes_max)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(settings.body_wait_s_max):
            async for chunk in request.stream():
                size += len(chunk)
                if size > most:
                    raise Problem(Code.BODY_TOO_LARGE, f"send at most {most} bytes")
                chunks.append(chunk)
    except TimeoutError:
        raise Problem(
            Code.BODY_TOO_SLOW, f"send the body within {settings.body_wait_s_max} s"
        ) from None
    return b"".join(chunks)


def _step(n: str) -> int:
    if not (n.isascii() and n.isdigit() and len(n) <= STEP_MAX_DIGITS) or int(n) < 1:
        raise Problem(Code.BAD_FIELD, "the step in the path is a number from 1")
    return int(n)


def _answer(answer: Answer) -> Response:
    headers = {REPLAYED_HEADER: "true"} if answer.replayed else None
    return Response(answer.body, media_type="application/json", headers=headers)
