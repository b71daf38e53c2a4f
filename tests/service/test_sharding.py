"""Days over several stores: where a day is, states on every shard, lists that are not a fleet."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date, timedelta
from pathlib import Path

import pytest

from service import commits as c
from service import sharding
from service.durability import blocking, kind
from service.embedded import EmbeddedValkey, find_binary
from service.sharding import SHARDS_MAX, ShardedStore, WrongShards, addresses, shard_of, slot
from service.store import RedisStore
from tests.crash.nursery import free_port
from tests.service.api import ADMIN, Api, assert_problem, day, step

Scenario = Callable[[Sequence[sharding.Shard]], Awaitable[None]]


@pytest.fixture(scope="module")
def valkeys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[EmbeddedValkey]]:
    servers = [EmbeddedValkey(tmp_path_factory.mktemp(f"shard{n}")) for n in range(3)]
    for server in servers:
        server.start()
    yield servers
    for server in servers:
        server.stop()


@asynccontextmanager
async def emptied(servers: list[EmbeddedValkey]) -> AsyncIterator[list[RedisStore]]:
    async with AsyncExitStack() as stack:
        stores = [RedisStore(server.url, timeout_s=2.5) for server in servers]
        for store in stores:
            stack.push_async_callback(store.close)
            await store._call("FLUSHALL")
        yield stores


@pytest.fixture(params=["memory", "redis"])
def run(request: pytest.FixtureRequest, valkeys: list[EmbeddedValkey]) -> Callable[..., None]:
    async def on_redis(scenario: Scenario, count: int) -> None:
        async with emptied(valkeys[:count]) as stores:
            await scenario(stores)

    async def in_memory(scenario: Scenario, count: int) -> None:
        await scenario([c.MemoryStore() for _ in range(count)])

    def go(scenario: Scenario, count: int = 2) -> None:
        chosen = in_memory if request.param == "memory" else on_redis
        asyncio.run(chosen(scenario, count))

    return go


def commit(day_id: str, command: str = "open", seq: int = -1, state: str = c.ACTIVE) -> c.Commit:
    return c.Commit("desk", day_id, seq, command, b"d", state, b"r", pins={"iac@1": 1})


def a_day_on(shard: int, count: int = 2) -> str:
    return next(f"d{n}" for n in range(1_000) if shard_of("desk", f"d{n}", count) == shard)


# Where a day is


def _crc16(data: bytes) -> int:
    """CRC-16/XMODEM as the cluster specification writes it."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ (0x1021 if crc & 0x8000 else 0)
    return crc & 0xFFFF


def test_the_place_of_a_day_is_the_published_formula() -> None:
    assert _crc16(b"123456789") == 0x31C3
    for n in range(200):
        day_id = f"2026-11-20.{n}"
        place = _crc16(f"desk/{day_id}".encode()) % 16_384
        assert slot("desk", day_id) == place
        for shards in range(1, SHARDS_MAX + 1):
            assert shard_of("desk", day_id, shards) == place * shards // 16_384 < shards
    with pytest.raises(ValueError, match="ids are"):
        slot("desk", "a}b")


def test_the_slot_is_what_a_cluster_answers(tmp_path: Path) -> None:
    port = free_port()
    command = [str(find_binary()), "--port", str(port), "--cluster-enabled", "yes", "--dir"]
    process = subprocess.Popen([*command, str(tmp_path)], stdout=subprocess.DEVNULL)

    async def ask() -> None:
        store = RedisStore(f"redis://127.0.0.1:{port}")
        for _ in range(200):
            try:
                await store.ping()
                break
            except c.StoreUnavailable:
                await asyncio.sleep(0.05)
        for day_id in ("2026-11-20", "d", "A.b_c-9" * 9):
            key = c.day_key("desk", day_id)
            assert await store._call("CLUSTER", "KEYSLOT", key) == slot("desk", day_id)
        await store.close()

    try:
        asyncio.run(ask())
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("shards", [2, 3, 5, SHARDS_MAX])
def test_days_as_desks_name_them_spread_evenly(shards: int) -> None:
    first = date(2026, 1, 1)
    days = [f"{first + timedelta(days=n)}" for n in range(250)]
    names = [(f"desk-{d}", f"{day}-{b}") for d in range(8) for day in days for b in "abc"]
    counts = [0] * shards
    for name in names:
        counts[shard_of(*name, shards)] += 1
    even = len(names) / shards
    assert all(0.8 * even < count < 1.2 * even for count in counts), counts


@pytest.mark.parametrize("text", ["redis://a", "redis://a, redis://b", "unix:///x,redis://y"])
def test_addresses_are_read_in_their_order(text: str) -> None:
    assert addresses(text) == [part.strip() for part in text.split(",")]


@pytest.mark.parametrize(
    ("text", "told"), [("a,,b", "empty"), ("a,", "empty"), ("", "empty"), ("a,b,a", "twice")]
)
def test_a_list_that_cannot_be_one_is_refused(text: str, told: str) -> None:
    with pytest.raises(WrongShards, match=told):
        addresses(text)


def test_the_largest_fleet_is_taken_and_one_more_store_is_refused() -> None:
    names = [f"redis://s{n}" for n in range(SHARDS_MAX + 1)]
    assert len(addresses(",".join(names[:-1]))) == SHARDS_MAX
    with pytest.raises(WrongShards, match="at most 16"):
        addresses(",".join(names))
    ShardedStore([c.MemoryStore() for _ in range(SHARDS_MAX)])
    for count in (0, 1, SHARDS_MAX + 1):
        with pytest.raises(WrongShards, match="2 to 16"):
            ShardedStore([c.MemoryStore() for _ in range(count)])


# Days and states


def test_a_day_is_on_its_shard_only_and_answers_as_on_one_store(run: Callable[..., None]) -> None:
    async def scenario(shards: Sequence[sharding.Shard]) -> None:
        store = ShardedStore(shards)
        for at in range(3):
            day_id = a_day_on(at, 3)
            assert await store.commit(commit(day_id)) == c.Committed(0)
            assert await store.commit(commit(day_id)) == c.Replayed(b"r")
            assert (await store.load("desk", day_id, ["seq"])).seq == 0
            seqs = [(await shard.load("desk", day_id, [])).seq for shard in shards]
            assert seqs == [0 if n == at else -1 for n in range(3)]
        assert await store.pins() == {"iac@1": 3}

    run(scenario, 3)


@pytest.mark.parametrize("scope", ["*", "desk"])
def test_a_halt_holds_on_every_shard_when_it_is_answered(
    run: Callable[..., None], scope: str
) -> None:
    async def scenario(shards: Sequence[sharding.Shard]) -> None:
        store = ShardedStore(shards)
        await store.set_state(scope, c.HALTED)
        for at in range(3):
            assert await shards[at].state(scope) == c.HALTED
            assert await store.commit(commit(a_day_on(at, 3))) == c.StateMoved(c.HALTED)
        await store.set_state(scope, c.ACTIVE)
        for at in range(3):
            assert await store.commit(commit(a_day_on(at, 3))) == c.Committed(0)

    run(scenario, 3)


def test_a_halt_of_a_day_is_on_its_shard(run: Callable[..., None]) -> None:
    async def scenario(shards: Sequence[sharding.Shard]) -> None:
        store, day_id = ShardedStore(shards), a_day_on(1)
        await store.set_state(f"desk/{day_id}", c.HALTED)
        assert await shards[1].state(f"desk/{day_id}") == c.HALTED
        assert await shards[0].state(f"desk/{day_id}") == c.ACTIVE
        assert await store.commit(commit(day_id)) == c.StateMoved(c.HALTED)
        assert await store.commit(commit(a_day_on(0))) == c.Committed(0)

    run(scenario)


class Away(c.MemoryStore):
    """A store that can be out of reach."""

    away = False

    async def set_state(self, scope: str, state: str) -> None:
        await self.ping()
        await super().set_state(scope, state)

    async def load(self, client: str, day_id: str, names: Sequence[str]) -> c.Loaded:
        await self.ping()
        return await super().load(client, day_id, names)

    async def commit(self, commit: c.Commit) -> c.Outcome:
        await self.ping()
        return await super().commit(commit)

    async def durability_problems(self) -> list[str]:
        await self.ping()
        return []

    async def ping(self) -> None:
        if self.away:
            raise c.StoreUnavailable("no answer")


def test_a_halt_without_one_shard_is_not_acknowledged_but_holds_on_the_others() -> None:
    async def scenario() -> None:
        shards = [Away(), Away(), Away()]
        store = ShardedStore(shards)
        shards[1].away = True
        with pytest.raises(c.StoreUnavailable, match="shard 1: no answer"):
            await store.set_state("*", c.HALTED)
        assert [await shard.state("*") for shard in shards] == [c.HALTED, c.ACTIVE, c.HALTED]
        shards[1].away = False
        await store.set_state("*", c.HALTED)
        assert [await shard.state("*") for shard in shards] == [c.HALTED] * 3

    asyncio.run(scenario())


class Slow(c.MemoryStore):
    """A store that takes as long as it is told to set a state."""

    waits: tuple[int, ...] = ()

    async def set_state(self, scope: str, state: str) -> None:
        for _ in range(self.waits[c.STATES.index(state)]):
            await asyncio.sleep(0)
        await super().set_state(scope, state)


def test_of_two_changes_that_cross_at_least_one_is_told() -> None:
    """Where shards end with different states, somebody was not acknowledged."""

    async def crossed(waits: tuple[tuple[int, int, int], ...]) -> tuple[set[str], list[object]]:
        shards = [Slow(), Slow()]
        for shard, wait in zip(shards, waits, strict=True):
            shard.waits = wait
        store = ShardedStore(shards)
        changes = [store.set_state("*", c.HALTED), store.set_state("*", c.ACTIVE)]
        told: list[object] = list(await asyncio.gather(*changes, return_exceptions=True))
        return {await shard.state("*") for shard in shards}, told

    async def scenario() -> None:
        mixed = 0
        for n in range(6**4):
            a, b, x, y = n % 6, n // 6 % 6, n // 36 % 6, n // 216
            states, told = await crossed(((a, 0, b), (x, 0, y)))
            if len(states) > 1:
                mixed += 1
                assert any(isinstance(each, c.StoreUnavailable) for each in told), (a, b, x, y)
        assert mixed > 100

    asyncio.run(scenario())


# One shard away


@pytest.mark.parametrize("lost", [0, 1])
def test_days_on_the_other_shards_go_on_and_the_service_stays_ready(lost: int) -> None:
    shards = [Away(), Away()]
    asyncio.run(sharding.enrol(shards))
    with Api(store=ShardedStore(shards)) as api:
        near, far = a_day_on(1 - lost), a_day_on(lost)
        for day_id in (near, far):
            assert api.open(day(), day_id).status == 200
        shards[lost].away = True
        assert api.step(1, step(1), near).status == 200
        assert_problem(api.step(1, step(1), far), 503, "STORE_UNAVAILABLE")
        ready = api.call("GET", "/readyz")
        assert ready.status == 200
        assert f"shard {lost}: away".encode() in ready.body
        assert b'concord_store_problems{problem="away"} 1' in api.call("GET", "/metrics").body
        assert b"concord_ready 1" in api.call("GET", "/metrics").body
        halt = api.call("PUT", "/v1/service/state", {"state": "HALTED"}, key=ADMIN)
        assert_problem(halt, 503, "STORE_UNAVAILABLE")
        assert api.state(near)["trading"] == "HALTED"
        shards[1 - lost].away = True
        assert_problem(api.call("GET", "/readyz"), 503, "STORE_UNAVAILABLE")
        shards[0].away = shards[1].away = False
        assert api.step(1, step(1), far).status == 200
        assert api.call("GET", "/readyz").body == b"ready\n"
        assert api.call("PUT", "/v1/service/state", {"state": "HALTED"}, key=ADMIN).status == 200


@pytest.mark.parametrize("lost", [0, 1])
def test_a_shard_that_lost_who_it_is_makes_the_service_unready(lost: int) -> None:
    shards = [c.MemoryStore(), c.MemoryStore()]
    asyncio.run(sharding.enrol(shards))
    with Api(store=ShardedStore(shards)) as api:
        shards[lost]._kept.clear()
        reply = api.call("GET", "/readyz")
        assert_problem(reply, 503, "NOT_READY")
        (problem,) = reply.json["problems"]
        assert f"shard {lost} has lost who it is" in problem
        assert kind(problem) == "shard"


def test_a_hung_shard_is_away_in_time_and_its_address_is_not_told(
    valkeys: list[EmbeddedValkey],
) -> None:
    async def scenario() -> None:
        async with emptied(valkeys[:2]) as plain:
            await sharding.enrol(plain)
            asked = "?username=default&password=opensesame"
            secret = [RedisStore(f"{v.url}{asked}", timeout_s=2.0) for v in valkeys[:2]]
            store = ShardedStore(secret)
            assert await store.durability_problems() == []
            await store.ping()
            assert {"memory", "memory_max", "log"} <= set(await store.figures())
            os.kill(valkeys[1].pid, signal.SIGSTOP)
            try:
                async with asyncio.timeout(1.9):
                    (problem,) = await store.durability_problems()
                assert kind(problem) == "away"
                assert blocking([problem]) == []
                assert "memory" in await store.figures()
                await store.load("desk", a_day_on(0), [])
                with pytest.raises(c.StoreUnavailable) as raised:
                    await store.set_state("*", c.HALTED)
                assert str(raised.value).startswith("shard 1: no answer")
                assert "sesame" not in f"{problem}{raised.value}"
            finally:
                os.kill(valkeys[1].pid, signal.SIGCONT)
            await store.close()

    asyncio.run(scenario())


def test_problems_of_a_shard_are_named_by_its_number(valkeys: list[EmbeddedValkey]) -> None:
    async def scenario() -> None:
        async with emptied(valkeys[:2]) as stores:
            await sharding.enrol(stores)
            await stores[1]._call("CONFIG", "SET", "appendfsync", "everysec")
            try:
                (problem,) = await ShardedStore(stores).durability_problems()
                assert await sharding.unsafe(stores) == [problem]
            finally:
                await stores[1]._call("CONFIG", "SET", "appendfsync", "always")
            assert problem.startswith("shard 1: appendfsync is everysec")
            assert kind(problem) == "appendfsync"
            assert blocking([problem]) == [problem]

    asyncio.run(scenario())


def test_figures_are_those_of_what_runs_out_first() -> None:
    class Full(c.MemoryStore):
        told: dict[str, int]

        async def figures(self) -> dict[str, int]:
            return self.told

    one, two = Full(), Full()
    one.told = {"memory": 90, "memory_max": 100, "log": 1}
    two.told = {"memory": 500, "memory_max": 1_000, "log": 7}
    figures = asyncio.run(ShardedStore([one, two]).figures())
    assert figures == {"memory": 90, "memory_max": 100, "log": 7}


# Lists that are not the fleet


async def refused(shards: Sequence[sharding.Shard]) -> str:
    """Why; and nothing was written."""
    before = [await shard.keep("shard") for shard in shards]
    with pytest.raises(WrongShards) as raised:
        await sharding.enrol(shards)
    assert [await shard.keep("shard") for shard in shards] == before
    return str(raised.value)


def test_a_fleet_is_made_once_and_known_again(run: Callable[..., None]) -> None:
    async def scenario(shards: Sequence[sharding.Shard]) -> None:
        a, b, new = shards
        await sharding.enrol([a, b])
        await ShardedStore([a, b]).commit(commit("d"))
        await sharding.enrol([a, b])
        assert "is number 1 of its fleet" in await refused([b, a])
        assert "is number 0 of its fleet" in await refused([a, a])
        assert "belongs to a fleet of 2, but REDIS_URL names 3" in await refused([a, b, new])
        assert "belongs to a fleet of 2, but REDIS_URL names 1" in await refused([a])
        assert "shard 1 is empty, but others" in await refused([a, new])
        assert "shard 0 is empty, but others" in await refused([new, b])

    run(scenario, 3)


def test_a_store_of_another_fleet_is_refused(run: Callable[..., None]) -> None:
    async def scenario(shards: Sequence[sharding.Shard]) -> None:
        other = [c.MemoryStore(), c.MemoryStore()]
        await sharding.enrol(shards)
        await sharding.enrol(other)
        assert "shard 1 belongs to another fleet" in await refused([shards[0], other[1]])

    run(scenario)


def test_a_store_with_days_of_its_own_does_not_become_a_shard(run: Callable[..., None]) -> None:
    async def scenario(shards: Sequence[sharding.Shard]) -> None:
        await shards[0].commit(commit("d"))
        assert "shard 0 is no empty database" in await refused(shards)
        await sharding.enrol(shards[:1])
        assert "belongs to a fleet of 1, but REDIS_URL names 2" in await refused(shards)

    run(scenario)


@pytest.mark.parametrize("written", [1, 2])
def test_a_first_start_that_was_cut_off_is_finished_by_the_next(
    run: Callable[..., None], written: int
) -> None:
    async def scenario(shards: Sequence[sharding.Shard]) -> None:
        for at in range(written):
            await shards[at].keep("shard", b"abc %d 2" % at)
        await sharding.enrol(shards)
        assert [await shard.keep("shard") for shard in shards] == [b"abc 0 2", b"abc 1 2"]

    run(scenario)


def test_first_starts_at_once_make_one_fleet(run: Callable[..., None]) -> None:
    async def scenario(shards: Sequence[sharding.Shard]) -> None:
        await asyncio.gather(*(sharding.enrol(shards) for _ in range(8)))
        first, second = [await shard.keep("shard") for shard in shards]
        assert first is not None
        assert second == first.replace(b" 0 ", b" 1 ")

    run(scenario)


def test_a_state_is_read_as_the_strictest_that_a_shard_has() -> None:
    shards = [c.MemoryStore(), c.MemoryStore()]
    store = ShardedStore(shards)

    async def scenario() -> None:
        assert await store.state("desk") == "ACTIVE"
        await shards[1].set_state("desk", "HALTED")  # a change that is not whole yet
        assert await store.state("desk") == "HALTED"
        await store.set_state("desk/d", "REDUCING")
        assert await store.state("desk/d") == "REDUCING"
        assert await store.state("*") == "ACTIVE"

    asyncio.run(scenario())
