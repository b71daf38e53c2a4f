"""Shadow policies decide the same steps on paper, are scored, and are never answered."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from typing import Any

import pytest

from service.core.policy import Policy
from service.rack import Fixed
from service.replay import entries, replayed
from service.shadow import SHADOWS, SHADOWS_FIXED
from tests.service.api import (
    HALTER,
    Api,
    Json,
    assert_problem,
    bars,
    day,
    end,
    fill,
    installed,
    moment,
    order,
    step,
)


def bodies(n: int) -> list[Json]:
    return [step(i, bars(px=10.0 + i / 10)) for i in range(1, n + 1)]


def closing(n: int = 3) -> Json:
    return {"as_of": moment(n), "snapshot": bars(px=11.0)}


def paper(policy: str, **more: Any) -> Json:
    return day(policy=policy, fills="paper", **more)


def played(api: Api, body: Json, day_id: str, steps: int = 2) -> Json:
    assert api.open(body, day_id).status == 200
    for n, each in enumerate(bodies(steps), start=1):
        reply = api.step(n, each, day_id)
        assert reply.status == 200, reply.body
    reply = api.close(closing(), day_id)
    assert reply.status == 200, reply.body
    report: Json = reply.json
    return report


def test_a_shadow_is_the_day_that_its_policy_would_have_had(api: Api) -> None:
    beside = played(api, paper("twap", shadows=["all", "none"]), "beside")
    alone = played(api, paper("all"), "alone")
    first, second = beside["shadows"]
    assert (first["policy"], second["policy"]) == ("all", "none")
    assert (first["stopped"], second["stopped"]) == (None, None)
    assert first["report"] | {"day_id": "alone"} == alone
    assert second["report"]["traded_minor"] < first["report"]["traded_minor"]


def test_a_day_with_shadows_answers_as_one_without(api: Api) -> None:
    api.open(paper("twap", shadows=["all"]), "with")
    api.open(paper("twap"), "without")
    for n, each in enumerate(bodies(3), start=1):
        replies = [api.step(n, each, name).json for name in ("with", "without")]
        assert replies[0] | {"day_id": ""} == replies[1] | {"day_id": ""}
    reports = [api.close(closing(), name).json for name in ("with", "without")]
    assert reports[0] | {"day_id": "", "shadows": []} == reports[1] | {"day_id": ""}


def test_a_shadow_does_not_hear_what_really_was_filled(api: Api) -> None:
    """The same policy as its own shadow: what paper would have given it."""
    api.open(day(order("A", "BUY", 100), policy="all", shadows=["all"]))
    api.step(1, step(1, bars(("SA",))))
    told = [fill("x", "A/1", 40), end("y", "A/1")]
    reply = api.step(2, step(2, bars(("SA",)), *told))
    assert reply.json["orders"]["cum_qty"] == [40]
    (shadow,) = api.call("GET", "/v1/days/d/steps/2").json["shadows"]
    assert shadow["orders"]["cl_ord_id"] == []  # paper filled all of it


def test_what_shadows_decided_is_on_record(api: Api) -> None:
    api.open(day(policy="none", shadows=["all"]))
    api.step(1, step(1))
    (shadow,) = api.call("GET", "/v1/days/d/steps/1").json["shadows"]
    assert shadow["policy"] == "all"
    assert sum(shadow["orders"]["child_qty"]) > 0
    assert sum(api.step(1, step(1)).json["orders"]["child_qty"]) == 0
    assert api.state()["shadows"] == [{"policy": "all", "model": shadow["model"], "stopped": None}]


def test_shadows_follow_instructions(api: Api) -> None:
    api.open(day(policy="none", shadows=["none"]))
    api.step(1, step(1))
    told = {"instruction_id": "i", "cancel": "ALL"}
    assert api.call("POST", "/v1/days/d/instructions", told).status == 200
    (shadow,) = (api.step(2, step(2)), api.call("GET", "/v1/days/d/steps/2"))[1].json["shadows"]
    assert shadow["orders"]["cl_ord_id"] == []


def test_a_shadow_that_cannot_follow_stops_and_says_why(api: Api) -> None:
    api.open(day(order("A", "BUY", 100), policy="none", shadows=["all"]))
    api.step(1, step(1, bars(("SA",))))
    told = {"instruction_id": "i", "amend": [{"cl_ord_id": "A", "order_qty": 50}]}
    reply = api.call("POST", "/v1/days/d/instructions", told)
    assert reply.status == 200, reply.body  # the shadow has all 100 at work
    assert [each["stopped"] for each in api.state()["shadows"]] == ["INSTRUCTIONS_REFUSED"]
    assert api.step(2, step(2, bars(("SA",)))).status == 200
    assert api.call("GET", "/v1/days/d/steps/2").json["shadows"] == [None]
    (shadow,) = api.close().json["shadows"]
    assert (shadow["stopped"], shadow["report"]) == ("INSTRUCTIONS_REFUSED", None)


def test_a_close_without_bars_ends_a_shadow_without_a_report(api: Api) -> None:
    api.open(day(order("A", "BUY", 100), policy="none", shadows=["all"]))
    api.step(1, step(1, bars(("SA",))))
    reply = api.close()
    assert reply.status == 200
    assert reply.json["shadows"][0]["stopped"] == "CLOSE_NEEDS_SNAPSHOT"


def test_a_shadow_that_fails_harms_nobody() -> None:
    def bug(*_: object) -> Any:
        raise ZeroDivisionError

    broken: Policy = bug
    with Api(policies=installed(broken=broken)) as api:
        api.open(day(policy="twap", shadows=["broken", "nan"]))
        reply = api.step(1, step(1))
        assert reply.status == 200
        stopped = [each["stopped"] for each in api.state()["shadows"]]
        (first, second) = api.call("GET", "/v1/days/d/steps/1").json["shadows"]
        assert stopped == ["INTERNAL", None]
        assert first is None
        assert second["fallback"]


def test_shadows_survive_a_restart_and_a_replay(api: Api, tmp_path: Any) -> None:
    api.open(paper("twap", shadows=["all"]))
    first, second, third = bodies(3)
    api.step(1, first)
    api.restart()
    api.step(2, second)
    api.restart()
    api.step(3, third)
    report = api.close(closing(4)).json
    again = played(api, paper("twap", shadows=["all"]), "again", 3)
    assert again["shadows"][0]["report"]["eg_bp"] == report["shadows"][0]["report"]["eg_bp"]
    path = tmp_path / "log.json"
    path.write_bytes(api.call("GET", "/v1/days/d/log").body)
    assert asyncio.run(replayed(entries(path), Fixed(installed()))) is None


def test_a_restarted_shadow_whose_model_is_gone_stops(api: Api) -> None:
    api.open(paper("twap", shadows=["all"]))
    rest = {name: each for name, each in installed().items() if name != "all"}
    with Api(store=api.store, policies=rest) as later:
        assert later.step(1, step(1)).status == 200
        assert later.state()["shadows"][0]["stopped"] == "MODEL_MISSING"


@pytest.mark.parametrize(
    ("shadows", "code"),
    [
        (["twap", "vwap"], None),
        (["twap", "vwap", "ac"], "BAD_FIELD"),
        (["twap", "twap"], "BAD_FIELD"),
        (["nobody"], "UNKNOWN_POLICY"),
        (["TWAP"], "BAD_FIELD"),
        ("twap", "BAD_FIELD"),
    ],
)
def test_shadows_are_checked_when_a_day_is_opened(api: Api, shadows: Any, code: str | None) -> None:
    reply = api.open(day(shadows=shadows))
    if code is None:
        assert reply.status == 200
    else:
        assert_problem(reply, 422, code)


def test_a_table_has_the_rows_of_shadows_too(api: Api) -> None:
    played(api, paper("twap", shadows=["all"]), "d")
    text = api.call("GET", "/v1/days/d/report?format=csv").body.decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {(row["policy"], row["shadow"]) for row in rows} == {("twap", "0"), ("all", "1")}
    assert len(rows) == 2 * len(day()["orders"]["cl_ord_id"])


def test_days_pin_the_models_of_their_shadows(api: Api) -> None:
    api.open(day(policy="twap", shadows=["all"]))
    pins = asyncio.run(api.store.pins())
    assert pins == {"twap@1": 1, "all@1": 1}
    api.close()
    assert not any(asyncio.run(api.store.pins()).values())


def test_executions_leave_shadows_as_they_are(api: Api) -> None:
    api.open(day(order("A", "BUY", 100), policy="all", shadows=["all", "none"]))
    api.step(1, step(1, bars(("SA",))))
    assert api.report([fill("x", "A/1", 40)]).status == 200
    assert [each["stopped"] for each in api.state()["shadows"]] == [None, None]
    assert api.step(2, step(2, bars(("SA",)))).status == 200
    recorded = api.call("GET", "/v1/days/d/steps/2").json["shadows"]
    assert [each["policy"] for each in recorded] == ["all", "none"]


def test_a_halt_holds_for_shadows_too(api: Api) -> None:
    api.open(day(policy="twap", shadows=["all"]))
    api.call("PUT", "/v1/state", {"state": "HALTED"}, key=HALTER)
    api.step(1, step(1))
    (shadow,) = api.call("GET", "/v1/days/d/steps/1").json["shadows"]
    assert (shadow["trading"], sum(shadow["orders"]["child_qty"])) == ("HALTED", 0)


def test_every_shadow_has_its_number_in_the_table(api: Api) -> None:
    played(api, paper("twap", shadows=["all", "none"]), "d")
    text = api.call("GET", "/v1/days/d/report?format=csv").body.decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["shadow"] for row in rows] == ["0", "0", "1", "1", "2", "2"]


def test_a_guard_for_the_day_does_not_stop_its_shadow(api: Api) -> None:
    """ "ALL" touches other orders in a shadow, which must not count as a crossed instruction."""
    api.open(paper("none", shadows=["all"]))
    api.step(1, step(1))
    api.step(2, step(2))
    assert api.instruct("p", pause="ALL").status == 200
    assert api.instruct("r", resume=["A"], expected_version={"A": 2}).status == 200
    assert api.state()["shadows"][0]["stopped"] is None


def test_the_larger_half_is_written_when_it_changes_only(api: Api) -> None:
    written = list[set[str]]()
    commit = api.store.commit

    async def watched(each: Any) -> Any:
        written.append(set(each.fields) & {SHADOWS, SHADOWS_FIXED})
        return await commit(each)

    api.store.commit = watched
    api.open(day(policy="twap", shadows=["all"]))
    api.step(1, step(1))
    api.instruct("i", pause=["A"])
    assert written == [{SHADOWS, SHADOWS_FIXED}, {SHADOWS}, {SHADOWS, SHADOWS_FIXED}]


def test_reports_of_days_before_there_were_shadows_have_tables(api: Api) -> None:
    api.open(paper("twap"))
    api.close()
    stored = next(iter(api.store._days.values()))
    report = json.loads(stored["reply:close"])
    del report["shadows"]
    stored["reply:close"] = json.dumps(report).encode()
    assert api.call("GET", "/v1/days/d/report?format=csv").status == 200
