"""A fleet under fire: workers, stores and a proxy, racing callers, kills and halts, an audit."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from service.embedded import EmbeddedValkey
from tests.fleet.audit import Audit, Findings, Halt
from tests.fleet.proxy import RoundRobin
from tests.fleet.traffic import RACERS, Caller, Traffic
from tests.fleet.workers import ADMIN, Worker, write_keys
from tests.service.api import encoded

WORKERS, STEPS_PER_DAY, DAYS_AT_ONCE = 4, 25, 8
STEPS_PER_CYCLE = 1_000
"""In each cycle one worker is killed, and everyone is halted for a while."""
_HALT_STEPS = 60
_LOOK_S, _WAIT_S_MAX = 0.01, 240.0


@dataclass
class Tally:
    """What was done, and what was found."""

    steps: int
    shards: int
    workers: int
    kills: int = 0
    halts: list[Halt] = field(default_factory=list)
    requests: int = 0
    commands: int = 0
    replays: int = 0
    refusals: int = 0
    losses: int = 0
    doubts: int = 0
    seconds: float = 0.0
    halted_workers: set[int] = field(default_factory=set)
    decided_by: list[int] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)

    def __str__(self) -> str:
        found = self.findings.counts
        return (
            f"{self.workers} workers over {self.shards} store(s), {self.steps} steps sent by "
            f"{RACERS} callers each, {self.requests} definite answers: {self.commands} commands, "
            f"{self.replays} replays, {self.refusals} refusals; {self.kills} kills, "
            f"{len(self.halts)} halts, {self.losses} lost connections, {self.doubts} answers 503; "
            f"double {found['double']}, lost {found['lost']}, other findings "
            f"{found.total() - found['double'] - found['lost']}; {self.seconds:.0f} s"
        )


@contextmanager
def stores(folder: Path, count: int) -> Iterator[str]:
    """The addresses of ``count`` independent stores, in their order."""
    with ExitStack() as stack:
        servers = [EmbeddedValkey(folder / f"store-{n}") for n in range(count)]
        yield ",".join(stack.enter_context(server).url for server in servers)


def run(folder: Path, steps: int, shards: int = 1, mutant: str = "", count: int = WORKERS) -> Tally:
    """Play ``steps`` steps through a fleet of ``count`` workers, then audit every day of it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_keys(folder)
    tally = Tally(steps, shards, count)
    with stores(folder, shards) as urls, ExitStack() as stack:
        workers = [Worker(folder, number, urls, mutant) for number in range(count)]
        for worker in workers:
            stack.callback(worker.kill)
            worker.start()
        asyncio.run(_campaign(folder, workers, tally))
    return tally


async def _campaign(folder: Path, workers: list[Worker], tally: Tally) -> None:
    await asyncio.gather(*(worker.serving() for worker in workers))
    proxy = RoundRobin([worker.port for worker in workers])
    async with proxy.listening():
        traffic = Traffic(proxy.port, STEPS_PER_DAY)
        began = time.monotonic()
        trouble = asyncio.create_task(_trouble(workers, traffic, tally))
        tally.steps = STEPS_PER_DAY * await _play_all(traffic, tally.steps, trouble)
        traffic.over = True
        await trouble
        tally.seconds = time.monotonic() - began
        audit = Audit(proxy.port, folder, tally.halts)
        await audit.run(traffic.days)
    for example in traffic.stuck:
        audit.findings.add("stuck", example)
    _sum_up(tally, traffic, audit)


async def _play_all(traffic: Traffic, steps: int, trouble: asyncio.Task[None]) -> int:
    """At least so many steps, and on until the trouble is over; how many days it were."""
    numbers = itertools.count()
    played = 0

    async def play() -> None:
        nonlocal played
        while played * STEPS_PER_DAY < steps or not trouble.done():
            played += 1
            await traffic.play(next(numbers))

    await asyncio.gather(*(play() for _ in range(DAYS_AT_ONCE)))
    return played


async def _trouble(workers: list[Worker], traffic: Traffic, tally: Tally) -> None:
    """In each cycle: a worker killed at its tenth and back at once, a halt once it serves."""
    size = min(STEPS_PER_CYCLE, tally.steps)
    for cycle in range(tally.steps // size):
        begun, worker = cycle * size, workers[cycle % len(workers)]
        await _until(traffic, begun + size // 10)
        worker.kill()
        worker.start()
        tally.kills += 1
        await worker.serving()
        await _until(traffic, begun + size // 2)
        await _set(traffic, "HALTED")
        told_s = time.monotonic()
        await _until(traffic, traffic.decided + min(_HALT_STEPS, size // 4))
        tally.halts.append(Halt(told_s, time.monotonic()))
        await _set(traffic, "ACTIVE")


async def _until(traffic: Traffic, decided: int) -> None:
    async with asyncio.timeout(_WAIT_S_MAX):
        while traffic.decided < decided and not traffic.over:  # noqa: ASYNC110 - a few times
            await asyncio.sleep(_LOOK_S)


async def _set(traffic: Traffic, state: str) -> None:
    caller = Caller(traffic.port, ADMIN)
    answer = await caller("PUT", "/v1/service/state", encoded({"state": state}))
    caller.close()
    assert answer.status == 200, answer


def _sum_up(tally: Tally, traffic: Traffic, audit: Audit) -> None:
    tally.requests = sum(len(told.answers) for told in traffic.days)
    tally.commands, tally.replays, tally.refusals = audit.commands, audit.replays, audit.refusals
    tally.losses, tally.doubts = traffic.losses, traffic.doubts
    tally.halted_workers, tally.findings = audit.halted_workers, audit.findings
    tally.decided_by = [traffic.workers[number] for number in range(tally.workers)]
