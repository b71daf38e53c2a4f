"""Days in memory beside the store: what was last seen of each, and one command at a time.

Imports commits, live, plans. What is held here is never trusted: every commit compares its sequence
with the store's, and a refusal stands only if the day has not moved meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from service.booking import exec_field
from service.commits import SEQ_ABSENT, Loaded, Store
from service.errors import Code, Problem
from service.live import FIXED, STATE, LiveDay, OtherFormat, unpack
from service.shadow import SHADOWS, SHADOWS_FIXED, Shadow, unpacked

DAY_FIELDS = (FIXED, STATE, SHADOWS, SHADOWS_FIXED)
"""Store fields that a day is made of."""
Key = tuple[str, str]
"""Client and day id."""


@dataclass(frozen=True, slots=True)
class Held:
    """A day as last seen: ``live`` is None where there is none.

    ``state`` is the trading state of client and service, ``known`` the content of the executions
    that were looked up, by exec_id. ``shadows`` are those of the day.
    """

    seq: int
    live: LiveDay | None
    state: str
    known: Mapping[str, bytes] = field(default_factory=dict)
    shadows: tuple[Shadow, ...] = ()

    def models(self) -> list[dict[str, str]]:
        """The models that the next decision needs."""
        days = [shadow.live for shadow in self.shadows if not shadow.stopped]
        return [day.terms.model for day in (self.live, *days) if day is not None]


def held_from(loaded: Loaded) -> Held:
    """What a load of DAY_FIELDS says of a day."""
    there = loaded.seq != SEQ_ABSENT
    try:
        live = unpack(loaded.fields[FIXED], loaded.fields[STATE]) if there else None
        shadows = unpacked(loaded.fields)
    except OtherFormat:
        raise Problem(
            Code.OTHER_VERSION,
            "another version of the service opened this day: finish it with that",
        ) from None
    return Held(loaded.seq, live, loaded.state, _known(loaded), shadows)


def _known(loaded: Loaded) -> dict[str, bytes]:
    prefix = exec_field("")
    return {n.removeprefix(prefix): v for n, v in loaded.fields.items() if n.startswith(prefix)}


class Shelf:
    """The days that were used last."""

    def __init__(self, store: Store, days_max: int) -> None:
        self._store = store
        self._days_max = days_max
        self._held: OrderedDict[Key, Held] = OrderedDict()

    async def get(
        self, key: Key, names: Sequence[str], fits: Callable[[LiveDay], bool] = lambda _: True
    ) -> Held:
        """The day with those of ``names`` that are stored, from memory only where it ``fits``."""
        held = self._held.get(key)
        if held is not None and held.live is not None and not fits(held.live):
            held = None  # another process has moved it: no use in planning on what was
        if held is not None and not names:
            return held
        if held is not None:
            loaded = await self._store.load(*key, names)
            if loaded.seq == held.seq:
                return replace(held, state=loaded.state, known=_known(loaded))
        fresh = held_from(await self._store.load(*key, (*DAY_FIELDS, *names)))
        self.put(key, fresh)
        return fresh

    async def is_current(self, key: Key, held: Held) -> bool:
        """Whether a refusal stands: another process may have moved the day since it was held."""
        if (await self._store.load(*key, ())).seq == held.seq:
            return True
        self.drop(key)
        return False

    def put(self, key: Key, held: Held) -> None:
        """Hold a day, and let go of the one that was not used for longest."""
        if held.live is None:
            return
        self._held[key] = replace(held, known={})
        self._held.move_to_end(key)
        while len(self._held) > self._days_max:
            self._held.popitem(last=False)

    def drop(self, key: Key) -> None:
        """Let go of a day: the next command looks in the store."""
        self._held.pop(key, None)


class DayLocks:
    """One command at a time for each day of this process; a lock goes when nobody needs it."""

    def __init__(self) -> None:
        self._locks: dict[Key, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def one(self, key: Key) -> AsyncIterator[None]:
        """Hold the lock of a day."""
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            users = self._locks[key][1] - 1
            self._locks[key] = (lock, users)
            if not users:
                del self._locks[key]
