"""The client's side of a trading day: open, one decision after another, close.

The first user of ``service.client``, which repeats whatever is in doubt: any other refusal ends the
day with the service's own words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from service.client import Concord, Decision, Reply
from service.play.script import REPORTED, Json, Script, close_body, executions, open_body, step_body


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision as the client saw it: answer, record with its rounds, state of the day."""

    decision: Json
    record: Json
    state: Json
    ms: float


@dataclass(slots=True)
class Played:
    """A day after its close: the service's report and the client's own measurements."""

    report: Json = field(default_factory=dict)
    step_ms: list[float] = field(default_factory=list)
    repeats: int = 0

    def note(self, *replies: Reply) -> None:
        """Count what had to be sent again."""
        self.repeats += sum(reply.attempts - 1 for reply in replies)


def play(
    concord: Concord, day: Script, watch: Callable[[Decided], None] = lambda decided: None
) -> Played:
    """Play ``day`` from its opening to its close; ``watch`` sees every decision."""
    played = Played()
    played.note(concord.open_day(day.day_id, **open_body(day)))
    reports: list[Json] = []
    for step in range(1, len(day.times) + 1):
        decision = concord.step(day.day_id, step, **step_body(day, step, reports))
        played.note(decision)
        played.step_ms.append(1e3 * decision.elapsed_s)
        reports = executions(day, decision.json) if day.fills == REPORTED else []
        watch(_seen(concord, decision, played))
    closed = concord.close(day.day_id, **close_body(day, reports))
    played.note(closed)
    played.report = closed.json
    return played


def _seen(concord: Concord, decision: Decision, played: Played) -> Decided:
    """The decision with its record and the state of the day after it."""
    record = concord.decision(decision.day_id, decision.step)
    state = concord.day(decision.day_id)
    played.note(record, state)
    return Decided(decision.json, record.json, state.json, 1e3 * decision.elapsed_s)
