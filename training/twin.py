"""A day that gradients flow through: every number is the simulator's, its slope a smooth twin's.

The market does not answer to our trades, so what a day earns is a known function of the shares that
execute: d a (p - P) / P. Two rules stand between an action and its execution, what remains of the
order and the cash of the basket, and both have slopes: min(a, remaining), and the common factor by
which the cash rule cuts the buys. The twin carries remaining shares and cash from step to step with
these slopes; their values are replaced by those of the core's Day after every step (straight
through), so what is played is what is served, in lots, with every limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from service.core.contract import FEATURES, GRID_DENOMINATOR, GRID_QUARTERS
from service.core.day import Day
from service.core.limits import protection
from service.core.observe import RATIO_MAX, Observation
from service.core.orders import BUY, Proceeds
from service.core.policy import grid_wish
from training.channels import typed
from training.simulator import Market, RewardConfig, Step, advance, weights

NEED_FLOOR = 0.05
"""Slopes of ratios to what the buys still need stay finite: at least this share of their value."""
REST_SHARE = 1e-3
"""A wish that differs less than this from what remains is for all of it; share of the target."""
CONFLICT_WIDTH = 0.01
"""Shortage of cash, as a share of the value of all buys, over which the penalty's slope spreads."""


@dataclass(frozen=True, slots=True)
class Twin:
    """``day`` as played; with slopes, float32: ``left`` ``[B, N]`` the share of each target that
    remains, ``cash`` ``[B]`` minor units; ``bought`` ``[B]`` the value of all buys at the open, and
    ``orders`` ``[B]`` the number of orders of the day, those still to come included."""

    day: Day
    left: Tensor
    cash: Tensor
    bought: Tensor
    orders: Tensor


@dataclass(frozen=True, slots=True)
class Bounds:
    """The steepest slopes that a day may hand back: of one minor unit of ``cash`` and of the whole
    target of one ``order``; ``[B]`` each.

    Errors multiply from step to step and from round to round, and a few days in a hundred come to
    slopes that no price move could pay for: they would drown all the others of a batch.
    """

    cash: Tensor
    order: Tensor

    def keep(self, twin: Twin) -> None:
        """Bound the slopes that come back to ``twin`` from its later steps."""
        bounded(twin.cash, self.cash)
        bounded(twin.left, self.order[:, None])


def bounded(value: Tensor, steepest: Tensor) -> Tensor:
    """``value``, with the slope that comes back to it cut to plus or minus ``steepest``."""
    if value.requires_grad:
        hooked: Any = value.register_hook
        hooked(lambda slope: slope.clamp(-steepest, steepest))
    return value


def open_twin(day: Day, live: Tensor) -> Twin:
    """The twin of a day before its first decision; ``live`` ``[B, N]`` the orders of the day."""
    bought = (_value(day, day.last_px) * _buys(day)).sum(dim=-1).clamp(min=1.0)
    left = day.remaining / day.orders.order_qty.clamp(min=1)
    orders = live.sum(dim=-1).clamp(min=1).float()
    return Twin(day, left, day.free_cash_minor.float(), bought, orders)


def features(twin: Twin, seen: Observation) -> Tensor:
    """The observation ``[B, N, F]``, with the slopes of what trading changes."""
    value = _value(twin.day, twin.day.last_px) * twin.left
    buys, bought = _buys(twin.day), twin.bought[:, None]
    # without any buys the ratios say nothing, and their slopes would be the largest of all
    floor = torch.where(bought > 1.0, NEED_FLOOR * bought, torch.inf)
    need = (value * buys).sum(dim=-1, keepdim=True) + floor
    sales = (value * (1 - buys)).sum(dim=-1, keepdim=True)
    smooth = {
        "remaining": twin.left,
        "behind_even": twin.left,
        "cash_to_need": (twin.cash[:, None] / need).clamp(0.0, RATIO_MAX),
        "sales_to_need": (sales / need).clamp(0.0, RATIO_MAX),
    }
    columns = [
        _through(seen.features[..., i], smooth[name]) if name in smooth else seen.features[..., i]
        for i, name in enumerate(FEATURES)
    ]
    return typed(torch.stack(columns, dim=-1) * seen.live.unsqueeze(-1))


def live(
    twin: Twin, chosen: Tensor, market: Market, config: RewardConfig
) -> tuple[Twin, Tensor, Step]:
    """One step with actions ``chosen`` (one-hot with slopes, ``[B, N, A]``): what follows, what the
    basket earned on average over its orders ``[B]``, and the step as played."""
    day, target = twin.day, twin.day.orders.order_qty.clamp(min=1)
    step = advance(day, grid_wish(day, chosen.argmax(dim=-1)), market)
    wish = _wish(twin, chosen)
    short, factor = _shortage(twin, wish, market)
    child = torch.where(_buys(day) > 0, wish * factor[:, None], wish)
    share = _through(step.fills.qty / target, child * _filled(step, market))
    amended = step.day.orders.order_qty.clamp(min=1)
    left = _through(step.day.remaining / amended, (twin.left - share) * (target / amended))
    price = torch.where(
        step.fills.qty > 0,
        step.fills.notional / step.fills.qty.clamp(min=1),
        market.snapshots[day.step + 1].price,
    )
    flow = (day.orders.side * share * _value(day, price)).sum(dim=-1)
    cash = _through(step.day.free_cash_minor.float(), twin.cash + flow)
    earned = _earned(twin, step, share, left, price, market, config)
    penalty = config.sigma * _through(step.cut.float(), torch.sigmoid(short / CONFLICT_WIDTH))
    return Twin(step.day, left, cash, twin.bought, twin.orders), earned - penalty, step


def _filled(step: Step, market: Market) -> Tensor:
    """Share of a child that executes; of one that was not sent, all where anything trades."""
    coming, sent = market.snapshots[step.day.step], step.decision.child_qty
    trades = ((coming.volume > 0) & ~coming.halted).float()
    return torch.where(sent > 0, step.fills.qty / sent.clamp(min=1), trades)


def _wish(twin: Twin, chosen: Tensor) -> Tensor:
    """Shares of the target asked for, at most what remains and all of it when due; ``[B, N]``."""
    grid = chosen.new_tensor(GRID_QUARTERS) / GRID_DENOMINATOR
    wish, day = chosen @ grid, twin.day
    # what asks for just the rest can ask for less: only beyond it there is no slope
    wish = torch.where(wish > twin.left + REST_SHARE, twin.left, wish)
    decision, orders = day.step + 1, day.orders
    inside = orders.live & (decision >= orders.start_step) & (decision <= orders.end_step)
    return typed(torch.where(decision >= day.force_step, twin.left, wish) * inside)


def _shortage(twin: Twin, wish: Tensor, market: Market) -> tuple[Tensor, Tensor]:
    """Cash short as a share of the value of all buys, and the factor that cuts them; ``[B]``."""
    day, free = twin.day, twin.cash
    buys, coming = _buys(day), market.snapshots[day.step + 1]
    if day.rules.proceeds is Proceeds.SAME_STEP:
        need = (wish * _value(day, coming.price) * buys).sum(dim=-1)
        free = free + (wish * _value(day, coming.price) * (1 - buys)).sum(dim=-1)
    else:
        need = (wish * _value(day, protection(day).reserve_px) * buys).sum(dim=-1)
    factor = torch.where(need > free, free.clamp(min=1.0) / need.clamp(min=1.0), 1.0)
    return (need - free) / twin.bought, factor


def _earned(
    twin: Twin,
    step: Step,
    share: Tensor,
    left: Tensor,
    price: Tensor,
    market: Market,
    config: RewardConfig,
) -> Tensor:
    """Mean over orders, as much as each counts, of d a (p - P) / P - alpha a^2, and at the end of
    what is left; ``[B]``."""
    day, twap = twin.day, market.twap
    move = ((price - twap) / twap).float()
    gain = share * move * day.orders.side
    gain = gain - config.alpha * share**2
    if step.day.step == day.rules.steps:  # what is left is marked at the last interval's price
        mark = ((market.ahead[-1] - twap) / twap).float()
        gain = gain + left * mark * day.orders.side
    counted = gain * day.orders.live * weights(day, config)
    return typed(counted.sum(dim=-1) / twin.orders)


def _value(day: Day, price: Tensor) -> Tensor:
    """Value of whole targets at ``price`` (ticks) in minor units; float32 ``[B, N]``."""
    held = day.orders.order_qty * day.orders.live
    return typed((held * (price / day.rules.ticks_per_minor)).float())


def _buys(day: Day) -> Tensor:
    return typed((day.orders.side == BUY).float())


def _through(value: Tensor, smooth: Tensor) -> Tensor:
    """``value`` with the slope of ``smooth``."""
    return typed(value.detach().float() + (smooth - smooth.detach()))
