"""The end of a day: paper fills, the report, and the reason of every share that is missing."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tests.service.api import (
    Api,
    Json,
    Reply,
    assert_problem,
    bars,
    day,
    end,
    fill,
    order,
    row,
    step,
)


def closed(api: Api, body: Json | None = None) -> Json:
    reply = api.close(body)
    assert reply.status == 200, reply.body
    answer: Json = reply.json
    return answer


def paper(api: Api, *orders: Json, **changes: Any) -> None:
    reply = api.open(day(*orders, **{"fills": "paper", "policy": "all", **changes}))
    assert reply.status == 200, reply.body


def one(**columns: Any) -> Json:
    """A bar of the symbol SA, each column one value."""
    flat = {"open": 10.0, "high": 10.0, "low": 10.0, "close": 10.0, "volume": 1_000, **columns}
    return {"symbols": ["SA"], **{name: [value] for name, value in flat.items()}}


# paper fills


@pytest.mark.parametrize(
    ("side", "bar", "px"),
    [
        ("BUY", {}, 10.0),
        ("BUY", {"high": 10.04, "low": 9.98, "close": 10.02}, 10.01),  # (o + h + l + c) / 4
        ("BUY", {"high": 10.04, "low": 9.98, "vwap": 10.03}, 10.03),
        ("BUY", {"high": 11.0, "low": 10.1, "open": 10.5, "close": 11.0}, None),
        ("BUY", {"volume": 0}, None),
        ("BUY", {"status": "HALT"}, None),
        ("SELL", {"high": 11.0, "low": 1.0, "vwap": 2.0}, 2.0),
        ("SELL", {"volume": 0}, None),
        ("SELL", {"status": "HALT"}, None),
    ],
)
def test_a_paper_child_fills_at_the_next_bars_price(
    api: Api, side: str, bar: Json, px: float | None
) -> None:
    paper(api, order("A", side, 100), cash_minor=1_000_000)
    api.step(1, step(1, one()))
    answer = api.step(2, step(2, one(**bar))).json
    state = api.state()
    sign = -1 if side == "BUY" else 1
    if px is None:
        assert api.row("A")["cum_qty"] == 0
        assert state["cash"]["cash_minor"] == 1_000_000
        assert row(answer, "A")["working_qty"] in (0, 100)  # a new child, if it may trade
    else:
        assert api.row("A")["cum_qty"] == 100
        assert state["cash"]["cash_minor"] == 1_000_000 + sign * round(px * 10_000)
    assert state["children"] == []


@pytest.mark.parametrize(
    ("side", "limit", "bar", "px"),
    [
        ("BUY", 10.0, {"low": 10.0001, "open": 10.1, "high": 10.5, "close": 10.1}, None),
        ("BUY", 10.0, {"low": 9.0, "vwap": 9.5}, 9.5),  # better than its limit
        ("SELL", 10.0, {"high": 9.9999, "open": 9.9, "low": 9.0, "close": 9.9}, None),
        ("SELL", 10.0, {"high": 11.0, "vwap": 10.5}, 10.5),
    ],
)
def test_a_paper_child_never_fills_through_its_limit(
    api: Api, side: str, limit: float, bar: Json, px: float | None
) -> None:
    paper(api, order("A", side, 100, limit_px=limit))
    api.step(1, step(1, one()))
    report = closed(api, {"snapshot": one(**bar)})
    assert row(report, "A")["avg_px"] == px
    assert row(report, "A")["shortfall_reason"] == (None if px else "CLOSED_EARLY")


@pytest.mark.parametrize(
    ("side", "bar", "qty", "px"),
    [
        # the limit of 10 lets a buy trade in the lower half of the bar, in its middle
        ("BUY", {"low": 9.0, "high": 11.0, "vwap": 10.5}, 50, 9.5),
        ("BUY", {"low": 9.98, "high": 11.0, "vwap": 10.5}, 1, 9.99),
        ("BUY", {"low": 10.0, "high": 11.0, "vwap": 10.5}, 0, None),
        ("SELL", {"low": 9.0, "high": 11.0, "vwap": 9.5}, 50, 10.5),
        ("SELL", {"low": 9.0, "high": 10.0, "vwap": 9.5}, 0, None),
    ],
)
def test_a_bar_that_passed_the_limit_fills_the_part_of_its_range_within(
    api: Api, side: str, bar: Json, qty: int, px: float | None
) -> None:
    paper(api, order("A", side, 100, limit_px=10.0))
    api.step(1, step(1, one()))
    report = closed(api, {"snapshot": one(**bar)})
    assert (row(report, "A")["cum_qty"], row(report, "A")["avg_px"]) == (qty, px)


def test_a_whole_paper_day_is_filled_and_marked(api: Api) -> None:
    paper(api, policy="twap")
    for n in range(1, 5):
        api.step(n, step(n, bars(px=10.0 + n / 100)))
    report = closed(api, {"snapshot": bars(px=10.05)})
    assert report["filled_pct"] == 100.0
    assert report["cash"]["reserved_minor"] == 0
    a, b = (row(report, name) for name in "AB")
    assert a["arrival_px"] == b["arrival_px"] == 10.01
    assert a["twap_px"] == b["twap_px"] == a["avg_px"] == 10.035
    assert b["avg_px"] == 10.0325  # its last quarter went one step early
    assert a["eg_bp"] == 0
    assert b["eg_bp"] == pytest.approx(-0.0025 / 10.035 * 1e4, abs=1e-6)
    assert report["eg_bp"] == pytest.approx((a["eg_bp"] + b["eg_bp"]) / 2, abs=1e-6)
    assert a["slippage_arrival_bp"] == pytest.approx(0.025 / 10.01 * 1e4, abs=1e-6)
    assert report["toc_pct"] == 0
    spent = sum(250 * (1_000 + n) for n in (2, 3, 4, 5))
    gained = 150 * 1_002 + 150 * 1_003 + 300 * 1_004
    assert report["cash"]["cash_minor"] == 100_000_000 - spent + gained


def test_a_paper_close_needs_bars_only_while_children_work(api: Api) -> None:
    paper(api)
    api.step(1, step(1))
    before = api.state()
    assert_problem(api.close(), 409, "CLOSE_NEEDS_SNAPSHOT")
    assert api.state() == before
    api.step(2, step(2))
    assert api.row("A")["cum_qty"] == 1_000
    assert closed(api)["filled_pct"] == 100.0


def test_conflicts_are_counted_once_a_step(api: Api) -> None:
    paper(api, order("A", "BUY", 100), cash_minor=50_500)
    for n in (1, 2):
        api.step(n, step(n, one()))
    report = closed(api, {"snapshot": one()})
    assert report["toc_pct"] == 50.0  # two of four scheduled decisions
    assert report["cash"]["min_cash_minor"] == report["cash"]["cash_minor"] == 500


# shortfalls and their reasons


def play(api: Api, *last: Json, executions: tuple[Json, ...] = (), **columns: Any) -> Json:
    """Four steps in which nothing is reported but ``executions``, then the close with ``last``."""
    for n in range(1, 5):
        told = executions if n == 4 else ()
        reply = api.step(n, step(n, one(**columns), *told))
        assert reply.status == 200, reply.body
    return row(closed(api, {"executions": list(last)}), "A")


def test_nothing_is_missing_when_all_is_filled(api: Api) -> None:
    api.open(day(order("A", "BUY", 100)))
    found = play(api, fill("e", "A", 100, 10.0, "FILL"))
    assert (found["shortfall_qty"], found["shortfall_reason"]) == (0, None)


def test_shares_that_still_work_are_named(api: Api) -> None:
    api.open(day(order("A", "BUY", 100)))
    found = play(api, fill("e", "A", 99))
    assert (found["shortfall_qty"], found["shortfall_reason"]) == (1, "WORKING_AT_CLOSE")


def test_what_kept_the_rest_back_is_named_beside_shares_that_work(api: Api) -> None:
    api.open(day(order("A", "BUY", 1_000), steps=2))
    api.step(1, step(1, bars(("SA",))))  # 500 at the market, for ever
    api.instruct("i", pause=["A"])
    api.step(2, step(2, bars(("SA",))))
    found = row(closed(api, {}), "A")
    assert (found["shortfall_qty"], found["shortfall_reason"]) == (1_000, "PAUSED")


def test_shares_that_were_sent_and_not_filled_are_named(api: Api) -> None:
    api.open(day(order("A", "BUY", 100)))
    found = play(api, fill("e", "A", 60), end("c", "A"))
    assert (found["shortfall_qty"], found["shortfall_reason"]) == (40, "NOT_FILLED")


def test_shares_that_cash_did_not_pay_are_named(api: Api) -> None:
    api.open(day(order("A", "BUY", 100), cash_minor=50_500))
    found = play(api, fill("e", "A", 50))
    assert (found["shortfall_qty"], found["shortfall_reason"]) == (50, "CASH")


def test_shares_behind_a_limit_price_are_named(api: Api) -> None:
    api.open(day(order("A", "BUY", 100, limit_px=9.0)))
    found = play(api)
    assert (found["shortfall_qty"], found["shortfall_reason"]) == (100, "LIMIT_PRICE")
    assert found["avg_px"] is None


def test_shares_of_a_halted_symbol_are_named(api: Api) -> None:
    api.open(day(order("A", "SELL", 100)))
    found = play(api, status="HALT")
    assert (found["shortfall_qty"], found["shortfall_reason"]) == (100, "SYMBOL_HALT")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"child_qty_max": 10}, "CAP_QTY"),
        ({"child_notional_minor_max": 10_000}, "CAP_NOTIONAL"),
        ({"participation_ppm_max": 100_000}, "CAP_VOLUME"),
    ],
)
def test_shares_beyond_a_cap_are_named(api: Api, limits: Json, reason: str) -> None:
    reference = {"symbol": ["SA"], "adv_qty": [400]}
    api.open(day(order("A", "BUY", 100), policy="none", limits=limits, reference=reference))
    found = play(api, fill("e", "A", 10))
    assert (found["shortfall_qty"], found["shortfall_reason"]) == (90, reason)


def test_an_odd_lot_that_a_late_fill_left_is_named(api: Api) -> None:
    api.open(day(order("A", "BUY", 200, lot_size=100), policy="none"))
    for n in (1, 2, 3):
        api.step(n, step(n, one()))
    api.report([fill("late", "A", 30)])
    answer = api.step(4, step(4, one())).json
    assert row(answer, "A")["child_qty"] == 100
    found = row(closed(api, {"executions": [fill("e", "A/4", 100)]}), "A")
    assert (found["shortfall_qty"], found["shortfall_reason"]) == (70, "LOT")


@pytest.mark.parametrize(("state", "reason"), [("HALTED", "HALTED"), ("REDUCING", "REDUCING")])
def test_shares_that_a_halt_held_back_are_named(api: Api, state: str, reason: str) -> None:
    api.open(day(order("A", "BUY", 100), policy="none"))
    api.trading(state)
    found = play(api)
    assert (found["shortfall_qty"], found["shortfall_reason"]) == (100, reason)


def test_a_day_that_closes_early_says_so(api: Api) -> None:
    api.open(day(order("A", "BUY", 100)))
    api.step(1, step(1, one()))
    api.report([end("c", "A")])
    report = closed(api)
    assert row(report, "A")["shortfall_reason"] == "CLOSED_EARLY"
    assert (report["decisions"], report["steps"]) == (1, 4)


@pytest.mark.parametrize("policy", ["all", "none"])
def test_the_reason_of_an_order_outlives_its_window(api: Api, policy: str) -> None:
    api.open(day(order("A", "BUY", 100, end_step=2), cash_minor=50_500, policy=policy))
    for n in range(1, 5):
        told = [fill("e", "A", 50)] if n == 3 else []
        assert api.step(n, step(n, one(), *told)).status == 200
    found = row(closed(api), "A")
    assert (found["shortfall_qty"], found["shortfall_reason"]) == (50, "CASH")


def test_an_order_whose_window_is_over_was_not_closed_early(api: Api) -> None:
    orders = [order(name, "BUY", 100, end_step=last) for name, last in (("A", 1), ("B", 2))]
    api.open(day(*orders, policy="all"))
    api.step(1, step(1))
    report = closed(api, {"executions": [end("a", "A"), end("b", "B")]})
    reasons = [row(report, name)["shortfall_reason"] for name in "AB"]
    assert reasons == ["NOT_FILLED", "CLOSED_EARLY"]


def test_a_day_without_decisions_closes_with_an_empty_report(api: Api) -> None:
    api.open(day())
    before = api.state()
    assert_problem(api.close({"snapshot": bars()}), 409, "DAY_NOT_STARTED")
    assert_problem(api.close({"executions": [fill("e", "A", 1)]}), 409, "DAY_NOT_STARTED")
    assert api.state() == before
    report = closed(api)
    assert report["filled_pct"] == 0
    assert report["orders"]["shortfall_reason"] == ["CLOSED_EARLY"] * 2
    assert report["orders"]["eg_bp"] == [0.0, 0.0]


# the report


def test_the_report_is_answered_again(api: Api) -> None:
    api.open(day())
    assert_problem(api.call("GET", "/v1/days/d/report"), 404, "STEP_NOT_FOUND")
    api.step(1, step(1))
    body = {"executions": [fill("e", "A/1", 250)]}
    first = api.close(body)
    assert api.call("GET", "/v1/days/d/report").body == first.body
    again = api.close(body)
    assert (again.body, again.replayed) == (first.body, True)
    assert_problem(api.close(), 409, "BODY_CHANGED")
    state = api.state()
    assert (state["status"], state["next_step"]) == ("CLOSED", None)


def test_the_report_of_no_day_is_not_found(api: Api) -> None:
    assert_problem(api.call("GET", "/v1/days/d/report"), 404, "DAY_NOT_FOUND")
    assert_problem(api.close(), 404, "DAY_NOT_FOUND")


def test_the_report_counts_fallbacks_and_alarms(api: Api) -> None:
    api.open(day(policy="failing"))
    api.step(1, step(1))
    api.step(2, step(2))
    api.report([end("c0", "A/1"), end("c1", "B/1"), end("c2", "B/1")])
    report = closed(api, {"executions": [fill("late", "A/1", 1)]})
    assert (report["fallbacks"], report["alarm_count"]) == (2, 2)
    assert [alarm["code"] for alarm in report["alarms"]] == ["LATE_FILL"]


def test_executions_and_bars_of_the_last_interval_count(api: Api) -> None:
    api.open(day(order("A", "BUY", 100), steps=1))
    api.step(1, step(1, one()))
    report = closed(api, {"executions": [fill("e", "A", 100, 10.1)], "snapshot": one(vwap=10.0)})
    assert row(report, "A")["twap_px"] == 10.0
    assert row(report, "A")["eg_bp"] == pytest.approx(-100.0)


# after the trade


def traded(api: Api) -> Json:
    """Two decisions of four: A buys 25 at 10.00, B sells 50 at 10.10 and 50 at 10.20.

    Intervals at 10.10 with 1,000 shares and at 10.20 with 3,000; cash cuts A in both.
    """
    body = day(order("A", "BUY", 200), order("B", "SELL", 200), cash_minor=25_250)
    assert api.open(body).status == 200
    first = api.step(1, step(1)).json
    assert first["orders"]["child_qty"] == [25, 50]  # cash pays for 25 at 10.10
    bar = bars(px=10.1, volume=[1_000, 1_000])
    filled = [fill("a", "A/1", 25, 10.0), fill("b", "B/1", 50, 10.1)]
    second = api.step(2, step(2, bar, *filled)).json
    assert second["orders"]["child_qty"] == [49, 50]  # of 75, at 10.21
    last = bars(px=10.2, volume=[3_000, 3_000])
    return closed(api, {"snapshot": last, "executions": [fill("c", "B/2", 50, 10.2)]})


def test_a_report_measures_against_every_usual_price(api: Api) -> None:
    report = traded(api)
    prices = [row(report, "A")[f"{name}_px"] for name in ("arrival", "twap", "vwap", "close")]
    assert prices == [10.0, 10.15, 10.175, 10.2]
    sale = row(report, "B")
    assert (sale["avg_px"], sale["participation_pct"], sale["filled_pct"]) == (10.15, 2.5, 50.0)
    # half of it is not filled and marked at 10.20: 10.175 on average
    slippage = [sale[f"slippage_{name}_bp"] for name in ("arrival", "vwap", "close")]
    assert slippage == pytest.approx([-175.0, 0.0, 24.509804], abs=1e-5)
    # the fills alone: 25 bought at 10.00, 100 sold at 10.15 on average
    assert report["traded_minor"] == 25_000 + 101_500
    assert report["cost_minor"] == {"arrival": -1_500, "twap": -375, "vwap": -188, "close": 0}


def test_a_report_prices_what_safety_cut(api: Api) -> None:
    report = traded(api)
    assert [row(report, name)["conflict_steps"] for name in "AB"] == [2, 0]
    # 25 shares would have cost 10.10 and 26 would have cost 10.20, against a TWAP of 10.15
    cost = 51 * 1_015 - (25 * 1_010 + 26 * 1_020)
    assert report["cuts"] == [{"code": "CASH", "cl_ord_id": "A", "cut_qty": 51, "cost_minor": cost}]


def test_a_report_is_a_table_too(api: Api) -> None:
    report = traded(api)
    text = api.call("GET", "/v1/days/d/report?format=csv")
    assert (text.status, text.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    names, *rows = [line.split(",") for line in text.body.decode().splitlines()]
    assert [dict(zip(names, r, strict=True))["avg_px"] for r in rows] == ["10.0", "10.15"]
    parquet = pytest.importorskip("pyarrow.parquet")
    file = api.call("GET", "/v1/days/d/report?format=parquet")
    table = parquet.read_table(io.BytesIO(file.body)).to_pydict()
    assert table["eg_bp"] == report["orders"]["eg_bp"]
    assert_problem(api.call("GET", "/v1/days/d/report?format=xml"), 422, "BAD_FIELD")


def test_what_a_report_sums_up_survives_restarts(api: Api) -> None:
    with Api() as other:
        expected = traded(other)
    whole = api.step

    def restarted(*told: Any, **more: Any) -> Reply:
        api.restart()
        return whole(*told, **more)

    api.step = restarted  # type: ignore[method-assign]
    assert traded(api) == expected
