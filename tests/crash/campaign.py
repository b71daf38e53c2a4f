"""A site of the service, strikes against it, and clients who play through all of them."""

import fcntl
import hashlib
import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Protocol

from service.embedded import LOCK_NAME, EmbeddedValkey
from tests.crash.audit import CLIENT, Audit
from tests.crash.nursery import Nursery, Service
from tests.crash.player import Caller, Findings, Journal, Player
from tests.crash.powercut import PowerCutStore, SyncNotes
from tests.crash.script import DayScript

KEY = "crash.key"
PAIRS = 3
"""Days in parallel; two clients play each."""
_WORK_MAX = 16  # acknowledged between two strikes, at least
_UPTIME_S_MAX, _OUTAGE_S_MAX, _LOOK_S = 0.03, 0.03, 0.005
_EARLY_SHARE = 0.1
_HEAL_S_MAX = 60.0
_FINDINGS_MAX = 10  # enough to stop at


class Site(Protocol):
    """Where the service runs, and how it is struck."""

    services: list[Service]

    @property
    def url(self) -> str:
        """The store's address."""

    @property
    def cuts(self) -> int:
        """Power cuts so far."""

    def start(self) -> None:
        """Bring everything up."""

    def cut(self) -> None:
        """Cut the power, and come back."""

    def kill(self) -> None:
        """Kill a process of the service, and start the next."""

    def stop(self) -> None:
        """Take everything down."""


class TwoServices:
    """Two processes of the service over a store of its own, whose power is cut under them."""

    def __init__(self, nursery: Nursery, folder: Path, mutant: str = "") -> None:
        fsync = "everysec" if mutant == "accept_everysec" else "always"
        self._store = PowerCutStore(folder / "store", fsync)
        env = {"REDIS_URL": self._store.url, "CONCORD_KEYS_FILE": str(write_key(folder))}
        self.services = [Service(nursery, folder / name, env, mutant) for name in "ab"]

    @property
    def url(self) -> str:
        """The store's address."""
        return self._store.url

    @property
    def cuts(self) -> int:
        """Power cuts so far."""
        return self._store.cuts

    def start(self) -> None:
        """Bring everything up."""
        self._store.start()
        for service in self.services:
            service.start()

    def cut(self) -> None:
        """Cut the store's power; the services stay."""
        self._store.cut()
        time.sleep(random.uniform(0, _OUTAGE_S_MAX))
        self._store.restart()

    def kill(self) -> None:
        """Kill one of the services that serve; the other stays."""
        serving = [service for service in self.services if service.serving()]
        random.choice(serving or self.services).kill()

    def stop(self) -> None:
        """Take everything down."""
        for service in self.services:
            service.end()
        self._store.stop()


class OneMachine:
    """The service with its embedded store, which lives and dies with it."""

    def __init__(self, nursery: Nursery, folder: Path, mutant: str = "") -> None:
        data_dir = folder / "service" / "data" / "store"
        data_dir.mkdir(parents=True)
        self._notes = SyncNotes(data_dir)
        self._lock = data_dir / LOCK_NAME
        self.url = EmbeddedValkey(data_dir).url
        env = {"CONCORD_KEYS_FILE": str(write_key(folder)), **self._notes.environment}
        self.services = [Service(nursery, folder / "service", env, mutant)]
        self.cuts = 0  # power cuts so far

    def start(self) -> None:
        """Bring everything up."""
        self._notes.begin()
        self.services[0].start()

    def cut(self) -> None:
        """Cut the machine's power: service and store are gone at once."""
        self.services[0].end()
        wait_for_lock(self._lock)
        self._notes.cut_back()
        self.cuts += 1
        self.start()

    def kill(self) -> None:
        """Kill the service, which takes the store along."""
        self.services[0].kill()

    def stop(self) -> None:
        """Take everything down."""
        self.services[0].end(signal.SIGTERM)


@dataclass
class Tally:
    """What a campaign did, and what it found."""

    cuts: int = 0
    kills: int = 0
    acknowledged: int = 0
    commands: int = 0
    replays: int = 0
    refusals: int = 0
    retries: int = 0
    days: int = 0
    closed: int = 0
    findings: Findings = field(default_factory=Findings)
    began: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        found = self.findings.counts
        seconds = time.monotonic() - self.began
        return (
            f"{self.cuts} power cuts, {self.kills} kills, {self.commands} commands acknowledged "
            f"{self.acknowledged} times, {self.replays} replays, {self.refusals} refusals, "
            f"{self.retries} retries, lost {found['lost']}, double {found['double']}, "
            f"other findings {found.total() - found['lost'] - found['double']}, "
            f"{self.closed} of {self.days} days closed, {seconds:.0f} s"
        )


def strike(site: Site, folder: Path, strikes: list[str], seed: str, tally: Tally) -> None:
    """Play days at a site through `strikes` ("cut" or "kill"), heal it, then audit every day."""
    over = threading.Event()
    site.start()
    try:
        players = _players(site, folder, tally.findings)
        threads = [_play(player, _days(n // 2, seed), over) for n, player in enumerate(players)]
        _strike_all(site, strikes, players, tally.findings)
        over.set()
        _join(threads, tally.findings)
        _sum_up(site, players, tally)
        _audit(site, folder, seed, tally)
    finally:
        over.set()
        site.stop()


def _players(site: Site, folder: Path, findings: Findings) -> list[Player]:
    ports, key = [service.port for service in site.services], (folder / KEY).read_text()
    return [
        Player(
            Caller(ports, key, give_up_s=_HEAL_S_MAX / 2),
            Journal(folder / f"journal-{number}"),
            findings,
            side=number % 2,
        )
        for number in range(2 * PAIRS)
    ]


def _days(pair: int, seed: str) -> Iterator[DayScript]:
    return (DayScript(f"day-{pair}-{n}", seed) for n in count())


def _play(player: Player, days: Iterator[DayScript], over: threading.Event) -> threading.Thread:
    thread = threading.Thread(target=player.play, args=(days, over), daemon=True)
    thread.start()
    return thread


def _strike_all(site: Site, strikes: list[str], players: list[Player], findings: Findings) -> None:
    for service in site.services:
        service.wait_until_serving()
    for event in strikes:
        if random.random() > _EARLY_SHARE:  # otherwise right into the start after the last one
            _wait_for_work(site, players, findings)
        if findings.counts.total() > _FINDINGS_MAX:
            break
        time.sleep(random.uniform(0, _UPTIME_S_MAX))
        {"cut": site.cut, "kill": site.kill}[event]()
    for service in site.services:
        service.wait_until_serving()


def _wait_for_work(site: Site, players: list[Player], findings: Findings) -> None:
    """Wait until some more commands are acknowledged: what stands still is not worth a strike."""
    aim = _acknowledged(players) + random.randint(1, _WORK_MAX)
    give_up = time.monotonic() + _HEAL_S_MAX
    while _acknowledged(players) < aim and findings.counts.total() <= _FINDINGS_MAX:
        if time.monotonic() > give_up:
            return findings.add("stuck", "nothing is acknowledged any more")
        for service in site.services:
            service.supervise()
        time.sleep(_LOOK_S)
    return None


def _acknowledged(players: list[Player]) -> int:
    return sum(player.acknowledged for player in players)


def _join(threads: list[threading.Thread], findings: Findings) -> None:
    """Nothing is in the way any more: every day that was begun must come to its end."""
    give_up = time.monotonic() + _HEAL_S_MAX
    for thread in threads:
        thread.join(max(0.0, give_up - time.monotonic()))
        if thread.is_alive():
            findings.add("stuck", "a player does not come to an end")


def _sum_up(site: Site, players: list[Player], tally: Tally) -> None:
    tally.cuts += site.cuts
    tally.kills += sum(service.kills for service in site.services)
    for player in players:
        tally.acknowledged += player.acknowledged
        tally.replays += player.replays
        tally.refusals += player.refusals
        tally.retries += player.retries


def _audit(site: Site, folder: Path, seed: str, tally: Tally) -> None:
    ports, key = [service.port for service in site.services], (folder / KEY).read_text()
    audit = Audit(tally.findings, seed, ports, key, site.url)
    audit.run(folder.glob("journal-*"))
    tally.commands += audit.commands
    tally.days += audit.days
    tally.closed += audit.closed


def write_key(folder: Path) -> Path:
    """A keys file with one client, whose key is written beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    secret = random.randbytes(16).hex()
    digest = hashlib.sha256(secret.encode()).hexdigest()
    scopes = ["trade", "observe", "halt"]
    entry = {"id": "crash", "client": CLIENT, "digest": digest, "scopes": scopes}
    keys = folder / "keys.json"
    for path, text in ((keys, json.dumps({"keys": [entry]})), (folder / KEY, f"crash.{secret}")):
        path.touch(0o600)
        path.write_text(text)
    return keys


def wait_for_lock(path: Path, wait_s_max: float = 10.0) -> None:
    """Wait until the store that held a data folder's lock is gone."""
    give_up = time.monotonic() + wait_s_max
    with path.open("ab") as lock:
        while time.monotonic() < give_up:
            with suppress(BlockingIOError):
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            time.sleep(0.002)
    raise TimeoutError(f"{path} is still locked")
