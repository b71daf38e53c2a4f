"""Many requests at once, in one process and in several over one store: one decision for a step."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.commits import Commit, Loaded, MemoryStore, Outcome
from service.desk import ATTEMPTS_MAX
from tests.service.api import (
    Api,
    Reply,
    assert_problem,
    bars,
    day,
    encoded,
    end,
    fill,
    order,
    step,
)

RACERS = 20
STEP = "/v1/days/d/steps/1"


class Yielding(MemoryStore):
    """A store that lets others run before and after every call, as a network does."""

    def __init__(self) -> None:
        super().__init__()
        self.commits = 0

    async def load(self, *args: Any) -> Loaded:
        await asyncio.sleep(0)
        loaded = await super().load(*args)
        await asyncio.sleep(0)
        return loaded

    async def commit(self, commit: Commit) -> Outcome:
        await asyncio.sleep(0)
        outcome = await super().commit(commit)
        self.commits += type(outcome).__name__ == "Committed"
        await asyncio.sleep(0)
        return outcome


@pytest.fixture
def store() -> Yielding:
    return Yielding()


def bodies(n: int) -> list[bytes]:
    return [encoded(step(1, bars(px=10.0 + i / 100))) for i in range(n)]


def winners(replies: list[Reply]) -> set[bytes]:
    """The bytes of the replies that succeeded; one of them is no replay."""
    done = [reply for reply in replies if reply.status == 200]
    assert sum(not reply.replayed for reply in done) == 1
    return {reply.body for reply in done}


def test_identical_requests_racing_are_one_decision(store: Yielding) -> None:
    with Api(store=store) as api:
        api.open(day())
        raw = encoded(step(1))
        replies = api.race(*(api.request("POST", STEP, raw) for _ in range(RACERS)))
        assert {reply.status for reply in replies} == {200}
        assert len(winners(replies)) == 1
        assert store.commits == 2
        assert api.row("A")["working_qty"] == 250


def test_different_requests_racing_are_one_decision(store: Yielding) -> None:
    with Api(store=store) as api:
        api.open(day())
        replies = api.race(*(api.request("POST", STEP, raw) for raw in bodies(RACERS)))
        assert len(winners(replies)) == 1
        losers = [reply for reply in replies if reply.status != 200]
        assert len(losers) == RACERS - 1
        for reply in losers:
            assert_problem(reply, 409, "BODY_CHANGED")
        assert store.commits == 2


def test_openings_racing_are_one_day(store: Yielding) -> None:
    with Api(store=store) as api:
        requests = [day(cash_minor=i % 4) for i in range(RACERS)]
        replies = api.race(*(api.request("PUT", "/v1/days/d", body) for body in requests))
        assert len(winners(replies)) == 1
        assert {reply.code for reply in replies} == {None, "BODY_CHANGED"}
        assert api.state()["cash"]["cash_minor"] == 0


def test_executions_racing_are_each_booked_once(store: Yielding) -> None:
    with Api(store=store) as api:
        api.open(day())
        api.step(1, step(1))
        path = "/v1/days/d/executions"
        requests = [
            {"executions": [fill(f"e{i % 5}", "A/1", 1), fill(f"x{i}", "A/1", 1)]}
            for i in range(RACERS)
        ]
        replies = api.race(*(api.request("POST", path, body) for body in requests))
        assert {reply.status for reply in replies} == {200}
        assert api.row("A")["cum_qty"] == 5 + RACERS
        booked = [result for reply in replies for result in reply.json["result"]]
        assert booked.count("DUPLICATE") == RACERS - 5


def test_a_step_and_a_close_racing_are_one_after_the_other(store: Yielding) -> None:
    with Api(store=store) as api:
        api.open(day())
        stepped, closed = api.race(
            api.request("POST", STEP, step(1)), api.request("POST", "/v1/days/d/close", {})
        )
        assert closed.status == 200
        assert stepped.code in (None, "DAY_CLOSED")
        assert closed.json["decisions"] == (1 if stepped.status == 200 else 0)


def test_a_halt_that_was_answered_stops_every_later_decision(store: Yielding) -> None:
    with Api(store=store) as api:
        for i in range(RACERS):
            api.open(day(), f"d{i}")

        async def halted_then_stepped() -> list[Reply]:
            early = [
                asyncio.ensure_future(api.request("POST", f"/v1/days/d{i}/steps/1", step(1)))
                for i in range(RACERS // 2)
            ]
            await api.request("PUT", "/v1/state", {"state": "HALTED"})
            late = [
                api.request("POST", f"/v1/days/d{i}/steps/1", step(1))
                for i in range(RACERS // 2, RACERS)
            ]
            replies = await asyncio.gather(*late)
            await asyncio.gather(*early)
            return replies

        for reply in api.run(halted_then_stepped()):
            assert reply.json["orders"]["child_qty"] == [0, 0]


# several processes over one store


def test_two_processes_racing_take_one_decision(store: Yielding) -> None:
    with Api(store=store) as one, Api(store=store) as two:
        one.open(day())
        two.state()

        async def both(raws: list[bytes]) -> list[Reply]:
            requests = [
                api.request("POST", STEP, raw)
                for i, raw in enumerate(raws)
                for api in ((one, two) if i % 2 else (two, one))
            ]
            return await asyncio.gather(*requests)

        replies = one.run(both(bodies(RACERS // 2)))
        assert len(winners(replies)) == 1
        assert {reply.code for reply in replies} == {None, "BODY_CHANGED"}
        assert store.commits == 2
        assert one.state() == two.state()


def test_processes_may_take_turns(store: Yielding) -> None:
    with Api(store=store) as one, Api(store=store) as two:
        one.open(day())
        assert one.step(1, step(1)).status == 200
        assert two.step(2, step(2)).status == 200
        assert one.step(3, step(3)).status == 200  # though its memory ends at step 1
        assert two.report([fill("e", "A/1", 7)]).status == 200
        assert_problem(one.step(3, step(4)), 409, "BODY_CHANGED")
        assert_problem(two.step(5, step(4)), 409, "STEP_GAP")
        replay = one.step(2, step(2))
        assert replay.replayed
        assert two.close({"executions": [end("c", "A")]}).status == 200
        assert_problem(one.step(4, step(4)), 409, "DAY_CLOSED")
        assert_problem(one.close(), 409, "BODY_CHANGED")
        assert one.report([fill("e", "A/1", 7), fill("f", "A/1", 1)]).json["result"] == [
            "DUPLICATE",
            "BOOKED",
        ]
        assert one.state() == two.state()


def test_a_halt_by_one_process_holds_for_the_others(store: Yielding) -> None:
    with Api(store=store) as one, Api(store=store) as two:
        one.open(day())
        two.step(1, step(1))
        one.trading("HALTED")
        assert two.step(2, step(2)).json["orders"]["child_qty"] == [0, 0]


def test_processes_racing_with_executions_lose_none(store: Yielding) -> None:
    with Api(store=store) as one, Api(store=store) as two:
        one.open(day(order("A", "BUY", 1_000)))
        one.step(1, step(1))
        path = "/v1/days/d/executions"

        async def both() -> list[Reply]:
            requests = [
                api.request("POST", path, {"executions": [fill(f"{name}{i}", "A/1", 1)]})
                for i in range(RACERS)
                for name, api in (("x", one), ("y", two))
            ]
            return await asyncio.gather(*requests)

        replies = one.run(both())
        assert {reply.code for reply in replies} <= {None, "BUSY"}
        done = sum(reply.status == 200 for reply in replies)
        assert one.row("A")["cum_qty"] == two.row("A")["cum_qty"] == done


def test_a_day_that_never_stands_still_is_busy_not_wrong() -> None:
    class Moving(MemoryStore):
        attempts = 0

        async def commit(self, commit: Commit) -> Outcome:
            """Somebody else is always faster."""
            self.attempts += 1
            key = next(iter(self._days), None)
            if key is not None:
                seq = int(self._days[key]["seq"])
                self._days[key]["seq"] = str(seq + 1).encode()
            return await super().commit(commit)

    store = Moving()
    with Api(store=store) as api:
        api.open(day())
        store.attempts = 0
        reply = api.step(1, step(1))
        assert_problem(reply, 503, "BUSY")
        assert reply.headers["retry-after"] == "1"
        assert store.attempts == ATTEMPTS_MAX
        assert api.state()["step"] == 0


def test_a_request_that_is_cancelled_leaves_the_day_usable(store: Yielding) -> None:
    with Api(store=store) as api:
        api.open(day())

        async def cancelled(after: int) -> None:
            task = asyncio.ensure_future(api.request("POST", STEP, step(1)))
            for _ in range(after):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        for after in range(12):
            api.run(cancelled(after))
        reply = api.step(1, step(1))
        assert reply.status == 200
        assert api.step(1, step(1)).body == reply.body
        assert store.commits == 2
        assert api.row("A")["working_qty"] == 250
