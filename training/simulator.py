"""Batches of days, step by step: the core's verbs on ``[B, N]`` tensors, and the paper's reward.

It owns no accounting: volumes, cash and conflicts are those of the core's Day. Rewards are per
order; paper.md section 2, with d the side, a the executed share of the target, p the execution
price and P the mean interval price over the order's window (TWAP):

    R = d a (p - P) / P  -  alpha a^2  -  sigma [the cash rule cut a buy in this step]

``shaped`` is the same return with its market noise taken out. Let F_t be the mean price from
interval t on: what an even schedule gets for what is left. With the potential d left_t (F_t - P),
which no action can change, each step earns against the even schedule on the same prices:

    d (a (p - F_{t+1}) + left_t (F_{t+1} - F_t)) / P,

which for p = p_t is d (a - even) (p_t - F_{t+1}) / P.

Over a day both sum to the same gain, what is left unfilled marked at the last interval's price.
When a target changes, what was gained before is restated as a share of the new one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from service.core.allocate import Decision, allocate
from service.core.day import Day, mark, open_day, place, settle
from service.core.market import Fills, Snapshot, interval, opening
from service.core.observe import observe
from service.core.orders import Orders
from service.core.policy import Policy
from service.core.units import Array, namespace
from training.changes import Changes, instructed, last_steps
from training.episodes import Bars, EpisodeBatch, map_arrays
from training.walk import Walk, walks
from training.world import execute, met, reservation

Credit = Literal["order", "team"]
Weight = Literal["order", "value"]


@dataclass(frozen=True, slots=True)
class RewardConfig:
    """Weights of the reward."""

    alpha: float = 3.3e-4
    """Impact: what trading a whole target in one step costs, as a share of its value."""
    sigma: float = 1e-3
    """What a step with a cash conflict costs every order, as a share of its value."""
    penalised_from: float = 0.2
    penalised_fully: float = 0.5
    """Parts of a run at which the penalty of conflicts begins, and from which it is whole, for
    pathwise learning: orders first learn what cash is worth to each other, then to ask for no more
    than there is. PPO and DDQN have it whole from the start: by the time it came they no longer
    tried anything else."""
    scale: float = 100.0
    """Training sees rewards times this: percent, as the paper does."""
    weight: Weight = "order"
    """What an order counts in the objective: as much as any other (EG, as the paper has it), or by
    its value at arrival, which is what a desk pays."""


@dataclass(frozen=True, slots=True)
class Market:
    """What the batch's market will do, computed once. Prices float64 ``[..., N]``.

    ``snapshots`` T + 1: the opening, then every interval; ``twap`` P; ``ahead`` T + 1: F_t, the
    mean price of the order's intervals from t on; ``signed`` d / (target x P) and ``per_share``
    1 / target, both 0 for padding. ``walks`` T intervals bar by bar, none where they are merged;
    ``changes`` what the manager does during the day, None where nothing.
    """

    snapshots: tuple[Snapshot, ...]
    twap: Array
    ahead: tuple[Array, ...]
    signed: Array
    per_share: Array
    walks: tuple[Walk, ...] = ()
    changes: Changes | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One step of all days: ``day`` has seen the interval; float32 ``[..., N]``.

    ``gain`` R_e, ``shaped`` its noise-free twin, ``share`` the executed share of the target,
    ``cut`` bool ``[...]``: a conflict, and ``live`` bool ``[..., N]``: the orders that were there.
    """

    day: Day
    decision: Decision
    fills: Fills
    gain: Array
    shaped: Array
    share: Array
    cut: Array
    live: Array


def prepare(batch: EpisodeBatch) -> Market:
    """The market of ``batch``: one snapshot per decision, and the prices that rewards need."""
    if batch.changes is not None:
        end = last_steps(batch.orders, batch.changes)
        batch = replace(batch, orders=replace(batch.orders, end_step=end))
    bars = met(batch.bars, batch.orders.side)
    snapshots = _snapshots(bars, batch.bars_per_step)
    ahead = _ahead(batch, snapshots)
    walked = batch.volume_cap_ppm or batch.latency_bars
    return Market(
        snapshots,
        ahead[0],
        ahead,
        *_weights(batch.orders, ahead[0]),
        walks(bars, batch) if walked else (),
        batch.changes,
    )


def begin(batch: EpisodeBatch, market: Market) -> Day:
    """All days opened, with their opening prices on the tape."""
    day = mark(open_day(batch.orders, batch.rules, batch.cash_minor), market.snapshots[0])
    return day if market.changes is None else instructed(day, market.changes)


def advance(seen: Day, wish: Array, market: Market) -> Step:
    """Take one decision and live through its interval; ``wish`` shares int64 ``[..., N]``."""
    coming = market.snapshots[seen.step + 1]
    walk = market.walks[seen.step] if market.walks else None
    decision = allocate(seen, wish, reservation(seen, coming, wish, walk))
    placed = place(
        seen, decision.child_qty, decision.protect_px, decision.reserve_minor, decision.cut
    )
    fills = execute(placed, coming, walk)
    day = mark(settle(placed, fills), coming)
    gain, shaped, share = _gains(seen, fills, market)
    if market.changes is not None and day.step < day.rules.steps:
        before, day = day, instructed(day, market.changes)
        restated, shaped_again = _restated(before, day, market)
        gain, shaped = gain + restated, shaped + shaped_again
    return Step(day, decision, fills, gain, shaped, share, decision.cut, seen.orders.live)


def rewards(step: Step, gain: Array, config: RewardConfig, credit: Credit = "order") -> Array:
    """What trains each order, in training units; ``gain`` is the step's ``gain`` or ``shaped``.

    The objective is the mean of R over the n orders that are there, each as much as it counts.
    ``team`` gives every order that mean. ``order`` gives it its own part of n times that mean, and
    the whole of everyone's cash penalty: less noise, but what its cash does to the gains of others
    is not in it.
    """
    xp = namespace(gain)
    live = xp.astype(step.live, gain.dtype)
    count = xp.sum(live, axis=-1, keepdims=True)
    conflict = config.sigma * xp.astype(step.cut, gain.dtype)[..., None]
    own = (gain - config.alpha * step.share * step.share) * live * weights(step.day, config)
    if credit == "team":
        own, count = xp.sum(own, axis=-1, keepdims=True) / count, xp.ones_like(count)
    return (own - conflict * count) * live * config.scale


def weights(day: Day, config: RewardConfig) -> Any:
    """What each order counts, 1 on average over those that are there; float32 ``[..., N]`` or 1."""
    if config.weight == "order":
        return 1.0
    xp, live = namespace(day.arrival_px), day.orders.live
    value = xp.astype(day.orders.order_qty * day.arrival_px * live, xp.float32)
    count = xp.astype(xp.sum(live, axis=-1, keepdims=True), xp.float32)
    return value * count / xp.clip(xp.sum(value, axis=-1, keepdims=True), min=1.0)


def play(
    batch: EpisodeBatch,
    policy: Policy | Callable[[Day, Any], Any],
    market: Market | None = None,
) -> Day:
    """The days after their last interval under ``policy``."""
    market = market or prepare(batch)
    day = begin(batch, market)
    for _ in range(batch.rules.steps):
        day = advance(day, policy(day, observe(day)).wish, market).day
    return day


def _snapshots(bars: Bars, width: int) -> tuple[Snapshot, ...]:
    columns = (bars.open, bars.high, bars.low, bars.close, bars.price, bars.volume)
    cuts = [slice(at, at + width) for at in range(0, bars.close.shape[-2], width)]
    steps = [interval(*(column[..., cut, :] for column in columns)) for cut in cuts]
    if bars.halted is not None:  # news of a halt is a whole interval of it
        xp, halted = namespace(bars.close), bars.halted
        steps = [
            replace(step, halted=xp.all(halted[..., cut, :], axis=-2))
            for step, cut in zip(steps, cuts, strict=True)
        ]
    first = opening(bars.open[..., 0, :])
    return tuple(map(_compact, (first, *steps)))


def _compact(snapshot: Snapshot) -> Snapshot:
    """The snapshot with its own contiguous memory: views into the bars are slow to walk."""
    xp = namespace(snapshot.price)
    return map_arrays(snapshot, lambda array: xp.asarray(array, copy=True))


def _ahead(batch: EpisodeBatch, snapshots: tuple[Snapshot, ...]) -> tuple[Array, ...]:
    """F_1 .. F_{T+1} as the core's mean price: equal weight for each interval that traded.

    Where none is left, the price of the last interval of the order's window.
    """
    xp, orders = namespace(batch.cash_minor), batch.orders
    last = snapshots[0].price
    for step, snapshot in enumerate(snapshots[1:], 1):
        last = xp.where(step <= orders.end_step, snapshot.price, last)
    fallback = xp.astype(last, xp.float64)
    total, count = xp.zeros_like(last), xp.zeros_like(last)
    ahead = [fallback]
    for step in range(batch.rules.steps, 0, -1):
        snapshot = snapshots[step]
        inside = (orders.start_step <= step) & (step <= orders.end_step)
        counted = inside & (snapshot.volume > 0) & ~snapshot.halted
        total = total + xp.where(counted, snapshot.price, xp.zeros_like(total))
        count = count + xp.astype(counted, count.dtype)
        mean = xp.astype(total, xp.float64) / xp.astype(xp.clip(count, min=1), xp.float64)
        ahead.append(xp.where(count > 0, mean, fallback))
    return tuple(reversed(ahead))


def _weights(orders: Orders, twap: Array) -> tuple[Array, Array]:
    """``signed`` and ``per_share`` of the targets of ``orders``; float64 ``[..., N]``."""
    xp = namespace(twap)
    qty = xp.astype(orders.order_qty, xp.float64)
    per_share = xp.where(qty > 0, 1 / xp.where(qty > 0, qty, 1.0), 0.0)
    return per_share * xp.astype(orders.side, xp.float64) / twap, per_share


def _gains(seen: Day, fills: Fills, market: Market) -> tuple[Array, Array, Array]:
    """R_e, its noise-free twin and the executed share of the target; float32 ``[..., N]``."""
    xp, t = namespace(fills.qty), seen.step
    after, signed, per_share = market.ahead[t + 1], market.signed, market.per_share
    if market.changes is not None:  # the target in force
        signed, per_share = _weights(seen.orders, market.twap)
    qty = xp.astype(fills.qty, xp.float64)
    notional = xp.astype(fills.notional, xp.float64)
    left = xp.astype(seen.orders.order_qty - seen.cum_qty, xp.float64)
    gain = (notional - qty * market.twap) * signed
    if t + 1 == seen.rules.steps:  # what is left is marked at the last interval's price
        gain = gain + (left - qty) * (after - market.twap) * signed
    shaped = (notional - qty * after + left * (after - market.ahead[t])) * signed
    share = qty * per_share
    return xp.astype(gain, xp.float32), xp.astype(shaped, xp.float32), xp.astype(share, xp.float32)


def _restated(before: Day, after: Day, market: Market) -> tuple[Array, Array]:
    """What both gains so far change by when targets do; float32 ``[..., N]``."""
    xp = namespace(before.cum_qty)
    old, new = (_weights(day.orders, market.twap)[0] for day in (before, after))
    cum = xp.astype(before.cum_qty, xp.float64)
    gained = xp.astype(before.cum_notional, xp.float64) - cum * market.twap
    # what is left is worth what an even schedule gets for it from now on
    even = market.ahead[after.step] - market.twap
    left, wanted = (xp.astype(d.orders.order_qty, xp.float64) - cum for d in (before, after))
    shaped = (gained + wanted * even) * new - (gained + left * even) * old
    return xp.astype(gained * (new - old), xp.float32), xp.astype(shaped, xp.float32)
