"""What holds when things go wrong: halts, failing policies, broken laws, a store that is away."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from service.commits import MemoryStore, StoreRefused, StoreUnavailable
from service.core import laws
from service.core.day import Day
from service.core.decide import Decided
from service.core.observe import Observation
from service.core.policy import Intent
from tests.service.api import (
    ADMIN,
    DESK,
    FAKES,
    OTHER,
    Api,
    Failing,
    Json,
    assert_problem,
    bars,
    codes,
    day,
    encoded,
    end,
    fill,
    installed,
    order,
    row,
    step,
)


def decided(api: Api, n: int, *executions: Json, day_id: str = "d") -> Json:
    reply = api.step(n, step(n, None, *executions), day_id)
    assert reply.status == 200, reply.body
    answer: Json = reply.json
    return answer


# trading states


def test_a_halted_day_answers_nothing_and_keeps_its_rhythm(api: Api) -> None:
    api.open(day())
    assert api.trading("HALTED").json == {"state": "HALTED"}
    assert api.state()["trading"] == "HALTED"
    answer = decided(api, 1)
    assert (answer["trading"], answer["orders"]["child_qty"]) == ("HALTED", [0, 0])
    assert row(answer, "A")["reasons"] == [{"code": "HALTED", "observed": 250, "limit": 0}]
    for n in (2, 3, 4):  # the forced final steps included
        assert decided(api, n)["orders"]["child_qty"] == [0, 0]


def test_a_reducing_day_sells_only(api: Api) -> None:
    api.open(day())
    api.trading("REDUCING")
    answer = decided(api, 1)
    assert answer["orders"]["child_qty"] == [0, 150]
    assert row(answer, "A")["reasons"] == [{"code": "REDUCING", "observed": 250, "limit": 0}]


def test_an_active_day_catches_up_after_a_halt(api: Api) -> None:
    api.open(day())
    api.trading("HALTED")
    decided(api, 1)
    api.trading("ACTIVE")
    assert decided(api, 2)["orders"]["child_qty"] == [500, 300]


def test_a_halt_concerns_new_decisions_not_recorded_ones(api: Api) -> None:
    opened = api.open(day())
    raw = encoded(step(1))
    first = api.step(1, raw)
    report = api.report([fill("e", "A/1", 1)])
    api.trading("HALTED")
    again = api.step(1, raw)
    assert (again.body, again.replayed) == (first.body, True)
    assert api.open(day()).body == opened.body
    assert api.report([fill("e", "A/1", 1)]).body == report.body
    assert decided(api, 2)["orders"]["child_qty"] == [0, 0]


def test_a_halted_day_still_books_facts_and_closes(api: Api) -> None:
    api.open(day())
    decided(api, 1)
    api.trading("HALTED")
    assert api.report([fill("e", "A/1", 250)]).status == 200
    assert api.row("A")["cum_qty"] == 250
    assert api.close().status == 200


def test_a_day_may_be_opened_under_a_halt(api: Api) -> None:
    api.trading("HALTED")
    reply = api.open(day())
    assert (reply.status, reply.json["trading"]) == (200, "HALTED")
    assert decided(api, 1)["orders"]["child_qty"] == [0, 0]


def test_a_clients_halt_is_its_own_and_the_services_is_everyones(api: Api) -> None:
    assert api.open(day(), "mine").status == 200
    assert api.open(day(), "theirs", key=OTHER).status == 200
    api.trading("HALTED", key=OTHER)
    assert decided(api, 1, day_id="mine")["orders"]["child_qty"] == [250, 150]
    body = {"state": "REDUCING"}
    assert api.call("PUT", "/v1/service/state", body, key=ADMIN).status == 200
    assert decided(api, 2, day_id="mine")["trading"] == "REDUCING"
    reply = api.step(1, step(1), "theirs", key=OTHER)
    assert reply.json["trading"] == "HALTED"  # the stricter one


@pytest.mark.parametrize("field", ["fixed", "state"])
def test_a_day_of_another_version_is_left_alone(api: Api, field: str) -> None:
    assert api.open(day()).status == 200
    (stored,) = api.store._days.values()
    stored[field] = stored[field].replace(b'"format":3', b'"format":2', 1)
    before = deepcopy(api.store._days)
    api.restart()
    for reply in (
        api.call("GET", "/v1/days/d"),
        api.step(1, step(1)),
        api.instruct("i", pause=["A"]),
    ):
        assert_problem(reply, 409, "OTHER_VERSION")
    assert api.store._days == before


def test_a_day_has_a_state_of_its_own(api: Api) -> None:
    for day_id in ("one", "other"):
        assert api.open(day(), day_id).status == 200
    halt = api.call("PUT", "/v1/days/one/state", {"state": "HALTED"})
    assert (halt.status, halt.json) == (200, {"state": "HALTED"})
    with Api(store=api.store) as later:  # another process over the same store
        assert decided(later, 1, day_id="one")["orders"]["child_qty"] == [0, 0]
        assert decided(later, 1, day_id="other")["orders"]["child_qty"] == [250, 150]
        later.trading("REDUCING")
        assert later.state("one")["trading"] == "HALTED"  # the stricter one
        assert later.call("PUT", "/v1/days/one/state", {"state": "ACTIVE"}).status == 200
        assert decided(later, 2, day_id="one")["orders"]["child_qty"] == [0, 300]


def test_a_halt_of_a_day_that_is_not_there_halts_nothing_and_says_so(api: Api) -> None:
    assert api.open(day(), "mine").status == 200
    for day_id, key in (("typo", DESK), ("mine", OTHER)):
        reply = api.call("PUT", f"/v1/days/{day_id}/state", {"state": "HALTED"}, key=key)
        assert_problem(reply, 404, "DAY_NOT_FOUND")
    assert api.state("mine")["trading"] == "ACTIVE"


def test_a_halt_outlives_the_process(api: Api) -> None:
    api.open(day())
    api.trading("HALTED")
    with Api(store=api.store) as later:
        assert decided(later, 1)["orders"]["child_qty"] == [0, 0]


@pytest.mark.parametrize("state", ["halted", "", "STOPPED", None, 1, ["HALTED"]])
def test_a_state_is_one_of_three(api: Api, state: Any) -> None:
    api.trading("REDUCING")
    assert_problem(api.trading(state), 422, "BAD_FIELD")
    api.open(day())
    assert api.state()["trading"] == "REDUCING"


def test_setting_a_state_twice_is_setting_it_once(api: Api) -> None:
    assert api.trading("HALTED").body == api.trading("HALTED").body


# policies


@pytest.mark.parametrize("policy", ["failing", "nan", "infinite", "float", "short", "negative"])
def test_a_policy_that_gives_no_advice_is_replaced_and_flagged(api: Api, policy: str) -> None:
    api.open(day(policy=policy))
    answer = decided(api, 1)
    assert answer["fallback"] is True
    assert answer["fallback_reason"]
    assert answer["orders"]["child_qty"] == [250, 150]  # what TWAP would do
    assert codes(answer, "A") == ["FALLBACK"]
    assert answer["policy"] == policy
    assert api.state()["fallbacks"] == 1
    assert api.call("GET", "/v1/days/d/steps/1").json["rounds"] == []


def test_a_fallback_stays_within_the_same_limits(api: Api) -> None:
    api.open(day(policy="failing", cash_minor=101_000, limits={"child_qty_max": 120}))
    answer = decided(api, 1)
    assert answer["orders"]["child_qty"] == [100, 120]
    assert codes(answer, "A") == ["CAP_QTY", "CASH", "FALLBACK"]
    assert codes(answer, "B") == ["CAP_QTY", "FALLBACK"]


def test_a_failing_policy_still_completes_its_day(api: Api) -> None:
    api.open(day(policy="failing", fills="paper"))
    for n in range(1, 5):
        decided(api, n)
    report = api.close({"snapshot": bars()}).json
    assert (report["filled_pct"], report["fallbacks"]) == (100.0, 4)


def test_a_policy_may_wish_for_everything_at_once(api: Api) -> None:
    api.open(day(policy="huge", cash_minor=500_000))
    answer = decided(api, 1)
    assert answer["fallback"] is False
    assert answer["orders"]["child_qty"] == [495, 600]
    assert row(answer, "A")["reasons"] == [
        {"code": "REMAINING", "observed": 2**62, "limit": 1_000},
        {"code": "CASH", "observed": 1_010_000, "limit": 500_000},
    ]


def test_no_advice_breaks_a_law_on_any_day() -> None:
    rng = np.random.default_rng(7)

    def absurd(day: Day, observation: Observation) -> Intent:
        n = day.cum_qty.size
        return Intent(rng.choice([-(2**62), -1, 0, 1, 7, 2**28, 2**62], n).astype(np.int64))

    with Api(policies=installed(absurd=absurd)) as api:
        orders = [
            order(f"{i}", "BUY" if i % 2 else "SELL", 700 * (1 + i), lot_size=7, limit_px=None)
            for i in range(6)
        ]
        snapshot = bars([f"S{i}" for i in range(6)])
        for day_id in map(str, range(20)):
            body = day(*orders, policy="absurd", fills="paper", cash_minor=1_000_000)
            assert api.open(body, day_id).status == 200
            for n in range(1, 5):
                assert api.step(n, step(n, snapshot), day_id).status == 200
            report = api.close({"snapshot": snapshot}, day_id).json
            assert report["cash"]["min_cash_minor"] >= 0


def test_a_policy_that_raises_by_mistake_changes_nothing() -> None:
    def mistaken(day: Day, observation: Observation) -> Intent:
        raise ZeroDivisionError("zQ7marker")

    with Api(policies=installed(mistaken=mistaken)) as api:
        api.open(day(policy="mistaken"))
        before = api.state()
        reply = api.step(1, step(1))
        assert_problem(reply, 500, "INTERNAL")
        assert b"zQ7marker" not in reply.body
        assert api.state() == before


def test_a_day_is_decided_by_the_model_that_it_was_opened_with(api: Api) -> None:
    api.open(day())
    raw = encoded(step(1))
    first = api.step(1, raw)
    changed = installed()
    del changed["twap"]
    with Api(store=api.store, policies=changed) as later:
        assert later.step(1, raw).body == first.body
        before = later.state()
        reply = later.step(2, step(2))
        assert_problem(reply, 409, "MODEL_MISSING")
        assert reply.json["model"]["name"] == "twap"
        assert later.state() == before
        assert later.close().status == 200  # closing needs no model


# laws


def test_a_broken_law_is_refused_and_changes_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.open(day())
    decided(api, 1)
    before, stored = api.state(), deepcopy(api.store._days)

    def never(_: Decided) -> bool:
        return False

    with monkeypatch.context() as patch:
        patch.setattr(laws, "DECISION_LAWS", (*laws.DECISION_LAWS, never))
        reply = api.step(2, step(2, None, fill("e", "A/1", 1)))
        assert_problem(reply, 500, "LAW_BROKEN")
        assert b"never" not in reply.body
        assert (api.state(), api.store._days) == (before, stored)
    with monkeypatch.context() as patch:
        patch.setattr(laws, "SETTLEMENT_LAWS", (lambda *_: False,))
        assert_problem(api.report([fill("e", "A/1", 1)]), 500, "LAW_BROKEN")
        assert_problem(api.close({"executions": [fill("e", "A/1", 1)]}), 500, "LAW_BROKEN")
        assert (api.state(), api.store._days) == (before, stored)
    with monkeypatch.context() as patch:
        patch.setattr(laws, "DAY_LAWS", (lambda _: False,))
        assert_problem(api.open(day(), "e"), 500, "LAW_BROKEN")
        assert_problem(api.close(), 500, "LAW_BROKEN")
        assert (api.state(), api.store._days) == (before, stored)
    assert decided(api, 2, fill("e", "A/1", 1))["step"] == 2


# the store


def away() -> StoreUnavailable:
    return StoreUnavailable("zQ7marker at unix:///somewhere")


COMMANDS: list[tuple[str, Any]] = [
    ("open", lambda api: api.open(day(cash_minor=7), "new")),
    ("step", lambda api: api.step(2, step(2, None, fill("e", "A/1", 1)))),
    ("executions", lambda api: api.report([fill("e", "A/1", 1), end("c", "B/1")])),
    ("close", lambda api: api.close({"executions": [fill("e", "A/1", 1)]})),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [away, lambda: StoreRefused("zQ7marker")])
@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_a_store_that_fails_at_a_commit_is_retried_safely(
    name: str, command: Any, error: Any, after: bool
) -> None:
    store = Failing(MemoryStore())
    with Api(store=store) as api:
        api.open(day())
        api.step(1, step(1))
        store.fail, store.after = {"commit": error}, after
        reply = command(api)
        assert_problem(reply, 503, "STORE_UNAVAILABLE")
        assert reply.headers["retry-after"] == "1"
        assert b"zQ7marker" not in reply.body
        again = command(api)
        assert (again.status, again.replayed) == (200, after)
        third = command(api)
        assert (third.body, third.replayed) == (again.body, True)
        assert api.row("A")["cum_qty"] == (0 if name == "open" else 1)


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_a_store_that_cannot_be_read_is_retried_safely(name: str, command: Any) -> None:
    store = Failing(MemoryStore())
    with Api(store=store, options={"days_cached_max": 1}) as api:
        api.open(day())
        api.step(1, step(1))
        api.open(day(), "evicts the day".replace(" ", "-"))
        store.fail = {"load": away}
        assert_problem(command(api), 503, "STORE_UNAVAILABLE")
        assert command(api).status == 200


def test_reading_without_a_store_is_a_503_too() -> None:
    store = Failing(MemoryStore())
    with Api(store=store) as api:
        api.open(day())
        for path in ("/v1/days/d", "/v1/days/d/steps/1", "/v1/days/d/report"):
            store.fail = {"load": away}
            assert_problem(api.call("GET", path), 503, "STORE_UNAVAILABLE")
        store.fail = {"set_state": away}
        assert_problem(api.trading("HALTED"), 503, "STORE_UNAVAILABLE")
        assert api.state()["trading"] == "ACTIVE"


def test_a_store_that_breaks_in_an_unknown_way_is_a_500_and_changes_nothing() -> None:
    store = Failing(MemoryStore())
    with Api(store=store) as api:
        api.open(day())
        store.fail = {"commit": lambda: OSError("zQ7marker")}
        reply = api.step(1, step(1))
        assert_problem(reply, 500, "INTERNAL")
        assert b"zQ7marker" not in reply.body
        assert api.step(1, step(1)).status == 200


def test_a_day_that_left_memory_comes_back_whole() -> None:
    with Api(options={"days_cached_max": 1}) as api, Api(store=MemoryStore()) as warm:
        for service in (api, warm):
            service.open(day())
        for n in range(1, 5):
            told = [fill(f"e{n}", f"A/{n - 1}", 250)] if n > 1 else []
            body = step(n, bars(px=10 + n / 7), *told)
            api.open(day(), f"other-{n}")
            assert api.step(n, body).body == warm.step(n, body).body
        assert api.close().body == warm.close().body


def test_fakes_are_not_shipped() -> None:
    from service.core.baselines import BASELINES

    assert not set(FAKES) & set(BASELINES)
