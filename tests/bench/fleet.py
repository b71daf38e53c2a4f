"""``python -m tests.bench.fleet``: how far one node goes, by workers and stores.

Every setup is up at once; in each repetition all of them are loaded one after the other in random
order, so that whatever else the machine does falls on all alike. What is compared are ratios within
one repetition and processor time per decision; times and rates are this machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import redis

from service.embedded import EmbeddedValkey
from tests.bench.machine import machine
from tests.bench.traffic import STEPS, BenchDay, Client, bench_day
from tests.fleet.workers import TRADER, Worker, write_keys

SIZES = (20, 200)
CALLERS, DAYS_PER_CALLER = 8, 2
RESULT = Path("docs/results/fleet.json")


@dataclass(frozen=True)
class Setup:
    """Who serves and who asks; without ``sticky`` each request goes to the next worker."""

    workers: int
    stores: int
    callers: int = CALLERS
    sticky: bool = False

    def __str__(self) -> str:
        parts = [f"{self.workers} workers", f"{self.stores} stores", f"{self.callers} callers"]
        told = ", ".join(part[:-1] if part.startswith("1 ") else part for part in parts)
        return f"{told}, sticky" if self.sticky else told


BASE = Setup(1, 1)
SETUPS = (
    Setup(1, 1, callers=1),
    BASE,
    Setup(2, 1),
    Setup(4, 1),
    Setup(4, 1, sticky=True),
    Setup(4, 2),
)


@dataclass
class Site:
    """The workers over one list of stores, and the process ids of all that work for them."""

    ports: list[int]
    workers: list[int]
    stores: list[int]


def main() -> None:
    """Measure and write the result."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repetitions", type=int, default=7)
    options.add_argument("--shared", default="no", help="what else the machine did, for the record")
    options.add_argument("--out", type=Path, default=RESULT)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sites, version = start(Path(folder), stack)
        result = {
            "command": "python -m tests.bench.fleet",
            "git_commit": _git("rev-parse", "HEAD"),
            "machine": {**machine(), "processor": _processor(), "store": version},
            "load_average_before": os.getloadavg(),
            "shared": chosen.shared,
            "method": f"{chosen.repetitions} repetitions, setups in random order in each; "
            f"{CALLERS} callers without pause (one where it says so), {DAYS_PER_CALLER} days of "
            f"{STEPS} steps each; appendfsync always; callers run on the same machine",
        }
        result["orders"] = measure(sites, chosen.repetitions)
        result["load_average_after"] = os.getloadavg()
    chosen.out.write_text(json.dumps(result, indent=2) + "\n")
    for told in result["orders"].values():
        print("\n".join(rows(told)))
    print(chosen.out)


def start(folder: Path, stack: ExitStack) -> tuple[dict[int, Site], str]:
    """Four workers over one store, and four over two more; and what a store is."""
    sites = {}
    for count in (1, 2):
        place = folder / str(count)
        place.mkdir()
        write_keys(place)
        servers = [EmbeddedValkey(place / f"store-{n}") for n in range(count)]
        urls = ",".join(stack.enter_context(server).url for server in servers)
        workers = [Worker(place, n, urls) for n in range(4)]
        for worker in workers:
            worker.start()
            stack.callback(worker.kill)
        for worker in workers:
            asyncio.run(worker.serving())
        ports, pids = [w.port for w in workers], [w.pid for w in workers]
        sites[count] = Site(ports, pids, [server.pid for server in servers])
    with redis.Redis.from_url(servers[0].url) as store:
        info: Any = store.info("server")
    return sites, f"{info['server_name']} {info['valkey_version']}"


def measure(sites: dict[int, Site], repetitions: int) -> dict[str, Any]:
    """By number of orders and setup: what it did, over all repetitions."""
    found: dict[str, Any] = {}
    for n in SIZES:
        supply = [bench_day(np.random.default_rng(k), "d", n) for k in range(DAYS_PER_CALLER)]
        blocks: list[dict[Setup, dict[str, float]]] = []
        for repetition in range(repetitions):
            order = list(SETUPS)
            random.Random(repetition).shuffle(order)
            blocks.append(
                {
                    setup: block(sites[setup.stores], setup, f"{n}-{repetition}", supply)
                    for setup in order
                }
            )
        found[str(n)] = {str(setup): _summary(blocks, setup) for setup in SETUPS}
        print(n, {k: v["decisions_per_s"]["median"] for k, v in found[str(n)].items()}, flush=True)
    return found


def block(site: Site, setup: Setup, name: str, supply: list[BenchDay]) -> dict[str, float]:
    """One load of a setup: all its callers at once, each with days of its own."""
    name = f"{name}-{setup.workers}-{setup.callers}-{int(setup.sticky)}"
    callers = [Caller(site, setup, f"{name}-{k}", k, supply) for k in range(setup.callers)]
    for caller in callers:
        caller.open()
    pids = site.workers[: setup.workers]
    workers_s, stores_s, began = _cpu_s(pids), _cpu_s(site.stores), time.perf_counter()
    threads = [threading.Thread(target=caller.play) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken_s = time.perf_counter() - began
    for caller in callers:
        caller.close()
    times_ms = np.concatenate([caller.times_s for caller in callers]) * 1e3
    if times_ms.size != setup.callers * DAYS_PER_CALLER * STEPS:
        raise RuntimeError(f"{setup}: a caller ended early")
    return {
        "decisions_per_s": times_ms.size / taken_s,
        "p50_ms": float(np.median(times_ms)),
        "p99_ms": float(np.quantile(times_ms, 0.99)),
        "worker_cpu_ms_per_decision": (_cpu_s(pids) - workers_s) * 1e3 / times_ms.size,
        "store_cpu_ms_per_decision": (_cpu_s(site.stores) - stores_s) * 1e3 / times_ms.size,
    }


class Caller:
    """An OMS with a connection to every worker; plays its days one after the other."""

    def __init__(
        self, site: Site, setup: Setup, name: str, number: int, supply: list[BenchDay]
    ) -> None:
        headers = {"authorization": f"Bearer {TRADER}"}
        ports = site.ports[: setup.workers]
        ports = ports[number % len(ports) :] + ports[: number % len(ports)]
        used = ports[:1] if setup.sticky else ports
        self._connections = [Client(port, headers) for port in used]
        self._next = cycle(self._connections)
        self._days = [(f"/v1/days/{name}-{k}", day) for k, day in enumerate(supply)]
        self.times_s: list[float] = []

    def close(self) -> None:
        """Drop the connections."""
        for connection in self._connections:
            connection.close()

    def open(self) -> None:
        """Open all days."""
        for path, day in self._days:
            self._send("PUT", path, day.opening)

    def play(self) -> None:
        """Every step of every day."""
        for path, day in self._days:
            for k, body in enumerate(day.steps, start=1):
                self.times_s.append(self._send("POST", f"{path}/steps/{k}", body))

    def _send(self, method: str, path: str, body: bytes) -> float:
        taken_s, status, reply = next(self._next).send(method, path, body)
        if status != 200:
            raise RuntimeError(reply.decode())
        return taken_s


def _cpu_s(pids: list[int]) -> float:
    """Processor seconds of processes so far, their threads included."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


def _summary(blocks: list[dict[Setup, dict[str, float]]], setup: Setup) -> dict[str, Any]:
    told = {name: _spread([b[setup][name] for b in blocks]) for name in blocks[0][setup]}
    rates = [b[setup]["decisions_per_s"] / b[BASE]["decisions_per_s"] for b in blocks]
    return told | {"rate_against_1_worker": _spread(rates)}


def _spread(values: list[float]) -> dict[str, float]:
    low, middle, high = min(values), statistics.median(values), max(values)
    return {"median": round(middle, 3), "least": round(low, 3), "most": round(high, 3)}


def rows(told: dict[str, Any]) -> list[str]:
    """The table of one number of orders, as docs/operations.md shows it."""
    found = []
    for setup, figures in told.items():
        rate, ratio = figures["decisions_per_s"], figures["rate_against_1_worker"]
        middle = {name: spread["median"] for name, spread in figures.items()}
        found.append(
            f"| {setup} | {rate['median']:.0f} ({rate['least']:.0f} to {rate['most']:.0f}) "
            f"| {ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f}) "
            f"| {middle['p50_ms']:.0f} | {middle['p99_ms']:.0f} "
            f"| {middle['worker_cpu_ms_per_decision']:.1f} "
            f"| {middle['store_cpu_ms_per_decision']:.2f} |"
        )
    return found


def _git(*command: str) -> str:
    return subprocess.run(["git", *command], capture_output=True, text=True, check=True).stdout[:40]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((x.partition(": ")[2] for x in lines if x.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
