"""How the store and the trading states stand, read when somebody asks. Imports commits and meters.

A gauge that only changes when this process does something would go stale: another process may set
a state, and the store's disk may fill while nobody trades. So /metrics reads again what is older
than FRESH_S, and no more often, since it answers without a key.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Collection

from service.commits import STATES, Store, StoreUnavailable
from service.durability import KINDS, kind
from service.meters import Meters

FRESH_S = 5.0
READ_S_MAX = 2.0
"""A store that hangs must not make /metrics look dead: readings end after so long."""
_NO_DAY = "no-day-read-for-its-trading-state"


class Vitals:
    """Readings of ``store`` and of the trading state of every one of ``clients``."""

    def __init__(self, store: Store, clients: Collection[str], meters: Meters) -> None:
        self._store = store
        self._clients = sorted(clients)
        self._state = meters.state
        self._told = meters.store
        self._reading = asyncio.Lock()
        self._read_at = self._checked_at = -math.inf

    async def problems(self) -> list[str]:
        """One sentence for each reason why the store may forget; raises StoreUnavailable."""
        self._checked_at = time.monotonic()
        try:
            problems = await self._store.durability_problems()
        except StoreUnavailable:
            self._state.ready.set(0)
            raise
        self._state.ready.set(0 if problems else 1)
        counts = Counter(map(kind, problems))
        for name in KINDS:
            self._told.problems.labels(name).set(counts[name])
        return problems

    async def refresh(self) -> None:
        """Read again what is not fresh; a store that is away leaves ``ready`` at 0."""
        if self._reading.locked() or _is_fresh(self._read_at):
            return
        async with self._reading:
            self._read_at = time.monotonic()
            try:
                async with asyncio.timeout(READ_S_MAX):
                    await self._read()
            except (StoreUnavailable, TimeoutError):
                self._state.ready.set(0)

    async def _read(self) -> None:
        if not _is_fresh(self._checked_at):
            await self.problems()
        await self._count_states()
        await self._read_figures()

    async def _count_states(self) -> None:
        loaded = [await self._store.load(client, _NO_DAY, ()) for client in self._clients]
        counts = Counter(each.state for each in loaded)
        for state in STATES:
            self._state.clients.labels(state).set(counts[state])

    async def _read_figures(self) -> None:
        figures = await self._store.figures()
        gauges = {
            "memory": self._told.memory,
            "memory_max": self._told.memory_max,
            "log": self._told.log,
        }
        for name, gauge in gauges.items():
            gauge.set(figures.get(name, math.nan))


def _is_fresh(moment: float) -> bool:
    return time.monotonic() - moment < FRESH_S
