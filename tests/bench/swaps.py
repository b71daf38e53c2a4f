"""``python -m tests.bench.swaps``: steps while models are swapped, and memory over many reloads.

One durable service; a client steps days of N orders without a pause. In every second block another
client swaps the model again and again, each time for a version that was not loaded before. A step
counts as "during a swap" if any part of it overlaps a reload. Then a thousand reloads, and what the
process holds after each hundred.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from service import keys, manifest
from service.auth import Scope
from service.embedded import EmbeddedValkey
from tests.bench.machine import machine
from tests.bench.traffic import Client, days, wait_until_up
from tests.service.versions import add_version

PORT = 8941
N = 50
BLOCKS = 12
BLOCK_S = 8.0
PAUSE_S = 0.2
"""Between two swaps."""
RELOADS = 1_000
RESULT = Path("docs/results/swaps.json")

Span = tuple[float, float]


@dataclass
class Swapper:
    """Makes ever new versions of the shipped model current in a folder and has them loaded."""

    models: Path
    admin: dict[str, str]
    made: int = 0
    spans: list[Span] = field(default_factory=list)
    ready: list[bytes] = field(default_factory=list)

    def prepare(self, count: int) -> None:
        """Put the files of so many versions there: to copy and sync them is not part of a swap."""
        path = self.models / manifest.MANIFEST
        now = path.read_bytes()
        for file in self.models.glob("iac-*.onnx"):
            if file.name != manifest.read(self.models).row("iac")["file"]:
                file.unlink()
        for _ in range(count):
            self.made += 1
            before = manifest.read(self.models).current["iac"]
            add_version(self.models, str(self.made), current=True)
            manifest.write(self.models, manifest.read(self.models).without("iac", before))
            self.ready.append(path.read_bytes())
        path.write_bytes(now)

    def swap(self, http: httpx.Client) -> None:
        """One more version, the one before it gone."""
        fresh = self.models / "fresh"
        fresh.write_bytes(self.ready.pop(0))
        fresh.replace(self.models / manifest.MANIFEST)
        started = time.perf_counter()
        reply = http.post("/v1/models/reload", headers=self.admin)
        self.spans.append((started, time.perf_counter()))
        if not reply.is_success:
            raise RuntimeError(reply.text)


@contextmanager
def swapping(swapper: Swapper, url: str) -> Iterator[list[Span]]:
    """Swaps in a process of its own, one after the other; when they were, once it is over."""
    swapper.prepare(int(BLOCK_S / PAUSE_S))
    spawn = multiprocessing.get_context("spawn")
    over, told = spawn.Event(), spawn.Queue()
    process = spawn.Process(target=_swap_until, args=(swapper, url, over, told))
    process.start()
    spans: list[Span] = told.get()  # the first, empty: it has started
    try:
        yield spans
    finally:
        over.set()
        spans.extend(told.get())
        process.join()
        swapper.ready.clear()


def _swap_until(swapper: Swapper, url: str, over: Any, told: Any) -> None:
    told.put([])
    with httpx.Client(base_url=url) as http:
        while not over.wait(PAUSE_S) and swapper.ready:
            swapper.swap(http)
    told.put(swapper.spans)


def stepping(client: Client, supply: Iterator[Any], block: int) -> list[Span]:
    """When each step of a block began and ended."""
    spans, until = list[Span](), time.perf_counter() + BLOCK_S
    while time.perf_counter() < until:
        day = next(supply)
        path = f"/v1/days/{day.day_id}-{block}"
        _send(client, "PUT", path, day.opening)
        for n, body in enumerate(day.steps, start=1):
            started = time.perf_counter()
            _send(client, "POST", f"{path}/steps/{n}", body)
            spans.append((started, time.perf_counter()))
        _send(client, "POST", f"{path}/close", day.steps[-1])
    return spans


def _send(client: Client, method: str, path: str, body: bytes) -> None:
    _, status, reply = client.send(method, path, body)
    if status != 200:
        raise RuntimeError(reply.decode())


def overlapping(steps: list[Span], swaps: list[Span]) -> list[Span]:
    """The steps of which a part lies in a swap."""
    return [s for s in steps if any(a < s[1] and s[0] < b for a, b in swaps)]


def p99_ms(spans: list[Span]) -> float:
    """The 99th percentile of durations."""
    return float(np.quantile([b - a for a, b in spans], 0.99)) * 1e3


def compared(client: Client, swapper: Swapper, url: str) -> dict[str, Any]:
    """Steady blocks and blocks with swaps in turn."""
    supply = days(7, N)
    stepping(client, supply, -1)  # warms everything
    steady, during, every_swap = list[list[Span]](), list[list[Span]](), list[Span]()
    for block in range(BLOCKS):
        if block % 2 == 0:
            steady.append(stepping(client, supply, block))
            continue
        with swapping(swapper, url) as swaps:
            spans = stepping(client, supply, block)
        during.append(overlapping(spans, swaps))
        every_swap += swaps
    ratios = sorted(p99_ms(b) / p99_ms(a) for a, b in zip(steady, during, strict=True))
    every = [span for block in steady for span in block]
    each = [span for block in during for span in block]
    return {
        "orders": N,
        "steady": {
            "steps": len(every),
            "p50_ms": _p50_ms(every),
            "p99_ms": round(p99_ms(every), 3),
        },
        "during_swaps": {"swaps": len(every_swap), **_latency(each)},
        "reload_p50_ms": _p50_ms(every_swap),
        "p99_ratio": round(p99_ms(each) / p99_ms(every), 3),
        "p99_ratio_blocks": [round(ratio, 3) for ratio in ratios],
    }


def _latency(spans: list[Span]) -> dict[str, float]:
    p99 = round(p99_ms(spans), 3)
    return {"steps": len(spans), "p50_ms": _p50_ms(spans), "p99_ms": p99}


def _p50_ms(spans: list[Span]) -> float:
    return round(float(np.median([b - a for a, b in spans])) * 1e3, 3)


def growth(swapper: Swapper, url: str, pid: int, reloads: int) -> dict[str, Any]:
    """Resident memory after each tenth of ``reloads``, in MB."""
    held_mb = [resident_mb(pid)]
    with httpx.Client(base_url=url) as http:
        for _ in range(10):
            swapper.prepare(reloads // 10)
            while swapper.ready:
                swapper.swap(http)
            held_mb.append(resident_mb(pid))
    half = held_mb[len(held_mb) // 2 :]
    slope = float(np.polyfit(range(len(half)), half, 1)[0]) * 10 / reloads * 1_000
    return {"reloads": reloads, "resident_mb": held_mb, "growth_kb_per_reload": round(slope, 2)}


def resident_mb(pid: int) -> float:
    """What a process holds in memory now."""
    text = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("VmRSS"))
    return round(int(line.split()[1]) / 1024, 1)


def main() -> None:
    """Measure and write the result."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--reloads", type=int, default=RELOADS)
    options.add_argument("--out", type=Path, default=RESULT)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        told = measured(Path(folder), stack, chosen.reloads)
    result = {"command": "python -m tests.bench.swaps", "machine": machine(), **told}
    chosen.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


@dataclass(frozen=True)
class Served:
    """A service of its own, with a swapper for its models."""

    url: str
    port: int
    pid: int
    trade: dict[str, str]
    swapper: Swapper


def measured(folder: Path, stack: ExitStack, reloads: int) -> dict[str, Any]:
    """Steps beside swaps, then reloads alone, each with a service of its own."""
    # a day may be opened with a version that is just being replaced: see RETIRE_S of the rack
    served = serve(folder / "a", stack, PORT, retire_s=2.0)
    client = Client(PORT, served.trade)
    stack.callback(client.close)
    told = compared(client, served.swapper, served.url)
    served = serve(folder / "b", stack, PORT + 1, retire_s=0.0)
    return told | {"memory": growth(served.swapper, served.url, served.pid, reloads)}


def serve(folder: Path, stack: ExitStack, port: int, retire_s: float) -> Served:
    """Start one over a durable store."""
    models = Path(shutil.copytree("models", folder / "models"))
    file = folder / "keys.json"
    trade, admin = (
        {"authorization": f"Bearer {keys.make(file, 'bench', [scope])}"}
        for scope in (Scope.TRADE, Scope.ADMIN)
    )
    store = stack.enter_context(EmbeddedValkey(folder / "store"))
    command = [sys.executable, "-m", "tests.bench.servers", "service", str(port), store.url]
    process = subprocess.Popen([*command, "always", str(file), str(models), str(retire_s)])
    stack.callback(process.wait)
    stack.callback(process.terminate)
    url = f"http://127.0.0.1:{port}"
    wait_until_up(port)
    return Served(url, port, process.pid, trade, Swapper(models, admin))


if __name__ == "__main__":
    main()
