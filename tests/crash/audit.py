"""Compares what clients remember with what the service answers and with what the store holds."""

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import redis

from service.commits import PINS_KEY, day_key, digest_field, reply_field
from service.core import laws
from service.live import FIXED, STATE, unpack
from tests.crash.ledger import Ledger
from tests.crash.player import Caller, Entry, Findings, Journal, Reply, Stuck
from tests.crash.script import CLOSE, DayScript, Json

CLIENT = "desk"
_AUDITORS = 2


class Audit:
    """One audit of all days that any journal names; every disagreement becomes a finding."""

    def __init__(self, findings: Findings, seed: str, ports: list[int], key: str, url: str) -> None:
        self._findings, self._seed = findings, seed
        self._ports, self._key, self._url = ports, key, url
        self.days = self.closed = self.commands = 0

    def run(self, journals: Iterable[Path]) -> None:
        """Audit everything; the service is at rest meanwhile."""
        days = self._merge(journals)
        self.days, self.commands = len(days), sum(map(len, days.values()))
        names = sorted(days)
        shares = [{name: days[name] for name in names[i::_AUDITORS]} for i in range(_AUDITORS)]
        with ThreadPoolExecutor(_AUDITORS) as pool:
            self.closed = sum(pool.map(self._audit_share, shares))
        self._audit_pins()

    def _audit_pins(self) -> None:
        """The store counts as many open days as there are, whatever was cut when."""
        store = redis.Redis.from_url(self._url)
        try:
            counted = sum(map(int, store.hvals(PINS_KEY)))  # type: ignore[arg-type]
        finally:
            store.close()
        if counted != self.days - self.closed:
            found = f"{counted} open days counted, {self.days - self.closed} are"
            self._findings.add("unbalanced", found)

    def _merge(self, journals: Iterable[Path]) -> dict[str, dict[str, Entry]]:
        """Acknowledged commands by day; two clients must have been told the same."""
        days: dict[str, dict[str, Entry]] = {}
        for path in journals:
            for entry in Journal.read(path):
                first = days.setdefault(entry.day_id, {}).setdefault(entry.name, entry)
                if (first.request, first.reply) != (entry.request, entry.reply):
                    self._findings.add("double", f"{entry.day_id} {entry.name}: two answers")
        return days

    def _audit_share(self, days: dict[str, dict[str, Entry]]) -> int:
        call = Caller(self._ports, self._key, give_up_s=10.0)
        store = redis.Redis.from_url(self._url)
        try:
            return sum(
                _OneDay(self._findings, self._seed, call, name, told).audit(
                    store.hgetall(day_key(CLIENT, name))  # type: ignore[arg-type]
                )
                for name, told in days.items()
            )
        finally:
            call.close()
            store.close()


class _OneDay:
    """A day's entries beside the day itself."""

    def __init__(
        self, findings: Findings, seed: str, call: Caller, day_id: str, told: dict[str, Entry]
    ) -> None:
        self._findings, self._call, self._told = findings, call, told
        self._script = DayScript(day_id, seed)

    def audit(self, stored: dict[bytes, bytes]) -> bool:
        """Audit the day; whether it is closed."""
        held = {name.decode(): value for name, value in stored.items()}
        ledger, whole = Ledger(), False
        try:
            for name, entry in self._told.items():
                self._check_kept(name, entry, held)
            whole = self._book(ledger)
            if whole:
                self._check_hash(ledger, held)
                self._check_told(ledger)
        except (KeyError, ValueError, TypeError, Stuck) as error:
            self._add("lost", f"cannot be audited: {error!r}")
        for wrong in ledger.wrong:
            self._add("unbalanced", wrong)
        return whole and CLOSE in self._told

    def _check_kept(self, name: str, entry: Entry, held: dict[str, bytes]) -> None:
        """The acknowledged bytes are in the store, and are what the same request is answered."""
        reply, digest = entry.reply.encode(), hashlib.sha256(entry.request.encode()).digest()
        if (held.get(reply_field(name)), held.get(digest_field(name))) != (reply, digest):
            self._add("lost", f"{name} in the store")
        path = self._script.path + entry.place
        again = self._call(entry.method, path, entry.request.encode())
        if again != Reply(200, reply, True):
            self._add("lost", f"{name} is answered {again}")

    def _book(self, ledger: Ledger) -> bool:
        """Book the acknowledged commands as the script sends them; whether all are there."""
        play, booked = self._script.commands(), set[str]()
        command = next(play)
        while entry := self._told.get(command.name):
            if entry.request.encode() not in command.bodies:
                self._add("wrong", f"{command.name}: another request than the script's")
            answer: Json = json.loads(entry.reply)
            if command.name not in booked:  # the same report of the same facts is one command
                ledger.book(command.name, json.loads(entry.request), answer)
                booked.add(command.name)
            try:
                command = play.send(answer)
            except StopIteration:
                return True
        self._add("unfinished", f"{command.name} was never acknowledged")
        return False

    def _check_hash(self, ledger: Ledger, held: dict[str, bytes]) -> None:
        """Nothing is in the store but what was acknowledged, each command committed once."""
        commands, executions = _suffixes(held, "reply:"), _suffixes(held, "exec:")
        if commands != set(self._told) or commands != _suffixes(held, "digest:"):
            self._add("double", f"commands in the store: {commands ^ set(self._told)}")
        if int(held["seq"]) != len(commands) - 1:
            self._add("double", f"seq {held['seq']!r} after {len(commands)} commands")
        if executions != ledger.exec_ids:
            self._add("double", f"executions in the store: {executions ^ ledger.exec_ids}")
        broken = laws.broken_by_day(unpack(held[FIXED], held[STATE]).day)
        if broken:
            self._add("unbalanced", f"broken laws {broken}")

    def _check_told(self, ledger: Ledger) -> None:
        """What GET tells: the state, every decision with its request, the report."""
        state = self._get("")
        ledger.compare_day(state)
        if state["status"] != "CLOSED":
            self._add("lost", "the day is open again")
        for step in range(1, self._script.steps + 1):
            entry, record = self._told[f"step:{step}"], self._get(f"/steps/{step}")
            told = (json.loads(entry.reply), json.loads(entry.request))
            if (record["decision"], record["request"]) != told:
                self._add("lost", f"GET of step {step}")
        if self._get("/report") != json.loads(self._told[CLOSE].reply):
            self._add("lost", "GET of the report")

    def _get(self, place: str) -> Any:
        reply = self._call("GET", self._script.path + place)
        if reply.status != 200:
            self._add("lost", f"GET {place}: {reply}")
        return json.loads(reply.body)

    def _add(self, kind: str, example: str) -> None:
        self._findings.add(kind, f"{self._script.day_id} {example}")


def _suffixes(held: Iterable[str], prefix: str) -> set[str]:
    return {name.removeprefix(prefix) for name in held if name.startswith(prefix)}
