"""Shadows of a day: other policies that decide the same steps on paper, for comparison only.

Imports live, errors and orjson. A shadow is a whole day of its own with paper fills. It takes every
command that its day takes and its children go nowhere; where it cannot follow it stops, and says
why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Protocol

import orjson

from service.core.units import InvariantViolation
from service.errors import Code, Problem
from service.live import LiveDay, pack_fixed, pack_state, unpack

SHADOWS, SHADOWS_FIXED = "shadows", "shadows-fixed"
"""Store fields of the shadows of a day: what every command changes of them, and what only an
opening and instructions do."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """``live`` as far as it got; ``stopped`` is the code of the problem that it ended at."""

    live: LiveDay
    stopped: str | None = None

    def told(self) -> dict[str, object]:
        """How a reply names it."""
        terms = self.live.terms
        return {"policy": terms.policy, "model": terms.model, "stopped": self.stopped}


def packed(shadows: Sequence[Shadow], *, fixed: bool) -> dict[str, bytes]:
    """The store fields; the larger one only where it is ``fixed`` anew."""
    told = [each.stopped for each in shadows]
    fields = {SHADOWS: _joined(told, [pack_state(each.live) for each in shadows])}
    if fixed:
        fields[SHADOWS_FIXED] = _joined([], [pack_fixed(each.live) for each in shadows])
    return fields


def unpacked(fields: Mapping[str, bytes]) -> tuple[Shadow, ...]:
    """The shadows among the fields of a day; raises OtherFormat as a day does."""
    if SHADOWS not in fields:
        return ()
    stopped, states = _split(fields[SHADOWS])
    _, fixed = _split(fields[SHADOWS_FIXED])
    parts = zip(stopped, fixed, states, strict=True)
    return tuple(Shadow(unpack(one, two), stop) for stop, one, two in parts)


def _joined(told: Sequence[str | None], parts: Sequence[bytes]) -> bytes:
    head = orjson.dumps({"told": told, "sizes": [len(part) for part in parts]})
    return b"".join((head, b"\n", *parts))


def _split(joined: bytes) -> tuple[list[str | None], list[bytes]]:
    head, _, body = joined.partition(b"\n")
    told = orjson.loads(head)
    ends = list(accumulate(told["sizes"], initial=0))
    return told["told"], [body[a:b] for a, b in pairwise(ends)]


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
class Stop:
    """A shadow that has just ended: the code, and the defect where it was one."""

    policy: str
    code: str
    defect: Exception | None = None


@dataclass(frozen=True, slots=True)
class Followed:
    """What shadows made of a command: themselves afterwards, each one's reply (None of those that
    stopped), and those that stopped at this command."""

    shadows: tuple[Shadow, ...]
    replies: tuple[bytes | None, ...]
    stops: tuple[Stop, ...] = ()

    def reports(self) -> list[dict[str, object]]:
        """The shadows of a closed day, each with its own report; None where it stopped."""
        reports = [None if reply is None else orjson.Fragment(reply) for reply in self.replies]
        pairs = zip(self.shadows, reports, strict=True)
        return [{**shadow.told(), "report": report} for shadow, report in pairs]


NOBODY = Followed((), ())


def followed(shadows: Sequence[Shadow], carry: Callable[[LiveDay], Carried]) -> Followed:
    """``carry`` put to every shadow that has not stopped; none of them can fail the day itself."""
    moved = [_follow(shadow, carry) for shadow in shadows]
    return Followed(
        tuple(shadow for shadow, _, _ in moved),
        tuple(reply for _, reply, _ in moved),
        tuple(stop for _, _, stop in moved if stop),
    )


def _follow(
    shadow: Shadow, carry: Callable[[LiveDay], Carried]
) -> tuple[Shadow, bytes | None, Stop | None]:
    """A shadow after a command, its reply, and its end if it came now."""
    policy = shadow.live.terms.policy
    if shadow.stopped:
        return shadow, None, None
    try:
        after = carry(shadow.live)
    except Problem as problem:
        stop = Stop(policy, problem.code)
    except InvariantViolation as broken:
        stop = Stop(policy, Code.LAW_BROKEN, broken)
    except Exception as defect:  # whatever ails a shadow, its day goes on
        stop = Stop(policy, Code.INTERNAL, defect)
    else:
        return replace(shadow, live=after.live), after.reply, None
    return replace(shadow, stopped=stop.code), None, stop
