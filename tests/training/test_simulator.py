"""The simulator against a day solved by hand, a slow twin in plain Python, and its own laws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from service.core import laws, metrics
from service.core.baselines import twap
from service.core.orders import BUY, Proceeds
from training.episodes import map_arrays, take_day, to_device
from training.simulator import RewardConfig, play, prepare, rewards

from .small import assert_equals_slow, by_hand, episodes, played, random_actions


def test_a_day_solved_by_hand() -> None:
    """All want all at once: cash pays 12 of 16; at 11 it pays none; the sale then pays the rest."""
    actions = np.array([[[4, 4, 0]], [[4, 4, 2]], [[0, 0, 0]], [[0, 0, 0]]])
    steps = played(by_hand(), actions)
    children = torch.stack([step.decision.child_qty[0] for step in steps])
    assert children.tolist() == [[6, 6, 0], [0, 0, 4], [0, 0, 4], [2, 2, 0]]
    assert [step.cut.tolist() for step in steps] == [[True], [True], [False], [False]]
    cash = [int(step.day.cash_minor) for step in steps]
    assert cash == [0, 4_400, 9_200, 5_200]
    # TWAP is 10.75; the buys paid 10, the sale got 11.5
    assert metrics.execution_gain_bp(steps[-1].day)[0].tolist() == pytest.approx(
        [0.75 / 10.75 * 1e4, 0.75 / 10.75 * 1e4, 0.75 / 10.75 * 1e4]
    )
    gains = torch.stack([step.gain[0] for step in steps])
    first = 0.75 * 0.75 / 10.75  # three quarters bought 0.75 below TWAP
    assert gains[0].tolist() == pytest.approx([first, first, 0.0], rel=1e-6)
    reward = rewards(steps[0], steps[0].gain, RewardConfig(alpha=0.01, sigma=0.001, scale=1.0))
    own = first - 0.01 * 0.75**2
    assert reward[0].tolist() == pytest.approx([own - 0.003, own - 0.003, -0.003], rel=1e-5)
    team = rewards(steps[0], steps[0].gain, RewardConfig(0.01, 0.001, scale=1.0), "team")
    assert team[0].tolist() == pytest.approx([2 * own / 3 - 0.001] * 3, rel=1e-5)


@pytest.mark.parametrize("proceeds", Proceeds)
@pytest.mark.parametrize("late", [0, 2])
@pytest.mark.parametrize("seed", range(12))
def test_equals_the_slow_reference(seed: int, late: int, proceeds: Proceeds) -> None:
    basket = {"lot": (1, 7, 100)[seed % 3], "cash_buffer_bp": (0, 100)[seed % 2]}
    batch = episodes(seed, latency_bars=late, proceeds=proceeds, **basket)
    batch = replace(batch, cash_minor=batch.cash_minor * (seed % 4) // 3)  # from broke to enough
    actions = random_actions(batch, seed)
    assert_equals_slow(batch, actions)


@pytest.mark.parametrize("proceeds", Proceeds)
@pytest.mark.parametrize("seed", range(5))
def test_laws_and_money_hold(seed: int, proceeds: Proceeds) -> None:
    batch = episodes(seed, proceeds=proceeds)
    batch = replace(batch, cash_minor=batch.cash_minor // 2)
    before = to_device(batch)
    for step in played(batch, random_actions(batch, seed)):
        flow = (step.day.orders.side * step.fills.cash_minor).sum(-1)
        assert torch.equal(step.day.cash_minor, before.cash_minor + flow)
        assert bool((step.day.cash_minor >= 0).all())
        assert laws.broken_by_day(step.day) == []
        before = replace(before, cash_minor=step.day.cash_minor)


def test_same_step_proceeds_pay_for_buys_at_the_execution_price() -> None:
    batch = by_hand()
    batch = replace(
        batch,
        cash_minor=batch.cash_minor * 0,
        rules=replace(batch.rules, proceeds=Proceeds.SAME_STEP),
    )
    steps = played(batch, np.array([[[2, 2, 4]], [[0, 0, 0]], [[0, 0, 0]], [[0, 0, 0]]]))
    assert steps[0].decision.child_qty[0].tolist() == [4, 4, 8]
    assert not bool(steps[0].cut)
    assert int(steps[0].day.cash_minor) == 0
    # a sale that will not execute promises nothing
    dry = replace(batch, bars=replace(batch.bars, volume=batch.bars.volume * np.array([1, 1, 0])))
    steps = played(dry, np.array([[[2, 2, 4]]] * 4))
    assert steps[0].decision.child_qty[0].tolist() == [0, 0, 8]
    assert all(int(step.day.cash_minor) == 0 for step in steps)


def test_zero_fill_earns_zero() -> None:
    batch = episodes(3)
    silent = replace(batch, bars=replace(batch.bars, volume=batch.bars.volume * 0))
    for step in played(silent, random_actions(silent, 3)):
        assert not step.fills.qty.any()
        assert not step.gain.any()
        assert not step.shaped.any()
    idle = played(batch, 0 * random_actions(batch, 3))[0]
    assert not idle.gain.any()


@pytest.mark.parametrize("seed", range(6))
def test_both_gains_add_up_to_the_execution_gain(seed: int) -> None:
    batch = episodes(seed)
    batch = replace(batch, cash_minor=batch.cash_minor * (seed % 3))  # with seed 0, 3: unfilled
    steps = played(batch, random_actions(batch, seed))
    market = prepare(to_device(batch))
    live, last = batch.orders.live, steps[-1].day
    twap_price = metrics.twap_price(last)
    np.testing.assert_allclose(market.twap.numpy()[live], twap_price.numpy()[live])
    gain = sum(step.gain for step in steps)
    shaped = sum(step.shaped for step in steps)
    # what was not filled is marked at the same price by rewards and metric
    expected = metrics.execution_gain_bp(last).numpy()[live] / 1e4
    np.testing.assert_allclose(gain.numpy()[live], expected, atol=1e-6)
    np.testing.assert_allclose(shaped.numpy()[live], expected, atol=1e-6)


def test_padding_and_batching_change_nothing() -> None:
    batch = episodes(5, days=8)
    actions = random_actions(batch, 5)
    steps = played(batch, actions)
    assert not batch.orders.live.all()
    for b in range(8):
        live, day = batch.orders.live[b], take_day(batch, b)
        alone = map_arrays(day, lambda array: array[None])
        own = played(alone, actions[:, [b]][..., live])
        for step, single in zip(steps, own, strict=True):
            for name in ("gain", "shaped", "share"):
                ours = getattr(step, name)[b].numpy()
                np.testing.assert_array_equal(ours[live], getattr(single, name)[0].numpy())
                assert not ours[~live].any()
            assert torch.equal(step.day.cash_minor[b], single.day.cash_minor[0])


def test_scaling_prices_changes_no_decision_and_no_reward() -> None:
    batch = episodes(7)
    prices = ("open", "high", "low", "close", "price")
    bars = replace(batch.bars, **{name: 4 * getattr(batch.bars, name) for name in prices})
    orders = replace(batch.orders, prev_close=4 * batch.orders.prev_close)
    rules = replace(batch.rules, ticks_per_minor=4 * batch.rules.ticks_per_minor)
    scaled = replace(batch, bars=bars, orders=orders, rules=rules)
    actions = random_actions(batch, 7)
    for step, other in zip(played(batch, actions), played(scaled, actions), strict=True):
        assert torch.equal(step.decision.child_qty, other.decision.child_qty)
        # interval prices are rounded to a tick, which is now a quarter of what it was
        np.testing.assert_allclose(step.gain, other.gain, atol=1e-5)


def test_an_even_schedule_is_neither_short_of_cash_nor_ahead() -> None:
    batch = episodes(9, days=200, margin_bp=(200.0, 200.0), orders=(20, 20))
    day = play(batch, twap)
    assert metrics.conflict_share(day).mean() <= 0.01
    assert (metrics.filled_share(day)[batch.orders.live] == 1).mean() > 0.99
    assert abs(metrics.execution_gain_bp(day)[batch.orders.live].mean()) < 1.0
    assert (day.cash_minor >= 0).all()
    assert (batch.orders.side == BUY).any()
