"""What the service tells of itself: its metrics, and one line in the log for every command."""

from __future__ import annotations

import asyncio
import io
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from service import durability, vitals
from service.commits import MemoryStore, StoreRefused, StoreUnavailable
from service.core.policy import PolicyFailed
from service.embedded import EmbeddedValkey
from service.meters import DAY_FORGOTTEN_S, OpenDays
from service.store import RedisStore
from service.telemetry import Telemetry, configure_logs
from tests.service.api import ADMIN, Api, Failing, Json, bars, day, fill, installed, order, step

PAGE = (Path(__file__).parents[2] / "docs/observability.md").read_text(encoding="utf-8")


def read(api: Api, name: str) -> float:
    """One series of /metrics, by its name with its labels."""
    text = api.call("GET", "/metrics", key=None, kind=None).body.decode()
    [line] = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.rpartition(" ")[2])


@pytest.fixture
def lines(api: Api) -> Iterator[io.StringIO]:
    """The log of ``api`` as it is written."""
    log, before = io.StringIO(), sys.stderr
    sys.stderr = log
    configure_logs("info")
    yield log
    sys.stderr = before
    structlog.reset_defaults()


def events(log: io.StringIO, event: str) -> list[Json]:
    """The lines of one event."""
    told = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in told if line["event"] == event]


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every reading of /metrics asks the store again."""
    monkeypatch.setattr(vitals, "FRESH_S", 0.0)


# decisions


def test_a_decision_tells_where_its_time_went(api: Api) -> None:
    api.open(day())
    api.step(1, step(1))
    whole = read(api, 'concord_decision_seconds_sum{policy="twap"}')
    parts = [
        read(api, f'concord_decision_part_seconds_sum{{part="{part}",policy="twap"}}')
        for part in ("policy", "commit")
    ]
    assert all(0 < part < whole for part in parts)
    assert sum(parts) < whole


def test_a_replay_and_a_refusal_are_no_decisions(api: Api) -> None:
    api.open(day())
    for n in (1, 1, 3):
        api.step(n, step(n))
    assert read(api, 'concord_decisions_total{fallback="false",policy="twap"}') == 1
    assert read(api, 'concord_decision_seconds_count{policy="twap"}') == 1
    assert read(api, 'concord_commands_total{command="step"}') == 1
    assert read(api, 'concord_problems_total{code="STEP_GAP"}') == 1
    assert read(api, 'concord_children_total{policy="twap"}') == 2


def test_children_are_counted_by_what_changed_them(api: Api) -> None:
    api.open(day(order("A", "BUY", 1_000), order("B", "SELL", 600), policy="all", cash_minor=500))
    api.step(1, step(1, bars(status=["TRADING", "HALT"])))
    assert read(api, 'concord_children_changed_total{reason="CASH"}') == 1
    assert read(api, 'concord_children_changed_total{reason="SYMBOL_HALT"}') == 1
    assert read(api, 'concord_children_changed_total{reason="CAP_QTY"}') == 0


def test_what_never_happened_is_zero_and_not_absent(api: Api) -> None:
    for name in (
        'concord_alarms_total{code="PROTECT_BREACH"}',
        'concord_problems_total{code="LAW_BROKEN"}',
        'concord_decisions_total{fallback="true",policy="twap"}',
        'concord_store_errors_total{call="commit",kind="unavailable"}',
    ):
        assert read(api, name) == 0


def test_callers_make_no_series(api: Api) -> None:
    """Whatever they send: the labels of /metrics are ours."""

    def series() -> set[str]:
        lines = api.call("GET", "/metrics").body.decode().splitlines()
        return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}

    api.open(day())
    before = series()
    for n in range(20):
        api.call("GET", f"/v1/path{n}", key=f"nobody{n}.x")
        api.call(f"METHOD{n}", f"/v1/days/day{n}")
        api.open(day(account=f"account{n}"), f"day{n}")
        api.open(day(policy=f"policy{n}"), f"other{n}")
        api.step(1, step(1), f"day{n}")
    more = series() - before
    routes = ("unmatched", "/v1/days/{day_id}", "/v1/days/{day_id}/steps/{n}", "/metrics")
    assert all(name.startswith("concord_request") for name in more)
    assert {re.findall(r'route="([^"]*)"', name)[0] for name in more} <= set(routes)


def test_requests_that_are_sent_away_are_counted() -> None:
    with Api(options={"connections_max": 1}) as api:
        first = api.request("PUT", "/v1/days/a", day())
        replies = api.race(first, api.request("GET", "/v1/days/b"))
        assert [reply.status for reply in replies] == [200, 503]
        assert read(api, 'concord_problems_total{code="OVERLOADED"}') == 1
        assert read(api, "concord_serving_requests") == 1


def test_days_are_open_until_they_are_closed(api: Api) -> None:
    for day_id in ("d", "e"):
        api.open(day(), day_id)
    assert read(api, "concord_open_days") == 2
    assert api.close(day_id="e").status == 200
    assert read(api, "concord_open_days") == 1


def test_a_day_that_nobody_closes_is_forgotten() -> None:
    moment = 0.0
    days = OpenDays(lambda: moment)
    days.note("desk", "a", is_open=True)
    moment = DAY_FORGOTTEN_S / 2
    days.note("desk", "b", is_open=True)
    moment = DAY_FORGOTTEN_S + 1
    assert days.count() == 1


# the store and the trading states


def test_failing_calls_are_counted_by_kind() -> None:
    store = Failing(MemoryStore())
    with Api(store=store) as api:
        for error in (StoreUnavailable, StoreRefused):
            store.fail = {"commit": lambda error=error: error("gone")}
            assert api.open(day()).code == "STORE_UNAVAILABLE"
        assert read(api, 'concord_store_errors_total{call="commit",kind="unavailable"}') == 1
        assert read(api, 'concord_store_errors_total{call="commit",kind="refused"}') == 1
        assert read(api, 'concord_problems_total{code="STORE_UNAVAILABLE"}') == 2
        assert read(api, 'concord_store_seconds_count{call="commit"}') == 2
        assert read(api, 'concord_store_commits_total{outcome="committed"}') == 0


def test_clients_are_counted_by_state_whoever_set_it(api: Api) -> None:
    """Two clients of this service may trade; another process sets a state as well."""
    states = ("ACTIVE", "REDUCING", "HALTED")
    api.open(day())
    told = lambda: [read(api, f'concord_clients{{state="{s}"}}') for s in states]  # noqa: E731
    assert told() == [2, 0, 0]
    api.trading("REDUCING")
    assert told() == [1, 1, 0]
    api.run(api.store.set_state("other", "HALTED"))
    assert told() == [0, 1, 1]
    api.call("PUT", "/v1/service/state", {"state": "HALTED"}, key=ADMIN)
    assert told() == [0, 0, 2]
    assert api.call("PUT", "/v1/days/d/state", {"state": "HALTED"}).status == 200
    assert read(api, 'concord_state_changes_total{scope="day",state="HALTED"}') == 1
    assert read(api, 'concord_state_changes_total{scope="client",state="REDUCING"}') == 1
    assert read(api, 'concord_state_changes_total{scope="service",state="HALTED"}') == 1


def test_metrics_are_answered_while_the_store_is_away() -> None:
    store = Failing(MemoryStore())
    with Api(store=store) as api:
        assert read(api, "concord_ready") == 1
        store.fail = {"durability_problems": lambda: StoreUnavailable("gone")}
        assert read(api, "concord_ready") == 0
        assert read(api, "concord_ready") == 1


def test_metrics_do_not_wait_for_a_store_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    with Api(store=store) as api:
        assert read(api, "concord_ready") == 1

        async def hang(*_: Any) -> Any:
            await asyncio.sleep(60)

        monkeypatch.setattr(vitals, "READ_S_MAX", 0.05)
        store.figures = store.durability_problems = hang  # type: ignore[method-assign]
        assert read(api, "concord_ready") == 0


def test_the_store_is_not_asked_for_every_reading(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/metrics answers without a key: nobody may use it to keep the store busy."""
    read(api, "concord_ready")
    monkeypatch.setattr(vitals, "FRESH_S", 60.0)
    before = read(api, 'concord_store_seconds_count{call="load"}')
    assert read(api, 'concord_store_seconds_count{call="load"}') == before


def test_an_unsafe_store_says_what_it_is_about() -> None:
    store = MemoryStore()
    with Api(store=store) as api:

        async def problems() -> list[str]:
            return durability.find_problems(
                dict.fromkeys(durability.SETTINGS, "no"),
                "role:master\r\naof_last_write_status:err\r\nredis_version:7.2.0\r\n",
                "always",
            )

        store.durability_problems = problems  # type: ignore[method-assign]
        told = {
            kind: read(api, f'concord_store_problems{{problem="{kind}"}}')
            for kind in durability.KINDS
        }
        right = {"no-appendfsync-on-rewrite", "role", "redis_version", "unreadable"}
        right |= {"shard", "away", "contract"}
        assert {kind for kind, count in told.items() if not count} == right
        assert told["aof_last_write_status"] == 1
        assert read(api, "concord_ready") == 0
    assert durability.kind(durability.unreadable("NOPERM")) == durability.UNREADABLE


def test_a_real_store_tells_its_memory_and_its_log(valkey: EmbeddedValkey) -> None:
    with Api(store=RedisStore(valkey.url)) as api:
        assert api.open(day(), "figures").status == 200
        assert read(api, "concord_store_memory_bytes") > 100_000
        assert read(api, "concord_store_memory_max_bytes") == 0
        assert read(api, "concord_store_log_bytes") > 1_000
        assert read(api, "concord_data_free_bytes") > 0


# the log


def test_a_decision_is_one_line_with_the_documented_fields(api: Api, lines: io.StringIO) -> None:
    api.open(day(policy="failing", cash_minor=101_000))
    api.step(1, step(1))
    [line] = [line for line in events(lines, "committed") if "policy" in line]
    table = PAGE.partition("| field | meaning |")[2].partition("\n\n")[0]
    assert set(line) | {"trace_id"} == set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
    assert (line["day_id"], line["step"], line["policy"]) == ("d", 1, "failing")
    assert line["fallback"] == "the model does not answer"
    assert (line["cash_cut"], line["reasons"]) == (True, {"CASH": 1})
    assert (line["orders"], line["children"]) == (2, 2)
    assert 0 < line["policy_ms"] + line["commit_ms"] < line["latency_ms"]


def test_the_log_holds_no_volume_price_cash_symbol_or_key(api: Api, lines: io.StringIO) -> None:
    orders = order("A", "BUY", 77_003), order("B", "SELL", 660_077)
    api.open(day(*orders, cash_minor=9_876_543_210))
    api.step(1, step(1, bars(px=12.3456)))
    api.report([fill("e", "A/1", 1_313, 12.3457)])
    api.step(2, step(2, bars(px=12.3456)))
    api.trading("HALTED")
    [trading] = events(lines, "trading")
    assert (trading["scope"], trading["state"], trading["level"]) == ("desk", "HALTED", "warning")
    told = re.sub(r'"(request_id|timestamp)": "[^"]+"', "", lines.getvalue())
    for private in ("77003", "660077", "98765", "12.34", "1313", '"SA"', "sesame"):
        assert private not in told


def test_what_goes_wrong_in_telemetry_takes_no_answer_back(
    api: Api, lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no such metric")

    monkeypatch.setattr(Telemetry, "_count", broken)
    assert api.open(day()).status == 200
    assert len(events(lines, "telemetry")) == 1


def test_a_shadow_that_stops_is_told_of(api: Api, lines: io.StringIO) -> None:
    """Whoever tries a policy must hear that it failed."""
    api.open(day(policy="none", shadows=["all"]))
    api.step(1, step(1))
    amend = [{"cl_ord_id": "A", "order_qty": 10}]
    assert api.instruct("i", amend=amend).status == 200
    api.step(2, step(2))
    [told] = events(lines, "shadow stopped")
    assert (told["shadow"], told["code"], told["level"]) == (
        "all",
        "INSTRUCTIONS_REFUSED",
        "warning",
    )
    assert read(api, 'concord_shadow_stops_total{code="INSTRUCTIONS_REFUSED"}') == 1


def test_the_time_of_shadows_is_not_the_policys() -> None:
    def slow(day: Any, observation: Any) -> Any:
        time.sleep(0.05)
        raise PolicyFailed("slow")

    with Api(policies=installed(slow=slow)) as api:
        api.open(day(policy="twap", shadows=["slow"]))
        api.step(1, step(1))
        spent = 'concord_decision_part_seconds_sum{part="policy",policy="twap"}'
        assert read(api, spent) < 0.05
