"""Limits of the whole basket and collars: both sides of every edge, the code and its numbers."""

from __future__ import annotations

from typing import Any

import pytest

from service.atoms import BALANCE_PPM_MIN, COLLAR_BP_MAX
from tests.service.api import Api, Json, assert_problem, bars, day, fill, order, row, step


def opened(api: Api, *orders: Json, **limits: Any) -> None:
    """A day whose policy wants everything at once: A buys 1,000, B sells 600, at 10.00."""
    reply = api.open(day(*orders, policy="all", limits=limits))
    assert reply.status == 200, reply.body


def children(api: Api, n: int, snapshot: Json | None = None, *executions: Json) -> dict[str, int]:
    reply = api.step(n, step(n, snapshot, *executions))
    assert reply.status == 200, reply.body
    api.reply = reply.json  # type: ignore[attr-defined]
    columns = reply.json["orders"]
    return dict(zip(columns["cl_ord_id"], columns["child_qty"], strict=True))


def told(api: Api, cl_ord_id: str, code: str) -> list[tuple[float, float]]:
    reasons = row(api.reply, cl_ord_id)["reasons"]  # type: ignore[attr-defined]
    return [(r["observed"], r["limit"]) for r in reasons if r["code"] == code]


# cash floor


@pytest.mark.parametrize(("floor", "child"), [(98_990_000, 1_000), (98_990_001, 999)])
def test_no_buy_touches_the_cash_below_the_floor(api: Api, floor: int, child: int) -> None:
    opened(api, cash_floor_minor=floor)  # 1,000 shares reserve 10.10 each
    assert children(api, 1)["A"] == child
    if child < 1_000:
        assert told(api, "A", "CASH") == [(1_010_000, 100_000_000 - floor)]


# gross


@pytest.mark.parametrize(("most", "a", "b"), [(1_600_000, 1_000, 600), (1_599_999, 999, 599)])
def test_the_day_trades_so_much_and_no_more(api: Api, most: int, a: int, b: int) -> None:
    closes = {"symbol": ["SA", "SB"], "prev_close": [9.0, 9.0]}
    body = day(policy="all", limits={"gross_notional_minor_max": most}, reference=closes)
    assert api.open(body).status == 200
    assert children(api, 1) == {"A": a, "B": b}
    if a < 1_000:
        assert told(api, "A", "GROSS") == [(1_600_000, most)]
        # what was cut stays cut: the limit is of the whole day
        filled = [fill("a", "A/1", a), fill("b", "B/1", b)]
        assert children(api, 2, None, *filled) == {"A": 0, "B": 0}


@pytest.mark.parametrize(("most", "status"), [(1_440_000, 200), (1_439_999, 422)])
def test_a_mix_up_of_units_dies_at_the_opening(api: Api, most: int, status: int) -> None:
    closes = {"symbol": ["SA", "SB"], "prev_close": [9.0, 9.0]}
    body = day(limits={"gross_notional_minor_max": most}, reference=closes)
    reply = api.open(body)
    assert reply.status == status
    if status == 422:
        assert_problem(reply, 422, "GROSS_TOO_LARGE")
        assert (reply.json["observed"], reply.json["limit"]) == (1_440_000, most)


def test_the_gross_limit_holds_for_what_comes_later(api: Api) -> None:
    closes = {"symbol": ["SA", "SB"], "prev_close": [9.0, 9.0]}
    body = day(limits={"gross_notional_minor_max": 1_440_000}, reference=closes)
    assert api.open(body).status == 200
    more = [{"cl_ord_id": "A", "order_qty": 1_001}]
    assert_problem(api.instruct("1", amend=more), 422, "GROSS_TOO_LARGE")
    added = day(order("C", "BUY", 1, symbol="SC", limit_px=9.0))["orders"]
    assert_problem(api.instruct("2", add=added), 422, "GROSS_TOO_LARGE")


def test_a_gross_limit_needs_a_price_for_every_order(api: Api) -> None:
    body = day(limits={"gross_notional_minor_max": 10**9})
    assert_problem(api.open(body), 422, "BAD_ORDER")
    body["orders"] |= {"limit_px": [10.0, 9.0]}
    assert api.open(body).status == 200


# net


@pytest.mark.parametrize(("most", "child"), [(1_000_000, 1_000), (999_999, 999), (0, 0)])
def test_net_buying_is_bounded_and_sales_are_not_counted_before_they_fill(
    api: Api, most: int, child: int
) -> None:
    opened(api, net_notional_minor_max=most)
    assert children(api, 1) == {"A": child, "B": 600}
    assert told(api, "A", "NET_MAX") == ([] if child == 1_000 else [(1_000_000, most)])
    if most == 0:
        # proceeds of 600,000 pay for 600 shares
        assert children(api, 2, None, fill("b", "B/1", 600))["A"] == 600


@pytest.mark.parametrize(("least", "child"), [(-600_000, 600), (-599_999, 599), (0, 0)])
def test_net_selling_is_bounded_too(api: Api, least: int, child: int) -> None:
    opened(api, net_notional_minor_min=least)
    assert children(api, 1) == {"A": 1_000, "B": child}
    assert told(api, "B", "NET_MIN") == ([] if child == 600 else [(600_000, -least)])


# balance


def test_no_side_is_further_ahead_than_the_band(api: Api) -> None:
    opened(api, balance_ppm_max=100_000)
    assert children(api, 1) == {"A": 100, "B": 60}
    assert told(api, "B", "BALANCE") == [(600_000, 60_000)]
    # only the buys filled: they wait, the sales catch up
    assert children(api, 2, None, fill("a", "A/1", 100)) == {"A": 0, "B": 60}
    assert children(api, 3, None, fill("b", "B/1", 60))["A"] == 100


def test_a_basket_of_one_side_has_no_balance_to_keep(api: Api) -> None:
    opened(api, order("A", "BUY", 1_000), balance_ppm_max=BALANCE_PPM_MIN)
    assert children(api, 1, bars(("SA",))) == {"A": 1_000}


# collars


@pytest.mark.parametrize(("px", "a"), [(11.0, 1_000), (11.01, 0), (9.0, 1_000), (8.99, 0)], ids=str)
def test_nothing_is_sent_beyond_the_collar_around_the_close(api: Api, px: float, a: int) -> None:
    closes = {"symbol": ["SA"], "prev_close": [10.0]}
    body = day(policy="all", limits={"collar_close_bp": 1_000}, reference=closes)
    assert api.open(body).status == 200
    assert children(api, 1, bars(px=px)) == {"A": a, "B": 600}
    bound = 11.0 if px > 10 else 9.0
    assert told(api, "A", "COLLAR_CLOSE") == ([] if a else [(px, bound)])


def test_a_collar_protects_what_it_lets_through(api: Api) -> None:
    closes = {"symbol": ["SA", "SB"], "prev_close": [10.0, 10.0]}
    body = day(policy="all", limits={"collar_close_bp": 50}, reference=closes)
    assert api.open(body).status == 200
    children(api, 1)
    reply = api.reply  # type: ignore[attr-defined]
    assert row(reply, "A")["protect_px"] == 10.05  # not the 10.10 of the cash buffer
    assert row(reply, "B")["protect_px"] == 9.95


@pytest.mark.parametrize(("px", "a"), [(10.1, 500), (10.11, 0)])
def test_the_collar_around_the_arrival_moves_with_the_order(api: Api, px: float, a: int) -> None:
    body = day(order("A", "BUY", 1_000), order("B", "SELL", 600), limits={"collar_arrival_bp": 100})
    assert api.open(body).status == 200
    assert children(api, 1)["A"] == 250
    ended = {"exec_id": "x", "child_id": "A/1", "exec_type": "CANCELED"}
    assert children(api, 2, bars(px=px), ended)["A"] == a


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("cash_floor_minor", -1),
        ("gross_notional_minor_max", 0),
        ("net_notional_minor_min", 1),
        ("net_notional_minor_max", -1),
        ("balance_ppm_max", BALANCE_PPM_MIN - 1),
        ("collar_close_bp", 0),
        ("collar_arrival_bp", COLLAR_BP_MAX + 1),
    ],
)
def test_a_limit_outside_its_range_is_refused(api: Api, name: str, wrong: int) -> None:
    assert_problem(api.open(day(limits={name: wrong})), 422, "BAD_FIELD")


def test_limits_survive_a_restart(api: Api) -> None:
    opened(api, balance_ppm_max=100_000, cash_floor_minor=99_000_000)
    api.restart()
    assert children(api, 1) == {"A": 100, "B": 60}
