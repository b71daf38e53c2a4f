"""A store and policies that are watched: what they answer is untouched, what they cost is counted.

Imports commits, meters and the core. Put around the real ones where the application is put
together, so that neither the desk nor the core knows that anybody looks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter

from service.commits import (
    GLOBAL_SCOPE,
    Commit,
    Committed,
    Conflict,
    Loaded,
    Outcome,
    Replayed,
    Stale,
    StateMoved,
    Store,
    StoreRefused,
    StoreUnavailable,
)
from service.core.day import Day
from service.core.observe import Observation
from service.core.policy import Intent, Policy
from service.meters import StoreMeters

_NAMES: dict[type, str] = {
    Committed: "committed",
    Replayed: "replayed",
    Conflict: "conflict",
    Stale: "stale",
    StateMoved: "state_moved",
}


@dataclass(slots=True)
class Spent:
    """Where the time of one request went: ``since`` is its arrival, the rest are seconds.

    A command that was planned again, because its day moved, counts every attempt.
    """

    since: float = field(default_factory=perf_counter)
    policy_s: float = 0.0
    commit_s: float = 0.0

    def total_s(self) -> float:
        """Seconds since the arrival."""
        return perf_counter() - self.since


SPENT: ContextVar[Spent | None] = ContextVar("spent", default=None)
"""The account of the request that is being served; None outside of one."""


class StoreAround(ABC):
    """``store`` with something around each of its calls."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @abstractmethod
    def _call(self, name: str) -> AbstractContextManager[object]:
        """What is around a call of that name."""

    async def load(self, client: str, day_id: str, names: Sequence[str]) -> Loaded:
        with self._call("load"):
            return await self._store.load(client, day_id, names)

    async def commit(self, commit: Commit) -> Outcome:
        with self._call("commit"):
            return await self._store.commit(commit)

    async def set_state(self, scope: str, state: str) -> None:
        with self._call("set_state"):
            await self._store.set_state(scope, state)

    async def state(self, scope: str) -> str:
        with self._call("state"):
            return await self._store.state(scope)

    async def pins(self) -> Mapping[str, int]:
        with self._call("pins"):
            return await self._store.pins()

    async def ping(self) -> None:
        with self._call("ping"):
            await self._store.ping()

    async def durability_problems(self) -> list[str]:
        with self._call("durability_problems"):
            return await self._store.durability_problems()

    async def figures(self) -> Mapping[str, int]:
        with self._call("figures"):
            return await self._store.figures()

    async def close(self) -> None:
        await self._store.close()


class MeasuredStore(StoreAround):
    """``store`` with its calls, errors and outcomes counted.

    ``told`` hears the scope and the state of every trading state that was set.
    """

    def __init__(self, store: Store, meters: StoreMeters, told: Callable[[str, str], None]) -> None:
        super().__init__(store)
        self._meters = meters
        self._told = told

    async def commit(self, commit: Commit) -> Outcome:
        started = perf_counter()
        try:
            outcome = await super().commit(commit)
        finally:
            if (spent := SPENT.get()) is not None:
                spent.commit_s += perf_counter() - started
        self._meters.outcomes.labels(outcome_name(outcome)).inc()
        return outcome

    async def set_state(self, scope: str, state: str) -> None:
        await super().set_state(scope, state)
        self._meters.state_changes.labels(_reach(scope), state).inc()
        self._told(scope, state)

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        except StoreUnavailable as error:
            kind = "refused" if isinstance(error, StoreRefused) else "unavailable"
            self._meters.errors.labels(name, kind).inc()
            raise
        finally:
            self._meters.seconds.labels(name).observe(perf_counter() - started)


def outcome_name(outcome: Outcome) -> str:
    """How an outcome is called in metrics and traces."""
    return _NAMES[type(outcome)]


def _reach(scope: str) -> str:
    """Whom a trading state holds for: the names of clients and days are no labels."""
    if scope == GLOBAL_SCOPE:
        return "service"
    return "day" if "/" in scope else "client"


@contextmanager
def apart() -> Iterator[None]:
    """What policies take in here is not of the day's own."""
    spent = SPENT.get()
    before_s = spent.policy_s if spent else 0.0
    yield
    if spent:
        spent.policy_s = before_s


def measured(policy: Policy) -> Policy:
    """``policy`` with its time on the account of the request."""

    def decide(day: Day, observation: Observation) -> Intent:
        started = perf_counter()
        try:
            return policy(day, observation)
        finally:
            if (spent := SPENT.get()) is not None:
                spent.policy_s += perf_counter() - started

    return decide
