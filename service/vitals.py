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
from collections.abc import Awaitable, Callable, Collection

from service.commits import STATES, Store, StoreUnavailable
from service.durability import KINDS, blocking, kind
from service.meters import Meters

FRESH_S = 5.0
READ_S_MAX = 2.0
"""A store that hangs must not make /metrics look dead: readings end after so long."""
_NO_DAY = "no-day-read-for-its-trading-state"


class Vitals:
    """Readings of ``store`` and of the trading state of every one of ``clients``.

    ``others`` tells problems that are not the store's.
    """

    def __init__(
        self,
        store: Store,
        clients: Collection[str],
        meters: Meters,
        others: Callable[[], list[str]] = list,
    ) -> None:
        self._store = store
        self._others = others
        self._clients = sorted(clients)
        self._state = meters.state
        self._told = meters.store
        self._reading = asyncio.Lock()
        self._read_at = self._checked_at = -math.inf

    async def problems(self) -> list[str]:
        """One sentence for each reason not to serve, or not all days; raises StoreUnavailable."""
        self._checked_at = time.monotonic()
        try:
            problems = await self._store.durability_problems() + self._others()
        except StoreUnavailable:
            self._state.ready.set(0)
            raise
        self._state.ready.set(0 if blocking(problems) else 1)
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
            if not _is_fresh(self._checked_at) and not await _answered(self.problems()):
                self._state.ready.set(0)
            # a shard that is away must not make the others unready: look whether it is all of them
            elif not await _answered(self._read()) and not await _answered(self.problems()):
                self._state.ready.set(0)

    async def _read(self) -> None:
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


async def _answered(work: Awaitable[object]) -> bool:
    try:
        async with asyncio.timeout(READ_S_MAX):
            await work
    except (StoreUnavailable, TimeoutError):
        return False
    return True


def _is_fresh(moment: float) -> bool:
    return time.monotonic() - moment < FRESH_S
