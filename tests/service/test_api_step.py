"""One decision: its sequence, its replay, its snapshot, its record."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.atoms import SYMBOLS_MAX
from service.core.contract import ACTIONS
from service.core.units import CASH_MINOR_MAX, PRICE_TICKS_MAX, QTY_MAX
from tests.service.api import (
    Api,
    Json,
    Reply,
    assert_problem,
    bars,
    changed,
    codes,
    day,
    encoded,
    end,
    fill,
    moment,
    order,
    row,
    step,
)


def decided(api: Api, n: int, body: Any = None, **more: Any) -> Json:
    reply = api.step(n, step(n) if body is None else body, **more)
    assert reply.status == 200, reply.body
    answer: Json = reply.json
    return answer


def refused(api: Api, n: int, body: Any, status: int, code: str) -> Reply:
    """The step is refused and leaves the day as it was."""
    before = api.call("GET", "/v1/days/d").body
    reply = api.step(n, body)
    assert_problem(reply, status, code)
    assert api.call("GET", "/v1/days/d").body == before
    return reply


VOLUME_MAX = 2**40


@pytest.fixture
def opened(api: Api) -> Api:
    assert api.open(day()).status == 200
    return api


def test_a_step_answers_a_child_for_every_open_order(opened: Api) -> None:
    answer = decided(opened, 1)
    assert (answer["day_id"], answer["step"], answer["steps"]) == ("d", 1, 4)
    assert answer["as_of"] == moment(1)
    assert (answer["fallback"], answer["trading"], answer["cash_cut"]) == (False, "ACTIVE", False)
    assert answer["model"] == {"name": "twap", "version": "1", "fingerprint": "f" * 16}
    assert row(answer, "A") == {
        "cl_ord_id": "A",
        "symbol": "SA",
        "side": "BUY",
        "order_qty": 1_000,
        "cum_qty": 0,
        "working_qty": 250,
        "leaves_qty": 1_000,
        "overfill_qty": 0,
        "version": 1,
        "child_id": "A/1",
        "child_qty": 250,
        "protect_px": 10.1,
        "auction": None,
        "reasons": [],
    }
    assert row(answer, "B")["protect_px"] is None
    assert answer["cash"]["reserved_minor"] == 250 * 1_010
    state = opened.state()
    assert state["next_step"] == 2
    assert state["children"] == [
        {"child_id": "A/1", "working_qty": 250, "protect_px": 10.1},
        {"child_id": "B/1", "working_qty": 150, "protect_px": None},
    ]


def test_orders_that_are_done_are_left_out(opened: Api) -> None:
    decided(opened, 1)
    executions = [fill("e1", "A/1", 250), fill("e2", "B/1", 600)]
    answer = decided(opened, 2, step(2, None, *executions))
    assert answer["orders"]["cl_ord_id"] == ["A"]
    assert opened.row("B")["overfill_qty"] == 0
    assert opened.row("B")["cum_qty"] == 600


# sequence and replay


def test_the_same_bytes_again_answer_the_same_bytes(opened: Api) -> None:
    raw = encoded(step(1))
    first = opened.step(1, raw)
    assert "replayed" not in first.headers
    for n in (2, 3, 4):
        decided(opened, n)
        again = opened.step(1, raw)
        assert (again.status, again.body) == (200, first.body)
        assert again.headers["replayed"] == "true"
    assert opened.close().status == 200
    assert opened.step(1, raw).body == first.body


def test_another_body_for_a_decided_step_is_refused(opened: Api) -> None:
    raw = encoded(step(1))
    decided(opened, 1, raw)
    for other in (step(1, bars(px=11)), raw + b" ", raw.replace(b": ", b":")):
        refused(opened, 1, other, 409, "BODY_CHANGED")
    opened.close()
    refused(opened, 1, raw + b" ", 409, "BODY_CHANGED")


@pytest.mark.parametrize("n", [2, 3, 5, 9_999])
def test_a_gap_names_the_step_that_is_expected(opened: Api, n: int) -> None:
    problem = refused(opened, n, step(1), 409, "STEP_GAP").json
    assert (problem["expected_step"], problem["got_step"]) == (1, n)
    decided(opened, 1)
    assert refused(opened, 3, step(3), 409, "STEP_GAP").json["expected_step"] == 2


def test_after_the_last_step_none_is_expected(opened: Api) -> None:
    for n in range(1, 5):
        decided(opened, n)
    problem = refused(opened, 5, step(5), 409, "STEP_GAP").json
    assert problem["expected_step"] is None
    assert opened.state()["next_step"] is None


@pytest.mark.parametrize("n", ["0", "-1", "1.0", "x", "10000", "٣", "1e2", "+1", "0x1"])
def test_a_step_in_the_path_is_a_number(opened: Api, n: str) -> None:
    assert_problem(opened.call("POST", f"/v1/days/d/steps/{n}", step(1)), 422, "BAD_FIELD")
    assert_problem(opened.call("GET", f"/v1/days/d/steps/{n}"), 422, "BAD_FIELD")


def test_a_closed_day_takes_no_step(opened: Api) -> None:
    decided(opened, 1)
    opened.close()
    refused(opened, 2, step(2), 409, "DAY_CLOSED")


def test_a_step_of_no_day_is_not_found(api: Api) -> None:
    assert_problem(api.step(1, step(1)), 404, "DAY_NOT_FOUND")
    assert_problem(api.call("GET", "/v1/days/d/steps/1"), 404, "DAY_NOT_FOUND")


@pytest.mark.parametrize("n", ["1", "01", "0001"])
def test_leading_zeros_name_the_same_step(opened: Api, n: str) -> None:
    decided(opened, 1)
    reply = opened.call("POST", f"/v1/days/d/steps/{n}", step(1))
    assert reply.replayed


# time


def test_a_snapshot_may_be_a_minute_old_and_no_older(opened: Api) -> None:
    late = {"as_of": moment(1, -60.000001)}
    problem = refused(opened, 1, step(1) | late, 422, "STALE_SNAPSHOT").json
    assert problem["earliest"] == moment(1, -60)
    assert problem["scheduled"] == moment(1)
    decided(opened, 1, step(1) | {"as_of": moment(1, -60)})


def test_the_day_says_how_old_a_snapshot_may_be(api: Api) -> None:
    api.open(day(limits={"snapshot_age_s_max": 0}))
    refused(api, 1, step(1) | {"as_of": moment(1, -0.000001)}, 422, "STALE_SNAPSHOT")
    decided(api, 1, step(1) | {"as_of": moment(1)})


def test_a_snapshot_is_later_than_the_one_before(opened: Api) -> None:
    decided(opened, 1, step(1) | {"as_of": moment(3)})
    refused(opened, 2, step(2) | {"as_of": moment(3)}, 422, "STALE_SNAPSHOT")
    decided(opened, 2, step(2) | {"as_of": moment(3, 0.000001)})


def test_a_late_step_is_still_taken_in_sequence(opened: Api) -> None:
    for n in range(1, 5):
        decided(opened, n, step(n) | {"as_of": moment(n, 7_000)})


@pytest.mark.parametrize(
    "as_of",
    ["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+23:59", "2026-11-20T14:30:00", 1, None],
)
def test_a_time_out_of_this_world_is_refused(opened: Api, as_of: Any) -> None:
    refused(opened, 1, step(1) | {"as_of": as_of}, 422, "BAD_FIELD")


def test_microseconds_survive(opened: Api) -> None:
    answer = decided(opened, 1, step(1) | {"as_of": "2026-11-20T14:30:00.123457Z"})
    assert answer["as_of"] == "2026-11-20T14:30:00.123457Z"


# the snapshot


def test_missing_symbols_are_named(opened: Api) -> None:
    problem = refused(opened, 1, step(1, bars(["SA"])), 422, "SYMBOL_MISSING").json
    assert problem["missing"] == ["SB"]


def test_symbols_that_the_day_does_not_trade_are_ignored(opened: Api) -> None:
    extra = bars(["SX", "SB", "SY", "SA"], open=[1, 20, 3, 10], high=[1, 20, 3, 10])
    extra |= {"low": [1, 20, 3, 10], "close": [1, 20, 3, 10]}
    assert row(decided(opened, 1, step(1, extra)), "A")["protect_px"] == 10.1


def test_a_symbol_occurs_once(opened: Api) -> None:
    refused(opened, 1, step(1, bars(["SA", "SB", "SA"])), 422, "DUPLICATE_ID")


def test_a_snapshot_holds_at_most_five_thousand_symbols(opened: Api) -> None:
    symbols = ["SA", "SB", *(f"X{i}" for i in range(SYMBOLS_MAX - 2))]
    refused(opened, 1, step(1, bars([*symbols, "Y"])), 422, "BAD_FIELD")
    decided(opened, 1, step(1, bars(symbols)))


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume", "vwap", "status"])
def test_every_column_has_one_entry_for_each_symbol(opened: Api, column: str) -> None:
    value = {"volume": 1, "status": "TRADING"}.get(column, 10.0)
    refused(opened, 1, step(1, bars(**{column: [value]})), 422, "COLUMNS_DIFFER")
    refused(opened, 1, step(1, bars(**{column: [value] * 3})), 422, "COLUMNS_DIFFER")
    decided(opened, 1, step(1, bars(**{column: [value] * 2})))


def two(value: Any) -> list[Any]:
    return [value, 10.0 if isinstance(value, float) else 10]


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"high": two(9.9999)}, "BAD_PRICE"),  # below open and close
        ({"low": two(10.0001)}, "BAD_PRICE"),
        ({"open": two(10.1)}, "BAD_PRICE"),
        ({"close": two(9.9)}, "BAD_PRICE"),
        ({"high": two(9.0), "low": two(11.0)}, "BAD_PRICE"),
        ({"open": two(0.0)}, "BAD_PRICE"),
        ({"open": two(-1.0)}, "BAD_PRICE"),
        ({"low": two(0.00004)}, "BAD_PRICE"),
        ({"high": two((PRICE_TICKS_MAX + 1) / 10_000)}, "BAD_PRICE"),
        ({"high": two(1e308)}, "BAD_PRICE"),
        ({"volume": [-1, 1]}, "BAD_VOLUME"),
        ({"volume": [VOLUME_MAX + 1, 1]}, "BAD_VOLUME"),
        ({"volume": [10**30, 1]}, "BAD_VOLUME"),
        ({"volume": [1.5, 1]}, "BAD_FIELD"),
        ({"status": ["HALTED", "TRADING"]}, "BAD_FIELD"),
        ({"status": [None, "TRADING"]}, "BAD_FIELD"),
        ({"open": [None, 10.0]}, "BAD_FIELD"),
    ],
)
def test_an_impossible_bar_is_refused(opened: Api, columns: Json, code: str) -> None:
    refused(opened, 1, step(1, bars(**columns)), 422, code)


def test_bars_at_the_edge_of_the_possible_are_accepted(opened: Api) -> None:
    decided(opened, 1, step(1, bars(high=two(10.0), low=two(10.0), volume=[VOLUME_MAX, 0])))
    decided(opened, 2, step(2, bars(high=two(10.1), low=two(9.9), vwap=two(10.1))))
    decided(opened, 3, step(3, bars(high=two(10.1), low=two(9.9), vwap=two(9.9))))
    decided(opened, 4, step(4, bars(low=two(0.0001), vwap=two(0.0001))))


@pytest.mark.parametrize("vwap", [9.8999, 10.1001])
def test_an_average_lies_inside_its_bar(opened: Api, vwap: float) -> None:
    decided(opened, 1)
    columns = {"high": two(10.1), "low": two(9.9), "vwap": two(vwap)}
    refused(opened, 2, step(2, bars(**columns)), 422, "BAD_PRICE")


def test_before_the_first_decision_only_opens_count(opened: Api) -> None:
    snapshot = bars(open=[10.0, 10.0], high=[90.0, 90.0], low=[1.0, 1.0], close=[50.0, 50.0])
    assert row(decided(opened, 1, step(1, snapshot)), "A")["protect_px"] == 10.1


def test_prices_are_rounded_to_a_ten_thousandth(opened: Api) -> None:
    snapshot = bars(px=10.00004)
    opened_at = row(decided(opened, 1, step(1, snapshot)), "A")["protect_px"]
    assert opened_at == 10.1


def worth(px: float) -> Json:
    return {name: [px] for name in ("open", "high", "low", "close")}


def test_an_order_is_worth_at_most_what_arithmetic_holds(api: Api) -> None:
    top = CASH_MINOR_MAX // 2 / QTY_MAX / 100
    api.open(day(order("A", "BUY", QTY_MAX)))
    too_dear = step(1, bars(["SA"], **worth(round(top + 0.0001, 4))))
    refused(api, 1, too_dear, 422, "NOTIONAL_TOO_LARGE")
    decided(api, 1, step(1, bars(["SA"], **worth(int(top * 10_000) / 10_000))))


def test_what_was_sold_is_not_counted_beside_its_proceeds(api: Api) -> None:
    """Otherwise a day could be opened and begun, but neither go on nor be closed with bars."""
    api.open(day(order("B", "SELL", 100_000_000), cash_minor=2**42 - 1, policy="all"))
    dear = bars(["SB"], px=300.0)
    decided(api, 1, step(1, dear))
    api.report([fill("e", "B/1", 100_000_000, 300.0)])
    decided(api, 2, step(2, dear))
    assert api.close({"snapshot": dear}).status == 200


def test_a_wild_high_of_a_paper_day_is_refused_before_it_breaks_a_law(api: Api) -> None:
    api.open(day(order("A", "SELL", QTY_MAX), fills="paper", policy="all"))
    decided(api, 1, step(1, bars(["SA"], px=1.0)))
    wild = bars(["SA"], px=1.0) | {"high": [1_700_000.0]}
    refused(api, 2, step(2, wild), 422, "NOTIONAL_TOO_LARGE")
    decided(api, 2, step(2, bars(["SA"], px=1.0)))


def test_a_thousand_of_the_largest_orders_are_decided(api: Api) -> None:
    orders = [order(f"{i:03}", "BUY", QTY_MAX, symbol="S") for i in range(1_000)]
    api.open(day(*orders, policy="all", cash_minor=2**42 - 1))
    answer = decided(api, 1, step(1, bars(["S"], px=163.0)))
    assert answer["cash_cut"]
    assert 0 <= answer["cash"]["free_minor"] < 2**42 // 100  # the factor has 20 digits
    assert answer["cash"]["reserved_minor"] <= 2**42 - 1


# limits of the children


def test_the_largest_child_by_volume(api: Api) -> None:
    api.open(day(policy="all", limits={"child_qty_max": 100}))
    answer = decided(api, 1)
    assert answer["orders"]["child_qty"] == [100, 100]
    assert row(answer, "A")["reasons"] == [{"code": "CAP_QTY", "observed": 1_000, "limit": 100}]


@pytest.mark.parametrize(("cap", "children"), [(100_000, [100, 100]), (99_999, [99, 99])])
def test_the_largest_child_by_value(api: Api, cap: int, children: list[int]) -> None:
    api.open(day(policy="all", limits={"child_notional_minor_max": cap}))
    answer = decided(api, 1)
    assert answer["orders"]["child_qty"] == children
    assert codes(answer, "B") == ["CAP_NOTIONAL"]


@pytest.mark.parametrize(("cash", "child", "cut"), [(101_000, 100, False), (100_999, 99, True)])
def test_cash_is_enough_or_one_minor_unit_short(api: Api, cash: int, child: int, cut: bool) -> None:
    api.open(day(order("A", "BUY", 100), policy="all", cash_minor=cash))
    answer = decided(api, 1, step(1, bars(["SA"])))
    assert (row(answer, "A")["child_qty"], answer["cash_cut"]) == (child, cut)
    if cut:
        assert row(answer, "A")["reasons"] == [{"code": "CASH", "observed": 101_000, "limit": cash}]
    assert answer["cash"]["free_minor"] >= 0


def test_short_cash_is_shared_in_proportion(api: Api) -> None:
    orders = (order("A", "BUY", 1_000, lot_size=100), order("B", "BUY", 3_000, lot_size=100))
    api.open(day(*orders, policy="all", cash_minor=101_000 * 20))
    answer = decided(api, 1)
    assert answer["orders"]["child_qty"] == [500, 1_500]


@pytest.mark.parametrize(
    ("side", "limit", "last", "sent"),
    [
        ("BUY", 10.0, 10.0, True),
        ("BUY", 10.0, 10.0001, False),
        ("SELL", 10.0, 10.0, True),
        ("SELL", 10.0, 9.9999, False),
    ],
)
def test_nothing_is_sent_through_a_limit_price(
    api: Api, side: str, limit: float, last: float, sent: bool
) -> None:
    api.open(day(order("A", side, 100, limit_px=limit), policy="all"))
    answer = decided(api, 1, step(1, bars(["SA"], px=last)))
    child = row(answer, "A")
    assert child["child_qty"] == (100 if sent else 0)
    if sent:
        assert child["protect_px"] == limit
    else:
        assert child["child_id"] is None
        assert child["reasons"] == [{"code": "LIMIT_PRICE", "observed": last, "limit": limit}]


def test_a_halted_symbol_gets_no_child_and_trades_again_later(opened: Api) -> None:
    answer = decided(opened, 1, step(1, bars(status=["HALT", "TRADING"])))
    assert answer["orders"]["child_qty"] == [0, 150]
    assert codes(answer, "A") == ["SYMBOL_HALT"]
    assert row(decided(opened, 2), "A")["child_qty"] == 500  # twap catches up


def test_an_order_trades_inside_its_window_only(api: Api) -> None:
    api.open(day(order("A", "BUY", 100, start_step=2, end_step=3), policy="all"))
    first = decided(api, 1, step(1, bars(["SA"])))
    assert row(first, "A")["reasons"] == [{"code": "WINDOW", "observed": 1, "limit": 2}]
    body = step(2, bars(["SA"]))
    assert row(decided(api, 2, body), "A")["child_qty"] == 100
    cancelled = end("c", "A/2")
    answer = decided(api, 3, step(3, bars(["SA"]), cancelled))
    assert (row(answer, "A")["child_qty"], codes(answer, "A")) == (100, [])
    last = decided(api, 4, step(4, bars(["SA"]), end("c2", "A/3")))
    assert row(last, "A")["reasons"][0] == {"code": "WINDOW", "observed": 4, "limit": 3}
    assert row(last, "A")["child_qty"] == 0


def test_sales_are_forced_at_the_last_step_but_one_and_buys_at_the_last(api: Api) -> None:
    api.open(day(policy="none"))
    for n in (1, 2):
        assert decided(api, n)["orders"]["child_qty"] == [0, 0]
    third = decided(api, 3)
    assert third["orders"]["child_qty"] == [0, 600]
    assert row(third, "B")["reasons"] == [{"code": "FORCED_FINAL", "observed": 0, "limit": 600}]
    fourth = decided(api, 4)
    assert row(fourth, "A")["child_qty"] == 1_000
    assert codes(fourth, "A") == ["FORCED_FINAL"]


def test_forced_sales_pay_the_forced_buys(api: Api) -> None:
    api.open(day(policy="none", cash_minor=0, limits={"cash_buffer_bp": 0}))
    for n in (1, 2, 3):
        decided(api, n)
    answer = decided(api, 4, step(4, None, fill("s", "B/3", 600, 10.0)))
    assert answer["cash"]["reserved_minor"] == 600 * 1_000
    assert row(answer, "A")["child_qty"] == 600
    assert codes(answer, "A") == ["FORCED_FINAL", "CASH"]


def test_a_day_of_one_step_forces_everything_at_once(api: Api) -> None:
    api.open(day(steps=1, policy="none"))
    assert decided(api, 1)["orders"]["child_qty"] == [1_000, 600]


def test_an_odd_lot_of_a_sale_leaves_with_its_last_child(api: Api) -> None:
    api.open(day(order("A", "SELL", 250, lot_size=100), steps=3))
    snapshot = bars(["SA"])
    first = decided(api, 1, step(1, snapshot))
    second = decided(api, 2, step(2, snapshot))
    assert row(first, "A")["child_qty"] == 100
    assert row(second, "A")["child_qty"] == 150


# the record


def test_the_record_holds_rounds_with_a_probability_for_each_action(api: Api) -> None:
    api.open(day(policy="talking"))
    raw = encoded(step(1))
    reply = api.step(1, raw)
    record = api.call("GET", "/v1/days/d/steps/1").json
    assert record["decision"] == reply.json
    assert record["request"] == json.loads(raw)
    assert record["cl_ord_id"] == ["A", "B"]
    first, second = record["rounds"]
    assert (first["round"], first["action"]) == (1, [4, 4])
    assert (second["round"], second["action"]) == (2, [1, 1])
    assert second["probability"] == [[0.0, 1.0, 0.0, 0.0, 0.0]] * 2
    assert len(first["probability"][0]) == ACTIONS


def test_a_schedule_has_no_rounds(opened: Api) -> None:
    decided(opened, 1)
    assert opened.call("GET", "/v1/days/d/steps/1").json["rounds"] == []


def test_a_step_that_was_not_decided_is_not_found(opened: Api) -> None:
    reply = opened.call("GET", "/v1/days/d/steps/1")
    assert_problem(reply, 404, "STEP_NOT_FOUND")
    decided(opened, 1)
    assert opened.call("GET", "/v1/days/d/steps/1").status == 200
    assert_problem(opened.call("GET", "/v1/days/d/steps/2"), 404, "STEP_NOT_FOUND")


# the Idempotency-Key header


@pytest.mark.parametrize("key", ["d:1", '"d:1"'])
def test_an_idempotency_key_that_agrees_is_accepted(opened: Api, key: str) -> None:
    assert opened.step(1, step(1), headers=[("Idempotency-Key", key)]).status == 200


@pytest.mark.parametrize("key", ["d:2", "e:1", "x", "", "d:open", "D:1", "d:1 "])
def test_an_idempotency_key_that_names_another_command_is_refused(opened: Api, key: str) -> None:
    before = opened.state()
    reply = opened.step(1, step(1), headers=[("Idempotency-Key", key)])
    assert_problem(reply, 409, "IDEMPOTENCY_KEY_MISMATCH")
    assert opened.state() == before


def test_opening_and_closing_have_keys_too(api: Api) -> None:
    wrong = [("Idempotency-Key", "d:1")]
    assert_problem(api.open(day(), headers=wrong), 409, "IDEMPOTENCY_KEY_MISMATCH")
    assert api.open(day(), headers=[("Idempotency-Key", "d:open")]).status == 200
    assert_problem(api.close(headers=wrong), 409, "IDEMPOTENCY_KEY_MISMATCH")
    assert api.close(headers=[("Idempotency-Key", "d:close")]).status == 200


def test_a_refused_step_may_be_sent_again_corrected(opened: Api) -> None:
    refused(opened, 1, changed(step(1), "snapshot.open.0", 0), 422, "BAD_PRICE")
    decided(opened, 1)


def test_a_step_dated_a_day_late_is_taken_and_one_later_is_refused(opened: Api) -> None:
    late = step(1) | {"as_of": "2026-11-21T14:30:00.000001Z"}
    refusal = opened.step(1, late)
    assert (refusal.status, refusal.code) == (422, "AS_OF_TOO_LATE")
    assert refusal.json["latest"] == "2026-11-21T14:30:00Z"
    assert opened.step(1, step(1) | {"as_of": "2026-11-21T14:30:00Z"}).status == 200
