"""A day's log, and that it says all that is needed to carry the day out again."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service import manifest, models, replay
from service.core.baselines import BASELINES
from service.rack import Fixed, Folder
from service.replay import Entry, LogRefused, entries, replayed
from tests.service.api import (
    Api,
    Json,
    assert_problem,
    bars,
    day,
    end,
    fill,
    installed,
    order,
    step,
)
from tests.service.versions import add_version


def a_day(api: Api) -> None:
    """A day with everything in it: cuts, busts, instructions, a halt, a late fill."""
    rows = (order("A", "BUY", 1_000, min_qty=0), order("B", "SELL", 600, min_qty=7))
    api.open(day(*rows, cash_minor=200_000, policy="ac"))
    api.step(1, step(1))
    api.report([fill("a", "A/1", 50, 10.05), fill("b", "B/1", 100)])
    bust = end("u", "A/1", "TRADE_CANCEL") | {"exec_ref_id": "a"}
    api.report([bust])
    added = day(order("C", "SELL", 300, symbol="SC"))["orders"]
    api.instruct("i", pause=["B"], amend=[{"cl_ord_id": "A", "urgency_pct": -50}], add=added)
    api.trading("REDUCING")
    api.step(2, step(2, bars(("SA", "SB", "SC"), px=10.1)))
    api.trading("ACTIVE")
    api.instruct("j", cancel=["A"], resume=["B"])
    api.step(3, step(3, bars(("SA", "SB", "SC"), px=10.2)))
    assert api.close({"executions": [fill("c", "C", 100)]}).status == 200
    assert api.report([fill("late", "C", 10)]).status == 200


def log_of(api: Api, kind: str = "json") -> bytes:
    reply = api.call("GET", f"/v1/days/d/log?format={kind}")
    assert reply.status == 200, reply.body
    return reply.body


def file(tmp_path: Path, content: bytes, suffix: str = "json") -> Path:
    path = tmp_path / f"log.{suffix}"
    path.write_bytes(content)
    return path


def again(log: list[Entry], **policies: Any) -> str | None:
    found = asyncio.run(replayed(log, Fixed(installed(**policies))))
    return None if found is None else str(found)


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_a_day_is_carried_out_again_byte_for_byte(api: Api, tmp_path: Path, kind: str) -> None:
    a_day(api)
    log = entries(file(tmp_path, log_of(api, kind), kind))
    assert [entry.command.partition(":")[0] for entry in log] == [
        "open", "step", "exec", "exec", "instruct", "step", "instruct", "step", "close", "exec",
    ]  # fmt: skip
    assert [entry.state for entry in log[4:7]] == ["ACTIVE", "REDUCING", "ACTIVE"]
    assert again(log) is None


def test_the_first_difference_is_named(api: Api, tmp_path: Path) -> None:
    a_day(api)
    log = entries(file(tmp_path, log_of(api)))
    told = again(log, ac=BASELINES["twap"])
    assert told is not None
    assert told.startswith("command 1 (step:1) differs at $.orders.working_qty[1]: 284 then, ")
    other = [replace(e, state="HALTED") if e.command == "step:3" else e for e in log]
    assert str(again(other)).startswith("command 7 (step:3) differs at $.trading: ")
    gone = [entry for entry in log if entry.command != "instruct:i"]  # numbers are not looked at
    assert str(again(gone)).startswith("command 5 (step:2) differs at ")


def test_a_model_that_is_not_there_is_said(api: Api, tmp_path: Path) -> None:
    api.open(day(policy="talking"))
    log = entries(file(tmp_path, log_of(api)))
    rest = {name: each for name, each in installed().items() if name != "talking"}
    found = asyncio.run(replayed(log, Fixed(rest)))
    assert "UNKNOWN_POLICY" in str(found)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"day_id": "d", "client": "c", "commands": [1]}']
)
def test_what_is_no_log_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(LogRefused, match="no whole log"):
        entries(file(tmp_path, content.encode()))


def test_a_log_that_is_not_whole_is_refused(api: Api, tmp_path: Path) -> None:
    a_day(api)
    whole = json.loads(log_of(api))
    rows = whole["commands"]
    changes: list[list[Json]] = [
        rows[:3],
        rows[1:],
        [*rows, rows[-1]],
        [rows[1], rows[0], *rows[2:]],
        [{**rows[0], "command": "nothing"}, *rows[1:]],
        [{**rows[0], "state": "STOPPED"}, *rows[1:]],
        [{**rows[0], "request": None}, *rows[1:]],
        [],
    ]
    for change in changes:
        content = json.dumps(whole | {"commands": change}).encode()
        with pytest.raises(LogRefused, match="no whole log"):
            entries(file(tmp_path, content))


def test_the_program_says_how_it_ended(
    api: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Api(source=Folder(Path("models"))) as real:
        assert real.open(day(policy="iac")).status == 200
        assert real.step(1, step(1)).status == 200
        good = log_of(real)
    assert replay.main([str(file(tmp_path, good))]) == 0
    assert capsys.readouterr().out == "2 commands, every answer the same\n"
    told: Json = json.loads(good)
    told["commands"][1]["reply"] = told["commands"][1]["reply"].replace('"step":1', '"step":2')
    assert replay.main([str(file(tmp_path, json.dumps(told).encode()))]) == 1
    assert "differs at $.step: 2 then, 1 now" in capsys.readouterr().out
    assert replay.main([str(tmp_path / "none.json")]) == 2


def test_a_log_of_a_day_that_is_not_there(api: Api) -> None:
    assert_problem(api.call("GET", "/v1/days/d/log"), 404, "DAY_NOT_FOUND")


def test_a_day_is_carried_out_with_the_versions_that_it_had(tmp_path: Path) -> None:
    folder = Path(shutil.copytree("models", tmp_path / "models"))
    shipped = manifest.read(folder).row("iac")["version"]
    with Api(source=Folder(folder)) as api:
        api.open(day(policy="iac", shadows=["twap"]))
        api.step(1, step(1))
        log = log_of(api)
    later = add_version(folder, "later", current=True)
    path = file(tmp_path, log)
    assert asyncio.run(replayed(entries(path), Folder(folder))) is None
    models.drop(folder, "iac", shipped)
    found = str(asyncio.run(replayed(entries(path), Folder(folder))))
    assert f'differs at $.model.version: "{shipped}" then, "{later}" now' in found


def test_shadows_are_carried_out_with_their_versions_too(tmp_path: Path) -> None:
    folder = Path(shutil.copytree("models", tmp_path / "models"))
    with Api(source=Folder(folder)) as api:
        api.open(day(policy="twap", shadows=["iac"]))
        api.step(1, step(1))
        log = log_of(api)
    add_version(folder, "later", current=True)
    assert asyncio.run(replayed(entries(file(tmp_path, log)), Folder(folder))) is None


@pytest.mark.parametrize("reply", ["[]", '{"shadows": null}', "{"])
def test_a_log_that_opens_nothing_is_no_log(api: Api, tmp_path: Path, reply: str) -> None:
    api.open(day())
    told: Json = json.loads(log_of(api))
    told["commands"][0]["reply"] = reply
    with pytest.raises(LogRefused, match="opens no day"):
        asyncio.run(
            replayed(entries(file(tmp_path, json.dumps(told).encode())), Fixed(installed()))
        )


def test_fields_that_are_new_are_named(api: Api, tmp_path: Path) -> None:
    api.open(day())
    told: Json = json.loads(log_of(api))
    reply = json.loads(told["commands"][0]["reply"])
    del reply["shadows"]
    told["commands"][0]["reply"] = json.dumps(reply)
    found = again(entries(file(tmp_path, json.dumps(told).encode())))
    assert found is not None
    assert 'differs at the fields of $: [] then, ["shadows"] now' in found
