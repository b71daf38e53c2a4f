"""The laws of the house over whole random days: batch, padding, permutation, conservation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core import laws
from service.core.allocate import Decision, allocate
from service.core.day import Day, Trading, mark, place, settle, with_trading
from service.core.decide import Decided
from service.core.fills import paper_fills
from service.core.limits import protection
from service.core.market import Snapshot
from service.core.observe import Observation, observe
from service.core.orders import SELL, Orders, Style
from service.core.policy import Intent
from service.core.style import styled
from tests.laws.days import (
    Shape,
    convert,
    first_snapshot,
    next_snapshot,
    random_day,
    take,
    wishes,
)

EXAMPLES = 300
seeds = st.integers(0, 2**32 - 1)
shapes = st.builds(Shape, st.integers(1, 4), st.integers(1, 9), st.integers(1, 6))
Step = tuple[Day, Observation, Decision, Day]


def decide_on(day: Day, snapshot: Snapshot, wish: Any) -> Step:
    seen = mark(day, snapshot)
    observation = observe(seen)
    asked, stages = styled(seen, wish)
    choice = allocate(seen, asked, protection(seen), stages)
    after = place(seen, choice.child_qty, choice.protect_px, choice.reserve_minor, choice.cut)
    return seen, observation, choice, after


def play(seed: int, shape: Shape, trading: Trading = Trading.ACTIVE) -> list[tuple[Any, ...]]:
    """A whole random day: (day before, snapshot, wish, step) of every decision, laws enforced."""
    rng = np.random.default_rng(seed)
    day, played = with_trading(random_day(rng, shape), trading), []
    snapshot = first_snapshot(rng, shape)
    for n in range(shape.steps):
        if n:
            snapshot = next_snapshot(rng, day)
            fills = paper_fills(day, snapshot)
            settled = settle(day, fills)
            laws.enforce(laws.broken_by_settlement(day, fills, settled))
            day = settled
        wish = wishes(rng, day)
        step = decide_on(day, snapshot, wish)
        seen, observation, choice, after = step
        laws.enforce(
            laws.broken_by_decision(Decided(seen, observation, Intent(wish), choice, after))
        )
        played.append((day, snapshot, wish, step))
        day = after
    return played


def same(a: Step, b: Step) -> None:
    """Two steps agree bit for bit in what they decide, see and leave behind."""
    np.testing.assert_array_equal(np.asarray(a[2].child_qty), np.asarray(b[2].child_qty))
    np.testing.assert_array_equal(np.asarray(a[2].reserve_minor), np.asarray(b[2].reserve_minor))
    np.testing.assert_array_equal(np.asarray(a[2].cut), np.asarray(b[2].cut))
    np.testing.assert_array_equal(np.asarray(a[1].features), np.asarray(b[1].features))
    np.testing.assert_array_equal(np.asarray(a[3].conflicts), np.asarray(b[3].conflicts))


@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, shapes, st.sampled_from(Trading))
def test_conservation_and_every_other_law_holds_through_whole_days(seed, shape, trading):
    play(seed, shape, trading)


@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, shapes)
def test_a_batch_decides_as_its_days_do_one_by_one(seed, shape):
    for day, snapshot, wish, step in play(seed, shape):
        for i in range(shape.batch):
            alone = decide_on(take(day, i), take(snapshot, i), wish[i])
            same(alone, tuple(take(part, i) for part in step[:2]) + tuple(_row(step, i)))


def _row(step: Step, i: int) -> tuple[Decision, Day]:
    choice = step[2]
    row = replace(
        choice,
        child_qty=choice.child_qty[i],
        reserve_minor=choice.reserve_minor[i],
        cut=choice.cut[i],
    )
    return row, take(step[3], i)


@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, shapes)
def test_torch_decides_as_numpy_does(seed, shape):
    torch = pytest.importorskip("torch")

    def tensor(array: Any) -> Any:
        return torch.from_numpy(np.array(array))

    for day, snapshot, wish, step in play(seed, shape):
        same(decide_on(convert(day, tensor), convert(snapshot, tensor), tensor(wish)), step)


@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, shapes, st.integers(1, 5))
def test_padding_changes_no_real_order(seed, shape, slots):
    def padded(value: Any) -> Any:
        return _pad(value, shape.orders, slots)

    for day, snapshot, wish, step in play(seed, shape):
        _, observation, choice, _ = decide_on(padded(day), padded(snapshot), padded(wish))
        real = choice.child_qty[..., : shape.orders]
        np.testing.assert_array_equal(real, step[2].child_qty)
        assert not choice.child_qty[..., shape.orders :].any()
        np.testing.assert_array_equal(
            observation.features[..., : shape.orders, :], step[1].features
        )


def _pad(value: Any, orders: int, slots: int) -> Any:
    """Dead slots behind the real orders, in arrays and in values made of arrays."""
    if isinstance(value, np.ndarray):
        if value.shape[-1:] != (orders,) or value.ndim < 2:
            return value
        extra = np.zeros((*value.shape[:-1], slots), dtype=value.dtype)
        return np.concatenate([value, extra], axis=-1)
    changes = {}
    for name in value.__dataclass_fields__:
        part = getattr(value, name)
        if isinstance(part, np.ndarray | Orders | Style):
            changes[name] = _pad(part, orders, slots)
    padded = replace(value, **changes)
    if hasattr(padded, "lot"):  # a dead slot still has a lot, or nothing could be rounded
        dead = ~padded.live
        return replace(
            padded,
            lot=np.where(dead & (padded.lot == 0), 1, padded.lot),
            vol_ppm=np.where(dead & (padded.vol_ppm == 0), 1, padded.vol_ppm),
        )
    return padded


@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, st.integers(1, 9), st.integers(1, 5), st.randoms(use_true_random=False))
def test_the_cash_rule_does_not_depend_on_the_order_of_the_orders(seed, orders, steps, random):
    """Up to the ties that the canonical order of the orders settles, all is permuted alike."""
    shape = Shape(1, orders, steps)
    order = list(range(orders))
    random.shuffle(order)
    for day, snapshot, wish, step in play(seed, shape):
        pick = (slice(None), order)
        moved = decide_on(_permuted(day, order), _permuted(snapshot, order), wish[pick])
        np.testing.assert_array_equal(moved[1].features, step[1].features[:, order, :])
        total = (step[2].child_qty * step[0].orders.side).sum()
        sells = step[0].orders.side == SELL
        np.testing.assert_array_equal(
            moved[2].child_qty[sells[pick]], step[2].child_qty[pick][sells[pick]]
        )
        if not _tied(step):
            assert (moved[2].child_qty * moved[0].orders.side).sum() == total
            np.testing.assert_array_equal(moved[2].child_qty, step[2].child_qty[pick])


def _permuted(value: Any, order: list[int]) -> Any:
    changes = {}
    for name in value.__dataclass_fields__:
        part = getattr(value, name)
        if isinstance(part, np.ndarray) and part.ndim >= 2:
            changes[name] = part[..., order]
        elif isinstance(part, Orders | Style):
            changes[name] = _permuted(part, order)
    return replace(value, **changes)


def _tied(step: Step) -> bool:
    """Whether two buys compete for a left-over lot with equal claims."""
    if not step[2].cut.any():
        return False
    cash = next(stage for stage in step[2].stages if stage.reason == "CASH")
    claims = (cash.before * (1 << 20) // np.maximum(step[0].orders.lot, 1))[cash.before > 0]
    return len(set(claims.tolist())) < claims.size


@pytest.mark.parametrize("broken", [law.__name__ for law in laws.DAY_LAWS[1:]])
def test_every_law_of_a_day_can_fail(broken):
    rng = np.random.default_rng(7)
    day = random_day(rng, Shape(1, 4, 3))
    wrong = {
        "nothing_negative": {"cum_qty": np.full((1, 4), -1)},
        "cash_covers_reserves": {"reserved_minor": day.cum_qty + 2**40},
        "cash_in_bounds": {"cash_minor": np.array([2**44])},
        "reserves_match_working": {"reserved_minor": day.cum_qty + 1},
    }[broken]
    assert broken in laws.broken_by_day(replace(day, **wrong))


def test_conservation_compares_what_a_day_derives_with_what_it_stores():
    """A Day derives remaining and overfill, so only a wrong derivation can break the sum."""

    class Wrong:
        cum_qty, working, remaining, overfill = (np.array([x]) for x in (3, 4, 2, 0))
        target = random_day(np.random.default_rng(7), Shape(1, 1, 1)).target

    assert not laws.conservation(Wrong()).all()
