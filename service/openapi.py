"""The OpenAPI document, whole: what routes say of themselves, and the tables of what they do.

Imports operations, outcomes, reading, routes, fields, errors and orjson. Paths and descriptions
are those of the routes, schemas those of the types, examples what a service answered once
(exchanges.json, which tests/service/story.py writes).
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

from service.auth import Scope
from service.errors import MEDIA_TYPE, PROBLEMS, Code
from service.fields import meaning
from service.operations import NO_OPERATION, OPERATIONS, TAGS, Operation
from service.outcomes import Problem
from service.reading import schemas
from service.routes import REPLAYED_HEADER, STEP_MAX_DIGITS
from service.tables import MEDIA_TYPES
from service.telemetry import REQUEST_ID_HEADER
from service.wire import COMMANDS, TAKEN_AWAY, Amend

Json = dict[str, Any]
BEARER = "bearer"
INFO = """Execution of a basket of orders over one trading day, as a service.

Orders and bars are columns: lists of equal length, one entry per order or symbol. Volumes are \
shares, money is in minor units of the day's currency, both integers; prices are decimal numbers. \
A command is answered once it is durable, and the same bytes again are answered with the same \
bytes. Every refusal is problem details (RFC 9457) with a stable `code`. Where there is no \
operation the answer is {nowhere}.

Replies may get more fields, and lists of codes (`x-extensible-enum`) more codes: take those that \
you do not know."""
_WORDS = {
    Scope.TRADE: "commands a day",
    Scope.OBSERVE: "reads",
    Scope.HALT: "sets trading states of the caller's days",
    Scope.ADMIN: "sets the trading state of everyone, reloads models",
}


def completed(drafted: Json) -> Json:
    """The document from its framework's draft, of which it keeps title, version, paths and what
    each route says; raises KeyError for a route or a field that no table has."""
    nowhere = " or ".join(f"`{PROBLEMS[code][0]} {code}`" for code in NO_OPERATION)
    return {
        "openapi": "3.1.0",
        "info": {
            **drafted["info"],
            "description": INFO.format(nowhere=nowhere),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": {
            path: {method: _operation(path, told) for method, told in item.items()}
            for path, item in drafted["paths"].items()
        },
        "components": _components(),
    }


def _operation(path: str, drafted: Json) -> Json:
    name = drafted["operationId"]
    row = OPERATIONS[name]
    described: Json = {
        "tags": [row.tag],
        "summary": row.summary,
        "description": _description(row, drafted["description"]),
        "operationId": name,
        "security": [] if row.scope is None else [{BEARER: [row.scope.value]}],
        "parameters": _parameters(row, path),
    }
    if row.body is not None:
        content = {"schema": _ref(row.body.__name__), "examples": _examples(name, "body")}
        described["requestBody"] = {"required": True, "content": {"application/json": content}}
    described["responses"] = {"200": _success(name, row), **_refusals(row, path)}
    return described


def _description(row: Operation, told: str) -> str:
    parts = [told]
    if row.scope is not None:
        parts.append(f"Needs a key with the scope `{row.scope}`.")
    if row.once:
        parts.append(
            "Carried out at most once: the same bytes again are answered with the same bytes and "
            f"`{REPLAYED_HEADER}: true`. After a timeout or a 503 send them again."
        )
    return "\n\n".join(parts)


def _parameters(row: Operation, path: str) -> list[Json]:
    names = re.findall(r"{(\w+)}", path)
    if row.key is not None:
        names.append("Idempotency-Key")
    if row.table is not None:
        names.append("format")
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def _success(name: str, row: Operation) -> Json:
    """What a route answers when all is well, in each of its media types."""
    headers = [REQUEST_ID_HEADER, *([REPLAYED_HEADER] if row.once else [])]
    if row.reply is None:
        content: Json = {"text/plain": {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": _ref(row.reply.__name__)}}
    if row.table is not None:
        csv, parquet = (_bare(MEDIA_TYPES[kind]) for kind in ("csv", "parquet"))
        table = {"type": "string", "description": f"A header, then {row.table}."}
        content[csv] = {"schema": table}
        content[parquet] = {"schema": table | {"format": "binary", "description": row.table}}
    for media, told in content.items():
        if examples := _examples(name, "reply", media):
            told["examples"] = examples
    text = (row.reply.__doc__ or "") if row.reply else "All is well."
    return {
        "description": text.partition("\n")[0],
        "headers": _headers(headers),
        "content": content,
    }


def _refusals(row: Operation, path: str) -> Json:
    """Problems by their status; ``x-codes`` lists the codes of each."""
    by_status: dict[int, list[Code]] = {}
    for code in row.refusals(path):
        by_status.setdefault(PROBLEMS[code][0], []).append(code)
    return {str(status): _refusal(status, codes) for status, codes in sorted(by_status.items())}


def _refusal(status: int, codes: list[Code]) -> Json:
    more = {401: ["WWW-Authenticate"], 429: ["Retry-After"], 503: ["Retry-After"]}
    shown = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}
    return {
        "description": "\n".join(f"- `{code}`: {PROBLEMS[code][1]}." for code in codes),
        "headers": _headers([REQUEST_ID_HEADER, *more.get(status, ())]),
        "content": {MEDIA_TYPE: {"schema": _ref(Problem.__name__), "examples": shown}},
        "x-codes": codes,
    }


def _headers(names: list[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _bare(media: str) -> str:
    return media.partition(";")[0]


@cache
def exchanges() -> list[Json]:
    """What a service was asked and answered once, in that order (tests/service/story.py)."""
    read: list[Json] = orjson.loads((files("service") / "exchanges.json").read_bytes())
    return read


def _examples(operation: str, part: str, media: str = "application/json") -> Json:
    """The bodies or the replies of an operation's exchanges that went well."""
    return {
        told["name"]: {"summary": told["summary"], "value": told[part]}
        for told in exchanges()
        if (told["operation"], told["status"]) == (operation, 200)
        and part in told
        and (part == "body" or told["media"] == media)
    }


def _components() -> Json:
    answered = [row.reply for row in OPERATIONS.values() if row.reply is not None]
    types = schemas([*COMMANDS, *answered, Problem])
    problems = {t["code"]: t for t in exchanges() if t["status"] >= 400}
    return {
        "schemas": {name: _explained(name, types[name]) for name in sorted(types)},
        "parameters": _PARAMETERS,
        "headers": _HEADERS,
        "examples": {
            code: {"summary": PROBLEMS[code][1], "value": problems[code]["reply"]} for code in Code
        },
        "securitySchemes": {BEARER: _SECURITY},
    }


def _explained(owner: str, schema: Json) -> Json:
    """A schema whose every property says what it means."""
    properties = {
        name: _property(owner, name, told) for name, told in schema.get("properties", {}).items()
    }
    return schema | ({"properties": properties} if properties else {})


def _property(owner: str, name: str, told: Json) -> Json:
    kept = {key: value for key, value in told.items() if key != "title"}
    if told.get("default", name) is None:  # what is left out is not always what is null
        del kept["default"]
    if owner == Amend.__name__ and name not in TAKEN_AWAY and "anyOf" in kept:
        (only,) = (each for each in kept.pop("anyOf") if each != {"type": "null"})
        kept |= only
    return kept | {"description": meaning(owner, name)}


_SECURITY = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "<key id>.<secret>",
    "description": "An API key with scopes: "
    + "; ".join(f"`{scope}` {words}" for scope, words in _WORDS.items())
    + ".",
}
_PARAMETERS: Json = {
    "day_id": {
        "name": "day_id",
        "in": "path",
        "required": True,
        "description": "The day, as its caller names it; every client has its own days.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "n": {
        "name": "n",
        "in": "path",
        "required": True,
        "description": "Number of the decision, from 1 without gaps.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 10**STEP_MAX_DIGITS - 1},
    },
    "format": {
        "name": "format",
        "in": "query",
        "description": "What to answer; parquet where the service has pyarrow.",
        "schema": {"type": "string", "enum": [*MEDIA_TYPES], "default": "json"},
    },
    "Idempotency-Key": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Not needed: the path names the command. If sent it must be "
        + ", ".join(f"`{row.key}`" for row in OPERATIONS.values() if row.key)
        + " for its command.",
        "schema": {"type": "string"},
    },
}
_HEADERS = {
    REPLAYED_HEADER: {
        "description": "`true` when the command had been carried out before; else absent.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    REQUEST_ID_HEADER: {
        "description": "The request, as the service's log names it.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "After so many seconds the same bytes may be sent again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {"description": "`Bearer`.", "schema": {"type": "string"}},
}
