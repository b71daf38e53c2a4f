"""The container stack, proved: built, played on, killed in the middle of a day, and asked again.

Run by `make compose-test`; needs a container engine. CONTAINER_COMPOSE names the command that
takes compose's arguments (default `docker compose`). The stack gets a project name and a port of
its own, so that a stack in real use on this machine keeps its data.
"""

import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "concord-compose-test"
ANSWER_S_MAX = 180.0
REMOVALS_MAX = 5
FILLED_PCT_MIN = 99.0  # a symbol may be short of a lot
Json = dict[str, Any]
STEPS = 12
# After these steps, these parts are killed; the rest of the day is played on what remains.
DEATHS = {3: ("service",), 6: ("store",), 9: ("service", "store")}
DAY = "/v1/days/compose-test"
ORDERS: Json = {
    "cl_ord_id": ["b1", "b2", "s1", "s2"],
    "symbol": ["AAA", "BBB", "CCC", "DDD"],
    "side": ["BUY", "BUY", "SELL", "SELL"],
    "order_qty": [12_000, 7_300, 9_999, 100],
}


class Reply(NamedTuple):
    """An answer as it came: its status, the bytes of its body, and whether it is a replay."""

    status: int
    body: bytes
    replayed: bool


class StackError(Exception):
    """The compose command failed; the message is what it said."""


class Stack:
    """The compose project under test."""

    def __init__(self) -> None:
        self.command = shlex.split(os.environ.get("CONTAINER_COMPOSE", "docker compose"))
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    def __call__(self, *arguments: str, timeout_s: float = 900) -> str:
        """What the compose command printed; its errors are shown when it fails."""
        done = subprocess.run(
            [*self.command, "-p", PROJECT, *arguments],
            cwd=ROOT,
            env={**os.environ, "CONCORD_PUBLISH_PORT": str(self.port)},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            raise StackError(f"{' '.join(arguments)}:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def remove(self) -> None:
        """Takes everything away, its volumes too; parts that restart just then need another try."""
        for _ in range(REMOVALS_MAX - 1):
            with suppress(StackError):
                self("down", "-v")
                return
        self("down", "-v")

    def refuses(self, part: str, *command: str) -> bool:
        """Whether a command fails inside a running part."""
        try:
            self("exec", "-T", part, *command)
        except StackError:
            return True
        return False

    def kill(self, *parts: str) -> threading.Thread:
        """Kills parts without warning; the thread that is returned starts them again."""
        for part in parts:
            self("kill", "-s", "SIGKILL", part)
        revive = threading.Thread(target=lambda: [self("start", part) for part in parts[::-1]])
        revive.start()
        return revive


class Client:
    """A caller that repeats each request until it is answered, as an order management system."""

    def __init__(self, port: int, key: str) -> None:
        self.port, self.key, self.retries = port, key, 0

    def once(self, method: str, path: str, body: bytes | None = None) -> Reply:
        """One request on its own connection."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Reply(answer.status, answer.read(), bool(answer.getheader("Replayed")))

    def __call__(self, method: str, path: str, body: bytes | None = None) -> Reply:
        """The first answer that is not `try again`: no connection, 503 and 504 are repeated."""
        end = time.monotonic() + ANSWER_S_MAX
        while time.monotonic() < end:
            try:
                reply = self.once(method, path, body)
            except (OSError, HTTPException):
                reply = None
            if reply and reply.status not in (502, 503, 504):
                return reply
            self.retries += 1
            time.sleep(0.1)
        raise SystemExit(f"{method} {path}: no answer for {ANSWER_S_MAX:.0f} s")


def say(text: str) -> None:
    """One line of progress."""
    sys.stdout.write(f"compose-test: {text}\n")
    sys.stdout.flush()


def check(holds: bool, text: str, seen: object = "") -> None:
    """Says what holds; ends the test, with what was seen, when it does not."""
    if not holds:
        raise SystemExit(f"compose-test: FAILED: {text}: {seen}")
    say(text)


def opening() -> bytes:
    """The day that is played: reported fills, so that a lost execution would show."""
    body = {
        "account": "compose",
        "currency": "USD",
        "schedule": {"times": [clock(n) for n in range(1, STEPS + 1)]},
        "cash_minor": 200_000_000,
        "orders": ORDERS,
        "policy": "twap",
        "fills": "reported",
    }
    return json.dumps(body).encode()


def clock(step: int) -> str:
    """The time of a decision."""
    return f"2026-01-05T10:{step:02d}:00Z"


def price(step: int) -> float:
    """Every symbol's price in an interval; it wanders less than buys are protected for."""
    return 50.0 + 0.05 * (step % 3)


def fills(decision: Json | None) -> list[Json]:
    """One execution for each child of a decision, all of it filled."""
    if decision is None:
        return []
    columns = decision["orders"]
    children = zip(columns["child_id"], columns["child_qty"], strict=True)
    return [
        {
            "exec_id": f"x-{child}",
            "child_id": child,
            "exec_type": "FILL",
            "last_qty": qty,
            "last_px": price(decision["step"]),
        }
        for child, qty in children
        if child
    ]


def step_body(step: int, before: Json | None) -> bytes:
    """A step with the interval's bars and the executions of the last decision's children."""
    symbols = ORDERS["symbol"]
    bars = {name: [price(step)] * len(symbols) for name in ("open", "high", "low", "close")}
    snapshot = {"symbols": symbols, **bars, "volume": [50_000] * len(symbols)}
    body = {"as_of": clock(step), "snapshot": snapshot, "executions": fills(before)}
    return json.dumps(body).encode()


def play(stack: Stack, client: Client) -> tuple[list[tuple[bytes, bytes]], Json]:
    """The day, with deaths: every request as sent with its answer, and the last decision."""
    told: list[tuple[bytes, bytes]] = []
    decision: Json | None = None
    filled = dict.fromkeys(ORDERS["cl_ord_id"], 0)
    for step in range(1, STEPS + 1):
        for fill in fills(decision):
            filled[fill["child_id"].split("/")[0]] += fill["last_qty"]
        body = step_body(step, decision)
        reply = client("POST", f"{DAY}/steps/{step}", body)
        check(reply.status == 200, f"step {step} is decided", reply)
        told.append((body, reply.body))
        decision = json.loads(reply.body)
        columns = decision["orders"]
        booked = dict(zip(columns["cl_ord_id"], columns["cum_qty"], strict=True))
        check(booked.items() <= filled.items(), "  and books what was filled, once", booked)
        if step in DEATHS:
            survive(stack, client, step, told)
    if decision is None:
        raise SystemExit("no step was played")
    return told, decision


def survive(stack: Stack, client: Client, step: int, told: list[tuple[bytes, bytes]]) -> None:
    """Kills parts right after an answer, and asks for the same answer while they come back."""
    retries, parts = client.retries, DEATHS[step]
    revive = stack.kill(*parts)
    body, answer = told[-1]
    again = client("POST", f"{DAY}/steps/{step}", body)
    revive.join()
    check(again == Reply(200, answer, True), f"{' and '.join(parts)} killed: same answer", again)
    say(f"  after {client.retries - retries} refused requests")


def finish(stack: Stack, client: Client, told: list[tuple[bytes, bytes]], last: Json) -> None:
    """Closes the day, then checks everything that was ever answered, also after a cold start."""
    body = json.dumps({"executions": fills(last)}).encode()
    report = client("POST", f"{DAY}/close", body)
    check(report.status == 200, "the day closes", report)
    columns = json.loads(report.body)["orders"]
    rows = zip(*(columns[k] for k in ("order_qty", "cum_qty", "shortfall_qty")), strict=True)
    check(
        all(want == got + short for want, got, short in rows),
        "filled + shortfall == ordered",
        columns,
    )
    check(columns["cum_qty"] == ORDERS["order_qty"], "every order is filled", columns)
    stack("down")
    stack("up", "-d")
    again = [client("POST", f"{DAY}/steps/{n}", sent) for n, (sent, _) in enumerate(told, 1)]
    same = [Reply(200, answer, True) for _, answer in told]
    check(again == same, f"all {len(told)} steps answer the same after a cold start", again)
    closed = client("POST", f"{DAY}/close", body)
    check(closed == report._replace(replayed=True), "and so does the close", closed)


def inspect(stack: Stack) -> None:
    """The containers are as closed as the compose file says."""
    for part, folder in (("service", "/app"), ("store", "/")):
        user = stack("exec", "-T", part, "id", "-u").strip()
        check(user.isdigit() and user != "0", f"{part} runs as user {user}")
        check(stack.refuses(part, "touch", f"{folder}/x"), f"{part} has a read-only root")
    mode = stack("exec", "-T", "service", "stat", "-c", "%a", "/data/key").strip()
    check(mode == "600", "the key can be read by the service's user only")
    fsync = stack("exec", "-T", "store", "valkey-cli", "config", "get", "appendfsync").split()
    check(fsync == ["appendfsync", "always"], "the store syncs before it answers")


def demo(stack: Stack, key_file: Path, *options: str) -> Json:
    """The demo client's summary of a day that it played against the stack."""
    address = ["--url", f"http://127.0.0.1:{stack.port}", "--key-file", str(key_file)]
    command = [sys.executable, "-m", "service.play", *address, "--out", str(key_file.parent)]
    done = subprocess.run(
        [*command, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"compose-test: FAILED: the demo client:\n{done.stdout}\n{done.stderr}")
    summary: Json = json.loads(Path(done.stdout.splitlines()[-1]).read_text(encoding="utf-8"))
    return summary


def demos(stack: Stack, key_file: Path, over: threading.Event) -> list[Json]:
    """Days of the demo client, one after the other until it is over: kills meet them anywhere."""
    played: list[Json] = []
    while not over.is_set() or not played:
        played.append(demo(stack, key_file, "--step-minutes", "5"))
    return played


def with_demos(stack: Stack, key_file: Path, client: Client) -> None:
    """The day with deaths, while the demo client plays days of its own."""
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        others = pool.submit(demos, stack, key_file, over)
        try:
            told, last = play(stack, client)
        finally:
            over.set()
        summaries = others.result()
    filled = min(summary["filled_pct"] for summary in summaries)
    check(filled > FILLED_PCT_MIN, f"{len(summaries)} demo day(s) beside it: {filled} % filled")
    finish(stack, client, told, last)


def main() -> None:
    """Everything in order; the stack goes away in any case."""
    stack = Stack()
    stack.remove()
    try:
        say("building")
        stack("build")
        stack("up", "-d")
        client = Client(stack.port, "")
        check(client("GET", "/readyz").status == 200, "the service is ready")
        client.key = stack("exec", "-T", "service", "cat", "/data/key").strip()
        inspect(stack)
        with tempfile.TemporaryDirectory() as folder:
            key_file = Path(folder) / "key"
            key_file.touch(0o600)
            key_file.write_text(client.key, encoding="utf-8")
            summary = demo(stack, key_file)
            check(summary["fallbacks"] == 0, "the demo client plays its day", summary)
            opened = client("PUT", DAY, opening())
            check(opened.status in (200, 201), "a day opens", opened)
            with_demos(stack, key_file, client)
        say("nothing that was answered was lost or done twice")
    except BaseException:
        with suppress(StackError):
            sys.stderr.write(stack("logs"))
        raise
    finally:
        stack.remove()


if __name__ == "__main__":
    main()
