"""A raw body becomes a checked value, or a problem that names every place. Imports wire, errors.

Strict to the letter: what a lenient reader would guess is refused here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.json_schema import models_json_schema

from service.atoms import Strict
from service.errors import Code, Problem
from service.wire import COMMANDS, Execution

ERRORS_SHOWN_MAX = 20
PARTS_MAX = 25_000
"""Names in one body, and lists: no honest one has more, and each wrong one costs microseconds."""
_NAME = re.compile(rb'"\s*:')


BODIES: dict[type[Strict], TypeAdapter[Any]] = {model: TypeAdapter(model) for model in COMMANDS}
Body = TypeVar("Body", bound=Strict)


def read(model: type[Body], raw: bytes) -> Body:
    """Validate a raw body; raises NOT_JSON or BAD_FIELD naming every place, never the input."""
    names = len(_NAME.findall(raw))
    if max(names, raw.count(b"[")) > PARTS_MAX:
        raise Problem(Code.BAD_FIELD, f"send at most {PARTS_MAX} fields and lists in one body")
    try:
        body: Body = BODIES[model].validate_json(raw)
        if names != _count_names(body):
            json.loads(raw, object_pairs_hook=_refuse_repeated)
        return body
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    if any(item["type"] == "json_invalid" for item in found):
        raise Problem(Code.NOT_JSON, "send one UTF-8 JSON object") from None
    errors = [(_where(item), item["msg"]) for item in found[:ERRORS_SHOWN_MAX]]
    raise Problem(
        Code.BAD_FIELD, f"{len(found)} field(s) to change, see errors", errors=errors
    ) from None


def _count_names(value: Any) -> int:
    """Names that a validated value was read from; fewer than in its text if one was repeated."""
    if isinstance(value, Execution):  # up to thousands
        return len(value.model_fields_set)
    if isinstance(value, Strict):
        names = value.model_fields_set
        return len(names) + sum(_count_names(getattr(value, name)) for name in names)
    if isinstance(value, dict):
        return len(value)
    if isinstance(value, list) and value and isinstance(value[0], Execution):
        return sum(map(_count_names, value))
    return 0


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> None:
    """Of a repeated name readers take the first or the last value: so nobody may send one."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise Problem(Code.BAD_FIELD, "send each name of an object once")


def _where(item: Any) -> str:
    """The place of an error; names that the caller invented are not repeated."""
    places = list(item["loc"])
    if places[:1] in (["holdings"], ["expected_version"]):
        places[1:] = ["(its name)"]
    if item["type"] == "extra_forbidden" and places:
        places[-1] = "(unknown field)"
    return ".".join(map(str, places)) or "(body)"


def schemas(models: Iterable[type[BaseModel]] = COMMANDS) -> dict[str, Any]:
    """JSON schemas of models and of what they hold, by name, for the OpenAPI document."""
    listed: Any = [(model, "validation") for model in models]
    _, document = models_json_schema(listed, ref_template="#/components/schemas/{model}")
    definitions: dict[str, Any] = document["$defs"]
    return definitions
