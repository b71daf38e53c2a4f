"""Opening a day: what is accepted, what is refused and with which code, on both sides."""

from __future__ import annotations

from typing import Any

import pytest

from service.atoms import CASH_OPEN_MINOR_MAX, HOLDING_MAX, SYMBOLS_MAX
from service.core.contract import LOT_MAX, N_MAX, STEPS_MAX
from service.core.units import CASH_MINOR_MAX, PRICE_TICKS_MAX, QTY_MAX
from tests.service.api import (
    PLAIN,
    Api,
    Json,
    Reply,
    assert_problem,
    bars,
    changed,
    codes,
    day,
    order,
    row,
    step,
    times,
)


def opened(api: Api, body: Json) -> Json:
    reply = api.open(body)
    assert reply.status == 200, reply.body
    answer: Json = reply.json
    return answer


def refused(api: Api, body: Json, code: str) -> Reply:
    reply = api.open(body)
    assert_problem(reply, 422, code)
    assert_problem(api.call("GET", "/v1/days/d"), 404, "DAY_NOT_FOUND")
    return reply


def schedule(exchange: str, date: str, minutes: int = 30) -> Json:
    return {"exchange": exchange, "date": date, "step_minutes": minutes}


def many(n: int) -> Json:
    return day(*(order(f"o{i}", "SELL", 1, symbol="S") for i in range(n)))


def test_a_day_is_opened_and_says_what_it_understood(api: Api) -> None:
    answer = opened(api, day(cash_minor=5, account="a b"))
    assert answer["next_step"] == 1
    assert answer["times"] == times(4)
    assert (answer["account"], answer["currency"], answer["policy"]) == ("a b", "USD", "twap")
    assert (answer["status"], answer["trading"], answer["fills"]) == ("OPEN", "ACTIVE", "reported")
    assert answer["cash"] == {
        "cash_minor": 5,
        "reserved_minor": 0,
        "free_minor": 5,
        "min_cash_minor": 5,
    }
    assert row(answer, "A") == PLAIN | {
        "cl_ord_id": "A",
        "symbol": "SA",
        "side": "BUY",
        "order_qty": 1_000,
        "cum_qty": 0,
        "working_qty": 0,
        "leaves_qty": 1_000,
        "overfill_qty": 0,
        "version": 1,
        "ord_status": "NEW",
        "canceled_qty": 0,
        "limit_px": None,
        "start_step": 1,
        "end_step": 4,
    }
    assert api.state() == answer


def test_the_policy_is_iac_when_none_is_named() -> None:
    from service.rack import Installed
    from tests.service.api import FAKES, installed

    policies = {"iac": Installed(FAKES["talking"], installed()["talking"].model)}
    body = day()
    del body["policy"]
    with Api(policies=policies) as api:
        assert opened(api, body)["policy"] == "iac"
        assert_problem(api.open(day(policy="nope"), "e"), 422, "UNKNOWN_POLICY")


def test_the_order_of_the_orders_does_not_matter(api: Api) -> None:
    rows = [order(name, "SELL", 100 + i) for i, name in enumerate("CABED")]
    answers = []
    for day_id, these in (("x", rows), ("y", rows[::-1])):
        assert api.open(day(*these), day_id).status == 200
        snapshot = bars([f"S{name}" for name in "ABCDE"])
        answers.append(api.step(1, step(1, snapshot), day_id).json | {"day_id": ""})
    assert answers[0] == answers[1]
    assert answers[0]["orders"]["cl_ord_id"] == list("ABCDE")


@pytest.mark.parametrize(
    ("exchange", "date", "minutes", "starts"),
    [
        ("XNYS", "2026-11-20", 30, [(14, 30), (15, 0), 13, (20, 30)]),
        ("XNYS", "2026-11-27", 30, [(14, 30), (15, 0), 7, (17, 30)]),  # closes at 13:00 local
        ("XNYS", "2026-11-20", 480, [(14, 30), (14, 30), 1, (14, 30)]),
        ("XSHG", "2026-11-20", 30, [(1, 30), (2, 0), 8, (6, 30)]),  # lunch 11:30-13:00 local
        ("XSHG", "2026-11-20", 50, [(1, 30), (2, 20), 6, (6, 40)]),
        ("XSHG", "2026-11-20", 240, [(1, 30), (5, 0), 2, (5, 0)]),
    ],
)
def test_an_exchange_gives_the_times(
    api: Api, exchange: str, date: str, minutes: int, starts: list[Any]
) -> None:
    found = opened(api, day(schedule=schedule(exchange, date, minutes)))["times"]
    first, second, count, last = starts
    assert len(found) == count
    for hour_minute, moment in ((first, found[0]), (second, found[min(1, count - 1)])):
        assert moment == f"{date}T{hour_minute[0]:02}:{hour_minute[1]:02}:00Z"
    assert found[-1] == f"{date}T{last[0]:02}:{last[1]:02}:00Z"


def test_no_step_begins_in_the_lunch_break(api: Api) -> None:
    found = opened(api, day(schedule=schedule("XSHG", "2026-11-20", 50)))["times"]
    assert [moment[11:16] for moment in found] == [
        "01:30",
        "02:20",
        "03:10",
        "05:00",
        "05:50",
        "06:40",
    ]


@pytest.mark.parametrize(
    ("exchange", "date"),
    [
        ("XNYS", "2026-11-26"),  # Thanksgiving
        ("XNYS", "2026-11-21"),  # Saturday
        ("XNYS", "0001-01-01"),
        ("XNYS", "9999-12-31"),
        ("QQQQ", "2026-11-20"),
    ],
)
def test_a_day_without_a_session_is_refused(api: Api, exchange: str, date: str) -> None:
    refused(api, day(schedule=schedule(exchange, date)), "CALENDAR_MISSING")


@pytest.mark.parametrize(
    "bad",
    [
        {"times": []},
        {"times": ["2026-11-20T14:30:00"]},  # without a zone
        {"times": [1_763_649_000]},
        {"times": times(2), "step_minutes": 30},
        schedule("XNYS", "2026-11-20", 0),
        schedule("XNYS", "2026-11-20", 481),
        schedule("xnys", "2026-11-20"),
        schedule("XNYS", "2026-13-20"),
        {"times": ["0001-01-01T00:00:00+14:00"]},
        {"times": ["2200-01-01T00:00:00Z"]},
        {},
        None,
    ],
)
def test_a_malformed_schedule_is_refused(api: Api, bad: Any) -> None:
    refused(api, day(schedule=bad), "BAD_FIELD")


@pytest.mark.parametrize(
    "bad",
    [
        {"times": times(2)[::-1]},
        {"times": times(1) * 2},
        {"times": times(2), "end": times(2)[1]},
        {"times": times(2), "end": times(2)[0]},
    ],
)
def test_times_must_increase(api: Api, bad: Json) -> None:
    refused(api, day(schedule=bad), "BAD_SCHEDULE")


def test_times_may_be_a_microsecond_apart_and_carry_any_zone(api: Api) -> None:
    given = {
        "times": ["2026-11-20T15:30:00+01:00", "2026-11-20T14:30:00.000001Z"],
        "end": "2026-11-20T14:30:00.000002Z",
    }
    assert opened(api, day(schedule=given))["times"] == [
        "2026-11-20T14:30:00Z",
        "2026-11-20T14:30:00.000001Z",
    ]


def test_a_day_has_at_most_a_thousand_steps(api: Api) -> None:
    assert_problem(api.open(day(steps=STEPS_MAX + 1)), 422, "BAD_FIELD")
    assert opened(api, day(steps=STEPS_MAX))["steps"] == STEPS_MAX


def test_a_thousand_orders_are_accepted_and_one_more_refused(api: Api) -> None:
    refused(api, many(N_MAX + 1), "TOO_MANY_ORDERS")
    assert len(opened(api, many(N_MAX))["orders"]["cl_ord_id"]) == N_MAX
    answer = api.step(1, step(1, bars(["S"]))).json
    assert len(answer["orders"]["child_qty"]) == N_MAX


def test_a_day_needs_an_order(api: Api) -> None:
    body = day()
    body["orders"] = {name: [] for name in body["orders"]}
    refused(api, body, "BAD_FIELD")


@pytest.mark.parametrize("column", ["symbol", "side", "order_qty"])
@pytest.mark.parametrize("longer", [True, False])
def test_columns_must_be_equally_long(api: Api, column: str, longer: bool) -> None:
    body = day()
    values = body["orders"][column]
    values.append(values[0]) if longer else values.pop()
    refused(api, body, "COLUMNS_DIFFER")


@pytest.mark.parametrize("column", ["lot_size", "limit_px", "start_step", "end_step"])
def test_optional_columns_must_be_equally_long_too(api: Api, column: str) -> None:
    refused(api, changed(day(), f"orders.{column}", [1]), "COLUMNS_DIFFER")
    opened(api, changed(day(), f"orders.{column}", [1, 1]))


def test_an_order_id_occurs_once(api: Api) -> None:
    refused(api, day(order("A", "BUY", 1), order("A", "SELL", 1)), "DUPLICATE_ID")


LIMITS: list[tuple[str, Any, Any]] = [
    ("cash_minor", 0, -1),
    ("cash_minor", CASH_OPEN_MINOR_MAX, CASH_OPEN_MINOR_MAX + 1),
    ("cash_minor", 1, 1.0),
    ("cash_minor", 1, "1"),
    ("cash_minor", 1, True),
    ("cash_minor", 1, None),
    ("orders.order_qty.0", 1, 0),
    ("orders.order_qty.1", QTY_MAX, QTY_MAX + 1),
    ("orders.order_qty.1", 1, 1.5),
    ("orders.order_qty.1", 1, "1"),
    ("orders.order_qty.1", 1, True),
    ("orders.side.0", "SELL", "sell"),
    ("orders.cl_ord_id.0", "x" * 64, "x" * 65),
    ("orders.cl_ord_id.0", "x", ""),
    ("orders.cl_ord_id.0", "a~!", "a/b"),
    ("orders.cl_ord_id.0", "a", "a b"),
    ("orders.cl_ord_id.0", "a", "ä"),
    ("orders.cl_ord_id.0", "a", "a\n"),
    ("orders.cl_ord_id.0", "a", "a\x00"),
    ("orders.symbol.0", "x" * 32, "x" * 33),
    ("orders.symbol.0", "BRK/B", "BRK B"),
    ("account", "x" * 64, "x" * 65),
    ("account", "a", ""),
    ("account", "a", "a\t"),
    ("currency", "EUR", "EURO"),
    ("currency", "EUR", "eur"),
    ("policy", "vwap", "VWAP"),
    ("fills", "paper", "simulated"),
    ("orders.lot_size", [LOT_MAX, LOT_MAX], [LOT_MAX, LOT_MAX + 1]),
    ("orders.lot_size", [1, 1], [1, 0]),
    ("orders.start_step", [1, 1], [1, 0]),
    ("limits", {"cash_buffer_bp": 0}, {"cash_buffer_bp": -1}),
    ("limits", {"cash_buffer_bp": 5_000}, {"cash_buffer_bp": 5_001}),
    ("limits", {"child_qty_max": 1}, {"child_qty_max": 0}),
    ("limits", {"child_qty_max": QTY_MAX}, {"child_qty_max": QTY_MAX + 1}),
    ("limits", {"child_notional_minor_max": 1}, {"child_notional_minor_max": 0}),
    (
        "limits",
        {"child_notional_minor_max": CASH_MINOR_MAX},
        {"child_notional_minor_max": CASH_MINOR_MAX + 1},
    ),
    ("limits", {"participation_ppm_max": 1}, {"participation_ppm_max": 0}),
    ("limits", {"participation_ppm_max": 1_000_000}, {"participation_ppm_max": 1_000_001}),
    ("limits", {"snapshot_age_s_max": 86_400}, {"snapshot_age_s_max": 86_401}),
    ("limits", {}, {"unknown": 1}),
    ("limits", {}, None),
    ("holdings", {"SB": HOLDING_MAX}, {"SB": HOLDING_MAX + 1}),
    ("holdings", {"SB": 600}, {"SB": -1}),
    ("holdings", {"SB": 600}, {"SB": 600, "S B": 1}),
]


@pytest.mark.parametrize(("path", "right", "wrong"), LIMITS)
def test_the_last_right_value_passes_and_the_first_wrong_one_does_not(
    api: Api, path: str, right: Any, wrong: Any
) -> None:
    if path == "orders.lot_size":
        base = day(order("A", "SELL", 1_000), order("B", "SELL", 600))
    else:
        base = day()
    refused(api, changed(base, path, wrong), "BAD_FIELD")
    opened(api, changed(base, path, right))


@pytest.mark.parametrize(
    ("px", "code"),
    [
        (0.0001, None),
        (0.00004, "BAD_PRICE"),
        (0, "BAD_PRICE"),
        (-1, "BAD_PRICE"),
        (PRICE_TICKS_MAX / 10_000, None),
        ((PRICE_TICKS_MAX + 1) / 10_000, "BAD_PRICE"),
        (1e308, "BAD_PRICE"),
        (None, None),
        (10, None),
        ("10", "BAD_FIELD"),
        (True, "BAD_FIELD"),
    ],
)
def test_limit_prices_have_bounds(api: Api, px: Any, code: str | None) -> None:
    body = changed(day(), "orders.limit_px", [px, None])
    if code is None:
        opened(api, body)
    else:
        refused(api, body, code)


def test_a_buy_is_a_multiple_of_its_lot_and_a_sale_need_not_be(api: Api) -> None:
    refused(api, day(order("A", "BUY", 150, lot_size=100)), "BAD_ORDER")
    opened(api, day(order("A", "BUY", 200, lot_size=100), order("B", "SELL", 150, lot_size=100)))


@pytest.mark.parametrize(
    ("start", "end", "code"),
    [(1, 4, None), (4, 4, None), (1, 1, None), (3, 2, "BAD_ORDER"), (1, 5, "BAD_ORDER")],
)
def test_a_window_lies_inside_the_day(api: Api, start: int, end: int, code: str | None) -> None:
    body = day(order("A", "BUY", 1, start_step=start, end_step=end))
    if code is None:
        opened(api, body)
    else:
        refused(api, body, code)


def test_sales_of_a_symbol_together_stay_within_its_holdings(api: Api) -> None:
    orders = (order("A", "SELL", 60, symbol="S"), order("B", "SELL", 40, symbol="S"))
    refused(api, day(*orders, holdings={"S": 99}), "HOLDINGS_SHORT")
    refused(api, day(*orders, holdings={}), "HOLDINGS_SHORT")
    opened(api, day(*orders, holdings={"S": 100, "T": 0}))


@pytest.mark.parametrize(
    ("currency", "cost"),
    [("USD", 1_000), ("JPY", 10), ("KWD", 10_000), ("UYW", 100_000), ("XTS", 1_000)],
)
def test_cash_is_in_the_minor_units_of_the_currency(api: Api, currency: str, cost: int) -> None:
    buffer = {"cash_buffer_bp": 0}
    opened(api, day(order("A", "BUY", 1), currency=currency, policy="all", limits=buffer))
    answer = api.step(1, step(1, bars(["SA"], px=10.0))).json
    assert answer["cash"]["reserved_minor"] == cost


# reference data and its fallbacks


def capped(api: Api, reference: Json | None, ppm: int = 1_000_000) -> int:
    """The first child of an order of 1,000 that a policy wants at once."""
    body = day(
        order("A", "SELL", 1_000), policy="all", limits={"participation_ppm_max": ppm}, steps=4
    )
    opened(api, body if reference is None else body | {"reference": reference})
    answer = api.step(1, step(1, bars(["SA"]))).json
    child: int = row(answer, "A")["child_qty"]
    assert ("CAP_VOLUME" in codes(answer, "A")) == (child < 1_000)
    return child


def test_unknown_volume_caps_nothing(api: Api) -> None:
    assert capped(api, None, ppm=1) == 1_000


def test_the_volume_of_other_symbols_caps_nothing(api: Api) -> None:
    assert capped(api, {"symbol": ["SX"], "adv_qty": [4]}) == 1_000


def test_a_volume_of_zero_is_unknown(api: Api) -> None:
    assert capped(api, {"symbol": ["SA"], "adv_qty": [0]}) == 1_000


def test_the_share_of_the_expected_volume_is_a_cap(api: Api) -> None:
    assert capped(api, {"symbol": ["SA"], "adv_qty": [2_000]}, ppm=100_000) == 50


def test_the_profile_says_when_the_volume_is_expected(api: Api) -> None:
    reference = {"symbol": ["SA"], "adv_qty": [2_000], "volume_profile": [[1, 3, 3, 3]]}
    assert capped(api, reference, ppm=100_000) == 20


def test_vwap_follows_the_profile_and_an_even_one_without_it(api: Api) -> None:
    reference = {"symbol": ["SA"], "volume_profile": [[0.5, 0.25, 0.25, 0.0]]}
    snapshot = bars(["SA", "SB"])
    orders = (order("A", "BUY", 1_000), order("B", "BUY", 1_000))
    opened(api, day(*orders, policy="vwap", reference=reference))
    assert api.step(1, step(1, snapshot)).json["orders"]["child_qty"] == [500, 250]


BAD_REFERENCES: list[tuple[Json, str]] = [
    ({"symbol": []}, "BAD_FIELD"),
    ({"symbol": ["SA"], "unknown": [1]}, "BAD_FIELD"),
    ({"symbol": ["SA", "SA"]}, "DUPLICATE_ID"),
    ({"symbol": ["SA"], "adv_qty": []}, "COLUMNS_DIFFER"),
    ({"symbol": ["SA"], "adv_qty": [-1]}, "BAD_FIELD"),
    ({"symbol": ["SA"], "adv_qty": [2**40 + 1]}, "BAD_FIELD"),
    ({"symbol": ["SA"], "prev_close": [0]}, "BAD_PRICE"),
    ({"symbol": ["SA"], "prev_close": [1e308]}, "BAD_PRICE"),
    ({"symbol": ["SA"], "daily_vol_bp": [0]}, "BAD_FIELD"),
    ({"symbol": ["SA"], "daily_vol_bp": [10_001]}, "BAD_FIELD"),
    ({"symbol": ["SA"], "volume_profile": [[1, 1, 1]]}, "COLUMNS_DIFFER"),
    ({"symbol": ["SA"], "volume_profile": [[0, 0, 0, 0]]}, "BAD_FIELD"),
    ({"symbol": ["SA"], "volume_profile": [[-1, 1, 1, 1]]}, "BAD_FIELD"),
    ({"symbol": ["SA"], "volume_profile": [[1e308] * 4]}, "BAD_FIELD"),
    ({"symbol": [f"S{i}" for i in range(SYMBOLS_MAX + 1)]}, "BAD_FIELD"),
]


@pytest.mark.parametrize(("reference", "code"), BAD_REFERENCES)
def test_bad_reference_data_is_refused(api: Api, reference: Json, code: str) -> None:
    refused(api, day(reference=reference), code)


GOOD_REFERENCES: list[Json] = [
    {"symbol": ["SA"]},
    {"symbol": ["SX"], "prev_close": [10]},
    {"symbol": ["SA"], "adv_qty": [2**40], "prev_close": [0.0001]},
    {"symbol": ["SA"], "daily_vol_bp": [10_000]},
    {"symbol": ["SA"], "daily_vol_bp": [0.001]},
    {"symbol": ["SA"], "volume_profile": [[0, 0, 0, 1e-300]]},
    {"symbol": [f"S{i}" for i in range(SYMBOLS_MAX)]},
]


@pytest.mark.parametrize("reference", GOOD_REFERENCES)
@pytest.mark.parametrize("policy", ["twap", "vwap", "ac"])
def test_extreme_reference_data_still_decides(api: Api, reference: Json, policy: str) -> None:
    opened(api, day(reference=reference, policy=policy))
    for n in range(1, 5):
        assert api.step(n, step(n)).status == 200


@pytest.mark.parametrize("day_id", ["x", "x" * 64, "A-z.0_9", "..", "-"])
def test_a_day_id_may_be(api: Api, day_id: str) -> None:
    assert api.open(day(), day_id).status == 200
    assert api.state(day_id)["day_id"] == day_id


@pytest.mark.parametrize("day_id", ["x" * 65, "a b", "ä", "a:b", "{a}", "*", "a\n"])
@pytest.mark.parametrize(
    ("method", "place"),
    [("PUT", ""), ("GET", ""), ("POST", "/steps/1"), ("GET", "/steps/1"), ("POST", "/close")],
)
def test_a_day_id_may_not_be(api: Api, day_id: str, method: str, place: str) -> None:
    bodies = {"": day(), "/steps/1": step(1), "/close": {}}
    body = None if method == "GET" else bodies[place]
    assert_problem(api.call(method, f"/v1/days/{day_id}{place}", body), 422, "BAD_DAY_ID")


def test_opening_again_answers_the_same_bytes_and_another_body_is_refused(api: Api) -> None:
    first = api.open(day())
    assert not first.replayed
    again = api.open(day())
    assert (again.status, again.body, again.replayed) == (200, first.body, True)
    assert_problem(api.open(day(cash_minor=1)), 409, "BODY_CHANGED")
    api.step(1, step(1))
    assert api.open(day()).body == first.body  # for ever, not only before the first step
    api.close()
    assert api.open(day()).body == first.body


def test_opening_again_needs_no_policy_any_more(api: Api) -> None:
    first = api.open(day())
    with Api(store=api.store, policies={}) as later:
        again = later.open(day())
        assert (again.body, again.replayed) == (first.body, True)
        assert_problem(later.open(day(), "e"), 422, "UNKNOWN_POLICY")
