"""The spine: one decision. Imports the rest of the core but laws and metrics."""

from __future__ import annotations

from dataclasses import dataclass

from service.core.allocate import Decision, allocate
from service.core.baselines import twap
from service.core.day import Day, mark, place
from service.core.limits import protection
from service.core.market import Snapshot
from service.core.observe import Observation, observe
from service.core.policy import Intent, Policy, PolicyFailed
from service.core.style import styled
from service.core.units import Array


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision and all that led to it.

    ``seen`` is the day with the snapshot on its tape, ``after`` the day with the children working;
    ``failure`` says why the policy's wish was replaced by the TWAP's, None where it was not.
    """

    seen: Day
    observation: Observation
    intent: Intent
    decision: Decision
    after: Day
    failure: str | None = None


def decide(day: Day, snapshot: Snapshot, policy: Policy) -> Decided:
    """Take decision ``day.step + 1`` on ``snapshot``; a failing policy is replaced by TWAP."""
    seen = mark(day, snapshot)
    observation = observe(seen)
    failure = None
    try:
        intent = policy(seen, observation)
        _check_wish(seen, intent.wish)
    except PolicyFailed as error:
        failure, intent = str(error), twap(seen, observation)
    wish, stages = styled(seen, intent.wish)
    decision = allocate(seen, wish, protection(seen), stages)
    after = place(
        seen, decision.child_qty, decision.protect_px, decision.reserve_minor, decision.cut
    )
    return Decided(seen, observation, intent, decision, after, failure)


def _check_wish(day: Day, wish: Array) -> None:
    """A policy advises in whole shares; anything else is no advice and raises PolicyFailed."""
    target = day.orders.order_qty
    if wish.shape != target.shape or wish.dtype != target.dtype or bool((wish < 0).any()):
        raise PolicyFailed("the policy's wishes are not whole shares, one for every order")
