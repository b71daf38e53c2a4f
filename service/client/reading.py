"""From an answer to a reply or an error: the one place that judges what came. Imports pydantic.

Types are checked strictly, since a client that trades on a wrong number is worse than one that
stops; fields that this version does not know are ignored, so that a newer service can be called.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from service.client.commands import Command, ReplyT
from service.client.errors import ProtocolError, problem
from service.client.replies import Json, Probe

REPLAYED = "replayed"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: ``headers`` in lower case, ``elapsed_s`` of the round trip."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    elapsed_s: float = 0.0


def read(command: Command[ReplyT], answer: Answer, attempts: int) -> ReplyT:
    """The typed reply; raises a Problem that the service told, or ProtocolError."""
    if not 200 <= answer.status < 300:
        raise _refusal(command, answer)
    kind: Any = command.reply
    try:
        body: ReplyT = _reader(kind).validate_json(answer.content, strict=True)
    except ValidationError as error:
        raise ProtocolError(str(command), answer.status, _first(error), answer.content) from None
    return replace(
        body,
        raw=answer.content,
        replayed=answer.headers.get(REPLAYED) == "true",
        attempts=attempts,
        elapsed_s=answer.elapsed_s,
    )


def probe(answer: Answer) -> Probe:
    """What a probe's answer says."""
    if answer.status == 200:
        return Probe(True)
    return Probe(False, doubtful(answer))


def doubtful(answer: Answer) -> str:
    """An answer other than success in a few words: its problem's code and detail, if it has one."""
    body = details(answer.content) or {}
    told = (str(body[name]) for name in ("code", "detail") if name in body)
    return ": ".join([str(answer.status), *told])


def details(content: bytes) -> Json | None:
    """Problem details: a JSON object with a ``code``; None for anything else."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) and isinstance(body.get("code"), str) else None


def _refusal(command: Command[Any], answer: Answer) -> Exception:
    body = details(answer.content)
    if body is None or answer.status < 400:
        kind = answer.headers.get("content-type", "no content type")
        what = f"{kind}, not problem details of the service"
        return ProtocolError(str(command), answer.status, what, answer.content)
    return problem(str(command), answer.status, body)


@cache
def _reader(reply: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(reply)


def _first(error: ValidationError) -> str:
    """The first thing wrong with a body, without what it held."""
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, found["loc"])) or "body"
    return f"{where}: {found['msg']}"
