"""The store's promises, on a real Valkey and, where they are semantics, on the memory twin too."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import commits as c
from service.durability import SETTINGS, find_problems
from service.embedded import EmbeddedValkey
from service.store import RedisStore

Scenario = Callable[[c.Store], Coroutine[None, None, None]]
Run = Callable[[Scenario], None]


@asynccontextmanager
async def opened(url: str, **options: float) -> AsyncIterator[RedisStore]:
    store = RedisStore(url, **options)  # type: ignore[arg-type]
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def emptied(server: EmbeddedValkey, **options: float) -> AsyncIterator[RedisStore]:
    async with opened(server.url, **options) as store:
        await store._call("FLUSHALL")
        yield store


@pytest.fixture(params=["memory", "redis"])
def run(request: pytest.FixtureRequest, valkey: EmbeddedValkey) -> Run:
    async def on_redis(scenario: Scenario) -> None:
        async with emptied(valkey) as store:
            await scenario(store)

    def go(scenario: Scenario) -> None:
        memory = request.param == "memory"
        asyncio.run(scenario(c.MemoryStore()) if memory else on_redis(scenario))

    return go


def commit(
    command: str = "open",
    expected_seq: int = -1,
    *,
    digest: bytes = b"request",
    reply: bytes = b"reply",
    state: str = c.ACTIVE,
    fields: Mapping[str, bytes] | None = None,
    pins: Mapping[str, int] | None = None,
) -> c.Commit:
    kept = (fields or {}, pins or {})
    return c.Commit("client", "day", expected_seq, command, digest, state, reply, *kept)


# What a commit answers


def test_a_day_starts_absent_and_is_what_was_committed(run: Run) -> None:
    async def scenario(store: c.Store) -> None:
        assert await store.load("client", "day", ["day"]) == c.Loaded(-1, {}, c.ACTIVE)
        assert await store.commit(commit(fields={"day": b"\x00\xff"})) == c.Committed(0)
        loaded = await store.load("client", "day", ["day", "missing", c.reply_field("open")])
        assert loaded == c.Loaded(0, {"day": b"\x00\xff", "reply:open": b"reply"}, c.ACTIVE)
        assert await store.load("other", "day", ["day"]) == c.Loaded(-1, {}, c.ACTIVE)

    run(scenario)


def test_the_same_request_again_gives_the_first_bytes(run: Run) -> None:
    async def scenario(store: c.Store) -> None:
        assert await store.commit(commit(reply=b"first")) == c.Committed(0)
        assert await store.commit(commit("step:1", 0)) == c.Committed(1)
        assert await store.commit(commit(reply=b"second")) == c.Replayed(b"first")
        await store.set_state("*", c.HALTED)
        assert await store.commit(commit("step:1", 1, reply=b"x")) == c.Replayed(b"reply")
        assert (await store.load("client", "day", [])).seq == 1

    run(scenario)


def test_open_days_are_counted_with_the_commits_that_happen(run: Run) -> None:
    async def scenario(store: c.Store) -> None:
        opening = commit(pins={"iac@1": 1, "twap@1": 2})
        assert await store.pins() == {}
        assert await store.commit(opening) == c.Committed(0)
        assert await store.commit(opening) == c.Replayed(b"reply")
        assert await store.commit(commit(digest=b"another", pins={"iac@1": 1})) == c.Conflict()
        assert await store.commit(commit("step:1", 5, pins={"iac@1": 1})) == c.Stale(0)
        late = commit("step:1", 0, state=c.HALTED, pins={"iac@1": 1})
        assert await store.commit(late) == c.StateMoved(c.ACTIVE)
        assert await store.pins() == {"iac@1": 1, "twap@1": 2}
        assert await store.commit(commit("close", 0, pins={"twap@1": -2})) == c.Committed(1)
        assert await store.pins() == {"iac@1": 1}

    run(scenario)


def test_another_request_for_the_same_command_is_a_conflict(run: Run) -> None:
    async def scenario(store: c.Store) -> None:
        await store.commit(commit())
        assert await store.commit(commit(digest=b"other", fields={"day": b"lost"})) == c.Conflict()
        assert await store.load("client", "day", ["day"]) == c.Loaded(0, {}, c.ACTIVE)

    run(scenario)


@pytest.mark.parametrize("expected_seq", [-1, 1, 7])
def test_a_commit_on_another_sequence_is_stale(run: Run, expected_seq: int) -> None:
    async def scenario(store: c.Store) -> None:
        await store.commit(commit())
        assert await store.commit(commit("step:1", expected_seq)) == c.Stale(0)
        assert await store.load("client", "day", [c.reply_field("step:1")]) == c.Loaded(
            0, {}, c.ACTIVE
        )

    run(scenario)


@pytest.mark.parametrize("scope", ["client", "client/day", "*"])
def test_a_decision_made_before_a_halt_is_not_written(run: Run, scope: str) -> None:
    async def scenario(store: c.Store) -> None:
        await store.set_state(scope, c.HALTED)
        assert await store.commit(commit()) == c.StateMoved(c.HALTED)
        assert await store.commit(commit(state=c.HALTED)) == c.Committed(0)
        await store.set_state(scope, c.ACTIVE)
        assert await store.commit(commit("close", 0, state=c.HALTED)) == c.StateMoved(c.ACTIVE)

    run(scenario)


@pytest.mark.parametrize("client", c.STATES)
@pytest.mark.parametrize("everyone", c.STATES)
def test_the_stricter_of_client_and_global_state_counts(
    run: Run, client: str, everyone: str
) -> None:
    async def scenario(store: c.Store) -> None:
        await store.set_state("client", client)
        await store.set_state("*", everyone)
        wanted = max(client, everyone, key=c.STATES.index)
        assert (await store.load("client", "day", [])).state == wanted
        assert await store.commit(commit(state=wanted)) == c.Committed(0)

    run(scenario)


def test_an_unknown_state_counts_as_halted(valkey: EmbeddedValkey) -> None:
    async def scenario() -> None:
        async with emptied(valkey) as store:
            for scope in ("client", "client/day", "*"):
                key = c.state_key(scope)
                await store._call("SET", key, "halted")
                assert (await store.load("client", "day", [])).state == c.HALTED
                assert await store.commit(commit()) == c.StateMoved(c.HALTED)
                await store._call("DEL", key)

    assert c.strictest(["ACTIVE", "active"]) == c.HALTED
    asyncio.run(scenario())


def test_values_that_could_name_another_key_are_refused(run: Run) -> None:
    async def scenario(store: c.Store) -> None:
        for client, day in [("*", "d"), ("a/b", "d"), ("a", "d}"), ("", "d"), ("a" * 65, "d")]:
            with pytest.raises(ValueError, match="ids are"):
                await store.load(client, day, [])
        for scope in ("a b", ""):
            with pytest.raises(ValueError, match="scope"):
                await store.set_state(scope, c.HALTED)
        for scope in ("a/b c", "a/b/c", "*/day", "/day"):
            with pytest.raises(ValueError, match="ids are"):
                await store.set_state(scope, c.HALTED)
        with pytest.raises(ValueError, match="trading state"):
            await store.set_state("*", "halted")

    run(scenario)


@pytest.mark.parametrize("name", ["seq", "reply:open", "digest:open"])
def test_a_field_may_not_overwrite_the_stores_own(name: str) -> None:
    with pytest.raises(ValueError, match="own"):
        commit(fields={name: b""})


def test_the_largest_commit_fits_one_hset_and_one_more_field_is_refused(run: Run) -> None:
    fields = {f"exec:{n}": b"1" for n in range(c.FIELDS_MAX)}

    async def scenario(store: c.Store) -> None:
        assert await store.commit(commit(fields=fields)) == c.Committed(0)
        assert (await store.load("client", "day", list(fields))).fields == fields
        with pytest.raises(ValueError, match="more than"):
            await store.load("client", "day", [*fields, "one_more"])

    run(scenario)
    with pytest.raises(ValueError, match="more than"):
        commit(fields=fields | {"one_more": b"1"})


# The twin

_commits = st.builds(
    commit,
    command=st.sampled_from(["open", "step:1", "step:2", "exec:ab"]),
    expected_seq=st.integers(-1, 3),
    digest=st.sampled_from([b"one", b"two"]),
    reply=st.binary(max_size=3),
    state=st.sampled_from(c.STATES),
    fields=st.dictionaries(st.just("day"), st.binary(max_size=3)),
)
_scopes = st.sampled_from(["client", "client/day", "client/other", "*"])
_states = st.tuples(_scopes, st.sampled_from(c.STATES))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(_commits, _commits, _states), max_size=15))
def test_the_memory_twin_answers_as_redis_does(
    valkey: EmbeddedValkey, operations: list[c.Commit | tuple[str, str]]
) -> None:
    names = ["day", *(c.reply_field(name) for name in ("open", "step:1", "step:2", "exec:ab"))]

    async def answer(store: c.Store, operation: c.Commit | tuple[str, str]) -> object:
        if isinstance(operation, c.Commit):
            return await store.commit(operation), await store.load("client", "day", names)
        await store.set_state(*operation)
        return await store.load("client", "day", names)

    async def scenario() -> None:
        twin = c.MemoryStore()
        async with emptied(valkey, connections_max=1) as store:
            for operation in operations:
                assert await answer(store, operation) == await answer(twin, operation)

    asyncio.run(scenario())


# Races


def test_racing_committers_of_one_command_all_get_the_winners_bytes(run: Run) -> None:
    async def scenario(store: c.Store) -> None:
        for step in range(20):
            racers = [commit(f"step:{step}", step - 1, reply=os.urandom(8)) for _ in range(8)]
            outcomes = await asyncio.gather(*map(store.commit, racers))
            winners = [n for n, out in enumerate(outcomes) if out == c.Committed(step)]
            assert len(winners) == 1
            replayed = c.Replayed(racers[winners[0]].reply)
            assert sum(out == replayed for out in outcomes) == 7

    run(scenario)


def test_racing_committers_of_different_commands_lose_nothing(run: Run) -> None:
    async def add(store: c.Store, command: str) -> int:
        while True:
            loaded = await store.load("client", "day", ["day"])
            total = int(loaded.fields.get("day", b"0")) + 1
            outcome = await store.commit(commit(command, loaded.seq, fields={"day": b"%d" % total}))
            if isinstance(outcome, c.Committed):
                return outcome.seq
            assert isinstance(outcome, c.Stale)

    async def scenario(store: c.Store) -> None:
        seqs = await asyncio.gather(*(add(store, f"exec:{n}") for n in range(40)))
        assert sorted(seqs) == list(range(40))
        assert (await store.load("client", "day", ["day"])).fields == {"day": b"40"}

    run(scenario)


# Trouble between the service and the server


@dataclass
class Proxy:
    """Stands between store and server: can delay replies, or swallow one and hang up."""

    server: Path
    path: Path
    reply_delay_s: float = 0.0
    swallow: bool = False
    requests: list[bytes] = field(default_factory=list)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        async with await asyncio.start_unix_server(self._serve, str(self.path)):
            yield f"unix://{self.path}"
            await asyncio.sleep(0)

    async def _serve(self, down: asyncio.StreamReader, down_w: asyncio.StreamWriter) -> None:
        up, up_w = await asyncio.open_unix_connection(str(self.server))
        replies = asyncio.create_task(self._replies(up, down_w))
        while data := await down.read(65536):
            self.requests.append(data)
            up_w.write(data)
        replies.cancel()
        with suppress(asyncio.CancelledError):
            await replies
        up_w.close()
        down_w.close()

    async def _replies(self, up: asyncio.StreamReader, down_w: asyncio.StreamWriter) -> None:
        while data := await up.read(65536):
            await asyncio.sleep(self.reply_delay_s)
            if self.swallow:
                return down_w.close()
            down_w.write(data)


def test_a_commit_whose_reply_is_lost_happened_once_and_its_retry_is_a_replay(
    valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    async def scenario() -> None:
        proxy = Proxy(valkey.socket_path, tmp_path / "s")
        async with emptied(valkey), proxy.listening() as url, opened(url) as store:
            await store.commit(commit())
            proxy.swallow = True
            with pytest.raises(c.StoreUnavailable):
                await store.commit(commit("step:1", 0, reply=b"first"))
            proxy.swallow = False
            outcome = await store.commit(commit("step:1", 0, reply=b"second"))
            assert outcome == c.Replayed(b"first")
            assert (await store.load("client", "day", [])).seq == 1
            assert sum(b"step:1" in request for request in proxy.requests) == 2

    asyncio.run(scenario())


def test_a_cancelled_caller_leaves_no_reply_for_the_next_one(
    valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    async def scenario() -> None:
        proxy = Proxy(valkey.socket_path, tmp_path / "s")
        async with (
            emptied(valkey),
            proxy.listening() as url,
            opened(url, connections_max=1) as store,
        ):
            await store.commit(commit(fields={"secret": b"theirs", "day": b"mine"}))
            for wait_s in (0.0, 0.005, 0.015, 0.03):
                proxy.reply_delay_s = 0.02
                caller = asyncio.create_task(store.load("client", "day", ["secret"]))
                await asyncio.sleep(wait_s)
                caller.cancel()
                proxy.reply_delay_s = 0.0
                assert (await store.load("client", "day", ["day"])).fields == {"day": b"mine"}
                with suppress(asyncio.CancelledError):
                    await caller

    asyncio.run(scenario())


def test_a_commit_that_was_sent_happens_although_its_caller_is_cancelled(
    valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    async def scenario() -> None:
        proxy = Proxy(valkey.socket_path, tmp_path / "s")
        async with emptied(valkey) as direct, proxy.listening() as url, opened(url) as store:
            for step, size in enumerate((10, 1_000_000)):
                await store.ping()
                proxy.reply_delay_s = 0.02
                work = commit(f"step:{step}", step - 1, fields={"day": bytes(size)})
                caller = asyncio.create_task(store.commit(work))
                await asyncio.sleep(0)
                caller.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await caller
                await asyncio.sleep(0.05)
                assert (await direct.load("client", "day", [])).seq == step
                assert await direct.commit(work) == c.Replayed(b"reply")
                proxy.reply_delay_s = 0.0

    asyncio.run(scenario())


def test_a_script_that_the_server_forgot_is_sent_again(valkey: EmbeddedValkey) -> None:
    async def scenario() -> None:
        async with emptied(valkey) as store:
            await store.commit(commit())
            await store._call("SCRIPT", "FLUSH")
            assert await store.commit(commit("step:1", 0)) == c.Committed(1)
            assert (await store.load("client", "day", [])).seq == 1

    asyncio.run(scenario())


def test_a_restarted_server_is_found_without_an_error(tmp_path: Path) -> None:
    async def scenario(server: EmbeddedValkey) -> None:
        async with opened(server.url, connections_max=2) as store:
            await asyncio.gather(store.ping(), store.commit(commit()))
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            assert (await store.load("client", "day", [])).seq == 0
            await asyncio.to_thread(server.kill)
            for _ in range(3):
                with pytest.raises(c.StoreUnavailable, match="no answer"):
                    await store.ping()
            await asyncio.to_thread(server.start)
            await store.ping()

    with EmbeddedValkey(tmp_path / "data") as server:
        asyncio.run(scenario(server))


def test_a_hung_server_is_unavailable_after_the_timeout(valkey: EmbeddedValkey) -> None:
    async def scenario() -> None:
        async with emptied(valkey, timeout_s=0.1, connections_max=1) as store:
            os.kill(valkey.pid, signal.SIGSTOP)
            try:
                calls = [store.ping(), store.commit(commit()), store.load("client", "day", [])]
                outcomes = await asyncio.gather(*calls, return_exceptions=True)
            finally:
                os.kill(valkey.pid, signal.SIGCONT)
            assert [type(outcome) for outcome in outcomes] == [c.StoreUnavailable] * 3
            assert await store.commit(commit()) in (c.Committed(0), c.Replayed(b"reply"))

    asyncio.run(scenario())


def test_a_server_without_memory_refuses_and_writes_nothing(valkey: EmbeddedValkey) -> None:
    async def scenario() -> None:
        async with emptied(valkey) as store:
            await store._call("CONFIG", "SET", "maxmemory", "1")
            with pytest.raises(c.StoreRefused, match="memory"):
                await store.commit(commit())
            await store._call("CONFIG", "SET", "maxmemory", "0")
            assert await store.commit(commit()) == c.Committed(0)

    asyncio.run(scenario())


def test_a_wrong_password_is_unavailable_and_is_not_repeated_in_the_error(
    valkey: EmbeddedValkey,
) -> None:
    async def scenario() -> None:
        async with opened(f"{valkey.url}?username=u&password=opensesame") as store:
            with pytest.raises(c.StoreUnavailable) as raised:
                await store.ping()
            assert "opensesame" not in str(raised.value)

    asyncio.run(scenario())


# Settings that cannot serve


@pytest.mark.parametrize(
    ("unsafe", "safe", "named"),
    [
        ("CONFIG SET appendfsync everysec", "CONFIG SET appendfsync always", "set appendfsync to"),
        ("CONFIG SET appendfsync no", "CONFIG SET appendfsync always", "set appendfsync to always"),
        ("CONFIG SET appendonly no", "CONFIG SET appendonly yes", "set appendonly to yes"),
        (
            "CONFIG SET maxmemory-policy allkeys-lru",
            "CONFIG SET maxmemory-policy noeviction",
            "set maxmemory-policy to noeviction",
        ),
        (
            "CONFIG SET no-appendfsync-on-rewrite yes",
            "CONFIG SET no-appendfsync-on-rewrite no",
            "set no-appendfsync-on-rewrite to no",
        ),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "single master"),
        (
            "ACL SETUSER default -config",
            "ACL SETUSER default +@all",
            "allow this user CONFIG GET",
        ),
        ("ACL SETUSER default -info", "ACL SETUSER default +@all", "allow this user CONFIG GET"),
    ],
)
def test_an_unsafe_server_is_named(
    valkey: EmbeddedValkey, unsafe: str, safe: str, named: str
) -> None:
    async def scenario() -> None:
        async with emptied(valkey) as store:
            assert await store.durability_problems() == []
            await store._call(*unsafe.split())
            try:
                (problem,) = await store.durability_problems()
            finally:
                await store._call(*safe.split())
            assert named in problem
            assert await store.durability_problems() == []

    asyncio.run(scenario())


def test_a_benchmark_may_ask_for_everysec(tmp_path: Path) -> None:
    async def scenario(url: str) -> None:
        store = RedisStore(url, fsync_required="everysec")
        assert await store.durability_problems() == []
        await store.close()

    with EmbeddedValkey(tmp_path / "data", fsync="everysec") as server:
        asyncio.run(scenario(server.url))


_SAFE = dict(zip(SETTINGS, ["yes", "always", "no", "noeviction"], strict=True))
_INFO = "# Server\r\nredis_version:6.2.0\r\nrole:master\r\naof_last_write_status:ok\r\n"


@pytest.mark.parametrize(
    ("wrong", "right", "named"),
    [
        ("redis_version:6.0.16", "redis_version:6.2.0", "upgrade the server to 6.2"),
        ("redis_version:?", "redis_version:6.2.0", "upgrade the server to 6.2"),
        ("aof_last_write_status:err", "aof_last_write_status:ok", "free or repair the disk"),
        ("role:slave", "role:master", "single master"),
    ],
)
def test_a_server_that_reports_trouble_is_named(wrong: str, right: str, named: str) -> None:
    assert find_problems(_SAFE, _INFO, "always") == []
    (problem,) = find_problems(_SAFE, _INFO.replace(right, wrong), "always")
    assert named in problem


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_the_server_hides_is_a_problem(name: str) -> None:
    hidden = {key: value for key, value in _SAFE.items() if key != name}
    (problem,) = find_problems(hidden, _INFO, "always")
    assert name in problem
