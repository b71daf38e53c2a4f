"""Racing callers: several send every step of a day at once, and one reports fills meanwhile.

Whatever leaves a command in doubt, a lost connection or a 503, is answered by sending the same
bytes again, until the answer is definite. Every definite answer is kept for the audit.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.fleet.proxy import LOST, read_message
from tests.fleet.workers import TRADER
from tests.service.api import bars, day, encoded, fill, moment, order

RACERS = 3
"""Callers of each step: two send the same bytes, the third its own."""
_IN_DOUBT = (502, 503, 504)
_GIVE_UP_S, _PAUSE_S = 60.0, 0.02


class Answer(NamedTuple):
    """A definite answer to a command, and when its first request left and it came, in seconds."""

    command: str
    request: bytes
    status: int
    body: bytes
    replayed: bool
    worker: int
    sent_s: float
    came_s: float


class Stuck(Exception):
    """No definite answer for a long time."""


class Caller:
    """One connection to the proxy, made again when it is lost."""

    def __init__(self, port: int, key: str = TRADER) -> None:
        self._port, self._key = port, key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.losses = self.doubts = 0

    async def __call__(self, method: str, path: str, body: bytes = b"", name: str = "") -> Answer:
        """The first definite answer."""
        sent_s = time.monotonic()
        while time.monotonic() < sent_s + _GIVE_UP_S:
            try:
                head, answer = await self._once(method, path, body)
            except LOST:
                self.losses += 1
                self.close()
            else:
                status = int(head.split(b" ", 2)[1])
                if status not in _IN_DOUBT:
                    head = head.lower()
                    worker = int(head.split(b"x-worker: ")[1].split(b"\r\n")[0])
                    replayed, came_s = b"\r\nreplayed: true" in head, time.monotonic()
                    return Answer(name, body, status, answer, replayed, worker, sent_s, came_s)
                self.doubts += 1
            await asyncio.sleep(_PAUSE_S)
        raise Stuck(f"{method} {path}")

    def close(self) -> None:
        """Drop the connection."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()

    async def _once(self, method: str, path: str, body: bytes) -> tuple[bytes, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        lines = (
            f"{method} {path} HTTP/1.1",
            "host: fleet",
            f"authorization: Bearer {self._key}",
            "content-type: application/json",
            f"content-length: {len(body)}",
        )
        writer.write("\r\n".join((*lines, "", "")).encode() + body)
        return await read_message(reader)


@dataclass
class Told:
    """Everything that callers of one day were told."""

    day_id: str
    steps: int
    answers: list[Answer] = field(default_factory=list)
    filled: int = 0

    @property
    def path(self) -> str:
        """Where the day lives."""
        return f"/v1/days/{self.day_id}"

    def commands(self) -> set[str]:
        """The commands that were acknowledged."""
        return {answer.command for answer in self.answers if answer.status == 200}


@dataclass
class Traffic:
    """All days and what came of them; ``decided`` counts steps with an answer."""

    port: int
    steps_per_day: int
    decided: int = 0
    over: bool = False
    stuck: list[str] = field(default_factory=list)
    days: list[Told] = field(default_factory=list)
    losses: int = 0
    doubts: int = 0
    workers: Counter[int] = field(default_factory=Counter)

    async def play(self, number: int) -> None:
        """One day from its opening to its close."""
        told = Told(f"day-{number}", self.steps_per_day)
        self.days.append(told)
        callers = [Caller(self.port) for _ in range(RACERS + 1)]
        try:
            await self._race(told, number, callers)
        except Stuck as stuck:
            self.stuck.append(str(stuck))
        finally:
            for caller in callers:
                caller.close()
                self.losses += caller.losses
                self.doubts += caller.doubts

    async def _race(self, told: Told, number: int, callers: list[Caller]) -> None:
        *racers, reporter = callers
        opening = encoded(_opening(number, told.steps))
        opened = [racer("PUT", told.path, opening, "open") for racer in racers]
        told.answers += await asyncio.gather(*opened)
        child = ""
        for n in range(1, told.steps + 1):
            sent = [
                racer("POST", f"{told.path}/steps/{n}", raw, f"step:{n}")
                for racer, raw in zip(racers, _bodies(n), strict=True)
            ]
            if child:
                raw = encoded({"executions": [fill(f"e{n}", child, 1)]})
                name = f"exec:{hashlib.sha256(raw).hexdigest()[:32]}"
                sent.append(reporter("POST", f"{told.path}/executions", raw, name))
            answers = await asyncio.gather(*sent)
            told.answers += answers
            told.filled += bool(child)
            self.decided += 1
            self.workers.update(a.worker for a in answers if a.status == 200 and not a.replayed)
            child = _child(answers)
        closing = encoded({"snapshot": bars()})
        closed = [racer("POST", f"{told.path}/close", closing, "close") for racer in racers]
        told.answers += await asyncio.gather(*closed)


def _opening(number: int, steps: int) -> dict[str, Any]:
    rows = (order("A", "BUY", 40 * steps), order("B", "SELL", 25 * steps))
    return day(*rows, steps=steps, policy=("twap", "iac", "vwap")[number % 3])


def _bodies(n: int) -> list[bytes]:
    same, other = (
        encoded({"as_of": moment(n), "snapshot": bars(px=10.0 + i / 100)}) for i in range(2)
    )
    return [same, same, other]


def _child(answers: list[Answer]) -> str:
    """The child of A that was just sent, if there is one to be filled."""
    decision = next((a for a in answers if a.status == 200 and a.command[0] == "s"), None)
    if decision is None:
        return ""
    columns = json.loads(decision.body)["orders"]
    at = columns["cl_ord_id"].index("A")
    return columns["child_id"][at] if columns["child_qty"][at] else ""
