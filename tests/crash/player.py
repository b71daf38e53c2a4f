"""Clients that play whole days through outages, and remember every byte that was acknowledged.

Two players share a day and race for it. A player repeats a command until the answer is definite,
writes it to its journal before it goes on, and now and then does what it must be refused for.
"""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple

from tests.crash.script import Command, DayScript, Json

_IN_DOUBT = (502, 503, 504)
_ANSWER_S_MAX = 10.0
_PAUSE_S_MIN, _PAUSE_S_MAX = 0.005, 0.03
_MISCHIEF_SHARE, _GAP_SHARE = 0.08, 0.2


class Reply(NamedTuple):
    """An answer as it came."""

    status: int
    body: bytes
    replayed: bool


class Entry(NamedTuple):
    """One acknowledged command."""

    day_id: str
    name: str
    method: str
    place: str
    request: str
    reply: str


class Journal:
    """A file of acknowledged commands, one JSON line each, written through at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def note(self, entry: Entry) -> None:
        """Remember an acknowledged command."""
        self._file.write(json.dumps(entry).encode() + b"\n")

    def close(self) -> None:
        """Write no more."""
        self._file.close()

    @staticmethod
    def read(path: Path) -> Iterator[Entry]:
        """Everything that a journal holds."""
        with path.open(encoding="utf-8") as lines:
            yield from (Entry(*json.loads(line)) for line in lines)


@dataclass
class Findings:
    """What must not have happened, by kind, with the first few examples."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, example: str) -> None:
        """Note a finding."""
        with self._lock:
            self.counts[kind] += 1
            if len(self.examples) < 20:
                self.examples.append(f"{kind}: {example}"[:1_000])


class Stuck(Exception):
    """There was no definite answer for a long time."""


class Wrong(Exception):
    """A definite answer that a correct service does not give; the day is given up."""


class Caller:
    """One caller's connections to every process of the service."""

    def __init__(self, ports: Sequence[int], key: str, give_up_s: float) -> None:
        self._connections = [
            HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S_MAX) for port in ports
        ]
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._give_up_s = give_up_s
        self.retries = 0

    def __call__(self, method: str, path: str, body: bytes | None = None) -> Reply:
        """The first definite answer: what leaves the command in doubt is repeated."""
        give_up = time.monotonic() + self._give_up_s
        while time.monotonic() < give_up:
            reply = self._once(random.choice(self._connections), method, path, body)
            if reply and reply.status not in _IN_DOUBT:
                return reply
            self.retries += 1
            time.sleep(random.uniform(_PAUSE_S_MIN, _PAUSE_S_MAX))
        raise Stuck(f"{method} {path}")

    def close(self) -> None:
        """Drop the connections."""
        for connection in self._connections:
            connection.close()

    def _once(
        self, connection: HTTPConnection, method: str, path: str, body: bytes | None
    ) -> Reply | None:
        try:
            connection.request(method, path, body, self._headers)
            with connection.getresponse() as answer:
                replayed = answer.getheader("Replayed") == "true"
                return Reply(answer.status, answer.read(), replayed)
        except (OSError, HTTPException):
            connection.close()
            return None


class Player:
    """Plays day after day until told that it is over; then finishes the day it is in."""

    def __init__(self, caller: Caller, journal: Journal, findings: Findings, side: int) -> None:
        self._call, self._journal, self._findings, self._side = caller, journal, findings, side
        self._rng = random.Random()
        self.acknowledged = self.replays = self.refusals = self.retries = 0

    def play(self, days: Iterator[DayScript], over: threading.Event) -> None:
        """Play days; a day that goes wrong is a finding and the next one begins."""
        while not over.is_set():
            day = next(days)
            try:
                self._play(day)
            except Wrong as wrong:
                self._findings.add("wrong", f"{day.day_id} {wrong}")
            except Stuck as stuck:
                self._findings.add("stuck", f"{day.day_id} {stuck}")
        self.retries = self._call.retries
        self._call.close()
        self._journal.close()

    def _play(self, day: DayScript) -> None:
        play = day.commands()
        with suppress(StopIteration):
            command = next(play)
            while True:
                answer = self._carry_out(day, command)
                if self._rng.random() < _MISCHIEF_SHARE:
                    self._ask_for_a_refusal(day, command)
                command = play.send(answer)

    def _carry_out(self, day: DayScript, command: Command) -> Json:
        """The answer to a command: its own, or where two bodies raced, the other's."""
        body = command.bodies[self._side % len(command.bodies)]
        reply = self._call(command.method, day.path + command.place, body)
        if reply.status == 409 and len(command.bodies) > 1 and _code(reply) == "BODY_CHANGED":
            self.refusals += 1
            return self._learn(day, command)
        if reply.status != 200:
            raise Wrong(f"{command.name}: {reply}")
        names = (day.day_id, command.name, command.method, command.place)
        self._journal.note(Entry(*names, body.decode(), reply.body.decode()))
        self.acknowledged += 1
        self.replays += reply.replayed
        answer: Json = json.loads(reply.body)
        return answer

    def _learn(self, day: DayScript, command: Command) -> Json:
        reply = self._call("GET", day.path + command.place)
        if reply.status != 200:
            raise Wrong(f"{command.name} was refused as decided, and GET answers {reply}")
        decision: Json = json.loads(reply.body)["decision"]
        return decision

    def _ask_for_a_refusal(self, day: DayScript, command: Command) -> None:
        """Another body for a command that was carried out, or a step that is not the next."""
        method, place, right = command.method, command.place, {"BODY_CHANGED"}
        body = command.bodies[0] + b" "
        if command.name.startswith("exec:") or self._rng.random() < _GAP_SHARE:
            step = day.steps + 1 + self._rng.randrange(9)
            method, place, right = "POST", f"/steps/{step}", {"STEP_GAP", "DAY_CLOSED"}
            body = _any_step(day)
        reply = self._call(method, day.path + place, body)
        self.refusals += 1
        if reply.status != 409 or _code(reply) not in right:
            self._findings.add("unrefused", f"{day.day_id}{place} {body!r}: {reply}")


def _any_step(day: DayScript) -> bytes:
    """The body of a step of this day, out of turn."""
    apart = DayScript(day.day_id, "out of turn").commands()
    next(apart)
    return apart.send({}).bodies[0]


def _code(reply: Reply) -> str:
    try:
        return str(json.loads(reply.body)["code"])
    except (ValueError, KeyError):
        return ""
