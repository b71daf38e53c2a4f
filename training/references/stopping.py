"""Every share of an order is stopped once: its dynamic programme in the state m, for many days.

The value lives on one grid of m in units of the day's multiplier, shared by all days and orders,
and is linear between its points and beyond its ends; expectations of such functions under the
normal law are exact. On a convex function the linear pieces err upwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from training.lab import LabMarket

SPAN = 5.0
"""Half the grid's width in standard deviations of the state."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The chain of one market: ``points`` ``[G]``, ``kernels`` ``[T - 1, G, G]`` from the points
    of a step to those of the next, ``sd`` ``[T]`` of the innovations; for multiplier 1, log."""

    points: torch.Tensor
    kernels: torch.Tensor
    sd: torch.Tensor
    reversion: float
    moved: float


@dataclass(frozen=True, slots=True)
class Baskets:
    """What is left of B days before decision ``step`` (from 0); float64.

    ``[B, N]``: ``side`` d, ``weight`` value of the whole order at the anchor over the basket's
    mean, ``share`` what remains of it over the number of orders (0 for padding), ``state`` m.
    ``[B]``: ``cash`` over the value of the basket, ``unit`` the day's multiplier.
    """

    step: int
    side: torch.Tensor
    weight: torch.Tensor
    share: torch.Tensor
    state: torch.Tensor
    cash: torch.Tensor
    unit: torch.Tensor

    def part(self, days: slice) -> Baskets:
        """The baskets of some days."""
        rows = (self.side, self.weight, self.share, self.state, self.cash, self.unit)
        return Baskets(self.step, *(row[days] for row in rows))


def make_grid(lab: LabMarket, points: int) -> Grid:
    """A grid of ``points`` that spans the states of ``lab``."""
    sd, moved = torch.from_numpy(lab.step_sd()), lab.reversion + lab.momentum
    calm = min(lab.volatility)
    # after the first step; its own state is not put on the grid
    variance = ((lab.gap_common_bp**2 + lab.gap_own_bp**2) * 1e-8) / calm**2
    widest = 0.0
    for step_sd in sd[:-1].tolist():
        variance = lab.reversion**2 * variance + moved**2 * step_sd**2
        widest = max(widest, variance)
    half = SPAN * widest**0.5
    z = torch.linspace(-half, half, points, dtype=torch.float64)
    kernels = [transition(z, lab.reversion * z, moved * step_sd) for step_sd in sd[:-1].tolist()]
    return Grid(z, torch.stack(kernels), sd, lab.reversion, moved)


def transition(points: torch.Tensor, mean: torch.Tensor, sd: float) -> torch.Tensor:
    """Weights ``[..., G]`` of the points in the expectation of a function that is linear between
    them, under the normal law of ``mean`` ``[...]`` and ``sd``."""
    width = points[1] - points[0]
    gap = (mean[..., None] - points[1:-1]) / sd
    density = torch.exp(-0.5 * gap * gap) / (2 * np.pi) ** 0.5
    beyond = sd / width * (gap * torch.special.ndtr(gap) + density)  # E of what passes each point
    weights = torch.zeros((*mean.shape, len(points)), dtype=points.dtype)
    slope = (mean - points[0]) / width
    weights[..., 0], weights[..., 1] = 1 - slope, slope
    weights[..., :-2] += beyond
    weights[..., 1:-1] -= 2 * beyond
    weights[..., 2:] += beyond
    return weights


@dataclass(frozen=True, slots=True)
class Charged:
    """Baskets whose cash is charged: ``bound`` ``[B]`` (log), its ``slope`` ``[B, H - 1]`` in the
    multipliers, and ``edge`` ``[B, N]`` of trading now over waiting."""

    bound: torch.Tensor
    slope: torch.Tensor
    edge: torch.Tensor


def charge(grid: Grid, left: Baskets, first: torch.Tensor | None, price: torch.Tensor) -> Charged:
    """Stop every order at its best under multipliers ``price`` ``[B, H - 1]`` on cash.

    ``first`` are the ``[B, N, G]`` weights of :func:`first_weights`, None at the last step.
    """
    level = torch.flip(torch.cumsum(torch.flip(price, [1]), 1), [1])
    level = torch.cat([level, torch.zeros_like(level[:, :1])], 1)
    now, brings = _stop(grid, left, level, left.state, 0)
    if first is None:
        return Charged((left.share * now).sum(1), price, now - now)
    value, waits, flows = _backward(grid, left, level)
    later = (first * value).sum(-1)
    stops = now >= later
    bound = (left.share * torch.maximum(now, later)).sum(1) + left.cash * level[:, 0]
    paid = [(left.share * left.weight * brings * stops).sum(1)]
    mass = first * (left.share * left.weight * ~stops)[..., None]
    for ahead in range(1, price.shape[1]):
        wait = waits[ahead - 1]
        paid.append((mass * ~wait * flows[ahead - 1]).sum((1, 2)))
        mass = (mass * wait) @ grid.kernels[left.step + ahead]
    slope = left.cash[:, None] + torch.cumsum(torch.stack(paid, 1), 1)
    return Charged(bound, slope, now - later)


def first_weights(grid: Grid, left: Baskets) -> torch.Tensor | None:
    """Weights ``[B, N, G]`` of the next step's points given each order's state now."""
    if left.step + 1 == len(grid.sd):
        return None
    mean = grid.reversion * left.state / left.unit[:, None]
    return transition(grid.points, mean, grid.moved * float(grid.sd[left.step]))


def _stop(
    grid: Grid, left: Baskets, level: torch.Tensor, state: torch.Tensor, ahead: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Value of stopping ``ahead`` steps from now at ``state``, and the cash that it brings over
    the anchor; ``[B, N]`` or ``[B, 1, G]`` states."""
    shape = (-1,) + (1,) * (state.ndim - 1)
    spread = (left.unit * grid.sd[left.step + ahead]).reshape(shape)
    side = left.side.reshape(*left.side.shape, *(1,) * (state.ndim - 2))
    charged = (left.weight * level[:, ahead : ahead + 1]).reshape(side.shape)
    ratio = torch.exp(state + spread**2 / 8)
    return side * (state + charged * ratio), side * ratio


def _backward(
    grid: Grid, left: Baskets, level: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """Value at the next step ``[B, N, G]``; from it on, where to wait (bool) and the cash that
    stopping brings."""
    state = (left.unit[:, None] * grid.points)[:, None]
    last = level.shape[1] - 1
    value, _ = _stop(grid, left, level, state, last)
    waits: list[torch.Tensor] = []
    flows: list[torch.Tensor] = []
    for ahead in range(last - 1, 0, -1):
        now, brings = _stop(grid, left, level, state, ahead)
        later = value @ grid.kernels[left.step + ahead].T
        waits.append(later > now)
        flows.append(brings)
        value = torch.maximum(now, later)
    return value, waits[::-1], flows[::-1]
