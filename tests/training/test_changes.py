"""Orders that arrive, are amended and are cancelled; and that nothing is known before its time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from service.core import metrics
from service.core.baselines import twap
from service.core.observe import observe
from service.core.orders import Proceeds
from training.changes import Changes
from training.episodes import EpisodeBatch, map_arrays, take_day, to_device
from training.simulator import begin, play, prepare

from .small import (
    EVERYTHING,
    assert_equals_slow,
    by_hand,
    episodes,
    played,
    random_actions,
    stopped,
)


def everything(seed: int, **basket: object) -> EpisodeBatch:
    """Episodes with every option on, and bars that stop trading."""
    return stopped(episodes(seed, **(EVERYTHING | basket)), seed)


@pytest.mark.parametrize("proceeds", Proceeds)
@pytest.mark.parametrize("late", [0, 2])
@pytest.mark.parametrize("seed", range(8))
def test_changes_equal_the_slow_reference(seed: int, late: int, proceeds: Proceeds) -> None:
    options = {"lot": (1, 7)[seed % 2], "cash_buffer_bp": (0, 300)[seed % 2]}
    options |= {"volume_cap_ppm": (0, 5_000, 50_000)[seed % 3]}
    options |= {"latency_bars": late, "proceeds": proceeds}
    batch = episodes(seed, **(EVERYTHING | options))
    batch = stopped(batch, seed) if seed % 4 else batch
    batch = replace(batch, cash_minor=batch.cash_minor * (1 + seed % 3) // 3)
    assert_equals_slow(batch, random_actions(batch, seed))


def three_changes() -> EpisodeBatch:
    """The day of :func:`by_hand` with cash for all: the first buy is cancelled before decision 3,
    the second arrives with decision 2, and before that the sale is amended from 8 to 12 shares."""
    batch = by_hand()
    asked = np.array([[[8, 8, 8], [8, 8, 12], [0, 8, 12], [0, 8, 12]]])
    orders = replace(batch.orders, start_step=np.array([[1, 2, 1]]))
    rules = replace(batch.rules, cash_buffer_bp=5_000)
    cash = np.array([50_000])
    return replace(batch, orders=orders, rules=rules, cash_minor=cash, changes=Changes(asked))


def test_a_day_with_changes_solved_by_hand() -> None:
    steps = played(three_changes(), np.array([[[1, 4, 1]], [[2, 1, 1]], [[4, 0, 0]], [[4, 4, 4]]]))
    children = [step.decision.child_qty[0].tolist() for step in steps]
    assert children == [[2, 0, 2], [4, 2, 3], [0, 0, 7], [0, 6, 0]]
    last = steps[-1].day
    assert last.orders.order_qty[0].tolist() == [6, 8, 12]
    assert last.orders.end_step[0].tolist() == [2, 4, 4]
    # the benchmarks are the prices of steps 1-2, 2-4 and 1-4
    assert metrics.twap_price(last)[0].tolist() == [105_000, 110_000, 107_500]
    eg = [-(64 / 6 - 10.5) / 10.5, -(82 / 8 - 11) / 11, (137 / 12 - 10.75) / 10.75]
    assert metrics.execution_gain_bp(last)[0].tolist() == pytest.approx([1e4 * e for e in eg])
    gains = torch.stack([step.gain[0] for step in steps])
    assert gains.sum(0).tolist() == pytest.approx(eg, rel=1e-5)
    # a cancel restates the gain of 2 x 0.5 - 4 x 0.5 as a share of the 6 filled, not of 8
    assert gains[:, 0].tolist() == pytest.approx([1 / 84, -1 / 63 - 1 / 84, 0, 0], abs=1e-7)
    first = 2 * (10 - 10.75) / 12 / 10.75  # of the 12 that the sale wants from decision 2 on
    assert float(gains[0, 2]) == pytest.approx(first, rel=1e-5)
    assert int(last.cash_minor) == 50_000 - 6_400 - 8_200 + 13_700


def test_an_order_is_seen_from_its_arrival_on() -> None:
    batch = three_changes()
    before = begin(batch, prepare(batch))
    assert before.orders.live.tolist() == [[True, False, True]]
    assert before.remaining.tolist() == [[8, 0, 8]]
    seen = observe(before)
    assert not seen.features[0, 1].any()
    without = map_arrays(batch, lambda array: array)
    without = replace(without, orders=replace(without.orders, live=np.array([[1, 0, 1]]) > 0))
    asked = without.changes.order_qty * [1, 0, 1]
    without = replace(without, changes=Changes(asked))
    alone = take_day(without, 0)
    features = observe(begin(alone, prepare(alone))).features
    np.testing.assert_array_equal(features, seen.features[0, [0, 2]])
    assert play(batch, twap).orders.live.all()


@pytest.mark.parametrize("seed", range(4))
def test_both_gains_add_up_to_the_execution_gain_of_the_final_target(seed: int) -> None:
    batch = everything(seed, cancel_share=(0.3, 0.5))
    steps = played(batch, random_actions(batch, seed))
    last = steps[-1].day
    # an order that could never trade has no benchmark: it earns nothing
    known = (last.orders.live & (last.intervals > 0)).numpy()
    expected = np.where(known, metrics.execution_gain_bp(last).numpy() / 1e4, 0.0)
    gain = sum(step.gain for step in steps).numpy()
    shaped = sum(step.shaped for step in steps).numpy()
    np.testing.assert_allclose(gain, expected, atol=2e-6)
    np.testing.assert_allclose(shaped, expected, atol=2e-6)


def test_an_order_cancelled_before_it_traded_is_gone() -> None:
    batch = episodes(2, days=40, cancel_share=(0.5, 0.5))
    steps = played(batch, 0 * random_actions(batch, 2))
    assert batch.changes is not None
    gone = torch.from_numpy((batch.changes.order_qty[:, -1] == 0) & batch.orders.live)
    assert gone.any()
    last = steps[-1].day
    idle = gone & (last.cum_qty == 0)  # all but sales that are forced before their cancel
    assert idle.sum() > 0.8 * gone.sum()
    assert not last.orders.live[idle].any()
    for name in ("gain", "shaped"):
        total = sum(getattr(step, name) for step in steps)
        np.testing.assert_allclose(total[idle], 0.0, atol=1e-6)
    assert last.orders.live.any(-1).all()


@pytest.mark.parametrize("seed", range(3))
def test_targets_never_fall_below_what_is_filled(seed: int) -> None:
    batch = to_device(everything(seed, amend_share=(0.8, 1.0)))
    steps = played(everything(seed, amend_share=(0.8, 1.0)), random_actions(batch, seed))
    assert batch.changes is not None
    seen_amended = False
    for t, step in enumerate(steps[:-1], 1):
        orders = step.day.orders
        asked = batch.changes.order_qty[:, t] * (orders.start_step <= t + 1)
        assert torch.equal(orders.order_qty, torch.maximum(asked, step.day.cum_qty))
        seen_amended |= bool((orders.order_qty > batch.orders.order_qty).any())
        assert bool((step.day.remaining >= 0).all())
        assert bool((orders.window >= 1).all())
    assert seen_amended


def test_drawn_changes_are_as_asked() -> None:
    shares = {"arrive_share": (0.5, 0.5), "amend_share": (0.4, 0.4), "cancel_share": (0.3, 0.3)}
    batch = episodes(1, days=200, orders=(8, 10), **shares)
    orders, changes = batch.orders, batch.changes
    assert changes is not None
    live = orders.live
    late = (orders.start_step > 1) & live
    assert abs(late.sum(1) - 0.5 * live.sum(1)).max() <= 0.5
    assert ((orders.end_step < batch.rules.steps) & late).any()
    assert (orders.start_step <= orders.end_step).all()
    gone = (changes.order_qty == 0).any(1) & live
    assert 0.2 < gone.sum() / live.sum() <= 0.31  # windows of one decision are not cancelled
    amended = ((changes.order_qty != orders.order_qty[:, None]) & (changes.order_qty > 0)).any(1)
    assert 0.15 < amended.sum() / live.sum() <= 0.41
    ratio = changes.order_qty.max(1)[live] / orders.order_qty[live]
    assert ratio.max() <= 1.5
    # before its second decision nothing happens to an order
    first = np.take_along_axis(changes.order_qty, orders.start_step[:, None] - 1, axis=1)[:, 0]
    np.testing.assert_array_equal(first, orders.order_qty)
    assert not (late | gone)[:, 0].any()
    assert not changes.order_qty.transpose(0, 2, 1)[~live].any()


def test_an_even_schedule_over_windows_is_seldom_short_of_cash() -> None:
    batch = episodes(
        9, days=100, orders=(20, 20), margin_bp=(300.0, 300.0), arrive_share=(0.5, 0.5)
    )
    day = play(batch, twap)
    assert metrics.conflict_share(day).mean() <= 0.02
    assert (metrics.filled_share(day)[batch.orders.live] == 1).mean() > 0.97


def disturbed(batch: EpisodeBatch, step: int, seed: int) -> EpisodeBatch:
    """``batch`` with other bars after interval ``step`` and other changes after its decision."""
    rng, bars = np.random.default_rng(seed), batch.bars
    later = np.arange(bars.close.shape[1])[:, None] >= step * batch.bars_per_step
    scale = rng.integers(1, 5, bars.close.shape)
    names = ("open", "high", "low", "close", "price", "volume")
    prices = {n: np.where(later, getattr(bars, n) * scale, getattr(bars, n)) for n in names}
    halted = np.where(later, rng.random(scale.shape) < 0.5, bars.halted)
    locked = np.where(later, rng.integers(-1, 2, scale.shape), bars.locked)
    asked = batch.changes.order_qty
    future = np.arange(batch.rules.steps)[:, None] > step
    other = np.where(future, asked * rng.integers(0, 3, asked.shape), asked)
    orders, unborn = batch.orders, batch.orders.start_step > step + 1
    # an order that has not arrived may be any other
    qty, asked_now = np.where(unborn, 3 * orders.order_qty, orders.order_qty), other
    asked_now = np.where(unborn[:, None] & ~future, 3 * other, other)
    side = np.where(unborn, -orders.side, orders.side)
    return replace(
        batch,
        orders=replace(orders, order_qty=qty, side=side),
        bars=replace(bars, **prices, halted=halted, locked=locked),
        changes=Changes(asked_now),
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cap", [0, 20_000])
def test_the_future_is_not_seen(seed: int, cap: int) -> None:
    """With every option on: change all that comes after a decision, and it sees the same."""
    batch = everything(seed, volume_cap_ppm=cap)
    actions = random_actions(batch, seed)
    steps = played(batch, actions)
    for step in range(1, batch.rules.steps):
        other = disturbed(batch, step, seed)
        again = played(other, actions)[:step]
        ours, theirs = observe(steps[step - 1].day), observe(again[-1].day)
        assert torch.equal(ours.features, theirs.features)
        assert torch.equal(ours.live, theirs.live)
        assert torch.equal(steps[step - 1].day.cash_minor, again[-1].day.cash_minor)
        assert torch.equal(steps[step - 1].fills.qty, again[-1].fills.qty)


@pytest.mark.parametrize("seed", range(3))
def test_orders_may_come_in_any_order(seed: int) -> None:
    batch = everything(seed, orders=(6, 6))
    turn = np.random.default_rng(seed).permutation(6)

    def turned(array: np.ndarray) -> np.ndarray:
        return array[..., turn] if array.ndim > 1 else array

    actions = random_actions(batch, seed)
    ours, theirs = played(batch, actions), played(map_arrays(batch, turned), actions[..., turn])
    for one, other in zip(ours, theirs, strict=True):
        for name in ("gain", "shaped", "share"):
            assert torch.equal(getattr(one, name)[:, turn], getattr(other, name))
        assert torch.equal(one.day.cash_minor, other.day.cash_minor)
        assert torch.equal(one.fills.qty[:, turn], other.fills.qty)


@pytest.mark.parametrize("factor", [2, 3, 10])
def test_scaled_prices_give_the_same_gains(factor: int) -> None:
    batch = everything(7, cash_buffer_bp=1_000, margin_bp=(3_000.0, 3_000.0))
    names = ("open", "high", "low", "close", "price")
    bars = replace(batch.bars, **{name: factor * getattr(batch.bars, name) for name in names})
    orders = replace(batch.orders, prev_close=factor * batch.orders.prev_close)
    rules = replace(batch.rules, ticks_per_minor=factor * batch.rules.ticks_per_minor)
    scaled = replace(batch, bars=bars, orders=orders, rules=rules)
    actions = random_actions(batch, 7)
    for one, other in zip(played(batch, actions), played(scaled, actions), strict=True):
        assert torch.equal(one.decision.child_qty, other.decision.child_qty)
        np.testing.assert_allclose(one.gain, other.gain, atol=1e-5)
        np.testing.assert_allclose(one.shaped, other.shaped, atol=1e-5)
