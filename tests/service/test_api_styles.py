"""How single orders are worked: both sides of every edge, the code and the numbers of each."""

from __future__ import annotations

from typing import Any

import pytest

from service.atoms import URGENCY_PCT_MAX
from service.core.baselines import almgren_chriss
from service.core.units import PPM, QTY_MAX
from tests.service.api import Api, Json, assert_problem, bars, codes, day, fill, row, step


def opened(api: Api, **style: Any) -> None:
    """A day of four decisions: A buys 1,000 worked as ``style`` says, B sells 600."""
    policy = style.pop("policy", "twap")
    more = {name: [value, None if _is_optional(name) else 0] for name, value in style.items()}
    body = day(policy=policy)
    body["orders"] |= {
        **more,
        **({"completion": [style["completion"], "MUST"]} if "completion" in style else {}),
    }
    reply = api.open(body)
    assert reply.status == 200, reply.body


def _is_optional(name: str) -> bool:
    return name.startswith(("participation", "would"))


def decided(api: Api, n: int, snapshot: Json | None = None, *executions: Json) -> Json:
    reply = api.step(n, step(n, snapshot, *executions))
    assert reply.status == 200, reply.body
    answer: Json = reply.json
    return answer


def told(reply: Json, code: str) -> list[tuple[float, float]]:
    reasons = row(reply, "A")["reasons"]
    return [(r["observed"], r["limit"]) for r in reasons if r["code"] == code]


# urgency


@pytest.mark.parametrize(("urgency", "child"), [(0, 1_000), (-100, 250), (-50, 625), (-1, 992)])
def test_patience_moves_a_wish_towards_the_even_schedule(
    api: Api, urgency: int, child: int
) -> None:
    opened(api, policy="all", urgency_pct=urgency)
    reply = decided(api, 1)
    assert row(reply, "A")["child_qty"] == child
    assert told(reply, "URGENCY") == ([(1_000, 250)] if urgency else [])


def test_urgency_moves_a_wish_towards_the_front_loaded_schedule(api: Api) -> None:
    opened(api, policy="ac")
    front = row(decided(api, 1), "A")["child_qty"]
    assert front > 250, almgren_chriss.__doc__
    for urgency, child in ((100, front), (50, 250 + (front - 250) // 2)):
        with Api() as other:
            opened(other, urgency_pct=urgency)
            reply = decided(other, 1)
            assert row(reply, "A")["child_qty"] == child
            assert told(reply, "URGENCY") == [(250, front)]


@pytest.mark.parametrize("urgency", [-URGENCY_PCT_MAX - 1, URGENCY_PCT_MAX + 1])
def test_urgency_is_a_percentage(api: Api, urgency: int) -> None:
    body = day()
    body["orders"] |= {"urgency_pct": [urgency, 0]}
    assert_problem(api.open(body), 422, "BAD_FIELD")


# participation


def test_no_child_passes_its_share_of_the_volume(api: Api) -> None:
    """Nothing is known of the volume before the first bar; then 10,000 shares a bar are."""
    opened(api, participation_ppm_max=10_000)
    first = decided(api, 1)
    assert (row(first, "A")["child_qty"], told(first, "MAX_VOLUME")) == (0, [(250, 0)])
    second = decided(api, 2)
    # 1% of 10,000 seen and 10,000 expected
    assert (row(second, "A")["child_qty"], told(second, "MAX_VOLUME")) == (200, [(500, 200)])
    third = decided(api, 3, None, fill("e", "A/2", 150))
    assert (row(third, "A")["child_qty"], told(third, "MAX_VOLUME")) == (100, [(550, 100)])


def test_a_share_that_is_not_reached_changes_nothing(api: Api) -> None:
    opened(api, participation_ppm_max=25_000)
    decided(api, 1)
    assert told(decided(api, 2), "MAX_VOLUME") == []  # 500 of 20,000 are just 2.5%


def test_average_volume_says_what_to_expect(api: Api) -> None:
    known = {"symbol": ["SA"], "adv_qty": [40_000]}
    body = day(reference=known)
    body["orders"] |= {"participation_ppm_max": [20_000, None]}
    assert api.open(body).status == 200
    assert row(decided(api, 1), "A")["child_qty"] == 200  # a quarter of 40,000, 2% of it


def test_the_least_share_raises_a_wish_and_is_cut_like_any_other(api: Api) -> None:
    opened(api, policy="none", participation_ppm_min=30_000)
    assert row(decided(api, 1), "A")["child_qty"] == 0
    second = decided(api, 2)
    assert (row(second, "A")["child_qty"], told(second, "MIN_VOLUME")) == (600, [(0, 600)])
    third = decided(api, 3)
    assert (row(third, "A")["child_qty"], codes(third, "A")) == (300, ["MIN_VOLUME"])


@pytest.mark.parametrize(("least", "status"), [(20, 200), (21, 422)])
def test_the_least_share_is_not_above_the_largest(api: Api, least: int, status: int) -> None:
    body = day()
    body["orders"] |= {
        "participation_ppm_min": [least, None],
        "participation_ppm_max": [20, None],
    }
    assert api.open(body).status == status


@pytest.mark.parametrize("share", [0, PPM + 1])
@pytest.mark.parametrize("name", ["participation_ppm_min", "participation_ppm_max", "would_ppm"])
def test_a_share_is_between_one_millionth_and_all(api: Api, name: str, share: int) -> None:
    body = day()
    body["orders"] |= {name: [share, None]}
    assert_problem(api.open(body), 422, "BAD_FIELD")


# I-would price


@pytest.mark.parametrize(("px", "child"), [(9.5, 1_000), (9.51, 0)])
def test_a_buy_would_trade_all_at_its_price(api: Api, px: float, child: int) -> None:
    opened(api, policy="none", would_px=9.5)
    reply = decided(api, 1, bars(px=px))
    assert row(reply, "A")["child_qty"] == child
    assert told(reply, "WOULD_PRICE") == ([(9.5, 9.5)] if child else [])


@pytest.mark.parametrize(("px", "child"), [(10.5, 180), (10.49, 0)])
def test_a_sale_would_trade_its_share_at_its_price(api: Api, px: float, child: int) -> None:
    body = day(policy="none")
    body["orders"] |= {"would_px": [None, 10.5], "would_ppm": [None, 300_000]}
    assert api.open(body).status == 200
    assert row(decided(api, 1, bars(px=px)), "B")["child_qty"] == child


def test_the_would_price_does_not_pass_cash(api: Api) -> None:
    body = day(policy="none", cash_minor=101_000)
    body["orders"] |= {"would_px": [10.0, None]}
    assert api.open(body).status == 200
    reply = decided(api, 1)
    assert (row(reply, "A")["child_qty"], codes(reply, "A")) == (100, ["WOULD_PRICE", "CASH"])


# completion


def test_best_effort_is_not_forced_out(api: Api) -> None:
    opened(api, policy="none", completion="BEST_EFFORT")
    replies = [decided(api, n) for n in (1, 2, 3, 4)]
    assert [row(reply, "A")["child_qty"] for reply in replies] == [0] * 4
    assert row(replies[2], "B")["child_qty"] == 600
    report = api.close({"snapshot": bars(), "executions": [fill("e", "B/3", 600)]}).json
    assert row(report, "A")["shortfall_reason"] == "BEST_EFFORT"


# smallest child


@pytest.mark.parametrize(("least", "child"), [(250, 250), (251, 0)])
def test_no_child_is_smaller_than_the_smallest(api: Api, least: int, child: int) -> None:
    opened(api, min_qty=least)
    reply = decided(api, 1)
    assert row(reply, "A")["child_qty"] == child
    assert told(reply, "MIN_QTY") == ([] if child else [(250, 251)])


def test_the_rest_of_an_order_may_be_smaller(api: Api) -> None:
    opened(api, min_qty=400)
    children = [row(decided(api, n), "A")["child_qty"] for n in (1, 2)]
    assert children == [0, 500]
    api.instruct("i", amend=[{"cl_ord_id": "A", "order_qty": 800}])
    assert [row(decided(api, n), "A")["child_qty"] for n in (3, 4)] == [0, 300]


@pytest.mark.parametrize(("least", "status"), [(1_000, 200), (1_001, 422), (QTY_MAX + 1, 422)])
def test_the_smallest_child_is_not_above_the_order(api: Api, least: int, status: int) -> None:
    body = day()
    body["orders"] |= {"min_qty": [least, 0]}
    assert api.open(body).status == status


def test_a_style_survives_a_restart(api: Api) -> None:
    opened(api, policy="all", urgency_pct=-100, min_qty=3, completion="BEST_EFFORT")
    api.restart()
    assert row(decided(api, 1), "A")["child_qty"] == 250


# auctions


@pytest.mark.parametrize(
    ("auction", "steps", "told"),
    [
        ("NONE", 3, [None, None, None]),
        ("OPEN", 3, ["OPEN", None, None]),
        ("CLOSE", 3, [None, None, "CLOSE"]),
        ("BOTH", 3, ["OPEN", None, "CLOSE"]),
        ("BOTH", 1, ["BOTH"]),
        ("CLOSE", 1, ["CLOSE"]),
    ],
)
def test_children_are_advised_where_to_go(
    api: Api, auction: str, steps: int, told: list[str | None]
) -> None:
    body = day(fills="paper", steps=steps)
    body["orders"] |= {"auction": [auction, "NONE"]}
    assert api.open(body).status == 200
    rows = [row(api.step(n, step(n)).json, "A") for n in range(1, steps + 1)]
    assert all(each["child_qty"] for each in rows)
    assert [each["auction"] for each in rows] == told


def test_no_child_goes_nowhere_and_an_amend_changes_it(api: Api) -> None:
    body = day(fills="paper", steps=2)
    body["orders"] |= {"auction": ["OPEN", "OPEN"], "limit_px": [None, 1_000.0]}
    api.open(body)
    assert row(api.step(1, step(1)).json, "B")["auction"] is None  # nothing sells at 1,000
    assert api.instruct("i", amend=[{"cl_ord_id": "A", "auction": "CLOSE"}]).status == 200
    assert row(api.step(2, step(2)).json, "A")["auction"] == "CLOSE"
    body["orders"]["auction"] = ["OPEN", "LUNCH"]
    assert_problem(api.open(body, "e"), 422, "BAD_FIELD")


# read back


def test_what_was_asked_is_read_back(api: Api) -> None:
    asked = {
        "limit_px": [11.0, None],
        "urgency_pct": [-40, 0],
        "completion": ["BEST_EFFORT", "MUST"],
        "participation_ppm_min": [None, 1_000],
        "participation_ppm_max": [200_000, None],
        "would_px": [9.5, None],
        "would_ppm": [300_000, 1_000_000],
        "min_qty": [10, 0],
        "auction": ["OPEN", "NONE"],
    }
    body = day(limits={"cash_floor_minor": 7, "collar_close_bp": 500}, holdings={"SB": 600})
    body["orders"] |= asked
    state = api.open(body).json
    assert {name: state["orders"][name] for name in asked} == asked
    told = {"cash_floor_minor": 7, "collar_close_bp": 500, "cash_buffer_bp": 100}
    assert {name: state["limits"][name] for name in told} == told
    assert state["limits"]["gross_notional_minor_max"] is None
    assert state["holdings"] == {"SB": 600}
    changed = api.instruct("i", amend=[{"cl_ord_id": "A", "min_qty": 20, "would_px": None}]).json
    assert (changed["orders"]["min_qty"], changed["orders"]["would_px"]) == ([20], [None])


def test_an_order_without_a_style_is_read_back_too(api: Api) -> None:
    state = api.open(day()).json
    assert state["orders"]["completion"] == ["MUST", "MUST"]
    assert state["orders"]["would_ppm"] == [1_000_000, 1_000_000]
    assert state["holdings"] is None
