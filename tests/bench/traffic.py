"""Requests of the benchmark: days of N orders over T steps, and a client that adds little."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import numpy as np

STEPS = 13
START_HOUR = 9
START_S_MAX = 60.0


@dataclass(frozen=True)
class BenchDay:
    """A day as it is posted: the opening and the body of every step."""

    day_id: str
    opening: bytes
    steps: tuple[bytes, ...]


def bench_day(rng: np.random.Generator, day_id: str, n: int, steps: int = STEPS) -> BenchDay:
    """N orders, half buys, cash for a third of them, prices that walk."""
    symbols = [f"SYM{i:04d}" for i in range(n)]
    times = [f"2026-11-20T{START_HOUR + i // 60:02d}:{i % 60:02d}:00Z" for i in range(steps)]
    px = np.round(rng.uniform(10, 200, n), 2)
    qty = rng.integers(50, 5_000, n) * 10
    orders = {
        "cl_ord_id": [f"ord-{i:05d}" for i in range(n)],
        "symbol": symbols,
        "side": ["BUY" if i % 2 else "SELL" for i in range(n)],
        "order_qty": qty.tolist(),
    }
    cash = int((qty * px).sum() * 100 / 6)
    opening = {
        "account": "BENCH",
        "currency": "USD",
        "schedule": {"times": times},
        "cash_minor": cash,
        "orders": orders,
        "policy": "iac",
        "fills": "paper",
    }
    bodies = [_step(symbols, px, times[0], first=True)]
    for moment in times[1:]:
        px = np.round(px * (1 + rng.normal(0, 0.002, n)), 2)
        bodies.append(_step(symbols, px, moment, first=False))
    return BenchDay(day_id, json.dumps(opening).encode(), tuple(bodies))


def _step(symbols: list[str], px: np.ndarray, as_of: str, *, first: bool) -> bytes:
    spread = 0.0 if first else 0.05
    bars = {
        "symbols": symbols,
        "open": px.tolist(),
        "high": np.round(px + spread, 2).tolist(),
        "low": np.round(px - spread, 2).tolist(),
        "close": px.tolist(),
        "volume": [0 if first else 1_000_000] * len(symbols),
    }
    return json.dumps({"as_of": as_of, "snapshot": bars}).encode()


class Client:
    """One keep-alive connection; requests are bytes, answers are read to their last byte."""

    def __init__(self, port: int, headers: dict[str, str]) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = headers

    def close(self) -> None:
        self._socket.close()

    def send(self, method: str, path: str, body: bytes, **extra: int) -> tuple[float, int, bytes]:
        """Seconds from the first byte sent to the last received, the status, the body."""
        more = {f"x-{name.replace('_', '-')}": str(value) for name, value in extra.items()}
        lines = [f"{method} {path} HTTP/1.1", "host: bench", "content-type: application/json"]
        lines += [f"{name}: {value}" for name, value in (self._headers | more).items()]
        lines.append(f"content-length: {len(body)}")
        request = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        started = time.perf_counter()
        self._socket.sendall(request)
        status, reply = self._read()
        return time.perf_counter() - started, status, reply

    def _read(self) -> tuple[int, bytes]:
        got = b""
        while b"\r\n\r\n" not in got:
            got += self._receive()
        head, _, body = got.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        chunks = [body]
        missing = length - len(body)
        while missing > 0:
            chunks.append(self._receive())
            missing -= len(chunks[-1])
        return int(head.split(b" ", 2)[1]), b"".join(chunks)

    def _receive(self) -> bytes:
        chunk = self._socket.recv(1 << 20)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        return chunk


def wait_until_up(port: int) -> None:
    """Wait for a server of this machine to answer anything."""
    until = time.monotonic() + START_S_MAX
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/livez")
            return
        except httpx.TransportError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def days(seed: int, n: int) -> Iterator[BenchDay]:
    """Endless different days."""
    rng, count = np.random.default_rng(seed), 0
    while True:
        count += 1
        yield bench_day(rng, f"bench-{n}-{count}", n)
