"""Shadows of a day: other policies that decide the same steps on paper, for comparison only.

Imports live, errors and orjson. A shadow is a whole day of its own with paper fills. It takes every
command
that its day takes and its children go nowhere; where it cannot follow it stops, and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import orjson

from service.core.units import InvariantViolation
from service.errors import Code, Problem
from service.live import LiveDay, pack_fixed, pack_state, unpack

SHADOWS = "shadows"
"""Store field of the shadows of a day."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """``live`` as far as it got; ``stopped`` is the code of the problem that it ended at."""

    live: LiveDay
    stopped: str | None = None

    def told(self) -> dict[str, object]:
        """How a reply names it."""
        terms = self.live.terms
        return {"policy": terms.policy, "model": terms.model, "stopped": self.stopped}


def pack(shadows: Sequence[Shadow]) -> bytes:
    """The form in the store: a line of JSON with sizes, then each day's two parts."""
    parts = [(pack_fixed(each.live), pack_state(each.live)) for each in shadows]
    told = [
        {"stopped": each.stopped, "fixed": len(fixed), "state": len(state)}
        for each, (fixed, state) in zip(shadows, parts, strict=True)
    ]
    return b"".join((orjson.dumps(told), b"\n", *(part for pair in parts for part in pair)))


def unpacked(packed: bytes) -> tuple[Shadow, ...]:
    """The shadows as they were packed, none of nothing; raises OtherFormat as a day does."""
    head, _, body = packed.partition(b"\n")
    found, at = [], 0
    for told in orjson.loads(head or b"[]"):
        middle = at + told["fixed"]
        end = middle + told["state"]
        found.append(Shadow(unpack(body[at:middle], body[middle:end]), told["stopped"]))
        at = end
    return tuple(found)


class Carried(Protocol):
    """What a command makes of a day, as far as a shadow is concerned."""

    @property
    def live(self) -> LiveDay:
        """The day afterwards."""
        ...

    @property
    def reply(self) -> bytes:
        """What would be answered."""
        ...


@dataclass(frozen=True, slots=True)
class Followed:
    """What shadows made of a command: themselves afterwards, and each one's reply, None of those
    that stopped."""

    shadows: tuple[Shadow, ...]
    replies: tuple[bytes | None, ...]

    def reports(self) -> list[dict[str, object]]:
        """The shadows of a closed day, each with its own report; None where it stopped."""
        reports = [None if reply is None else orjson.Fragment(reply) for reply in self.replies]
        pairs = zip(self.shadows, reports, strict=True)
        return [{**shadow.told(), "report": report} for shadow, report in pairs]


NOBODY = Followed((), ())


def followed(shadows: Sequence[Shadow], carry: Callable[[LiveDay], Carried]) -> Followed:
    """``carry`` put to every shadow that has not stopped; none of them can fail the day itself."""
    moved = [_carried(shadow, carry) for shadow in shadows]
    return Followed(tuple(shadow for shadow, _ in moved), tuple(reply for _, reply in moved))


def _carried(shadow: Shadow, carry: Callable[[LiveDay], Carried]) -> tuple[Shadow, bytes | None]:
    if shadow.stopped:
        return shadow, None
    try:
        after = carry(shadow.live)
    except Problem as problem:
        return replace(shadow, stopped=problem.code), None
    except InvariantViolation:
        return replace(shadow, stopped=Code.LAW_BROKEN), None
    except Exception:  # whatever ails a shadow, its day goes on
        return replace(shadow, stopped=Code.INTERNAL), None
    return replace(shadow, live=after.live), after.reply
