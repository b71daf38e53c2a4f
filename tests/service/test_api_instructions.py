"""Orders live during the day: cancelled, paused, resumed, amended, added; all of it or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from service.atoms import INSTRUCTED_MAX
from service.core.contract import N_MAX
from service.core.units import CASH_MINOR_MAX, QTY_MAX
from tests.service.api import (
    PLAIN,
    Api,
    Json,
    assert_problem,
    bars,
    codes,
    day,
    end,
    fill,
    order,
    row,
    step,
)

THREE = bars(("SA", "SB", "SC"))


@pytest.fixture
def at_work(api: Api) -> Api:
    """A day after its first of four decisions: A/1 buys 250 of 1,000, B/1 sells 150 of 600."""
    assert api.open(day()).status == 200
    assert api.step(1, step(1)).status == 200
    return api


def done(api: Api, instruction_id: str = "i", **body: Any) -> Json:
    reply = api.instruct(instruction_id, **body)
    assert reply.status == 200, reply.body
    answer: Json = reply.json
    return answer


def refused(api: Api, **body: Any) -> list[tuple[Any, ...]]:
    """The refusals of an instruction, which must leave the day as it was."""
    before = api.call("GET", "/v1/days/d").body
    reply = api.instruct("refused", **body)
    assert_problem(reply, 409, "INSTRUCTIONS_REFUSED")
    assert api.call("GET", "/v1/days/d").body == before
    return [tuple(found.values()) for found in reply.json["refused"]]


def child(api: Api, n: int, cl_ord_id: str, snapshot: Json | None = None) -> int:
    reply = api.step(n, step(n, snapshot))
    assert reply.status == 200, reply.body
    columns = reply.json["orders"]
    if cl_ord_id not in columns["cl_ord_id"]:
        return 0
    qty: int = row(reply.json, cl_ord_id)["child_qty"]
    return qty


# once, whole, in order


def test_the_same_instruction_again_answers_the_same_bytes(at_work: Api) -> None:
    body = {"amend": [{"cl_ord_id": "A", "order_qty": 1_200}]}
    first = at_work.instruct("i", **body)
    again = at_work.instruct("i", **body)
    assert (again.body, again.replayed) == (first.body, True)
    assert at_work.row("A")["version"] == 2
    other = at_work.instruct("i", amend=[{"cl_ord_id": "A", "order_qty": 1_300}])
    assert_problem(other, 409, "BODY_CHANGED")
    assert at_work.row("A")["order_qty"] == 1_200


def test_it_survives_a_restart(at_work: Api) -> None:
    first = at_work.instruct("i", pause=["A"], amend=[{"cl_ord_id": "B", "min_qty": 7}])
    before = at_work.state()
    at_work.restart()
    assert at_work.state() == before
    again = at_work.instruct("i", pause=["A"], amend=[{"cl_ord_id": "B", "min_qty": 7}])
    assert (again.body, again.replayed) == (first.body, True)
    assert child(at_work, 2, "A") == 0


def test_all_refusals_are_told_and_nothing_is_changed(at_work: Api) -> None:
    assert at_work.report([fill("e", "A/1", 250)]).status == 200
    told = refused(
        at_work,
        cancel=["B", "X"],
        amend=[{"cl_ord_id": "A", "order_qty": 249}],
        add=day(order("A", "BUY", 1))["orders"],
    )
    assert told == [
        ("NO_SUCH_ORDER", "X", None, None),
        ("BELOW_DONE", "A", 249, 250),
        ("ORDER_EXISTS", "A", None, None),
    ]


def test_an_order_is_named_once_in_a_body(at_work: Api) -> None:
    assert_problem(at_work.instruct("i", pause=["A"], cancel=["A"]), 422, "DUPLICATE_ID")


def test_a_version_guards_against_instructions_that_cross(at_work: Api) -> None:
    done(at_work, "first", pause=["A"], expected_version={"A": 1})
    told = refused(at_work, resume=["A"], expected_version={"A": 1})
    assert told == [("VERSION_MOVED", "A", 2, 1)]
    done(at_work, "second", resume=["A"], expected_version={"A": 2})
    assert at_work.row("A")["version"] == 3


def test_two_at_once_are_both_carried_out_one_after_the_other(at_work: Api) -> None:
    bodies = [{"instruction_id": f"i{n}", "pause": ["A"]} for n in range(6)]
    path = "/v1/days/d/instructions"
    replies = at_work.race(*(at_work.request("POST", path, body) for body in bodies))
    assert {reply.status for reply in replies} == {200}
    assert at_work.row("A")["version"] == 7


def test_a_closed_day_takes_none(at_work: Api) -> None:
    assert at_work.close().status == 200
    assert_problem(at_work.instruct("i", pause=["A"]), 409, "DAY_CLOSED")


@pytest.mark.parametrize("name", ["cancel", "pause", "resume"])
def test_a_list_is_bounded(at_work: Api, name: str) -> None:
    names = [f"X{n}" for n in range(INSTRUCTED_MAX)]
    assert len(refused(at_work, **{name: names})) == INSTRUCTED_MAX
    assert_problem(at_work.instruct("i", **{name: [*names, "Y"]}), 422, "BAD_FIELD")


# cancel


def test_a_cancelled_order_sends_nothing_more_and_keeps_what_works(at_work: Api) -> None:
    answer = done(at_work, cancel=["A"])
    assert row(answer, "A") | {"version": 0} == PLAIN | {
        "cl_ord_id": "A", "symbol": "SA", "side": "BUY", "order_qty": 1_000, "cum_qty": 0,
        "working_qty": 250, "leaves_qty": 250, "overfill_qty": 0, "version": 0,
        "ord_status": "PENDING_CANCEL", "canceled_qty": 750, "limit_px": None,
        "start_step": 1, "end_step": 1,
    }  # fmt: skip
    assert [c["child_id"] for c in answer["children"]] == ["A/1"]
    assert at_work.report([fill("e", "A/1", 100), end("x", "A/1")]).status == 200
    assert at_work.row("A")["ord_status"] == "CANCELED"
    assert [child(at_work, n, "A") for n in (2, 3, 4)] == [0, 0, 0]
    report = at_work.close().json
    names = ("cum_qty", "canceled_qty", "shortfall_qty", "shortfall_reason", "filled_pct")
    assert [row(report, "A")[name] for name in names] == [100, 900, 900, "CANCELED", 10.0]


def test_an_order_that_never_traded_is_gone(api: Api) -> None:
    assert api.open(day()).status == 200
    assert row(done(api, cancel=["A"]), "A")["ord_status"] == "CANCELED"
    assert [child(api, n, "A") for n in (1, 2)] == [0, 0]
    report = api.close().json
    assert (row(report, "A")["eg_bp"], report["eg_bp"]) == (0.0, row(report, "B")["eg_bp"])


def test_all_orders_are_cancelled_at_once(at_work: Api) -> None:
    assert done(at_work, cancel="ALL")["orders"]["cl_ord_id"] == ["A", "B"]
    assert [child(at_work, n, "B") for n in (2, 3, 4)] == [0, 0, 0]


@pytest.mark.parametrize(
    "body", [{"resume": ["A"]}, {"pause": ["A"]}, {"amend": [{"cl_ord_id": "A", "min_qty": 1}]}]
)
def test_a_cancelled_order_stays_cancelled(at_work: Api, body: Json) -> None:
    done(at_work, cancel=["A"])
    assert refused(at_work, **body) == [("ORDER_CANCELED", "A", None, None)]


def test_a_bust_of_a_cancelled_order_is_not_traded_again(api: Api) -> None:
    """A cancel is for ever, whatever comes back afterwards."""
    assert api.open(day()).status == 200
    assert api.report([fill("x", "A", 100)]).status == 200
    done(api, cancel=["A"])
    bust = end("u", "A", "TRADE_CANCEL") | {"exec_ref_id": "x"}
    assert api.report([bust]).status == 200
    assert [child(api, n, "A") for n in (1, 2, 3, 4)] == [0] * 4


def test_what_a_cancel_frees_can_be_asked_for_again(api: Api) -> None:
    assert api.open(day(policy="all", holdings={"SB": 600})).status == 200
    assert api.step(1, step(1)).status == 200
    done(api, "1", cancel=["B"])
    again = day(order("C", "SELL", 600, symbol="SB"))["orders"]
    assert_problem(api.instruct("2", add=again), 422, "HOLDINGS_SHORT")  # it may still fill
    assert api.report([end("e", "B/1")]).status == 200
    assert row(done(api, "3", add=again), "C")["leaves_qty"] == 600
    assert row(api.state(), "B")["canceled_qty"] == 600


def test_a_cancelled_side_keeps_nobody_waiting(api: Api) -> None:
    rows = (order("A", "BUY", 1_000), order("B", "SELL", 1_000))
    assert api.open(day(*rows, policy="all", limits={"balance_ppm_max": 10_000})).status == 200
    assert child(api, 1, "A") == 10
    done(api, cancel=["B"])
    assert api.report([fill("a", "A/1", 10), end("e", "B/1")]).status == 200
    assert child(api, 2, "A") == 990


def test_nothing_stands_in_the_way_of_a_cancel(api: Api) -> None:
    closes = {"symbol": ["SA", "SB"], "prev_close": [10.0, 10.0]}
    limits = {"gross_notional_minor_max": 1_600_000}
    body = day(holdings={"SB": 600}, reference=closes, limits=limits)
    assert api.open(body).status == 200
    assert api.step(1, step(1)).status == 200
    assert api.report([fill("x", "B/1", 700)]).status == 200  # beyond everything
    assert done(api, "1", cancel=["B"])["orders"]["overfill_qty"] == [100]
    assert done(api, "2", cancel="ALL")["orders"]["cl_ord_id"] == ["A"]
    assert done(api, "3", cancel=["A", "B"])["orders"]["cl_ord_id"] == []


# pause and resume


def test_a_paused_order_waits_and_catches_up(at_work: Api) -> None:
    done(at_work, "p", pause=["A"])
    reply = at_work.step(2, step(2)).json
    assert row(reply, "A")["child_qty"] == 0
    assert codes(reply, "A") == ["PAUSED"]
    assert row(reply, "B")["child_qty"] == 150
    assert at_work.row("A")["ord_status"] == "SUSPENDED"
    done(at_work, "r", resume=["A"])
    assert child(at_work, 3, "A") == 500


def test_a_pause_beats_the_forced_end(at_work: Api) -> None:
    done(at_work, pause="ALL")
    assert [child(at_work, n, "A") for n in (2, 3, 4)] == [0, 0, 0]
    report = at_work.close({"executions": [fill("e", "A/1", 250)]}).json
    assert row(report, "A")["shortfall_reason"] == "PAUSED"


# amend


@pytest.mark.parametrize("qty", [250, 251])
def test_a_quantity_falls_to_what_is_done_and_no_lower(at_work: Api, qty: int) -> None:
    assert refused(at_work, amend=[{"cl_ord_id": "A", "order_qty": 249}]) == [
        ("BELOW_DONE", "A", 249, 250)
    ]
    done(at_work, amend=[{"cl_ord_id": "A", "order_qty": qty}])
    assert at_work.row("A")["leaves_qty"] == qty
    assert [child(at_work, n, "A") for n in (2, 3, 4)] == [0, 0, qty - 250]


def test_a_larger_quantity_is_traded(at_work: Api) -> None:
    done(at_work, amend=[{"cl_ord_id": "A", "order_qty": 2_000}])
    assert child(at_work, 2, "A") == 750  # half of 2,000 after half of the day


def test_a_quantity_is_in_lots_and_payable(api: Api) -> None:
    body = day(order("A", "BUY", 1_000, lot_size=100), order("B", "SELL", 600, lot_size=100))
    assert api.open(body).status == 200
    assert api.step(1, step(1, bars(px=1_000.0))).status == 200
    most = CASH_MINOR_MAX // 2 // 100_000 // 100 * 100
    assert refused(api, amend=[{"cl_ord_id": "A", "order_qty": 1_050}]) == [
        ("NOT_IN_LOTS", "A", 1_050, 100)
    ]
    done(api, amend=[{"cl_ord_id": "A", "order_qty": most}, {"cl_ord_id": "B", "order_qty": 650}])
    ((code, *_),) = refused(api, amend=[{"cl_ord_id": "A", "order_qty": most + 100}])
    assert code == "TOO_LARGE"


def test_a_limit_is_set_and_taken_away(at_work: Api) -> None:
    done(at_work, "set", amend=[{"cl_ord_id": "A", "limit_px": 9.99}])
    reply = at_work.step(2, step(2)).json
    assert codes(reply, "A") == ["LIMIT_PRICE"]
    done(at_work, "away", amend=[{"cl_ord_id": "A", "limit_px": None}])
    assert child(at_work, 3, "A") == 500


def test_an_end_moves_within_what_is_left_of_the_day(at_work: Api) -> None:
    told = refused(at_work, amend=[{"cl_ord_id": "A", "end_step": 5}])
    assert told == [("BAD_WINDOW", "A", 5, 4)]
    done(at_work, "2", amend=[{"cl_ord_id": "A", "end_step": 2}])
    assert child(at_work, 2, "A") == 750
    for past in (1, 2):  # what is decided cannot be an order's last: it would never be forced out
        told = refused(at_work, amend=[{"cl_ord_id": "A", "end_step": past}])
        assert told[0][:3] in [("BAD_WINDOW", "A", past), ("WINDOW_OVER", "A", 2)]
    # just over: no interval of it was missed
    done(at_work, "4", amend=[{"cl_ord_id": "A", "end_step": 4, "order_qty": 1_100}])
    assert [child(at_work, n, "A") for n in (3, 4)] == [0, 100]


def test_an_order_whose_window_is_over_is_not_amended(api: Api) -> None:
    body = day(order("A", "BUY", 1_000, end_step=1), order("B", "SELL", 600, end_step=4))
    assert api.open(body).status == 200
    assert [api.step(n, step(n)).status for n in (1, 2)] == [200, 200]
    told = refused(api, amend=[{"cl_ord_id": "A", "end_step": 4}])
    assert told == [("WINDOW_OVER", "A", 2, 1)]


def test_a_start_moves_until_it_is_there(api: Api) -> None:
    body = day(order("A", "BUY", 1_000, start_step=3), order("B", "SELL", 600, start_step=1))
    assert api.open(body).status == 200
    assert api.step(1, step(1)).status == 200
    told = refused(api, amend=[{"cl_ord_id": "B", "start_step": 2}])
    assert told == [("WINDOW_STARTED", "B", 1, 1)]
    done(api, amend=[{"cl_ord_id": "A", "start_step": 2}])
    assert child(api, 2, "A") == 333


@pytest.mark.parametrize(
    ("amend", "told"),
    [
        ({"min_qty": 1_001}, ("BELOW_MIN_QTY", "A", 1_000, 1_001)),
        (
            {"participation_ppm_min": 11, "participation_ppm_max": 10},
            ("PARTICIPATION_CROSSED", "A", 11, 10),
        ),
    ],
)
def test_parts_of_a_style_must_agree(at_work: Api, amend: Json, told: tuple[Any, ...]) -> None:
    assert refused(at_work, amend=[{"cl_ord_id": "A", **amend}]) == [told]


# add


def test_an_order_that_comes_later_is_decided_with_the_others(at_work: Api) -> None:
    answer = done(at_work, add=day(order("AA", "BUY", 300, symbol="SC"))["orders"])
    assert row(answer, "AA")["start_step"] == 2
    assert_problem(at_work.step(2, step(2)), 422, "SYMBOL_MISSING")
    assert [child(at_work, n, "AA", THREE) for n in (2, 3, 4)] == [100, 100, 100]
    report = at_work.close({"snapshot": THREE, "executions": [fill("e", "AA", 300)]}).json
    assert row(report, "AA")["cum_qty"] == 300
    # what was recorded before it came speaks of those that were there
    assert at_work.call("GET", "/v1/days/d/steps/1").json["decision"]["orders"]["cl_ord_id"] == [
        "A",
        "B",
    ]


def test_orders_of_both_kinds_are_joined(at_work: Api) -> None:
    done(at_work, "1", add=day(order("C", "BUY", 300, min_qty=200, symbol="SC"))["orders"])
    done(at_work, "2", add=day(order("D", "SELL", 300, symbol="SC"))["orders"])
    at_work.restart()
    assert child(at_work, 2, "C", THREE) == 0  # a third is below its smallest child
    assert at_work.row("D")["working_qty"] == 100


def test_a_record_of_an_exchange_speaks_of_the_orders_that_were_there(api: Api) -> None:
    assert api.open(day(policy="talking")).status == 200
    assert api.step(1, step(1)).status == 200
    done(api, add=day(order("C", "BUY", 300, symbol="SC"))["orders"])
    assert api.step(2, step(2, THREE)).status == 200
    for n, ids in ((1, ["A", "B"]), (2, ["A", "B", "C"])):
        record = api.call("GET", f"/v1/days/d/steps/{n}").json
        assert record["cl_ord_id"] == ids
        assert len(record["rounds"][0]["action"]) == len(ids)


def test_a_day_holds_so_many_orders_and_no_more(api: Api) -> None:
    def some(count: int, first: int = 0) -> Json:
        rows = [order(f"O{n}", "SELL", 1, symbol="S") for n in range(first, first + count)]
        return dict(day(*rows)["orders"])

    assert api.open(day() | {"orders": some(N_MAX - 1)}).status == 200
    assert_problem(api.instruct("2", add=some(2, N_MAX)), 422, "TOO_MANY_ORDERS")
    done(api, "1", add=some(1, N_MAX))


def test_holdings_bound_what_is_sold_later_too(api: Api) -> None:
    assert api.open(day(holdings={"SB": 700})).status == 200
    more = [{"cl_ord_id": "B", "order_qty": 701}]
    assert_problem(api.instruct("1", amend=more), 422, "HOLDINGS_SHORT")
    done(api, "2", amend=[{"cl_ord_id": "B", "order_qty": 700}])
    added = day(order("C", "SELL", 1, symbol="SB"))["orders"]
    assert_problem(api.instruct("3", add=added), 422, "HOLDINGS_SHORT")


def test_an_order_in_a_known_symbol_has_its_reference(api: Api) -> None:
    known = {"symbol": ["SA", "SB"], "prev_close": [10.0, 10.0], "adv_qty": [1_000, 1_000]}
    limits = {"collar_close_bp": 100, "participation_ppm_max": 100_000}
    assert api.open(day(policy="all", reference=known, limits=limits)).status == 200
    other = {"symbol": ["SA"], "prev_close": [10.5], "adv_qty": [10**9]}
    done(api, add=day(order("C", "BUY", 1_000, symbol="SA"))["orders"], reference=other)
    reply = api.step(1, step(1, bars(px=10.5))).json
    assert codes(reply, "C") == codes(reply, "A") == ["COLLAR_CLOSE"]
    assert row(api.step(2, step(2, bars(px=10.0))).json, "C")["child_qty"] == 25


def test_no_instruction_keeps_every_later_step_from_being_taken(api: Api) -> None:
    assert api.open(day()).status == 200
    assert api.step(1, step(1, bars(px=100_000.0))).status == 200
    huge = day(order("C", "BUY", QTY_MAX, symbol="SA"))["orders"]
    assert_problem(api.instruct("i", add=huge), 422, "NOTIONAL_TOO_LARGE")
    assert api.step(2, step(2, bars(px=100_000.0))).status == 200


@pytest.mark.parametrize("name", ["order_qty", "end_step", "completion", "participation_ppm_max"])
def test_only_prices_are_taken_away_by_null(at_work: Api, name: str) -> None:
    assert_problem(at_work.instruct("i", amend=[{"cl_ord_id": "A", name: None}]), 422, "BAD_FIELD")


def test_a_new_order_is_checked_as_in_an_opening(at_work: Api) -> None:
    wrong = day(order("C", "BUY", 150, lot_size=100))["orders"]
    assert_problem(at_work.instruct("i", add=wrong), 422, "BAD_ORDER")
    wrong = day(order("C", "BUY", 1, end_step=1))["orders"]
    assert_problem(at_work.instruct("j", add=wrong), 422, "BAD_ORDER")
    assert_problem(
        at_work.instruct("k", add=day(order("C", "BUY", QTY_MAX + 1))["orders"]), 422, "BAD_FIELD"
    )
