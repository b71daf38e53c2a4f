"""The policy port: what decides how much of each order to trade. Imports contract, day, observe.

A policy turns a day and its observation into an :class:`Intent`. The trained network, its ONNX
file and the schedules of baselines.py are all policies; allocation keeps each of them safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from service.core.contract import GRID_DENOMINATOR
from service.core.day import Day
from service.core.observe import Observation
from service.core.units import Array, namespace, round_to_lot


class PolicyFailed(Exception):
    """A policy could not answer: it raised, or its numbers are not finite."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """The exchange of one decision, for the record.

    ``actions`` int64 ``[..., K, N]`` the intended action of each round (index into the grid),
    ``probabilities`` float32 ``[..., K, N, A]`` what it was chosen from.
    """

    actions: Array
    probabilities: Array


@dataclass(frozen=True, slots=True)
class Intent:
    """``wish`` shares per order, int64 ``[..., N]``, >= 0; ``rounds`` if there was an exchange."""

    wish: Array
    rounds: Rounds | None = None


class Policy(Protocol):
    """Anything that decides."""

    def __call__(self, day: Day, observation: Observation) -> Intent:
        """What every order should trade in the coming interval; raises PolicyFailed."""
        ...


def grid_wish(day: Day, action: Array) -> Array:
    """Shares of a grid action (int64 ``[..., N]``, quarters of the target), rounded to a lot."""
    xp, orders = namespace(day.cum_qty), day.orders
    wish = round_to_lot(orders.order_qty * action, GRID_DENOMINATOR, orders.lot)
    # the last quarter asks for the odd rest of an order too; allocation cuts to what remains
    return xp.where(action >= GRID_DENOMINATOR, orders.order_qty, wish)
