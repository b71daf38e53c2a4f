"""A log torn inside its last commit, or that cannot grow, gives the old day or the new one."""

import asyncio
import resource
import sys
from pathlib import Path

import pytest

from service.commits import ACTIVE, Commit, Committed, StoreUnavailable
from service.embedded import EmbeddedValkey
from service.store import RedisStore

_BYTES_PER_CUT = 4


def commit(step: int) -> Commit:
    fields = {"day": b"day %d" % step, "decision": b"decision %d" % step}
    command, reply = f"step:{step}", b"reply %d" % step
    return Commit("client", "day", step - 1, command, b"request", ACTIVE, reply, fields)


async def commit_until_refused(url: str) -> int:
    """Number of commits that were acknowledged."""
    store = RedisStore(url)
    step = 0
    try:
        while True:
            assert await store.commit(commit(step)) == Committed(step)
            step += 1
    except StoreUnavailable:
        return step
    finally:
        await store.close()


async def commit_steps(url: str, steps: list[int]) -> None:
    store = RedisStore(url)
    for step in steps:
        assert await store.commit(commit(step)) == Committed(step)
    await store.close()


async def stored(url: str) -> tuple[int, dict[str, bytes]]:
    store = RedisStore(url)
    loaded = await store.load("client", "day", ["day", "decision", "reply:step:1"])
    await store.close()
    return loaded.seq, loaded.fields


def test_a_log_torn_at_any_byte_of_a_commit_is_the_old_day_or_the_new(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "data")
    with server:
        asyncio.run(commit_steps(server.url, [0]))
        (log,) = (tmp_path / "data" / "appendonlydir").glob("*.incr.aof")
        before = log.stat().st_size
        asyncio.run(commit_steps(server.url, [1]))
        whole = log.read_bytes()
    old = (0, {"day": b"day 0", "decision": b"decision 0"})
    new = (1, {"day": b"day 1", "decision": b"decision 1", "reply:step:1": b"reply 1"})
    for length in [*range(before, len(whole), _BYTES_PER_CUT), len(whole) - 1, len(whole)]:
        log.write_bytes(whole[:length])
        server.start()
        assert asyncio.run(stored(server.url)) == (new if length == len(whole) else old)
        server.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux only")
def test_a_log_that_cannot_grow_stops_the_server_and_loses_nothing(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "data")
    server.start()
    hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (20_000, hard))
    acknowledged = asyncio.run(commit_until_refused(server.url))
    server.stop()
    with server:
        seq, fields = asyncio.run(stored(server.url))
    assert acknowledged > 10
    assert seq in (acknowledged - 1, acknowledged)
    assert fields["day"] == b"day %d" % seq
