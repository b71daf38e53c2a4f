"""Starts and stops: recovery is the normal start, and nothing is left behind."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest
import redis

from service import auth
from service import keys as keys_tool
from service.__main__ import EXIT_STORE_DIED
from service.commits import day_key
from service.embedded import LOCK_NAME, EmbeddedValkey
from tests.crash.audit import CLIENT
from tests.crash.campaign import KEY, OneMachine, wait_for_lock
from tests.crash.nursery import ROOT, Nursery, Service, free_port, listens, own_environment
from tests.crash.player import Caller
from tests.crash.script import DayScript

READY_S_MAX = 30.0
FIRST_STARTS = 5
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


@contextmanager
def program(data_dir: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m service` as anyone starts it."""
    settings = {"CONCORD_PORT": str(port), "CONCORD_DATA_DIR": str(data_dir)}
    process = subprocess.Popen(
        [sys.executable, "-m", "service"],
        cwd=ROOT,
        env=own_environment() | settings,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    give_up = time.monotonic() + READY_S_MAX
    while not listens(port):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.01)


def processes_in(folder: Path) -> list[str]:
    """Command lines of processes that work in a folder or name it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            place = os.readlink(process / "cwd")
        except OSError:
            continue  # gone, or already a zombie
        if place.startswith(str(folder)) or str(folder) in command:
            found.append(command)
    return found


def gone_within(folder: Path, wait_s_max: float) -> bool:
    give_up = time.monotonic() + wait_s_max
    while processes_in(folder) and time.monotonic() < give_up:
        time.sleep(0.01)
    return not processes_in(folder)


def test_a_stopped_service_ends_with_status_0_and_takes_its_store_along(tmp_path: Path) -> None:
    port, store = free_port(), EmbeddedValkey(tmp_path / "store")
    with program(tmp_path, port) as process:
        wait_until_ready(process, port)
        assert any("valkey-server" in command for command in processes_in(tmp_path))
        assert store.socket_path.exists()
        process.terminate()
        assert process.wait(10) == 0
        assert processes_in(tmp_path) == []
        assert not store.socket_path.parent.exists()
        wait_for_lock(store.data_dir / LOCK_NAME, 0.1)


def test_a_service_whose_store_dies_ends_too_and_says_so(tmp_path: Path) -> None:
    port = free_port()
    with program(tmp_path, port) as process:
        wait_until_ready(process, port)
        (store,) = (
            int(folder.parent.name)
            for folder in Path("/proc").glob("[0-9]*/cwd")
            if _leads_to(folder, tmp_path / "store")
        )
        os.kill(store, signal.SIGKILL)
        assert process.wait(10) == EXIT_STORE_DIED
        assert process.stderr
        assert b"its embedded store ended" in process.stderr.read()


def _leads_to(link: Path, place: Path) -> bool:
    try:
        return os.readlink(link) == str(place)
    except OSError:
        return False  # gone, or already a zombie


def test_five_quick_starts_and_stops_leave_no_process_behind(tmp_path: Path) -> None:
    port, early_s_max = free_port(), 1.0
    ends = ((signal.SIGTERM, False), (signal.SIGKILL, False), (signal.SIGINT, False))
    for signum, early in ((signal.SIGTERM, True), (signal.SIGKILL, True), *ends):
        with program(tmp_path, port) as process:
            if early:
                time.sleep(random.uniform(0, early_s_max))
            else:
                wait_until_ready(process, port)
            process.send_signal(signum)
            status = process.wait(10)
        # before the program is loaded a signal just ends it
        assert status in ((-signum,) if signum == signal.SIGKILL else (0, -signum)[: 1 + early])
        assert gone_within(tmp_path, 2.0), processes_in(tmp_path)


def end_in_order(site: OneMachine) -> None:
    assert site.services[0].end(signal.SIGTERM) == 0
    site.services[0].start()


def test_stop_kill_and_power_cut_leave_the_same_day(tmp_path: Path, nursery: Nursery) -> None:
    days = [
        play_through(OneMachine(nursery, tmp_path / str(number)), tmp_path / str(number), end)
        for number, end in enumerate((None, end_in_order, OneMachine.kill, OneMachine.cut))
    ]
    assert len(days[0][0]) > 5
    assert days[1:] == days[:1] * 3


def play_through(
    site: OneMachine, folder: Path, end: Callable[[OneMachine], None] | None
) -> tuple[dict[str, bytes], dict[bytes, bytes]]:
    """Every answer of one day that has an `end` of the service in its middle, and its hash."""
    site.start()
    site.services[0].wait_until_serving()
    call = Caller([site.services[0].port], (folder / KEY).read_text(), READY_S_MAX)
    try:
        told = play_day(call, DayScript("day", "the same"), lambda: end(site) if end else None)
        with redis.Redis.from_url(site.url) as store:
            return told, store.hgetall(day_key(CLIENT, "day"))
    finally:
        call.close()
        site.stop()


def play_day(call: Caller, day: DayScript, between: Callable[[], None]) -> dict[str, bytes]:
    """The answers of a day; `between` happens in the middle of it."""
    play, told = day.commands(), dict[str, bytes]()
    with suppress(StopIteration):
        command = next(play)
        while True:
            reply = call(command.method, day.path + command.place, command.bodies[0])
            assert reply.status == 200, reply
            told[command.name] = reply.body
            if command.name == f"step:{day.steps // 2}":
                between()
            command = play.send(json.loads(reply.body))
    return told


def test_a_first_start_killed_at_any_moment_is_followed_by_a_good_one(
    tmp_path: Path, nursery: Nursery
) -> None:
    for number in range(FIRST_STARTS):
        service = Service(nursery, tmp_path / str(number), {})
        service.start()
        time.sleep(random.uniform(0, 0.4))
        service.kill()
        service.wait_until_serving()
        key = (tmp_path / str(number) / "data" / "dev.key").read_text().strip()
        call = Caller([service.port], key, READY_S_MAX)
        assert call("GET", "/v1/days/none").status == 404
        call.close()
        assert service.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("written_before", [0, 1])
def test_a_first_start_that_dies_while_it_writes_its_keys_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written_before: int
) -> None:
    keys, secret = tmp_path / "keys.json", tmp_path / "dev.key"
    opened, fdopen = iter(range(9)), os.fdopen

    def die(handle: int, mode: str) -> IO[bytes]:
        if next(opened) == written_before:
            os.close(handle)
            raise KeyboardInterrupt
        return fdopen(handle, mode)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdopen", die)
        with pytest.raises(KeyboardInterrupt):
            keys_tool.bootstrap(keys, secret)
    assert not keys.exists()
    keys_tool.bootstrap(keys, secret)
    assert auth.load(keys).client(f"Bearer {secret.read_text().strip()}").name == CLIENT
    assert sorted(tmp_path.iterdir()) == [secret, keys]
