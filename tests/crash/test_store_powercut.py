"""Power cuts under racing committers: nothing acknowledged is lost, nothing is decided twice.

Each committer proposes other random bytes at every attempt, so that a command which is decided
twice, or whose first decision was lost, shows. Two controls prove that the harness can fail.
"""

import asyncio
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from service import store as store_module
from service.commits import (
    ACTIVE,
    FIELDS_MAX,
    Commit,
    Committed,
    Replayed,
    StoreUnavailable,
    reply_field,
)
from service.store import RedisStore
from tests.crash.powercut import PowerCutStore

CUTS = int(os.environ.get("CONCORD_STORE_POWER_CUTS", "40"))
COMMITTERS = 3
CLIENT = "client"

# The commit script without its questions: the last writer wins.
_BLIND_LUA = "redis.call('HSET', KEYS[1], unpack(ARGV, 7)) return {'COMMITTED', ARGV[8]}"


@dataclass
class Journal:
    """What was answered, as its receivers remember it, and what an audit missed."""

    answered: dict[str, dict[str, bytes]] = field(default_factory=dict)
    replays: int = 0
    doubled: int = 0
    lost: int = 0
    unbalanced: int = 0

    def note(self, day: str, command: str, outcome: Committed | Replayed, reply: bytes) -> None:
        answer = outcome.reply if isinstance(outcome, Replayed) else reply
        self.replays += isinstance(outcome, Replayed)
        first = self.answered.setdefault(day, {}).setdefault(command, answer)
        self.doubled += first != answer

    @property
    def answers(self) -> int:
        return sum(map(len, self.answered.values()))

    async def audit(self, store: RedisStore, day: str) -> None:
        """Compare the day as stored with what was answered, and with itself."""
        loaded = await store.load(CLIENT, day, ["total"])
        stored = await _replies(store, day, loaded.seq + 1)
        answered = self.answered.get(day, {})
        self.lost += sum(stored.get(command) != reply for command, reply in answered.items())
        total = sum(map(_size, stored.values()))
        whole = len(stored) == loaded.seq + 1 and int(loaded.fields.get("total", b"0")) == total
        self.unbalanced += not whole


def _size(reply: bytes) -> int:
    return int(reply.split(b":")[0])


async def _replies(store: RedisStore, day: str, count: int) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for first in range(0, count, FIELDS_MAX):
        commands = [f"step:{n}" for n in range(first, min(first + FIELDS_MAX, count))]
        loaded = await store.load(CLIENT, day, [reply_field(command) for command in commands])
        fields = loaded.fields.items()
        found |= {name.removeprefix("reply:"): reply for name, reply in fields}
    return found


class Committer:
    """Decides step after step; keeps asking for a step until it has a definite answer."""

    def __init__(self, store: RedisStore, journal: Journal) -> None:
        self._store, self._journal = store, journal
        self.day = ""
        self._pending: tuple[str, str] | None = None

    async def run(self) -> None:
        while True:
            try:
                await self._attempt()
            except StoreUnavailable:
                await asyncio.sleep(0.005)

    async def _attempt(self) -> None:
        day = self._pending[0] if self._pending else self.day
        loaded = await self._store.load(CLIENT, day, ["total"])
        self._pending = self._pending or (day, f"step:{loaded.seq + 1}")
        command = self._pending[1]
        size = random.randrange(1, 1000)
        reply = b"%d:%s" % (size, random.randbytes(8).hex().encode())
        total = b"%d" % (int(loaded.fields.get("total", b"0")) + size)
        fields = {"total": total, "day": bytes(400)}
        commit = Commit(CLIENT, day, loaded.seq, command, b"request", ACTIVE, reply, fields)
        outcome = await self._store.commit(commit)
        if isinstance(outcome, Committed | Replayed):
            self._journal.note(day, command, outcome, reply)
            self._pending = None


async def cut_again_and_again(power: PowerCutStore, cuts: int) -> Journal:
    """Cut `cuts` times at random moments of a burst, each on a day of its own; audit them all."""
    journal = Journal()
    auditor = RedisStore(power.url)
    stores = [RedisStore(power.url, timeout_s=1.0, connections_max=2) for _ in range(COMMITTERS)]
    committers = [Committer(store, journal) for store in stores]
    for committer in committers:
        committer.day = "day-0"
    tasks = [asyncio.create_task(committer.run()) for committer in committers]
    for cut in range(1, cuts + 1):
        await asyncio.sleep(random.uniform(0.01, 0.06))
        await asyncio.to_thread(power.cut)
        for committer in committers:
            committer.day = f"day-{cut}"
        await asyncio.to_thread(power.restart)
    await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for day in journal.answered:
        await journal.audit(auditor, day)
    for store in (auditor, *stores):
        await store.close()
    return journal


def run(data_dir: Path, fsync: str, cuts: int) -> tuple[Journal, PowerCutStore]:
    power = PowerCutStore(data_dir, fsync)
    power.start()
    try:
        return asyncio.run(cut_again_and_again(power, cuts)), power
    finally:
        power.stop()


def test_power_cuts_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    journal, power = run(tmp_path / "data", "always", CUTS)
    print(f"{power.cuts} cuts, {journal.answers} answers, {journal.replays} replays")
    assert (journal.lost, journal.doubled, journal.unbalanced) == (0, 0, 0)
    assert power.cuts == CUTS
    assert journal.answers > 5 * CUTS
    assert journal.replays > CUTS


def test_control_everysec_loses_answers(tmp_path: Path) -> None:
    journal, power = run(tmp_path / "data", "everysec", 5)
    assert power.bytes_lost > 0
    assert journal.lost > 0


def test_control_a_commit_without_questions_decides_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_COMMIT", store_module._hashed(_BLIND_LUA))
    journal, _ = run(tmp_path / "data", "always", 3)
    assert journal.doubled + journal.lost + journal.unbalanced > 0
