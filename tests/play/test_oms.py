"""The demo's side of the wire: what it sends, what it makes of the answers, what it shows."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from service.client import Refused
from service.client.adapters import snapshot_columns
from service.core.market import Snapshot
from service.core.orders import BUY, SELL
from service.play import screen, script
from service.play.day_bars import BarsError, bar_minutes, bars_per_step
from service.play.oms import Decided, play
from service.play.orders import make_orders
from service.play.sample import generate, generate_days
from service.reading import read
from service.wire import Close, OpenDay, Step
from tests.client.wires import LOST, REFUSED, Line, Wire
from tests.service.api import Api


@pytest.fixture(scope="module")
def day() -> script.Script:
    days = generate_days(7, 6)
    basket = make_orders(days[-1], days[:-1], 6, seed=7, n=4)
    return script.script(days[-1], basket, 6, day_id="d", policy="twap", fills="reported")


def test_a_day_is_played_through_lost_answers(day: script.Script) -> None:
    seen: list[Decided] = []
    with Api() as api:
        concord = Line(api, "sync", Wire(api, ()))(LOST, None, REFUSED, None, None, LOST)
        played = play(concord, day, seen.append)
    assert (played.repeats, len(played.step_ms), played.report["decisions"]) == (3, 8, 8)
    assert [decided.decision["step"] for decided in seen] == list(range(1, 9))
    assert seen[-1].record["decision"] == seen[-1].decision
    assert seen[-1].state["next_step"] is None
    assert min(played.step_ms) > 0


def test_a_refusal_ends_the_day_in_the_service_s_words(day: script.Script) -> None:
    with Api() as api, pytest.raises(Refused, match=r"UNKNOWN_POLICY: use one of"):
        play(Line(api, "sync", Wire(api, ()))(), replace(day, policy="magic"))


def test_the_bodies_are_those_of_the_api(day: script.Script) -> None:
    read(OpenDay, json.dumps(script.open_body(day)).encode())
    for step in range(1, 9):
        read(Step, json.dumps(script.step_body(day, step, [])).encode())
    read(Close, json.dumps(script.close_body(day, [])).encode())


def test_a_step_shows_the_interval_before_it(day: script.Script) -> None:
    first, second = (script.step_body(day, step, []) for step in (1, 2))
    assert first["as_of"] == "2026-11-20T09:30:00+00:00"
    assert first["snapshot"]["close"] == first["snapshot"]["open"]
    assert first["snapshot"]["volume"] == [0] * 4
    assert second["as_of"] == "2026-11-20T10:00:00+00:00"
    assert second["snapshot"]["volume"] == day.steps[0].volume.tolist()
    assert script.close_body(day, [])["as_of"] == day.end == "2026-11-20T13:30:00+00:00"


def one_bar(day: script.Script, low: int, high: int, price: int) -> script.Script:
    """The day with the same bar for every order in every interval."""
    of = np.full(4, 1)
    bar = Snapshot(price * of, high * of, low * of, price * of, price * of, of, of < 0)
    basket = replace(day.basket, side=np.array([BUY, SELL, BUY, SELL]))
    return replace(day, basket=basket, steps=(bar,) * 8)


def decision(day: script.Script, protect: list[float | None]) -> dict[str, Any]:
    ids = day.basket.cl_ord_id
    child_ids = [f"{ids[0]}/3", f"{ids[1]}/3", None, f"{ids[3]}/3"]
    orders = {"cl_ord_id": ids, "child_id": child_ids, "child_qty": [5, 6, 0, 7]}
    return {"step": 3, "orders": orders | {"protect_px": protect}}


def test_children_fill_at_the_interval_price(day: script.Script) -> None:
    protect = [10.0, None, None, 10.0]
    made = script.executions(one_bar(day, 90_000, 110_000, 100_000), decision(day, protect))
    assert [(m["last_qty"], m["last_px"]) for m in made] == [(5, 10.0), (6, 10.0), (7, 10.0)]
    assert made[0]["exec_id"] == f"X-{day.basket.cl_ord_id[0]}-3"
    assert {m["exec_type"] for m in made} == {"FILL"}


def test_no_child_fills_through_its_protection(day: script.Script) -> None:
    bars = one_bar(day, 90_000, 110_000, 100_000)
    made = script.executions(bars, decision(day, [9.5, 10.5, None, 11.5]))
    # a quarter of the bar lies within the first two protections, nothing within the last
    fills = [m for m in made if m["exec_type"] == "PARTIAL_FILL"]
    assert [(m["last_qty"], m["last_px"]) for m in fills] == [(1, 9.25), (1, 10.75)]
    assert [m["exec_type"] for m in made] == [*["PARTIAL_FILL", "EXPIRED"] * 2, "EXPIRED"]
    assert len({m["exec_id"] for m in made}) == 5


def test_nothing_fills_in_a_halted_symbol(day: script.Script) -> None:
    bars = one_bar(day, 90_000, 110_000, 100_000)
    halted = tuple(replace(bar, halted=bar.halted | True) for bar in bars.steps)
    made = script.executions(replace(bars, steps=halted), decision(day, [10.0] * 4))
    assert {m["exec_type"] for m in made} == {"EXPIRED"}
    assert set(snapshot_columns(bars.basket.symbol, halted[0])["status"]) == {"HALT"}


@pytest.mark.parametrize("minutes", [3, 7, 0])
def test_steps_are_whole_bars(minutes: int) -> None:
    with pytest.raises(BarsError, match="choose a multiple of the bars' 5"):
        bars_per_step(generate(1), minutes)


def test_a_lunch_break_does_not_count() -> None:
    starts = ("11:00", "11:15", "13:00", "13:15")
    day = replace(generate(1, bars=4), starts=starts)
    assert bar_minutes(day) == 15


def test_a_row_of_the_table() -> None:
    ids = ["a", "b", "c"]
    reasons = [[{"code": "CASH"}, {"code": "LOT"}], [{"code": "CASH"}], []]
    orders = {"cl_ord_id": ids[:2], "child_qty": [10, 0], "reasons": reasons}
    told = {
        "step": 2,
        "steps": 8,
        "as_of": "2026-11-20T10:00:00Z",
        "fallback": False,
        "cash": {"cash_minor": 123_456},
        "orders": orders,
    }
    actions = [[4, 0, 4], [2, 0, 0], [2, 1, 1]]
    record = {"cl_ord_id": ids, "rounds": [{"round": 1, "action": a} for a in actions]}
    state = {"orders": {"cum_qty": [50, 0, 100], "order_qty": [100, 200, 100]}}
    cells = screen.row(Decided(told, record, state, 4.56))
    exchange = "1 trade > 1 changed > 1 changed"
    assert cells == (
        "2/8",
        "10:00",
        "2",
        "1",
        exchange,
        "CASH:2 LOT:1",
        "1,234.56",
        "37.50%",
        "4.6",
    )
    fell_back = screen.row(Decided(told | {"fallback": True}, record, state, 4.56))
    assert fell_back[4] == "fallback"
