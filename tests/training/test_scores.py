"""Scores of finished days, and the cash-aware schedule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from service.core import metrics
from service.core.orders import BUY, Proceeds
from service.core.policy import Intent
from training.arenas import Days, arena
from training.config import TrainConfig
from training.episodes import to_device
from training.evaluate import always, played
from training.rules import RULES, twap_sync
from training.scores import score
from training.simulator import RewardConfig, advance, begin, play, prepare, rewards, weights

from .small import by_hand, episodes

ACTIONS = np.array([[[8, 8, 0]], [[8, 8, 4]], [[0, 0, 0]], [[0, 0, 0]]])


def by_hand_played():
    return play(by_hand(), lambda day, _: Intent(ACTIONS[day.step]))


def test_a_score_is_the_core_metrics() -> None:
    found = score([by_hand_played()])
    assert found.eg_bp == pytest.approx(0.75 / 10.75 * 1e4)
    assert found.toc_pct == 50.0
    assert (found.pos, found.filled_pct) == (1.0, 100.0)
    assert found.objective_bp(RewardConfig(sigma=1e-3)) == pytest.approx(found.eg_bp - 20.0)
    assert found.arr_pct == pytest.approx(100 * ((1 + 0.1 * found.eg_bp / 1e4) ** 250 - 1))


def test_costs_are_weighted_by_value_and_cash_has_a_low_water_mark() -> None:
    day = by_hand_played()
    found = score([day])
    # equal targets at one price: weighted as if they were not
    assert found.slippage_bp == pytest.approx(-found.eg_bp)
    bought = day.cum_notional[0, :2].sum() - 16 * 100_000
    sold = day.cum_notional[0, 2] - 8 * 100_000
    assert found.shortfall_bp == pytest.approx(1e4 * (bought - sold) / (24 * 100_000))
    assert found.low_water_pct == 0.0  # the first step spends all of it
    assert found.log_gain_bp is None


def test_orders_count_alike_or_by_their_value() -> None:
    """By value, what is gained is what is saved in money: slippage with its sign turned."""
    batch = episodes(8, orders=(3, 9), days=40)
    market = prepare(batch)
    rng = np.random.default_rng(2)
    share = rng.integers(0, 3, (batch.rules.steps, *batch.orders.side.shape))
    day = play(batch, lambda day, _: Intent(batch.orders.order_qty * share[day.step] // 8), market)
    money, live = RewardConfig(weight="value"), day.orders.live
    assert weights(day, RewardConfig()) == 1.0
    counted = weights(day, money)
    np.testing.assert_allclose((counted * live).sum(axis=1), live.sum(axis=1), rtol=1e-5)
    assert (counted * live).max() > 1.5
    found = score([day])
    eg = metrics.execution_gain_bp(day)
    by_value = (eg * counted * live).sum(axis=1) / live.sum(axis=1)
    # values at arrival against values at TWAP: a little apart
    np.testing.assert_allclose(
        by_value, -found.days["slippage_bp"], atol=0.05 * abs(by_value).max()
    )
    assert abs(by_value - found.days["eg_bp"]).max() > 1.0
    assert found.objective_bp(replace(money, sigma=0.0)) == pytest.approx(-found.slippage_bp)


def test_rewards_by_value_add_up_to_what_is_gained_by_value() -> None:
    batch = episodes(4, orders=(5, 5))
    market = prepare(batch)
    day, total, money = begin(batch, market), 0.0, RewardConfig(0.0, 0.0, weight="value")
    for _ in range(batch.rules.steps):
        step = advance(day, day.orders.order_qty // 3, market)
        total, day = total + rewards(step, step.gain, money), step.day
    gained = metrics.execution_gain_bp(day) * weights(day, money)
    np.testing.assert_allclose(1e4 / money.scale * total, gained, atol=0.02)


def test_baskets_of_one_day_are_one_day() -> None:
    """What two baskets of a day come to is the mean of them, one value for each day."""
    baskets = [episodes(3), episodes(4)]
    one, other = (played(Days([batch]), always(RULES["ac"])) for batch in baskets)
    both = played(Days(baskets), always(RULES["ac"]))
    assert (one.days["eg_bp"] != other.days["eg_bp"]).all()
    for name, values in both.days.items():
        np.testing.assert_allclose(values, (one.days[name] + other.days[name]) / 2)
    assert both.log_gain_bp == pytest.approx((one.log_gain_bp + other.log_gain_bp) / 2)


def test_low_water_is_the_share_of_the_initial_cash() -> None:
    batch = episodes(5)
    day = play(batch, RULES["twap"])
    known = np.minimum(day.min_cash_minor / batch.cash_minor, 1.0)
    np.testing.assert_allclose(score([day]).days["low_water_pct"], 100 * known, atol=1e-3)


@pytest.mark.parametrize("proceeds", list(Proceeds))
def test_a_synchronised_schedule_is_cut_at_the_end_only(proceeds: Proceeds) -> None:
    batch = episodes(7, days=30, orders=(6, 6), margin_bp=(-300.0, 0.0), proceeds=proceeds)
    market = prepare(batch)
    day, cut = begin(batch, market), []
    for _ in range(batch.rules.steps):
        step = advance(day, twap_sync(day).wish, market)
        cut.append(step.cut.any())
        day = step.day
    assert [bool(each) for each in cut] == [False, False, False, True]
    assert (day.cum_qty > 0).all()


def test_buys_of_a_synchronised_schedule_share_one_factor() -> None:
    batch = episodes(8, days=4, orders=(6, 6))
    batch = replace(batch, cash_minor=batch.cash_minor // 20)
    day = begin(batch, prepare(batch))
    even, wish = RULES["twap"](day, None).wish, twap_sync(day).wish
    buys = day.orders.side == BUY
    np.testing.assert_array_equal(even[~buys], wish[~buys])
    for at in range(4):
        part = (wish / np.maximum(even, 1))[at][buys[at]]
        assert part.max() < 1.0
        assert np.ptp(part) <= 1 / even[at][buys[at]].min() + 1e-9


def test_torch_and_numpy_score_alike() -> None:
    batch = arena(TrainConfig(lab="tight")).test(8).batches[0]
    one = played(Days([batch]), always(twap_sync))
    two = played(Days([batch]), always(twap_sync), "cpu")
    assert one.eg_bp == pytest.approx(two.eg_bp, abs=1e-9)
    assert int(play(to_device(batch), twap_sync).conflicts.sum()) == one.days["conflicts"].sum()
