"""Processes of one store: one contract among them, told by the store's clock."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import commits as c
from service.durability import blocking, kind
from service.embedded import EmbeddedValkey
from service.fleet import BEAT_S, Fleet, Member, MixedFleet, join, this_process
from service.roll import LIVE_S, ROLL_KEY, MemoryRoll, Roll
from service.sharding import ShardedStore
from service.store import RedisStore
from tests.crash.nursery import ROOT, free_port, listens, own_environment
from tests.service.api import Api, assert_problem

OURS, THEIRS = Member("host/1/a", "c" * 64), Member("host/2/b", "d" * 64)
Forget = Callable[[str], Awaitable[None]]
Scenario = Callable[[Roll, Forget], Awaitable[None]]


@pytest.fixture(params=["memory", "redis"])
def run(request: pytest.FixtureRequest, valkey: EmbeddedValkey) -> Callable[[Scenario], None]:
    """Runs with a roll, and with what lets an entry's time pass."""

    async def on_redis(scenario: Scenario) -> None:
        store = RedisStore(valkey.url)
        await store._call("FLUSHALL")

        async def forget(instance: str) -> None:
            told = await store._call("HGET", ROLL_KEY, instance)
            contract, until_ms = told.split()
            late = b"%s %d" % (contract, int(until_ms) - LIVE_S * 1_000)
            await store._call("HSET", ROLL_KEY, instance, late)

        await scenario(store, forget)
        await store._call("FLUSHALL")
        await store.close()

    async def in_memory(scenario: Scenario) -> None:
        roll = MemoryRoll(lambda: 0.0)

        async def forget(instance: str) -> None:
            contract, until = roll._live[instance]
            roll._live[instance] = (contract, until - LIVE_S)

        await scenario(roll, forget)

    return lambda scenario: asyncio.run(
        in_memory(scenario) if request.param == "memory" else on_redis(scenario)
    )


def told(member: Member) -> tuple[str, str]:
    return member.instance, member.contract


def test_processes_of_one_contract_serve_together(run: Callable[[Scenario], None]) -> None:
    async def scenario(roll: Roll, _: Forget) -> None:
        for n in range(5):
            assert await roll.announce(f"host/{n}", OURS.contract) == {}

    run(scenario)


def test_another_contract_is_refused_until_the_live_ones_have_ended(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(roll: Roll, forget: Forget) -> None:
        await join(roll, OURS)
        await join(roll, Member("host/1/other", OURS.contract))
        with pytest.raises(MixedFleet, match=r"stop the processes of cccc.* \(host/1/a\), cccc"):
            await join(roll, THEIRS)
        await roll.withdraw("host/1/other")
        with pytest.raises(MixedFleet, match="wait 30 s"):
            await join(roll, THEIRS)
        assert await roll.announce(*told(OURS)) == {}  # who was refused left no trace
        await forget(OURS.instance)
        await join(roll, THEIRS)
        with pytest.raises(MixedFleet, match=THEIRS.contract[:16]):
            await join(roll, OURS)  # woke up late: does not count, and hurts nobody
        assert await roll.announce(*told(THEIRS)) == {}
        await roll.withdraw(THEIRS.instance)
        await join(roll, OURS)

    run(scenario)


def test_an_entry_lives_for_30_s_of_the_stores_clock(valkey: EmbeddedValkey) -> None:
    async def scenario() -> None:
        store = RedisStore(valkey.url)
        await store._call("FLUSHALL")
        await join(store, OURS)
        seconds, micros = await store._call("TIME")
        until_ms = int((await store._call("HGET", ROLL_KEY, OURS.instance)).split()[1])
        left_ms = until_ms - int(seconds) * 1_000 - int(micros) // 1_000
        assert 29_000 < left_ms <= LIVE_S * 1_000
        await store._call("HSET", ROLL_KEY, "noise", "what is this")
        await join(store, OURS)
        assert await store._call("HKEYS", ROLL_KEY) == [OURS.instance.encode()]
        await store._call("FLUSHALL")
        await store.close()

    asyncio.run(scenario())
    assert 2 * BEAT_S < LIVE_S


def test_a_contract_that_appears_later_makes_the_service_unready() -> None:
    store = c.MemoryStore()

    async def scenario() -> None:
        fleet = Fleet(store, OURS, beat_s=0.01)
        async with fleet.beating():
            await asyncio.sleep(0.05)
            assert fleet.problems() == []
            store._live["host/9"] = (THEIRS.contract, time.monotonic() + LIVE_S)
            await asyncio.sleep(0.05)
            (problem,) = fleet.problems()
            assert "host/9" in problem
            assert kind(problem) == "contract"
            assert blocking([problem])
            await store.withdraw("host/9")
            await asyncio.sleep(0.05)
            assert fleet.problems() == []
        assert store._live == {}

    asyncio.run(scenario())


def test_a_store_that_is_away_stops_no_heart() -> None:
    class Away(c.MemoryStore):
        away = False

        async def announce(self, *args: Any) -> Any:
            if self.away:
                raise c.StoreUnavailable("no answer")
            return await super().announce(*args)

    async def scenario() -> None:
        store = Away()
        async with Fleet(store, OURS, beat_s=0.01).beating():
            store.away = True
            await asyncio.sleep(0.05)
            store._live.clear()
            store.away = False
            await asyncio.sleep(0.05)
            assert list(store._live) == [OURS.instance]

    asyncio.run(scenario())


def test_readyz_tells_of_another_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    problems: list[str] = []
    monkeypatch.setattr(Fleet, "problems", lambda self: problems)
    with Api() as api:
        assert api.call("GET", "/readyz").status == 200
        problems.append("contract x is not the only one")
        reply = api.call("GET", "/readyz")
        assert_problem(reply, 503, "NOT_READY")
        assert reply.json["problems"] == ["contract x is not the only one"]
        metrics = api.call("GET", "/metrics").body
        assert b'concord_store_problems{problem="contract"} 1' in metrics
        assert b"concord_ready 0" in metrics


def test_shard_0_keeps_the_roll() -> None:
    async def scenario() -> None:
        shards = [c.MemoryStore(), c.MemoryStore()]
        store = ShardedStore(shards)
        await join(store, OURS)
        assert await store.keep("name", b"value") == b"value"
        assert [len(shard._live) for shard in shards] == [1, 0]
        await store.withdraw(OURS.instance)
        assert [len(shard._live) for shard in shards] == [0, 0]

    asyncio.run(scenario())


def test_every_process_has_a_name_of_its_own() -> None:
    names = {this_process().instance for _ in range(100)}
    assert len(names) == 100
    assert {name.split("/")[1] for name in names} == {str(os.getpid())}


# The real program


class Program:
    """``python -m service`` over shared stores."""

    def __init__(self, folder: Path, url: str) -> None:
        self.port = free_port()
        self._folder, self._url = folder, url
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        settings = {
            "CONCORD_PORT": str(self.port),
            "CONCORD_DATA_DIR": str(self._folder),
            "CONCORD_REDIS_URL": self._url,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            cwd=ROOT,
            env=own_environment() | settings,
            stderr=subprocess.PIPE,
        )
        return self.process

    def serve(self) -> int:
        process, give_up = self.start(), time.monotonic() + 40
        while not listens(self.port):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < give_up
            time.sleep(0.02)
        return process.pid

    def refused(self) -> str:
        process = self.start()
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 2
        (line,) = stderr.decode().strip().splitlines()
        return line

    def ready(self) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}/readyz", trust_env=False)

    def stop(self, signum: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signum)
            self.process.communicate(timeout=20)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[EmbeddedValkey, EmbeddedValkey]]:
    with EmbeddedValkey(tmp_path / "s0") as one, EmbeddedValkey(tmp_path / "s1") as other:
        yield one, other


def hold(url: str, command: tuple[str, ...]) -> Any:
    async def ask() -> Any:
        store = RedisStore(url)
        try:
            return await store._call(*command)
        finally:
            await store.close()

    return asyncio.run(ask())


def test_a_fleet_with_mixed_contracts_refuses(
    tmp_path: Path, two: tuple[EmbeddedValkey, EmbeddedValkey]
) -> None:
    url = two[0].url
    program = Program(tmp_path / "data", url)
    until_ms = int(time.time() * 1_000) + 600_000
    hold(url, ("HSET", ROLL_KEY, "old/1", f"{THEIRS.contract} {until_ms}"))
    sentence = program.refused()
    assert sentence.startswith("concord cannot start: contract ")
    assert f"{THEIRS.contract[:16]} (old/1) first, or wait 30 s" in sentence
    hold(url, ("HDEL", ROLL_KEY, "old/1"))
    pid = program.serve()
    try:
        assert program.ready().status_code == 200
        (name,) = hold(url, ("HKEYS", ROLL_KEY))
        assert name.decode().split("/")[1] == str(pid)
        hold(url, ("HSET", ROLL_KEY, "old/1", f"{THEIRS.contract} {until_ms}"))
        give_up = time.monotonic() + 2 * BEAT_S
        while (reply := program.ready()).status_code == 200:
            assert time.monotonic() < give_up
            time.sleep(0.2)
        assert "old/1" in reply.json()["problems"][0]
    finally:
        program.stop()
    assert hold(url, ("HKEYS", ROLL_KEY)) == [b"old/1"]  # a clean stop leaves no entry


def test_a_start_with_another_list_of_stores_is_refused(
    tmp_path: Path, two: tuple[EmbeddedValkey, EmbeddedValkey]
) -> None:
    one, other = (server.url for server in two)
    program = Program(tmp_path / "data", f"{one},{other}")
    program.serve()
    assert program.ready().status_code == 200
    program.stop(signal.SIGKILL)
    for wrong, why in (
        (f"{other},{one}", "shard 0 is number 1 of its fleet"),
        (one, "belongs to a fleet of 2, but REDIS_URL names 1"),
        (f"{one},{one}", "names a store twice"),
        (f"{one},unix:///nowhere?password=opensesame", "shard 1: no answer from the store"),
    ):
        sentence = Program(tmp_path / "data", wrong).refused()
        assert why in sentence
        assert "sesame" not in sentence
    program.serve()
    program.stop()
