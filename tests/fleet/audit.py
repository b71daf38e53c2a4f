"""Compares what callers were told with every day's log, and carries each log out again."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from service.rack import Folder
from service.replay import Entry, LogRefused, entries, replayed
from tests.crash.nursery import ROOT
from tests.crash.player import Findings
from tests.fleet.traffic import Answer, Caller, Told
from tests.service.api import row


@dataclass(frozen=True)
class Halt:
    """When everyone's halt was acknowledged, and when its end was asked for, in seconds."""

    told_s: float
    lifted_s: float


class Audit:
    """Every day through the service, its logs in ``folder``."""

    def __init__(self, port: int, folder: Path, halts: list[Halt]) -> None:
        self._call = Caller(port)
        self._folder, self._halts = folder, halts
        self._models = Folder(ROOT / "models")
        self.findings = Findings()
        self.commands = self.replays = self.refusals = 0
        self.halted_workers: set[int] = set()

    async def run(self, days: list[Told]) -> None:
        """Audit every day; every disagreement becomes a finding."""
        for told in days:
            await self._day(told)
        self._call.close()

    async def _day(self, told: Told) -> None:
        got = await self._call("GET", f"{told.path}/log")
        path = self._folder / f"{told.day_id}.json"
        path.write_bytes(got.body)
        try:
            log = entries(path)
        except LogRefused as refused:
            return self.findings.add("lost", f"{told.day_id}: no whole log: {refused}")
        self._compare(told, {entry.command: entry for entry in log}, len(log))
        self._check_halts(told)
        await self._check_book(told)
        difference = await replayed(log, self._models)
        if difference is not None:
            self.findings.add("unlike", f"{told.day_id}: {difference}")
        self.commands += len(log)
        return None

    def _compare(self, told: Told, logged: dict[str, Entry], count: int) -> None:
        steps = [f"step:{n}" for n in range(1, told.steps + 1)]
        if count != len(logged):
            self.findings.add("double", f"{told.day_id}: a command twice in the log")
        if sorted(name for name in logged if name.startswith("step:")) != sorted(steps):
            self.findings.add("lost", f"{told.day_id}: not every step once in the log")
        if told.commands() != set(logged):
            wrong = told.commands() ^ set(logged)
            self.findings.add("lost", f"{told.day_id}: acknowledged or logged, not both: {wrong}")
        fresh = Counter(a.command for a in told.answers if a.status == 200 and not a.replayed)
        for name in (name for name, times in fresh.items() if times > 1):
            self.findings.add("double", f"{told.day_id} {name}: carried out more than once")
        for answer in told.answers:
            if (entry := logged.get(answer.command)) is not None:
                self._check(told.day_id, answer, entry)

    def _check(self, day_id: str, answer: Answer, entry: Entry) -> None:
        """Whoever sent the winner's bytes was answered its reply, everybody else a refusal."""
        where = f"{day_id} {answer.command}"
        self.replays += answer.replayed
        if answer.status == 200:
            if answer.body != entry.reply:
                self.findings.add("double", f"{where}: an answer that is not the recorded one")
            if answer.request != entry.request:
                self.findings.add("wrong", f"{where}: 200 for another body than the winner's")
            return
        self.refusals += 1
        refused = (answer.status, json.loads(answer.body)["code"]) == (409, "BODY_CHANGED")
        if not refused or answer.request == entry.request:
            self.findings.add("wrong", f"{where}: {answer.status} {answer.body!r}")

    def _check_halts(self, told: Told) -> None:
        """A decision asked for after a halt's acknowledgement sends nothing while it holds."""
        steps = [a for a in told.answers if a.command.startswith("step:")]
        first_s: dict[str, float] = {}
        for answer in steps:
            first_s[answer.command] = min(first_s.get(answer.command, answer.sent_s), answer.sent_s)
        for answer in (a for a in steps if a.status == 200):
            for halt in self._halts:
                if halt.told_s < first_s[answer.command] and answer.came_s < halt.lifted_s:
                    self._check_halted(told.day_id, answer)

    def _check_halted(self, day_id: str, answer: Answer) -> None:
        decision = json.loads(answer.body)
        if decision["trading"] != "HALTED" or any(decision["orders"]["child_qty"]):
            self.findings.add("unhalted", f"{day_id} {answer.command}")
        if not answer.replayed:
            self.halted_workers.add(answer.worker)

    async def _check_book(self, told: Told) -> None:
        """Every fill that was acknowledged is booked, once."""
        state = json.loads((await self._call("GET", told.path)).body)
        if state["status"] != "CLOSED" or state["step"] != told.steps:
            self.findings.add("lost", f"{told.day_id}: {state['status']} at {state['step']}")
        if (booked := row(state, "A")["cum_qty"]) != told.filled:
            self.findings.add("lost", f"{told.day_id}: {told.filled} fills, {booked} booked")
