"""Executions are facts: what is booked, what is alarmed, what is refused as contradictory."""

from __future__ import annotations

import pytest

from service.atoms import REFERENCES_MAX
from service.core.units import QTY_MAX
from tests.service.api import (
    Api,
    Json,
    Reply,
    alarms,
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

OPENING_CASH = 100_000_000


@pytest.fixture
def at_work(api: Api) -> Api:
    """A day after its first decision: A/1 buys 250 under 10.10, B/1 sells 150."""
    assert api.open(day()).status == 200
    assert api.step(1, step(1)).status == 200
    return api


def booked(api: Api, *executions: Json) -> Json:
    reply = api.report(list(executions))
    assert reply.status == 200, reply.body
    answer: Json = reply.json
    return answer


def refused(
    api: Api, executions: list[Json], code: str = "BAD_EXECUTION", status: int = 422
) -> Json:
    before = api.call("GET", "/v1/days/d").body
    reply = api.report(executions)
    assert_problem(reply, status, code)
    assert api.call("GET", "/v1/days/d").body == before
    in_step = api.step(2, step(2, None, *executions))
    assert (in_step.status, in_step.code) == (status, code)
    in_close = api.close({"executions": executions})
    assert (in_close.status, in_close.code) == (status, code)
    assert api.call("GET", "/v1/days/d").body == before
    problem: Json = reply.json
    return problem


def numbers(api: Api, cl_ord_id: str) -> tuple[int, ...]:
    """cum, working, leaves and overfill of an order; their law holds."""
    found = api.row(cl_ord_id)
    names = ("cum_qty", "working_qty", "leaves_qty", "overfill_qty")
    assert found["cum_qty"] + found["leaves_qty"] == found["order_qty"] + found["overfill_qty"]
    return tuple(found[name] for name in names)


# what fills and ends do


@pytest.mark.parametrize("kind", ["TRADE", "PARTIAL_FILL"])
@pytest.mark.parametrize("child", ["A", "A/1"])
def test_a_part_of_a_child_is_filled(at_work: Api, kind: str, child: str) -> None:
    answer = booked(at_work, fill("e", child, 100, 10.05, kind))
    assert answer["result"] == ["BOOKED"]
    assert alarms(answer) == []
    assert numbers(at_work, "A") == (100, 150, 900, 0)
    assert answer["cash"] == {
        "cash_minor": OPENING_CASH - 100_500,
        "reserved_minor": 150 * 1_010,
        "free_minor": OPENING_CASH - 100_500 - 150 * 1_010,
        "min_cash_minor": OPENING_CASH - 100_500,
    }


@pytest.mark.parametrize("kind", ["TRADE", "PARTIAL_FILL", "FILL"])
def test_a_whole_child_is_filled(at_work: Api, kind: str) -> None:
    booked(at_work, fill("e", "A/1", 250, 10.0, kind))
    assert numbers(at_work, "A") == (250, 0, 750, 0)
    assert at_work.state()["children"] == [
        {"child_id": "B/1", "working_qty": 150, "protect_px": None}
    ]


def test_a_fill_that_completes_its_child_must_complete_it(at_work: Api) -> None:
    refused(at_work, [fill("e", "A/1", 249, 10.0, "FILL")])
    booked(at_work, fill("e1", "A/1", 100), fill("e2", "A/1", 150, 10.0, "FILL"))
    assert numbers(at_work, "A") == (250, 0, 750, 0)


@pytest.mark.parametrize("kind", ["CANCELED", "REJECTED", "EXPIRED", "DONE_FOR_DAY"])
@pytest.mark.parametrize("child", ["A", "A/1"])
def test_an_end_gives_volume_and_cash_back(at_work: Api, kind: str, child: str) -> None:
    booked(at_work, fill("e1", "A/1", 100, 10.0))
    answer = booked(at_work, end("e2", child, kind))
    assert alarms(answer) == []
    assert numbers(at_work, "A") == (100, 0, 900, 0)
    assert answer["cash"]["reserved_minor"] == 0


def test_sales_bring_cash_rounded_down_and_buys_cost_cash_rounded_up(at_work: Api) -> None:
    booked(at_work, fill("e1", "B/1", 1, 10.0099))
    assert at_work.state()["cash"]["cash_minor"] == OPENING_CASH + 1_000
    booked(at_work, fill("e2", "A/1", 1, 10.0001))
    assert at_work.state()["cash"]["cash_minor"] == OPENING_CASH + 1_000 - 1_001


def test_proceeds_pay_for_buys_once_they_are_reported(api: Api) -> None:
    api.open(day(policy="all", cash_minor=0))
    first = api.step(1, step(1)).json
    assert first["orders"]["child_qty"] == [0, 600]
    assert codes(first, "A") == ["CASH"]
    unreported = api.step(2, step(2)).json
    assert row(unreported, "A")["child_qty"] == 0
    reported = api.step(3, step(3, None, fill("e", "B/1", 600, 10.1))).json
    assert row(reported, "A")["child_qty"] == 600


def test_working_buys_keep_their_cash_reserved(api: Api) -> None:
    api.open(day(order("A", "BUY", 100), order("C", "BUY", 100), policy="all", cash_minor=101_000))
    snapshot = bars(["SA", "SC"])
    assert api.step(1, step(1, snapshot)).json["orders"]["child_qty"] == [50, 50]
    assert api.step(2, step(2, snapshot)).json["orders"]["child_qty"] == [0, 0]
    again = api.step(3, step(3, snapshot, end("c", "A"))).json
    assert again["orders"]["child_qty"] == [33, 17]  # of the 100 and 50 that remain


def test_reports_for_an_order_go_to_its_oldest_child_first(at_work: Api) -> None:
    at_work.step(2, step(2))
    booked(at_work, fill("e", "A", 300))
    assert at_work.state()["children"] == [
        {"child_id": "B/1", "working_qty": 150, "protect_px": None},
        {"child_id": "A/2", "working_qty": 200, "protect_px": 10.1},
        {"child_id": "B/2", "working_qty": 150, "protect_px": None},
    ]
    booked(at_work, end("c", "A"))
    assert numbers(at_work, "A") == (300, 0, 700, 0)


def test_a_report_for_one_child_leaves_the_others(at_work: Api) -> None:
    at_work.step(2, step(2))
    booked(at_work, fill("e", "A/2", 250, 10.0, "FILL"), end("c", "B/1"))
    assert [child["child_id"] for child in at_work.state()["children"]] == ["A/1", "B/2"]


def test_a_fill_of_an_order_belongs_to_the_child_whose_protection_allows_it(at_work: Api) -> None:
    at_work.step(2, step(2, bars(px=11.0)))  # A/1 under 10.10, A/2 under 11.11
    answer = booked(at_work, fill("e", "A", 250, 11.0))
    assert alarms(answer) == []
    assert [c["child_id"] for c in at_work.state()["children"]] == ["A/1", "B/1", "B/2"]
    assert answer["cash"]["reserved_minor"] == 250 * 1_010
    assert alarms(booked(at_work, fill("e2", "A", 1, 11.0))) == ["PROTECT_BREACH"]


def test_executions_of_a_whole_day_fill_it(api: Api) -> None:
    api.open(day())
    cash, sent = OPENING_CASH, []
    for n in range(1, 5):
        reports = [fill(f"e{n}{child}", child, qty, 10.01) for child, qty in sent]
        answer = api.step(n, step(n, None, *reports)).json
        cash += sum((-1 if c.startswith("A") else 1) * q * 1_001 for c, q in sent)
        assert answer["cash"]["cash_minor"] == cash
        columns = answer["orders"]
        pairs = zip(columns["child_id"], columns["child_qty"], strict=True)
        sent = [(child, qty) for child, qty in pairs if qty]
    report = api.close({"executions": [fill(f"x{c}", c, q, 10.01) for c, q in sent]}).json
    assert report["filled_pct"] == 100.0
    assert report["orders"]["avg_px"] == [10.01, 10.01]
    assert report["orders"]["shortfall_reason"] == [None, None]


# facts that alarm


def test_a_late_fill_after_a_cancel_is_booked_and_alarmed(at_work: Api) -> None:
    booked(at_work, end("c", "A/1"))
    answer = booked(at_work, fill("e", "A/1", 100))
    assert alarms(answer) == ["LATE_FILL"]
    assert answer["alarms"][0] == {
        "code": "LATE_FILL",
        "cl_ord_id": "A",
        "exec_id": "e",
        "observed": 100,
        "limit": 0,
    }
    assert numbers(at_work, "A") == (100, 0, 900, 0)
    assert at_work.state()["alarms"] == 1
    assert at_work.state()["trading"] == "ACTIVE"


def test_a_fill_beyond_its_child_takes_from_what_remains(at_work: Api) -> None:
    answer = booked(at_work, fill("e", "A/1", 251))
    assert alarms(answer) == ["LATE_FILL"]
    assert (answer["alarms"][0]["observed"], answer["alarms"][0]["limit"]) == (251, 250)
    assert numbers(at_work, "A") == (251, 0, 749, 0)


@pytest.mark.parametrize(("qty", "over", "found"), [(600, 0, 1), (601, 1, 2)])
def test_a_fill_beyond_the_order_is_a_named_overfill(
    at_work: Api, qty: int, over: int, found: int
) -> None:
    answer = booked(at_work, fill("e", "B", qty))
    assert alarms(answer) == ["LATE_FILL", "OVERFILL"][:found]
    assert numbers(at_work, "B") == (qty, 0, 0, over)
    later = at_work.step(2, step(2)).json
    assert later["orders"]["cl_ord_id"] == ["A"]


def test_working_volume_counts_towards_an_overfill(at_work: Api) -> None:
    at_work.step(2, step(2))
    answer = booked(at_work, end("c", "B/1"), fill("e", "B/1", 500))
    assert alarms(answer) == ["LATE_FILL", "OVERFILL"]
    assert numbers(at_work, "B") == (500, 150, 150, 50)


@pytest.mark.parametrize(("px", "breach"), [(10.1, False), (10.1001, True)])
def test_a_buy_above_its_protection_is_a_breach(at_work: Api, px: float, breach: bool) -> None:
    answer = booked(at_work, fill("e", "A/1", 100, px))
    assert alarms(answer) == ["PROTECT_BREACH"] * breach
    assert at_work.state()["trading"] == ("REDUCING" if breach else "ACTIVE")
    decision = at_work.step(2, step(2)).json
    assert row(decision, "A")["child_qty"] == (0 if breach else 250)
    assert row(decision, "B")["child_qty"] == 150
    assert codes(decision, "A") == ["REDUCING"] * breach


@pytest.mark.parametrize(("px", "breach"), [(9.5, False), (9.4999, True)])
def test_a_sale_below_its_limit_is_a_breach(api: Api, px: float, breach: bool) -> None:
    api.open(day(order("B", "SELL", 100, limit_px=9.5)))
    api.step(1, step(1, bars(["SB"])))
    answer = booked(api, fill("e", "B/1", 10, px))
    assert alarms(answer) == ["PROTECT_BREACH"] * breach
    if breach:
        assert (answer["alarms"][0]["observed"], answer["alarms"][0]["limit"]) == (9.4999, 9.5)


def test_a_sale_without_a_limit_may_fill_at_any_price(at_work: Api) -> None:
    assert alarms(booked(at_work, fill("e", "B/1", 10, 0.0001))) == []


def test_cash_below_zero_is_a_breach_and_the_day_only_reduces(api: Api) -> None:
    api.open(day(order("A", "BUY", 100), policy="all", cash_minor=101_000))
    api.step(1, step(1, bars(["SA"])))
    answer = booked(api, end("c", "A/1"), fill("e", "A/1", 100, 10.1))
    assert alarms(answer) == ["LATE_FILL"]
    answer = booked(api, fill("e2", "A/1", 1, 10.0))
    assert alarms(answer) == ["LATE_FILL", "OVERFILL", "CASH_BREACH"]
    assert answer["cash"]["cash_minor"] == answer["cash"]["min_cash_minor"] == -1_000
    assert answer["alarms"][-1]["observed"] == -1_000
    assert api.state()["trading"] == "REDUCING"


def test_a_breach_is_for_the_day_even_when_the_client_is_set_active(at_work: Api) -> None:
    booked(at_work, fill("e", "A/1", 1, 11.0))
    at_work.trading("ACTIVE")
    assert at_work.step(2, step(2)).json["trading"] == "REDUCING"


def test_the_end_of_what_does_not_work_is_alarmed_and_changes_nothing(at_work: Api) -> None:
    booked(at_work, end("c1", "A/1"))
    answer = booked(at_work, end("c2", "A/1"))
    assert alarms(answer) == ["NOTHING_WORKING"]
    assert (answer["alarms"][0]["observed"], answer["alarms"][0]["limit"]) == (1, 0)
    assert numbers(at_work, "A") == (0, 0, 1_000, 0)


# what is refused


@pytest.mark.parametrize(
    "wrong",
    [
        {"exec_id": "e", "exec_type": "TRADE", "last_qty": 1, "last_px": 10.0},
        fill("e", "A/1", 1) | {"cl_ord_id": "A"},
        fill("e", "C", 1),
        fill("e", "C/1", 1),
        fill("e", "A/0", 1),
        fill("e", "A/2", 1),
        fill("e", "A/9999", 1),
        {key: v for key, v in fill("e", "A", 1).items() if key != "last_qty"},
        {key: v for key, v in fill("e", "A", 1).items() if key != "last_px"},
        end("e", "A") | {"last_qty": 1},
        end("e", "A") | {"last_px": 10.0},
        end("e", "A") | {"last_qty": 1, "last_px": 10.0},
    ],
)
def test_a_contradictory_execution_is_refused_and_nothing_of_its_request_booked(
    at_work: Api, wrong: Json
) -> None:
    problem = refused(at_work, [fill("good", "A/1", 1), wrong])
    assert problem["errors"][0]["where"] == "executions.1"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"last_qty": 0}, "BAD_FIELD"),
        ({"last_qty": QTY_MAX + 1}, "BAD_FIELD"),
        ({"last_qty": 1.5}, "BAD_FIELD"),
        ({"last_px": 0}, "BAD_PRICE"),
        ({"last_px": -1}, "BAD_PRICE"),
        ({"last_px": 0.00004}, "BAD_PRICE"),
        ({"last_px": 1e308}, "BAD_PRICE"),
        ({"exec_type": "FILLED"}, "BAD_FIELD"),
        ({"exec_id": ""}, "BAD_FIELD"),
        ({"exec_id": "x" * 65}, "BAD_FIELD"),
        ({"exec_id": "a b"}, "BAD_FIELD"),
        ({"child_id": "A/"}, "BAD_FIELD"),
        ({"child_id": "A/12345"}, "BAD_FIELD"),
        ({"unknown": 1}, "BAD_FIELD"),
    ],
)
def test_a_malformed_execution_is_refused(at_work: Api, change: Json, code: str) -> None:
    refused(at_work, [fill("e", "A/1", 1) | change], code)


def test_an_exec_id_occurs_once_in_a_request(at_work: Api) -> None:
    refused(at_work, [fill("e", "A/1", 1), fill("e", "A/1", 1)], "DUPLICATE_ID")


def test_nothing_is_executed_before_the_first_decision(api: Api) -> None:
    api.open(day())
    reply = api.report([fill("e", "A/1", 1)])
    assert_problem(reply, 422, "BAD_EXECUTION")
    assert alarms(booked(api, fill("e", "A", 1))) == ["LATE_FILL"]  # a fact of the order, though


def test_a_paper_day_takes_no_executions(api: Api) -> None:
    api.open(day(fills="paper"))
    api.step(1, step(1))
    assert_problem(api.report([fill("e", "A", 1)]), 422, "PAPER_DAY")
    assert_problem(api.step(2, step(2, None, fill("e", "A", 1))), 422, "PAPER_DAY")


def test_executions_of_no_day_are_not_found(api: Api) -> None:
    assert_problem(api.report([fill("e", "A", 1)]), 404, "DAY_NOT_FOUND")


def test_an_empty_list_of_executions_is_refused(at_work: Api) -> None:
    assert_problem(at_work.report([]), 422, "BAD_FIELD")


# once


def test_the_same_report_again_answers_the_same_bytes(at_work: Api) -> None:
    first = at_work.report([fill("e", "A/1", 100)])
    assert not first.replayed
    at_work.step(2, step(2))
    again = at_work.report([fill("e", "A/1", 100)])
    assert (again.status, again.body, again.replayed) == (200, first.body, True)
    assert numbers(at_work, "A")[0] == 100


def test_an_execution_in_another_request_is_a_duplicate(at_work: Api) -> None:
    booked(at_work, fill("e1", "A/1", 100))
    answer = booked(at_work, fill("e2", "A/1", 50), fill("e1", "A/1", 100))
    assert answer["result"] == ["BOOKED", "DUPLICATE"]
    assert numbers(at_work, "A") == (150, 100, 850, 0)
    at_work.step(2, step(2, None, fill("e1", "A/1", 100), fill("e3", "A/1", 50)))
    assert numbers(at_work, "A")[0] == 200
    at_work.close({"executions": [fill("e3", "A/1", 50), fill("e2", "A/1", 50)]})
    assert numbers(at_work, "A")[0] == 200


@pytest.mark.parametrize(
    "other",
    [
        fill("e", "A/1", 101),
        fill("e", "A/1", 100, 10.0001),
        fill("e", "B/1", 100),
        fill("e", "A/1", 100, 10.0, "PARTIAL_FILL"),
        end("e", "A/1"),
    ],
)
def test_an_exec_id_with_other_content_is_refused(at_work: Api, other: Json) -> None:
    booked(at_work, fill("e", "A/1", 100))
    refused(at_work, [fill("new", "A/1", 1), other], "EXEC_ID_REUSED", 409)


def test_an_exec_id_of_a_refused_request_is_still_free(at_work: Api) -> None:
    assert at_work.report([fill("e", "A/1", 100), fill("x", "C", 1)]).status == 422
    assert booked(at_work, fill("e", "A/1", 7))["result"] == ["BOOKED"]


def test_a_step_with_executions_is_replayed_whole(at_work: Api) -> None:
    body = step(2, None, fill("e", "A/1", 250, 10.0, "FILL"))
    first = at_work.step(2, body)
    again = at_work.step(2, body)
    assert (again.body, again.replayed) == (first.body, True)
    assert numbers(at_work, "A")[0] == 250


# after the close


def test_executions_after_the_close_are_facts_with_an_alarm(at_work: Api) -> None:
    report = at_work.close()
    answer = booked(at_work, fill("e", "A/1", 100))
    assert alarms(answer) == ["AFTER_CLOSE"]
    assert (answer["alarms"][0]["observed"], answer["alarms"][0]["cl_ord_id"]) == (1, None)
    assert numbers(at_work, "A") == (100, 150, 900, 0)
    answer = booked(at_work, end("c", "A/1"), end("c2", "B/1"))
    assert numbers(at_work, "A") == (100, 0, 900, 0)
    duplicate = booked(at_work, fill("e", "A/1", 100), end("c", "A/1"))
    assert (duplicate["result"], alarms(duplicate)) == (["DUPLICATE"] * 2, [])
    assert at_work.call("GET", "/v1/days/d/report").body == report.body  # as it was at the close


def test_replies_to_executions_hold_the_orders_they_speak_of(at_work: Api) -> None:
    reply: Reply = at_work.report([end("c", "B/1"), end("d", "B")])
    assert reply.json["orders"]["cl_ord_id"] == ["B"]
    assert reply.json["exec_id"] == ["c", "d"]


def flat(px: float) -> Json:
    """Bars of SA at one price."""
    return bars(["SA"], open=[px], high=[px], low=[px], close=[px])


def test_a_late_fill_of_an_older_child_is_judged_by_its_own_protection(api: Api) -> None:
    api.open(day(order("A", "BUY", 100)))
    first = api.step(1, step(1, flat(10.0)))
    protect = first.json["orders"]["protect_px"][0]
    booked(api, end("c1", "A/1", "CANCELED"))
    assert api.step(2, step(2, flat(9.0))).json["orders"]["protect_px"][0] < protect
    assert alarms(booked(api, fill("late", "A/1", 5, protect))) == ["LATE_FILL"]
    worse = booked(api, fill("worse", "A/1", 5, round(protect + 0.01, 2)))
    assert set(alarms(worse)) == {"LATE_FILL", "PROTECT_BREACH"}


def test_a_fill_of_a_child_that_was_never_sent_is_refused(api: Api) -> None:
    api.open(day(order("A", "BUY", 100)))
    halted = bars(["SA"], status=["HALT"])
    api.step(1, step(1, halted))
    reply = api.report([fill("e", "A/1", 5)])
    assert (reply.status, reply.code) == (422, "BAD_EXECUTION")


# busts and corrections (FIX ExecType H and G)


def undo(exec_id: str, ref: str, child: str = "A/1") -> Json:
    return end(exec_id, child, "TRADE_CANCEL") | {"exec_ref_id": ref}


def correct(exec_id: str, ref: str, qty: int, px: float, child: str = "A/1") -> Json:
    return fill(exec_id, child, qty, px, "TRADE_CORRECT") | {"exec_ref_id": ref}


def cash_of(api: Api) -> int:
    cash: int = api.state()["cash"]["cash_minor"]
    return cash


def test_a_busted_fill_works_again_while_its_child_does(at_work: Api) -> None:
    booked(at_work, fill("e", "A/1", 100, 10.05))
    answer = booked(at_work, undo("u", "e"))
    assert answer["alarms"] == [
        {"code": "TRADE_CANCELED", "cl_ord_id": "A", "exec_id": "u", "observed": 100, "limit": 100}
    ]
    assert numbers(at_work, "A") == (0, 250, 1_000, 0)
    assert cash_of(at_work) == OPENING_CASH


@pytest.mark.parametrize("named", ["A", "A/1"])
def test_a_busted_fill_of_a_child_that_is_done_is_traded_again(at_work: Api, named: str) -> None:
    booked(at_work, fill("e", named, 250, 10.05, "FILL"))
    assert booked(at_work, undo("u", "e", named))["alarms"][0]["limit"] == 0
    assert numbers(at_work, "A") == (0, 0, 1_000, 0)
    reply = at_work.step(2, step(2)).json
    assert row(reply, "A")["child_qty"] == 500


def test_a_corrected_fill_has_its_new_size_and_price(at_work: Api) -> None:
    booked(at_work, fill("e", "A/1", 100, 10.05))
    answer = booked(at_work, correct("c", "e", 80, 10.0))
    assert [(a["code"], a["observed"], a["limit"]) for a in answer["alarms"]] == [
        ("TRADE_CORRECTED", 80, 100)
    ]
    assert numbers(at_work, "A") == (80, 170, 920, 0)
    assert cash_of(at_work) == OPENING_CASH - 80_000


def test_a_correction_is_corrected_and_undone_by_its_own_name(at_work: Api) -> None:
    booked(at_work, fill("e", "A/1", 100))
    booked(at_work, correct("c1", "e", 90, 10.0))
    refused(at_work, [correct("c2", "e", 80, 10.0)])
    booked(at_work, correct("c2", "c1", 80, 10.0))
    booked(at_work, undo("u", "c2"))
    assert numbers(at_work, "A") == (0, 250, 1_000, 0)
    refused(at_work, [undo("u2", "c2")])


def test_a_fill_and_its_bust_in_one_request(at_work: Api) -> None:
    answer = booked(at_work, fill("e", "A/1", 100), undo("u", "e"), fill("f", "A/1", 50))
    assert answer["result"] == ["BOOKED"] * 3
    assert numbers(at_work, "A") == (50, 200, 950, 0)
    refused(at_work, [undo("v", "e")])


def test_a_bust_that_is_sent_twice_is_booked_once(at_work: Api) -> None:
    booked(at_work, fill("e", "A/1", 100))
    booked(at_work, undo("u", "e"))
    again = booked(at_work, undo("u", "e"), fill("e", "A/1", 100), fill("g", "A/1", 10))
    assert again["result"] == ["DUPLICATE", "DUPLICATE", "BOOKED"]
    assert numbers(at_work, "A") == (10, 240, 990, 0)


def test_a_bust_of_a_sale_whose_cash_is_spent_is_alarmed(api: Api) -> None:
    poor = day(order("A", "BUY", 600), order("B", "SELL", 600), cash_minor=0)
    assert api.open(poor).status == 200
    assert api.step(1, step(1)).status == 200
    sold = fill("s", "B/1", 150)
    assert row(api.step(2, step(2, None, sold)).json, "A")["child_qty"] > 0
    answer = booked(api, undo("u", "s", "B/1"))
    assert alarms(answer) == ["TRADE_CANCELED", "CASH_BREACH"]
    assert api.state()["trading"] == "REDUCING"


def test_a_bust_after_the_close_is_a_fact_too(at_work: Api) -> None:
    booked(at_work, fill("e", "A/1", 100))
    assert at_work.close().status == 200
    assert alarms(booked(at_work, undo("u", "e"))) == ["TRADE_CANCELED", "AFTER_CLOSE"]
    assert numbers(at_work, "A")[0] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        undo("u", "nothing"),
        undo("u", "e", "B/1"),
        undo("u", "x"),
        end("u", "A/1", "TRADE_CANCEL"),
        fill("u", "A/1", 1, 10.0, "TRADE_CORRECT"),
        fill("u", "A/1", 1) | {"exec_ref_id": "e"},
        undo("u", "e") | {"last_qty": 100, "last_px": 10.0},
    ],
)
def test_a_bust_names_a_fill_of_its_order(at_work: Api, wrong: Json) -> None:
    booked(at_work, fill("e", "A/1", 100), end("x", "B/1"))
    refused(at_work, [wrong])


def test_so_many_references_in_a_request_and_no_more(at_work: Api) -> None:
    def references(count: int) -> list[Json]:
        return [undo(f"u{n}", f"r{n}") for n in range(count)]

    refused(at_work, references(REFERENCES_MAX))
    refused(at_work, references(REFERENCES_MAX + 1), "BAD_FIELD")


def test_a_correction_takes_nothing_from_another_child(at_work: Api) -> None:
    booked(at_work, fill("f", "A/1", 250))
    assert at_work.step(2, step(2)).status == 200
    for wrong in ("A", "A/2"):
        refused_at(at_work, [correct("c", "f", 250, 10.05, wrong)], 3)
    booked(at_work, correct("c", "f", 250, 10.05))
    assert numbers(at_work, "A") == (250, 250, 750, 0)


def test_a_bust_never_makes_a_child_larger_than_it_was(at_work: Api) -> None:
    booked(at_work, fill("f", "A", 250))
    assert at_work.step(2, step(2)).status == 200
    assert booked(at_work, undo("u", "f", "A"))["alarms"][0]["limit"] == 0
    assert numbers(at_work, "A") == (0, 250, 1_000, 0)
    booked(at_work, fill("g", "A/2", 250, kind="FILL"))  # what the broker says is booked


def refused_at(api: Api, executions: list[Json], n: int) -> None:
    before = api.call("GET", "/v1/days/d").body
    assert_problem(api.report(executions), 422, "BAD_EXECUTION")
    assert api.step(n, step(n, None, *executions)).code == "BAD_EXECUTION"
    assert api.call("GET", "/v1/days/d").body == before


def test_facts_that_pass_the_cash_floor_are_alarmed(api: Api) -> None:
    floor = {"cash_floor_minor": 900_000}
    body = day(order("A", "BUY", 600), order("B", "SELL", 600), cash_minor=900_000, limits=floor)
    assert api.open(body).status == 200
    assert api.step(1, step(1)).status == 200
    assert row(api.step(2, step(2, None, fill("s", "B/1", 150))).json, "A")["child_qty"] > 0
    answer = booked(api, undo("u", "s", "B/1"))
    assert alarms(answer) == ["TRADE_CANCELED", "CASH_FLOOR"]
