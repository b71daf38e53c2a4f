"""Orders made from bars: sizes, reference data, and cash that an even schedule never exhausts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.metrics import filled_share
from service.core.orders import BUY, SELL
from service.play.day_bars import DayBars
from service.play.orders import (
    SIZE_SHARE_MAX,
    Basket,
    OrdersError,
    draw_sides,
    draw_sizes,
    initial_cash_minor,
    make_orders,
    reference_arrays,
)
from service.play.sample import generate_days
from tests.play.played import even_day


@pytest.fixture(scope="module")
def days() -> list[DayBars]:
    return generate_days(7, 21)


@pytest.fixture(scope="module")
def basket(days: list[DayBars]) -> Basket:
    return make_orders(days[-1], days[:-1], 6, seed=7)


def test_a_basket(days: list[DayBars], basket: Basket) -> None:
    assert len(basket.cl_ord_id) == len(set(basket.symbol)) == 20
    assert basket.cl_ord_id[0] == "20261120-0001"
    assert list(basket.cl_ord_id) == sorted(basket.cl_ord_id)
    assert set(basket.side) == {BUY, SELL}
    assert basket.symbol == tuple(days[-1].symbols[at] for at in basket.column)
    assert (basket.order_qty > 0).all()


def test_the_same_seed_gives_the_same_orders(days: list[DayBars], basket: Basket) -> None:
    again, other = (make_orders(days[-1], days[:-1], 6, seed=seed) for seed in (7, 8))
    np.testing.assert_array_equal(basket.order_qty, again.order_qty)
    assert basket.symbol == again.symbol != other.symbol


def test_nothing_depends_on_what_the_day_brings(days: list[DayBars], basket: Basket) -> None:
    """Another future with the same opening prices makes the same orders and the same cash."""
    today, future = days[-1], generate_days(8, 1)[0]
    changed = DayBars(
        date=today.date,
        symbols=today.symbols,
        starts=today.starts,
        open=np.concatenate([today.open[:1], future.open[1:]]),
        high=future.high,
        low=future.low,
        close=future.close,
        price=future.price,
        volume=future.volume,
    )
    other = make_orders(changed, days[:-1], 6, seed=7)
    assert other.cash_minor == basket.cash_minor
    np.testing.assert_array_equal(other.order_qty, basket.order_qty)


def test_reference_data_come_from_the_days_before(days: list[DayBars], basket: Basket) -> None:
    known, at = basket.reference, basket.column
    assert known is not None
    np.testing.assert_array_equal(known.prev_close, days[-2].close[-1, at])
    adv = np.mean([day.volume[:, at].sum(axis=0) for day in days[:-1]], axis=0)
    np.testing.assert_allclose(known.adv_qty, adv, atol=0.51)
    assert known.profile_ppm.shape == (8, 20)
    np.testing.assert_array_equal(known.profile_ppm.sum(axis=0), 1_000_000)
    assert ((known.vol_ppm > 5_000) & (known.vol_ppm < 80_000)).all()


def test_volatility_is_that_of_the_moves_from_step_to_step() -> None:
    open_px, close = np.array([[10_000]]), np.array([[[10_100], [10_000]]])
    known = reference_arrays(open_px, close, np.array([[[30], [10]]]))
    assert known.vol_ppm[0] == round(1e6 * np.sqrt(2) * np.log(1.01))
    assert known.profile_ppm[:, 0].tolist() == [750_000, 250_000]
    batch = reference_arrays(open_px[None], close[None], np.array([[[[30], [10]]]]))
    assert batch.adv_qty.tolist() == [[40]]


def test_half_days_before_are_left_out(days: list[DayBars]) -> None:
    half = generate_days(7, 1, bars=24)
    assert make_orders(days[-1], [*days[:-1], *half], 6, seed=7).reference is not None
    assert make_orders(days[-1], half, 6, seed=7).reference is None


def test_a_single_day_gives_orders_without_reference(days: list[DayBars]) -> None:
    assert make_orders(days[-1], [], 6, seed=7).reference is None


def test_sides_and_lots(days: list[DayBars]) -> None:
    made = make_orders(days[-1], days[:-1], 6, seed=3, n=30, buy_share=0.8, lot=100)
    value = made.order_qty * days[-1].open[0, made.column]
    assert abs(value[made.side == BUY].sum() / value.sum() - 0.8) < 0.02
    assert not (made.order_qty % 100).any()


@pytest.mark.parametrize(("share", "sides"), [(0.0, {SELL}), (1.0, {BUY}), (0.5, {BUY, SELL})])
def test_sides_of_a_batch(share: float, sides: set[int]) -> None:
    value = np.random.default_rng(1).integers(1, 1_000, (50, 3, 12))
    side = draw_sides(np.random.default_rng(2), value, share)
    assert set(side.flat) == sides
    if share == 0.5:
        net = np.abs((side * value).sum(axis=-1))
        assert (net <= value.max(axis=-1)).all()
        largest = np.take_along_axis(side, value.argmax(axis=-1)[..., None], axis=-1)
        assert 0.3 < (largest == BUY).mean() < 0.7


@pytest.mark.parametrize("n", [0, 41])
def test_too_few_or_too_many_orders(days: list[DayBars], n: int) -> None:
    with pytest.raises(
        OrdersError, match=f"{n} orders asked for; 2026-11-20 has symbols for 1 to 40"
    ):
        make_orders(days[-1], days[:-1], 6, seed=3, n=n)


@given(st.integers(0, 10**9), st.sampled_from([1, 100, 7]), st.integers(0, 2**32))
def test_sizes(volume: int, lot: int, seed: int) -> None:
    step_volume = np.full((3, 50), volume, dtype=np.int64)
    qty = draw_sizes(np.random.default_rng(seed), step_volume, lot)
    assert qty.dtype == np.int64
    assert (qty >= lot).all()
    assert not (qty % lot).any()
    assert (qty <= max(lot, SIZE_SHARE_MAX * volume)).all()


def test_sizes_are_those_of_the_paper() -> None:
    step_volume = np.full(100_000, 10**7, dtype=np.int64)
    share = draw_sizes(np.random.default_rng(1), step_volume, 1) / 1e7
    assert abs(np.log(np.median(share)) + 3.28) < 0.02
    assert 0.001 < np.mean(share == SIZE_SHARE_MAX) < 0.02


def cash(side: list[int], qty: list[int], **dials: int) -> int:
    px = np.full(len(qty), 100_000)
    return int(initial_cash_minor(np.array(side), np.array(qty), px, 4, **dials))


def test_cash_by_hand() -> None:
    """Four steps at 10.00, a buy reserves at 10.30: only the last step's reserve exceeds price."""
    free = {"margin_bp": 0}
    assert cash([BUY], [400], **free) == 300_000 + 100 * 1_030
    assert cash([SELL], [400], **free) == 0
    # sales pay for all steps but the first
    assert cash([BUY, SELL], [400, 400], **free) == 100 * 1_030
    # in step 4 all 200 sales are there: 4 x 100 - 200 shares are still to pay
    assert cash([BUY, SELL], [400, 200], **free) == 200_000 + 3_000
    assert cash([BUY], [400], margin_bp=200) == (300_000 + 100 * 1_030) * 102 // 100
    # with a margin both legs count, and step 3 is the dearest: 300 shares bought, 200 sold
    both = (200_000 + 100 * 1_030) * 102 // 100 - 200_000 * 98 // 100
    assert cash([BUY, SELL], [400, 400], margin_bp=200) == both
    assert cash([BUY], [400], margin_bp=0, buffer_bp=0) == 400_000


def test_a_day_of_one_step_pays_before_it_sells() -> None:
    px = np.full(2, 100_000)
    sides, qty = np.array([BUY, SELL]), np.array([400, 400])
    assert initial_cash_minor(sides, qty, px, 1, margin_bp=0, buffer_bp=0) == 400_000


def test_cash_of_a_batch_is_that_of_its_days(days: list[DayBars]) -> None:
    rng = np.random.default_rng(4)
    side = rng.choice([BUY, SELL], (3, 5, 8))
    qty, px = rng.integers(1, 10_000, side.shape), rng.integers(10_000, 5_000_000, side.shape)
    batch = initial_cash_minor(side, qty, px, 13)
    assert batch.shape == (3, 5)
    for at in np.ndindex(3, 5):
        assert batch[at] == initial_cash_minor(side[at], qty[at], px[at], 13)


def test_an_even_schedule_completes_the_sample_day(days: list[DayBars], basket: Basket) -> None:
    closed = even_day(days[-1], basket, 6)
    assert int(closed.conflicts) == 0
    assert (filled_share(closed) == 1).all()


def test_an_even_schedule_runs_short_in_few_steps() -> None:
    short = []
    for seed in range(25):
        days = generate_days(seed, 11)
        short.append(
            int(even_day(days[-1], make_orders(days[-1], days[:-1], 6, seed), 6).conflicts)
        )
    assert sum(short) <= 0.01 * 8 * len(short)
