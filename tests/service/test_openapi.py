"""The OpenAPI document: valid, whole, and true of what the service answers."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
import openapi_spec_validator
import pytest

from service import answers, outcomes
from service.client import replies, reports
from service.errors import MEDIA_TYPE, PROBLEMS, Code
from service.fields import MEANINGS
from service.openapi import exchanges
from service.operations import NO_OPERATION, OPERATIONS, TAGS
from tests.service import story
from tests.service.api import Api, Json
from tests.service.test_api_access import CALLS, OPEN_PATHS, template

PROBABILITY_DIFFERENCE_MAX = 1e-4
"""Between two machines; volumes and prices are the same on all."""
TOLD = [t for t in exchanges() if t["status"] == 200]
REFUSED = [t for t in exchanges() if t["status"] >= 400]


@cache
def document() -> Json:
    with Api() as api:
        return dict(api.call("GET", "/openapi.json").json)


def operations() -> Iterator[tuple[str, str, Json]]:
    for path, item in document()["paths"].items():
        for method, told in item.items():
            yield method.upper(), path, told


def told_of(name: str) -> Json:
    (found,) = [told for _, _, told in operations() if told["operationId"] == name]
    return found


def resolved(held: Json) -> Json:
    """What a reference in the document stands for."""
    place: Json = document()
    for part in held["$ref"].removeprefix("#/").split("/"):
        place = place[part]
    return place


def closed(schema: Any) -> Any:
    """A schema that allows nothing it does not name: what is answered must be in it."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    held = {name: closed(each) for name, each in schema.items()}
    if "properties" in held and "type" in held:
        held.setdefault("additionalProperties", False)
    if "x-extensible-enum" in held:
        held["enum"] = held["x-extensible-enum"]
    return held


@cache
def components() -> Json:
    return dict(closed(document()["components"]))


def violations(schema: Json, value: Any) -> list[str]:
    whole = {**closed(schema), "components": components()}
    found = jsonschema.Draft202012Validator(whole).iter_errors(value)
    return [f"{error.json_path}: {error.message}" for error in found]


# valid and whole


def test_the_document_is_valid_openapi() -> None:
    openapi_spec_validator.OpenAPIV31SpecValidator(document()).validate()


def test_every_schema_is_valid_and_every_reference_leads_somewhere() -> None:
    for schema in document()["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for place in set(re.findall(r'"(#/[^"]+)"', json.dumps(document()))):
        assert resolved({"$ref": place})


def test_every_route_is_described() -> None:
    named = {told["operationId"] for _, _, told in operations()}
    assert named == set(OPERATIONS)
    assert {told["tags"][0] for _, _, told in operations()} == set(TAGS)
    for _, path, told in operations():
        assert told["summary"]
        assert told["description"]
        parameters = [resolved(each) for each in told["parameters"]]
        in_path = [each["name"] for each in parameters if each["in"] == "path"]
        assert in_path == re.findall(r"{(\w+)}", path)
        assert all(each["description"] for each in parameters)


def test_the_scopes_are_those_of_the_routes() -> None:
    scopes = {(method, template(path)): [scope] for method, path, _, scope in CALLS}
    for method, path, told in operations():
        if path in OPEN_PATHS:
            assert told["security"] == []
            continue
        (scope,) = scopes[method, path]
        assert told["security"] == [{"bearer": [scope]}]
        assert f"the scope `{scope}`" in told["description"]


def test_every_field_says_what_it_means() -> None:
    used = set()
    for owner, schema in document()["components"]["schemas"].items():
        assert schema.get("description"), owner
        for name, told in schema.get("properties", {}).items():
            assert told["description"], (owner, name)
            used |= {f"{owner}.{name}" if f"{owner}.{name}" in MEANINGS else name}
    assert set(MEANINGS) - used == set()


def test_units_are_told() -> None:
    units = {"minor": "minor units", "qty": "shares", "bp": "basis points", "px": "currency units"}
    units |= {"pct": "ercent", "ppm": "millionths"}
    for name, text in MEANINGS.items():
        found = [unit for suffix, unit in units.items() if re.search(rf"_{suffix}(_|$)", name)]
        assert not found or any(unit in text.lower() for unit in found), (name, text)


def test_the_clients_replies_have_the_same_fields() -> None:
    """The official client and this document are two readings of one thing."""
    inherited = {field.name for field in dataclasses.fields(replies.Reply)}
    client = {**vars(replies), **vars(reports)}
    ours = {n: t for n, t in {**vars(answers), **vars(outcomes)}.items() if n in client}
    types = {n: t for n, t in ours.items() if hasattr(t, "model_fields")}
    assert {"Day", "Decision", "Record", "Bookings", "Instructed", "Report", "State"} <= set(types)
    for name, held in types.items():
        names = {field.name for field in dataclasses.fields(client[name])} - inherited
        assert names == set(held.model_fields), name


def test_only_what_may_be_null_is_nullable(api: Api) -> None:
    """A client that sends null for what it leaves out would take limit prices away."""
    fields = document()["components"]["schemas"]["Amend"]["properties"]
    api.open(story.ONE, "one")
    for name, told in fields.items():
        assert "default" not in told
        body = {"cl_ord_id": "B-1", name: None}
        reply = api.instruct(f"null-{name}", "one", amend=[body])
        assert (reply.status == 200) == ({"type": "null"} in told.get("anyOf", [])), name


# problems


def test_every_problem_is_listed_where_it_can_be_met() -> None:
    listed: set[str] = set(NO_OPERATION)
    for _, _, told in operations():
        for status, reply in told["responses"].items():
            if status == "200":
                continue
            assert list(reply["content"]) == [MEDIA_TYPE]
            assert {PROBLEMS[Code(code)][0] for code in reply["x-codes"]} == {int(status)}
            assert all(f"`{code}`" in reply["description"] for code in reply["x-codes"])
            listed |= set(reply["x-codes"])
    assert listed == set(Code)
    assert "404 PATH_NOT_FOUND" in document()["info"]["description"]


def test_every_problem_has_an_example() -> None:
    assert {told["code"] for told in REFUSED} == set(Code)
    assert len(REFUSED) == len(Code)


@pytest.mark.parametrize("told", REFUSED, ids=lambda told: str(told["code"]))
def test_a_problem_is_as_described(told: Json) -> None:
    assert violations({"$ref": "#/components/schemas/Problem"}, told["reply"]) == []
    if told["operation"]:
        reply = told_of(told["operation"])["responses"][str(told["status"])]
        assert told["code"] in reply["x-codes"]


# replies


def test_every_body_and_every_reply_has_an_example() -> None:
    for _, _, told in operations():
        body = told.get("requestBody")
        assert body is None or body["content"]["application/json"]["examples"]
        for media, held in told["responses"]["200"]["content"].items():
            assert held.get("examples") or media == "application/vnd.apache.parquet"


@pytest.mark.parametrize("told", TOLD, ids=lambda told: f"{told['operation']}-{told['name']}")
def test_an_example_is_as_described(told: Json) -> None:
    operation = told_of(told["operation"])
    reply = operation["responses"]["200"]
    content = reply["content"][told["media"]]
    assert content["examples"][told["name"]]["value"] == told["reply"]
    assert violations(content["schema"], told["reply"]) == []
    if "body" in told:
        content = operation["requestBody"]["content"]["application/json"]
        assert violations(content["schema"], told["body"]) == []
    assert ("Replayed" in reply["headers"]) >= told.get("replayed", False)


def test_a_field_without_a_schema_is_found() -> None:
    (told,) = [t for t in TOLD if t["name"] == "first" and t["operation"] == "step"]
    schema = {"$ref": "#/components/schemas/Decision"}
    assert violations(schema, told["reply"] | {"more": 1}) != []
    assert violations(schema, told["reply"] | {"cash": told["reply"]["cash"] | {"x": 1}}) != []


def same(ours: Any, theirs: Any) -> bool:
    """Equal, but for what probabilities differ by from one machine to another."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=PROBABILITY_DIFFERENCE_MAX)
    return bool(ours == theirs)


def test_the_examples_are_what_the_service_answers() -> None:
    """If it should answer otherwise now: python -m tests.service.story."""
    again = json.loads(story.written(story.tell()))
    assert [t.get("name", t.get("code")) for t in again] == [
        t.get("name", t.get("code")) for t in exchanges()
    ]
    changed = [a for a, b in zip(again, exchanges(), strict=True) if not same(a, b)]
    assert changed == []


def test_the_page_is_what_is_served() -> None:
    """If it should be another now: python -m tests.service.story."""
    assert story.DOCUMENT.read_text(encoding="utf-8") == story.written(document())


def test_a_table_has_the_columns_that_are_described(api: Api) -> None:
    polars = pytest.importorskip("polars")
    api.open(story.ONE, "one")
    report = api.close({}, "one").json
    raw = api.call("GET", "/v1/days/one/report?format=parquet").body
    columns = polars.read_parquet(io.BytesIO(raw)).columns
    assert columns == ["day_id", "account", "currency", "policy", "shadow", *report["orders"]]
    rows = api.call("GET", "/v1/days/one/log?format=csv").body.decode().splitlines()
    log = api.call("GET", "/v1/days/one/log").json
    assert rows[0].split(",") == ["day_id", "client", *log["commands"][0]]
    for name, first in (("report", "day_id, account, currency, policy"), ("log", "day_id, client")):
        assert f"{first}, " in str(OPERATIONS[name].table)
