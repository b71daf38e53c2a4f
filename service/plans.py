"""What each command makes of a live day: pure functions from a day and a body to an effect.

Imports parse, render, live, wire, errors and the core; touches neither store nor clock. An effect
is everything that one commit writes; a plan that raises leaves nothing behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from service import opening, parse, render, reporting, tally
from service.booking import enforce_book, happened, reported
from service.calendar import from_us, to_us
from service.commits import strictest
from service.core import laws
from service.core.alarms import Alarm, AlarmCode
from service.core.book import send
from service.core.day import Status, Trading, close, mark, with_trading
from service.core.decide import Decided, decide
from service.core.orders import BUY
from service.core.policy import Policy, Rounds
from service.errors import Code, Problem
from service.instructing import instructed
from service.live import FIXED, STATE, LiveDay, pack_fixed, pack_state
from service.shadow import NOBODY, Followed, Shadow, Stop, packed
from service.wire import Close, ExecutionBatch, Instructions, OpenDay, Step

AS_OF_LATE_S_MAX = 86_400
"""How long after its scheduled time a step may still be taken: a typing error in a date would
otherwise make every later snapshot look stale."""


@dataclass(frozen=True, slots=True)
class Effect:
    """The live day after a command, its reply, and what else the commit writes.

    ``decided`` is there for steps; telemetry tells of it and of the alarms. ``shadows`` are those
    of the day afterwards, None where nothing happened to them, ``stops`` those that ended just now;
    ``opens`` is 1 for an opening and -1 for a close.
    """

    live: LiveDay
    reply: bytes
    fields: Mapping[str, bytes] = field(default_factory=dict)
    decided: Decided | None = None
    alarms: Sequence[Alarm] = ()
    shadows: tuple[Shadow, ...] | None = None
    opens: int = 0
    stops: Sequence[Stop] = ()

    def written(self) -> dict[str, bytes]:
        """All fields of the commit."""
        shadows = {} if self.shadows is None else packed(self.shadows, fixed=FIXED in self.fields)
        return {STATE: pack_state(self.live), **shadows, **self.fields}

    def beside(self, followed: Followed, step: int | None = None) -> Effect:
        """The same with what shadows made of it, on record for a ``step``."""
        if not followed.shadows:
            return self
        replies = b"[" + b",".join(reply or b"null" for reply in followed.replies) + b"]"
        kept = {} if step is None else {shadows_field(step): replies}
        fields = {**self.fields, **kept}
        return replace(self, shadows=followed.shadows, fields=fields, stops=followed.stops)

    def pins(self) -> dict[str, int]:
        """What the commit adds to the number of open days by model (name@version)."""
        if not self.opens:
            return {}
        days = (self.live, *(shadow.live for shadow in self.shadows or ()))
        models = Counter(f"{d.terms.model['name']}@{d.terms.model['version']}" for d in days)
        return {model: self.opens * count for model, count in models.items()}


def rounds_field(step: int) -> str:
    """Store field of the exchange recorded with a step."""
    return f"rounds:{step}"


def shadows_field(step: int) -> str:
    """Store field of what the shadows decided at a step."""
    return f"shadows:{step}"


def open_day(
    day_id: str,
    body: OpenDay,
    model: dict[str, str],
    trading: Trading,
    shadow_models: Sequence[dict[str, str]] = (),
) -> Effect:
    """A day that was not there; ``shadow_models`` are those of ``body.shadows``."""
    live = opening.opened(body, model)
    laws.enforce(laws.broken_by_day(live.day))
    named = zip(body.shadows, shadow_models, strict=True)
    made = tuple(Shadow(opening.opened(_on_paper(body, name), told)) for name, told in named)
    shown = render.state(live, effective(live, trading), made)
    reply = render.dump({"day_id": day_id, **shown})
    return Effect(live, reply, {FIXED: pack_fixed(live)}, shadows=made or None, opens=1)


def _on_paper(body: OpenDay, policy: str) -> OpenDay:
    return body.model_copy(update={"policy": policy, "fills": "paper"})


def effective(live: LiveDay, trading: Trading) -> Trading:
    """The strictest of the store's state and what broken promises leave of the day's own."""
    own = Trading.REDUCING if bool(live.day.breached) else Trading.ACTIVE
    return Trading(strictest((trading, own, live.day.trading)))


def step(
    day_id: str,
    live: LiveDay,
    n: int,
    body: Step,
    known: Mapping[str, bytes],
    trading: Trading,
    policy: Policy,
) -> Effect:
    """Decision ``n``: book what happened, see the snapshot, decide, put the children to work."""
    _expect_step(live, n)
    as_of_us = _fresh(live, n, body)
    snapshot = parse.snapshot(live, body.snapshot)
    booked, alarms, fields = happened(live, snapshot, body.executions, known)
    day = with_trading(booked.day, effective(booked, trading))
    decided = decide(day, snapshot, policy)
    laws.enforce(laws.broken_by_decision(decided))
    told = tally.seen(booked.tally, booked.day, decided.seen, snapshot)
    after = _sent(booked, decided, as_of_us)
    after = after.after(after.day, tally=tally.decided(told, decided))
    enforce_book(after)
    reply = render.dump(render.decision(day_id, booked, after, decided, alarms))
    fields = {**fields, rounds_field(n): pack_rounds(decided.intent.rounds)}
    return Effect(after, reply, fields, decided, alarms)


def _expect_step(live: LiveDay, n: int) -> None:
    day = live.day
    if day.status is Status.CLOSED:
        raise Problem(Code.DAY_CLOSED, "open another day; this one takes late executions only")
    if day.step >= day.rules.steps:
        raise Problem(
            Code.STEP_GAP, "all steps are decided: close the day", expected_step=None, got_step=n
        )
    if n != day.step + 1:
        raise Problem(
            Code.STEP_GAP,
            f"send step {day.step + 1} next",
            expected_step=day.step + 1,
            got_step=n,
        )


def _fresh(live: LiveDay, n: int, body: Step) -> int:
    as_of_us, terms = to_us(body.as_of), live.terms
    earliest = terms.times_us[n - 1] - terms.snapshot_age_s_max * 1_000_000
    earliest = max(earliest, live.as_of_us + 1)
    latest = terms.times_us[n - 1] + AS_OF_LATE_S_MAX * 1_000_000
    if as_of_us > latest:
        raise Problem(
            Code.AS_OF_TOO_LATE,
            f"send the time of the snapshot, at most {from_us(latest)} for step {n}",
            latest=from_us(latest),
            scheduled=from_us(terms.times_us[n - 1]),
        )
    if as_of_us < earliest:
        raise Problem(
            Code.STALE_SNAPSHOT,
            f"send a snapshot as of {from_us(earliest)} or later for step {n}",
            earliest=from_us(earliest),
            scheduled=from_us(terms.times_us[n - 1]),
        )
    return as_of_us


def _sent(live: LiveDay, decided: Decided, as_of_us: int) -> LiveDay:
    choice, children = decided.decision, live.children
    if not live.paper:
        children = send(children, decided.after.step, choice.child_qty, choice.protect_px)
    return live.after(
        # the state of the moment belongs to the decision, not to the day
        with_trading(decided.after, live.day.trading),
        children=children,
        sent=_with_row(live.sent, decided.after.step, choice.child_qty > 0),
        loosest_px=_loosest(live, decided),
        as_of_us=as_of_us,
        blocked=render.blocking(live.blocked, decided),
        fallbacks=live.fallbacks + (decided.failure is not None),
    )


def _with_row(sent: np.ndarray, step: int, row: np.ndarray) -> np.ndarray:
    after = sent.copy()
    after[step - 1] = row
    return after


def _loosest(live: LiveDay, decided: Decided) -> np.ndarray:
    """The weakest protection of any child so far: a late fill may be one of any of them."""
    px, before = decided.decision.protect_px, live.loosest_px
    weaker = np.where(live.day.orders.side == BUY, np.maximum(before, px), np.minimum(before, px))
    now = np.where(live.sent.any(axis=0), weaker, px)
    return np.where(decided.decision.child_qty > 0, now, before)


def executions(live: LiveDay, body: ExecutionBatch, known: Mapping[str, bytes]) -> Effect:
    """Facts reported between steps, or after the close."""
    after, alarms, fields = reported(live, body.executions, known)
    if live.day.status is Status.CLOSED and fields:
        late = Alarm(AlarmCode.AFTER_CLOSE, -1, "", live.day.step, 0)
        alarms = (*alarms, late)
        after = after.after(after.day, alarms=after.alarms + 1)
    exec_ids = [execution.exec_id for execution in body.executions]
    named = parse.orders_named(live, body.executions)
    booked = render.bookings(after, exec_ids, frozenset(known), alarms, named)
    reply = render.dump(booked)
    return Effect(after, reply, fields, alarms=alarms)


def instruct(day_id: str, live: LiveDay, body: Instructions) -> Effect:
    """What the manager changes; it holds from the next decision on."""
    if live.day.status is Status.CLOSED:
        raise Problem(Code.DAY_CLOSED, "open another day; this one takes late executions only")
    after, named = instructed(live, body)
    laws.enforce(laws.broken_by_day(after.day))
    enforce_book(after)
    reply = render.dump(render.instructions(day_id, body.instruction_id, after, named))
    return Effect(after, reply, {FIXED: pack_fixed(after)})


def close_day(
    day_id: str,
    live: LiveDay,
    body: Close,
    known: Mapping[str, bytes],
    beside: Followed = NOBODY,
) -> Effect:
    """The end of a day: what happened in the last interval, then the report, with those of its
    shadows."""
    if live.day.status is Status.CLOSED:
        raise Problem(Code.DAY_CLOSED, "the day was closed before")
    if live.day.step == 0 and (body.snapshot or body.executions):
        raise Problem(Code.DAY_NOT_STARTED, "a day without decisions closes without a snapshot")
    if live.paper and body.snapshot is None and bool((live.day.working > 0).any()):
        raise Problem(Code.CLOSE_NEEDS_SNAPSHOT, "send snapshot with the bars since the last step")
    if body.as_of is not None and to_us(body.as_of) < live.as_of_us:
        raise Problem(
            Code.STALE_SNAPSHOT,
            f"close as of {from_us(live.as_of_us)} or later, or leave as_of out",
        )
    snapshot = None if body.snapshot is None else parse.snapshot(live, body.snapshot)
    booked, alarms, fields = happened(live, snapshot, body.executions, known)
    marked = booked
    if snapshot is not None:
        day = mark(booked.day, snapshot)
        marked = booked.after(day, tally=tally.seen(booked.tally, booked.day, day, snapshot))
    after = marked.after(close(marked.day))
    laws.enforce(laws.broken_by_day(after.day))
    report = reporting.report(day_id, after, alarms) | {"shadows": beside.reports()}
    reply = render.dump(report)
    return Effect(after, reply, fields, alarms=alarms, opens=-1).beside(beside)


def pack_rounds(rounds: Rounds | None) -> bytes:
    """The exchange as stored: K, N and A as int32, then int8 actions, float32 probabilities."""
    if rounds is None:
        return b""
    shape = np.array(rounds.probabilities.shape, dtype="<i4").tobytes()
    actions, probabilities = rounds.actions.astype("i1"), rounds.probabilities.astype("<f4")
    return b"".join((shape, actions.tobytes(), probabilities.tobytes()))


def unpack_rounds(packed: bytes) -> Rounds | None:
    """The exchange as it was packed."""
    if not packed:
        return None
    k, n, a = (int(size) for size in np.frombuffer(packed, dtype="<i4", count=3))
    actions = np.frombuffer(packed, dtype="i1", offset=12, count=k * n).reshape(k, n)
    probabilities = np.frombuffer(packed, dtype="<f4", offset=12 + k * n)
    return Rounds(actions.astype(np.int64), probabilities.reshape(k, n, a))


def orders_then(packed: bytes, live: LiveDay) -> int:
    """How many orders the day had when an exchange was recorded; all of today's without one."""
    return int(np.frombuffer(packed, dtype="<i4", count=2)[1]) if packed else len(live.numbers)
