"""The walk through an interval's bars: caps, halts and locked bars, by hand and by slow twins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from service.core import laws, metrics
from service.core.day import Day
from service.core.orders import BUY, SELL, Proceeds
from training.episodes import Bars, EpisodeBatch, to_device
from training.simulator import RewardConfig, Step, advance, begin, prepare, rewards
from training.walk import slices

from .small import (
    EVERYTHING,
    assert_equals_slow,
    by_hand,
    episodes,
    played,
    random_actions,
    stopped,
)


@pytest.mark.parametrize("proceeds", Proceeds)
@pytest.mark.parametrize("late", [0, 1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_caps_halts_and_locks_equal_the_slow_reference(
    seed: int, late: int, proceeds: Proceeds
) -> None:
    basket = {"lot": (1, 7, 100)[seed % 3], "cash_buffer_bp": (0, 100)[seed % 2]}
    basket |= {"latency_bars": late, "proceeds": proceeds}
    batch = episodes(seed, volume_cap_ppm=(0, 3_000, 30_000, 10**6)[seed % 4], **basket)
    batch = stopped(replace(batch, cash_minor=batch.cash_minor * (1 + seed % 3) // 3), seed)
    assert_equals_slow(batch, random_actions(batch, seed))


def three_bars() -> EpisodeBatch:
    """The day of :func:`by_hand` in steps of three bars, a tick apart around the old price."""
    batch = by_hand()
    middle = np.repeat(batch.bars.close, 3, axis=1)
    price = middle + np.tile([-100, 0, 100], 4)[None, :, None]
    volume = np.tile([10, 20, 30], 4)[None, :, None] + 0 * price
    bars = Bars(price, price, price, price, price, volume)
    return replace(batch, bars=bars, bars_per_step=3, cash_minor=np.array([100_000]))


def test_a_day_with_a_cap_solved_by_hand() -> None:
    """A tenth of the volume is 1, 2 and 3 shares a bar; 8 shares are slices of 3, 2 and 3."""
    batch = three_bars()
    batch = replace(batch, volume_cap_ppm=100_000, rules=replace(batch.rules, cash_buffer_bp=5_000))
    steps = played(batch, np.array([[[4, 2, 1]], [[0, 0, 0]], [[4, 0, 0]], [[0, 0, 0]]]))
    # the second wants 1, 2 and 1; the third 1, 0 and 1, and when it is forced 2, 2 and 2
    assert [step.fills.qty[0].tolist() for step in steps] == [
        [6, 4, 2],
        [0, 0, 0],
        [2, 0, 5],
        [0, 4, 1],
    ]
    assert steps[0].fills.notional[0].tolist() == [
        99_900 + 2 * 100_000 + 3 * 100_100,
        99_900 + 2 * 100_000 + 100_100,
        99_900 + 100_100,
    ]
    # every bar of a buy is rounded up to a cent, here exact
    assert int(steps[0].day.cash_minor) == 100_000 - 6_002 - 4_000 + 2_000
    assert steps[0].decision.child_qty[0].tolist() == [8, 4, 2]
    assert steps[2].decision.child_qty[0].tolist() == [2, 0, 6]
    twap = 107_500
    gain = -(6 * 100_000 + 200 - 6 * twap) / 8 / twap
    assert float(steps[0].gain[0, 0]) == pytest.approx(gain, rel=1e-6)
    assert metrics.filled_share(steps[-1].day)[0].tolist() == [1.0, 1.0, 1.0]


def published(
    position: int, wish: int, volumes: list[int], share: float, last: bool
) -> list[float]:
    """The published transition of one order: what it executes in each bar of a step.

    The volume is split equally over the bars, each part is cut to a share of the bar's volume, and
    the last decision takes all that remains.
    """
    volume = position if last else min(wish, position)
    return [min(volume / len(volumes), share * bar) for bar in volumes]


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_published_transition_of_one_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch = episodes(
        seed, days=1, orders=(1, 1), proceeds=Proceeds.SAME_STEP, volume_cap_ppm=100_000
    )
    orders, cash = batch.orders, 100 * batch.cash_minor
    orders = replace(orders, adv_qty=0 * orders.adv_qty)  # no cap on what is expected to trade
    amount, shape = int(orders.order_qty[0, 0]), batch.bars.volume.shape
    volume = 10 * (rng.integers(0, 200, shape) * amount // 1_000)  # a tenth is whole shares
    batch = replace(batch, orders=orders, cash_minor=cash, bars=replace(batch.bars, volume=volume))
    quarters = rng.integers(0, 3, (4, 1, 1))
    filled = 0
    for t, step in enumerate(played(batch, quarters)):
        bars = slice(3 * t, 3 * t + 3)
        wish = (2 * amount * int(quarters[t, 0, 0]) + 4) // 8
        theirs = published(amount - filled, wish, volume[0, bars, 0].tolist(), 0.1, t == 3)
        assert abs(int(step.fills.qty[0, 0]) - sum(theirs)) <= 1
        price = batch.bars.price[0, bars, 0]
        notional = float(np.dot(theirs, price))
        assert abs(int(step.fills.notional[0, 0]) - notional) <= price.max()
        filled = int(step.day.cum_qty[0, 0])


def test_slices_add_up_in_whole_lots() -> None:
    rng = np.random.default_rng(0)
    qty, lot = rng.integers(0, 2_000, 300), rng.choice([1, 7, 100], 300)
    part = slices(qty, lot, 6)
    assert part.shape == (6, 300)
    assert (part.sum(axis=0) == qty).all()
    assert (part >= 0).all()
    assert (part[:-1] % lot == 0).all()
    even = qty // lot * lot / 6
    assert (abs(part - even) < 2 * lot).all()
    torch.testing.assert_close(
        slices(torch.from_numpy(qty), torch.from_numpy(lot), 6), torch.from_numpy(part)
    )


@pytest.mark.parametrize("proceeds", Proceeds)
@pytest.mark.parametrize("seed", range(6))
def test_laws_and_money_hold_with_every_option(seed: int, proceeds: Proceeds) -> None:
    options = EVERYTHING | {"volume_cap_ppm": (0, 5_000, 50_000)[seed % 3]}
    batch = episodes(seed, proceeds=proceeds, lot=(1, 7)[seed % 2], **options)
    batch = stopped(replace(batch, cash_minor=batch.cash_minor // 2), seed)
    cash = to_device(batch).cash_minor
    for step in played(batch, random_actions(batch, seed)):
        cash = cash + (step.day.orders.side * step.fills.cash_minor).sum(-1)
        assert torch.equal(step.day.cash_minor, cash)
        assert bool((cash >= 0).all())
        assert laws.broken_by_day(step.day) == []
        assert bool((step.fills.qty >= 0).all())
        assert bool((step.fills.qty <= step.decision.child_qty).all())


@pytest.mark.parametrize("cap", [0, 20_000])
@pytest.mark.parametrize("seed", range(3))
def test_no_fill_in_an_interval_earns_nothing(seed: int, cap: int) -> None:
    """In an interval that a halt or a lock takes whole: no gain, no reward, whatever is asked."""
    batch = stopped(episodes(seed, volume_cap_ppm=cap), seed, share=0.6)
    steps = played(batch, random_actions(batch, seed))
    dry = 0
    for t, step in enumerate(steps):
        assert bool((step.day.last_px > 0).all())
        shut = prepare(to_device(batch)).snapshots[t + 1].volume == 0
        assert not step.fills.qty[shut].any()
        if t + 1 < len(steps):  # the last step also marks what is left
            assert not step.gain[step.fills.qty == 0].any()
        dry += int((shut & batch_live(batch)).sum())
        alone = replace(step, cut=torch.zeros_like(step.cut))
        if t + 1 < len(steps):
            assert not rewards(alone, step.gain, RewardConfig())[shut].any()
    assert dry


def batch_live(batch: EpisodeBatch) -> torch.Tensor:
    return torch.from_numpy(batch.orders.live)


def shut_from(batch: EpisodeBatch, bar: int, kind: str) -> EpisodeBatch:
    """``batch`` with every bar from ``bar`` on halted, locked against all, or without volume."""
    shape = batch.bars.close.shape
    late = np.broadcast_to(np.arange(shape[1])[:, None] >= bar, shape)
    against = np.where(late, -batch.orders.side[:, None], 0)
    changed = {
        "halted": {"halted": late},
        "locked": {"locked": against},
        "dry": {"volume": batch.bars.volume * ~late},
    }
    return replace(batch, bars=replace(batch.bars, **changed[kind]))


@pytest.mark.parametrize("kind", ["halted", "locked", "dry"])
@pytest.mark.parametrize("cap", [0, 20_000])
def test_asking_in_a_halt_earns_nothing(kind: str, cap: int) -> None:
    batch = episodes(2, volume_cap_ppm=cap)
    for step in played(shut_from(batch, 0, kind), random_actions(batch, 2)):
        assert not step.fills.qty.any()
        assert not step.gain.any()
        assert not step.shaped.any()
        assert not rewards(step, step.gain, RewardConfig())[~step.cut].any()
    # shut in the afternoon: asking for everything there earns what asking for nothing does
    afternoon = shut_from(batch, 6, kind)
    actions = random_actions(batch, 3)
    idle, eager = actions.copy(), actions.copy()
    idle[2:], eager[2:] = 0, 4
    for one, other in zip(played(afternoon, idle), played(afternoon, eager), strict=True):
        assert torch.equal(one.gain, other.gain)
        assert torch.equal(one.shaped, other.shaped)


def test_a_halt_quotes_nothing() -> None:
    """Whatever the bars of a halt hold, also zeros: the day is the same, and its news a halt."""
    batch = shut_from(episodes(5), 6, "halted")
    halted = batch.bars.halted
    prices = ("open", "high", "low", "close", "price", "volume")
    zeros = {name: np.where(halted, 0, getattr(batch.bars, name)) for name in prices}
    other = replace(batch, bars=replace(batch.bars, **zeros))
    actions = random_actions(batch, 5)
    for one, same in zip(played(batch, actions), played(other, actions), strict=True):
        assert torch.equal(one.gain, same.gain)
        assert torch.equal(one.day.last_px, same.day.last_px)
    assert bool(one.day.halted[batch_live(batch)].all())
    assert not bool(one.day.tradable.any())


def test_a_locked_bar_stops_one_side() -> None:
    batch = by_hand()
    up = np.where(np.arange(4)[:, None] < 2, SELL, 0) + 0 * batch.bars.close
    batch = replace(batch, bars=replace(batch.bars, locked=up), cash_minor=np.array([50_000]))
    batch = replace(batch, rules=replace(batch.rules, cash_buffer_bp=5_000))
    steps = played(batch, np.array([[[2, 2, 2]]] * 4))
    assert [step.fills.qty[0].tolist() for step in steps] == [
        [0, 0, 4],
        [0, 0, 4],
        [4, 4, 0],
        [4, 4, 0],
    ]
    # the bars in which a buy could not trade are not in its benchmark
    assert metrics.twap_price(steps[-1].day)[0].tolist() == [110_000, 110_000, 107_500]
    down = replace(batch, bars=replace(batch.bars, locked=BUY * abs(up)))
    assert played(down, np.array([[[2, 2, 2]]] * 4))[0].fills.qty[0].tolist() == [4, 4, 0]


def test_numpy_and_torch_walk_alike() -> None:
    batch = stopped(episodes(6, **EVERYTHING), 6)
    actions = random_actions(batch, 6)
    market, steps = prepare(batch), played(batch, actions)
    day: Day = begin(batch, market)
    from service.core.policy import grid_wish

    for action, other in zip(actions, steps, strict=True):
        step: Step = advance(day, grid_wish(day, action), market)
        for name in ("gain", "shaped", "share"):
            np.testing.assert_array_equal(getattr(step, name), getattr(other, name).numpy())
        np.testing.assert_array_equal(step.day.cash_minor, other.day.cash_minor.numpy())
        day = step.day


def test_what_is_decided_late_trades_in_the_bars_that_are_left() -> None:
    """Without its first bar, 8 shares are slices of 4 and 4; no bar holds any of it back."""
    batch = three_bars()
    volume = batch.bars.volume * 1_000
    rules = replace(batch.rules, cash_buffer_bp=5_000)
    batch = replace(batch, latency_bars=1, rules=rules, bars=replace(batch.bars, volume=volume))
    first = played(batch, np.array([[[4, 2, 1]], [[0, 0, 0]], [[4, 0, 0]], [[0, 0, 0]]]))[0]
    assert first.fills.qty[0].tolist() == [8, 4, 2]
    assert first.fills.notional[0].tolist() == [4 * 200_100, 2 * 200_100, 200_100]


@pytest.mark.parametrize("late", [0, 1, 2])
def test_latency_is_of_every_interval_and_changes_no_benchmark(late: int) -> None:
    usual, batch = episodes(3), episodes(3, latency_bars=late)
    np.testing.assert_array_equal(usual.bars.price, batch.bars.price)
    market = prepare(batch)
    np.testing.assert_array_equal(market.twap, prepare(usual).twap)
    assert len(market.walks) == (batch.rules.steps if late else 0)
    for at, walk in enumerate(market.walks):
        bars = batch.bars.price[:, at * batch.bars_per_step : (at + 1) * batch.bars_per_step]
        np.testing.assert_array_equal(walk.bars.price, bars[:, late:])


@pytest.mark.parametrize("late", [-1, 3, 6])
def test_latency_leaves_a_bar_to_trade_in(late: int) -> None:
    with pytest.raises(ValueError, match=f"--latency-bars is {late}; an interval has"):
        episodes(3, latency_bars=late)
