"""``make bench``: a step of the service against two floors, and the simulator's speed.

Four servers run at once; every request of the service is followed by the same body to the floors,
in random order, so that whatever else the machine does falls on all of them alike. Ratios of
medians are the result, with their spread over blocks; absolute times are this machine's.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from service.embedded import EmbeddedValkey
from service.keys import bootstrap
from tests.bench.machine import machine
from tests.bench.stages import stages_us
from tests.bench.traffic import STEPS, BenchDay, Client, days, wait_until_up

SIZES = (10, 50, 200, 1000)
BLOCKS = 5
PORTS = {"service": 8931, "service_durable": 8932, "noop": 8933, "noop_durable": 8934}
RESULT = Path("docs/results/bench.json")


def main() -> None:
    """Measure and write the result."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--days", type=int, default=6, help="days per block and size")
    options.add_argument("--out", type=Path, default=RESULT)
    options.add_argument("--no-simulator", action="store_true", help="leave out the simulator")
    chosen = options.parse_args()
    result: dict[str, Any] = {"command": "make bench", "machine": machine()}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        clients = start(Path(folder), stack)
        result |= steps(clients, chosen.days)
    result["stages_us"] = {str(n): stages_us(n) for n in SIZES}
    if not chosen.no_simulator:
        result |= simulator()
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({k: result[k] for k in ("step_ratio", "step_ratio_durable")}, indent=2))
    print(chosen.out)


def start(folder: Path, stack: ExitStack) -> dict[str, Client]:
    """Two stores and four servers, each with one connection."""
    keys, secret = folder / "keys.json", folder / "key"
    bootstrap(keys, secret)
    token = {"authorization": f"Bearer {secret.read_text().strip()}"}
    fast = stack.enter_context(EmbeddedValkey(folder / "fast", fsync="everysec"))
    safe = stack.enter_context(EmbeddedValkey(folder / "safe"))
    _spawn(stack, "service", "service", fast.url, "everysec", keys)
    _spawn(stack, "service_durable", "service", safe.url, "always", keys)
    _spawn(stack, "noop", "noop", fast.url, "everysec", keys)
    _spawn(stack, "noop_durable", "durable", safe.url, "always", keys)
    clients = {}
    for name, port in PORTS.items():
        wait_until_up(port)
        clients[name] = Client(port, token)
        stack.callback(clients[name].close)
    return clients


def _spawn(stack: ExitStack, name: str, kind: str, url: str, fsync: str, keys: Path) -> None:
    command = [sys.executable, "-m", "tests.bench.servers"]
    process = subprocess.Popen([*command, kind, str(PORTS[name]), url, fsync, str(keys)])
    stack.callback(process.wait)
    stack.callback(process.terminate)


def steps(clients: dict[str, Client], days_per_block: int) -> dict[str, Any]:
    """Latency of a step by number of orders, and its ratio to the floors."""
    table: dict[str, Any] = {}
    for n in SIZES:
        blocks = [_block(clients, n, block, days_per_block) for block in range(BLOCKS)]
        table[str(n)] = _summary(blocks)
        print(n, {k: v["p50_ms"] for k, v in table[str(n)]["latency"].items()}, flush=True)
    return {
        "step_ratio": {n: row["step_ratio"] for n, row in table.items()},
        "step_ratio_durable": {n: row["step_ratio_durable"] for n, row in table.items()},
        "steps": table,
        "method": f"{BLOCKS} blocks of {days_per_block} days x {STEPS} steps, one connection, "
        "requests interleaved in random order; ratio of medians, spread over blocks",
    }


def _block(clients: dict[str, Client], n: int, block: int, count: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in clients}
    shuffle = random.Random(block)
    supply = days(1_000 * block + n, n)
    for _ in range(count):
        _play(clients, next(supply), block, shuffle, times)
    return times


def _play(
    clients: dict[str, Client],
    day: BenchDay,
    block: int,
    shuffle: random.Random,
    times: dict[str, list[float]],
) -> None:
    path = f"/v1/days/{day.day_id}-{block}"
    for name in ("service", "service_durable"):
        _, status, reply = clients[name].send("PUT", path, day.opening)
        if status != 200:
            raise RuntimeError(reply.decode())
    sizes = {"reply_bytes": 1_000, "commit_bytes": 10_000}
    for k, body in enumerate(day.steps, start=1):
        order = list(clients)
        shuffle.shuffle(order)
        for name in order:
            taken, status, reply = clients[name].send("POST", f"{path}/steps/{k}", body, **sizes)
            if status != 200:
                raise RuntimeError(reply.decode())
            times[name].append(taken)
            if name == "service":
                sizes = _sizes(reply, body, len(json.loads(day.opening)["orders"]["symbol"]))


def _sizes(reply: bytes, body: bytes, n: int) -> dict[str, int]:
    """Bytes that the floors answer and commit: those of the service's last step.

    A commit writes the reply, the request, 18 int64 arrays of state and three recorded rounds.
    """
    state = 18 * 8 * n + 400
    rounds = 3 * n * (1 + 5 * 4) + 12
    return {"reply_bytes": len(reply), "commit_bytes": len(reply) + len(body) + state + rounds}


def _summary(blocks: list[dict[str, list[float]]]) -> dict[str, Any]:
    merged = {name: np.concatenate([b[name] for b in blocks]) * 1e3 for name in blocks[0]}
    latency = {
        name: {
            "p50_ms": round(float(np.median(ms)), 4),
            "p99_ms": round(float(np.quantile(ms, 0.99)), 4),
            "requests": int(ms.size),
        }
        for name, ms in merged.items()
    }
    fast = [float(np.median(b["service"]) / np.median(b["noop"])) for b in blocks]
    safe = [float(np.median(b["service_durable"]) / np.median(b["noop_durable"])) for b in blocks]
    return {
        "latency": latency,
        "step_ratio": round(float(np.median(fast)), 2),
        "step_ratio_blocks": [round(r, 2) for r in sorted(fast)],
        "step_ratio_durable": round(float(np.median(safe)), 2),
        "step_ratio_durable_blocks": [round(r, 2) for r in sorted(safe)],
    }


def simulator() -> dict[str, Any]:
    """Agent-steps per CPU-second of the training simulator and of the whole training loop."""
    from training.bench import env_steps_per_cpu_s, loop_steps_per_cpu_s

    env, loop = env_steps_per_cpu_s(), loop_steps_per_cpu_s()
    told = {name: env[name] for name in env if name.startswith("env_") or name == "bars_per_step"}
    told["loop_steps_per_cpu_s"] = loop["loop_steps_per_cpu_s"]
    return told | {"simulator": env, "loop": loop}


if __name__ == "__main__":
    main()
