"""The commands of a day: load, plan, commit, answer. Imports commits, plans, live, wire, errors.

Every command has a natural key and goes through the store's one compare-and-set, so the order is
always compute, commit (durable), answer. A lost race answers the winner's bytes; a store that does
not answer leaves the command in doubt and the caller repeats it safely.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from service import opening, plans, render
from service.booking import exec_field
from service.commits import (
    Commit,
    Committed,
    Conflict,
    Replayed,
    Stale,
    StateMoved,
    Store,
    StoreUnavailable,
    digest_field,
    reply_field,
)
from service.core.day import Status, Trading
from service.core.policy import Policy
from service.errors import Code, Problem
from service.live import LiveDay
from service.measured import apart
from service.plans import Effect
from service.rack import Installed, Models
from service.reading import read
from service.records import Answer, checked, logged, opened, there
from service.shadow import Followed, followed
from service.shelf import DayLocks, Held, Key, Shelf
from service.wire import (
    Close,
    Execution,
    ExecutionBatch,
    Instructions,
    OpenDay,
    Step,
    without_executions,
    without_versions,
)

ATTEMPTS_MAX = 8
"""How often a command is planned anew when the day or the trading state moves under it."""


Plan = Callable[[Held], Effect]


class Watcher(Protocol):
    """Told of every commit, after it is durable (telemetry)."""

    def __call__(self, client: str, day_id: str, command: str, effect: Effect) -> None:
        """Take note."""
        ...


class Desk:
    """All days of all clients over one store."""

    def __init__(
        self,
        store: Store,
        models: Models,
        days_cached_max: int,
        watcher: Watcher,
    ) -> None:
        self._store = store
        self._models = models
        self._shelf = Shelf(store, days_cached_max)
        self._locks = DayLocks()
        self._watcher = watcher

    async def open(self, client: str, day_id: str, raw: bytes) -> Answer:
        """Open a day; the same body again answers the same bytes."""
        body = read(OpenDay, raw)
        await asyncio.to_thread(opening.warm, body)

        def plan(held: Held) -> Effect:
            model, *shadows = [self._installed(p).model for p in (body.policy, *body.shadows)]
            return plans.open_day(day_id, body, model, Trading(held.state), shadows)

        return await self._run(client, day_id, "open", raw, plan, is_opening=True)

    async def step(self, client: str, day_id: str, n: int, raw: bytes) -> Answer:
        """Take decision ``n``."""
        body = read(Step, raw)

        def plan(held: Held) -> Effect:
            live = there(held)
            trading = Trading(held.state)
            effect = plans.step(day_id, live, n, body, held.known, trading, self._pinned(live))

            def carry(shadow: LiveDay) -> Effect:
                heard = without_executions(body)
                return plans.step(day_id, shadow, n, heard, {}, trading, self._pinned(shadow))

            return effect.beside(self._followed(held, carry), n)

        def done(live: LiveDay) -> bool:
            return live.day.step >= n

        def fits(live: LiveDay) -> bool:
            return live.day.step >= n - 1

        return await self._run(client, day_id, f"step:{n}", raw, plan, body.executions, done, fits)

    async def executions(self, client: str, day_id: str, raw: bytes) -> Answer:
        """Book executions between steps."""
        body = read(ExecutionBatch, raw)

        def plan(held: Held) -> Effect:
            return plans.executions(there(held), body, held.known)

        command = f"exec:{hashlib.sha256(raw).hexdigest()[:32]}"
        return await self._run(client, day_id, command, raw, plan, body.executions, lambda _: True)

    async def instruct(self, client: str, day_id: str, raw: bytes) -> Answer:
        """Change what is wanted of the orders of a day."""
        body = read(Instructions, raw)

        def plan(held: Held) -> Effect:
            effect = plans.instruct(day_id, there(held), body)

            def carry(shadow: LiveDay) -> Effect:
                return plans.instruct(day_id, shadow, without_versions(body))

            return effect.beside(self._followed(held, carry))

        command = f"instruct:{body.instruction_id}"
        return await self._run(client, day_id, command, raw, plan, done=lambda _: True)

    async def close(self, client: str, day_id: str, raw: bytes) -> Answer:
        """Close a day and answer its report."""
        body = read(Close, raw)

        def carry(shadow: LiveDay) -> Effect:
            return plans.close_day(day_id, shadow, without_executions(body), {})

        def plan(held: Held) -> Effect:
            live, beside = there(held), self._followed(held, carry)
            return plans.close_day(day_id, live, body, held.known, beside)

        def done(live: LiveDay) -> bool:
            return live.day.status is Status.CLOSED

        return await self._run(client, day_id, "close", raw, plan, body.executions, done)

    async def set_day_state(self, client: str, day_id: str, state: str) -> Answer:
        """Set the state of a day, which must be there: a halt of nothing halts nothing."""
        opened(await self._store.load(client, checked(day_id), ()))
        return await self.set_state(f"{client}/{day_id}", state)

    async def set_state(self, scope: str, state: str) -> Answer:
        """Set the trading state of a client, of a day (client/day), or of everyone (*)."""
        await self._store.set_state(scope, state)
        return Answer(render.dump({"state": state}))

    def _installed(self, name: str) -> Installed:
        installed = self._models.named(name)
        if installed is None:
            names = ", ".join(sorted(self._models.rack.current))
            raise Problem(Code.UNKNOWN_POLICY, f"use one of: {names}")
        return installed

    def _pinned(self, live: LiveDay) -> Policy:
        installed = self._models.pinned(live.terms.model)
        if installed is None:
            raise Problem(
                Code.MODEL_MISSING,
                "the day is pinned to a model that is not installed: restore it, or close the day",
                model=live.terms.model,
            )
        return installed.policy

    def _followed(self, held: Held, carry: Callable[[LiveDay], Effect]) -> Followed:
        with apart():
            return followed(held.shadows, carry)

    async def _run(
        self,
        client: str,
        day_id: str,
        command: str,
        raw: bytes,
        plan: Plan,
        executions: Sequence[Execution] = (),
        done: Callable[[LiveDay], bool] = lambda live: False,
        fits: Callable[[LiveDay], bool] = lambda live: True,
        *,
        is_opening: bool = False,
    ) -> Answer:
        """Carry out one command: at most once, however often it is sent."""
        key = (client, checked(day_id))
        asked = _Asked(command, raw, hashlib.sha256(raw).digest())
        told = {name for e in executions for name in (e.exec_id, e.exec_ref_id) if name}
        names = [exec_field(exec_id) for exec_id in sorted(told)]
        async with self._locks.one(key):
            for _ in range(ATTEMPTS_MAX):
                held = await self._shelf.get(key, names, fits)
                await self._models.missing(held.models())
                past = held.live is not None and (is_opening or done(held.live))
                if past and (answer := await self._recorded(key, asked)):
                    return answer
                try:
                    effect = plan(held)
                except Problem:
                    if await self._shelf.is_current(key, held):
                        raise
                    continue
                answer = await self._commit(key, asked, held, effect)
                if answer is not None:
                    return answer
        raise Problem(Code.BUSY, "repeat the request")

    async def _recorded(self, key: Key, asked: _Asked) -> Answer | None:
        """What was answered to a command; None if it was not carried out."""
        names = (reply_field(asked.command), digest_field(asked.command))
        stored = (await self._store.load(*key, names)).fields
        if names[0] not in stored:
            return None
        if stored[names[1]] != asked.digest:
            raise _changed()
        return Answer(stored[names[0]], replayed=True)

    async def _commit(self, key: Key, asked: _Asked, held: Held, effect: Effect) -> Answer | None:
        """Write an effect; None where the day or the trading state moved and it must be redone."""
        commit = Commit(
            client=key[0],
            day_id=key[1],
            expected_seq=held.seq,
            command=asked.command,
            digest=asked.digest,
            state=held.state,
            reply=effect.reply,
            fields=effect.written() | logged(held.seq + 1, asked.command, held.state, asked.raw),
            pins=effect.pins(),
        )
        shadows = held.shadows if effect.shadows is None else effect.shadows
        # in doubt until the store has answered: the next command must look
        self._shelf.drop(key)
        outcome = await self._store.commit(commit)
        match outcome:
            case Committed(seq):
                self._shelf.put(key, Held(seq, effect.live, held.state, {}, shadows))
                self._watcher(*key, asked.command, effect)
                return Answer(effect.reply)
            case Replayed(reply):
                return Answer(reply, replayed=True)
            case Conflict():
                raise _changed()
            case Stale() | StateMoved():
                return None


@dataclass(frozen=True, slots=True)
class _Asked:
    """A command by its natural key, the bytes that asked for it, and their SHA-256."""

    command: str
    raw: bytes
    digest: bytes


def _changed() -> Problem:
    return Problem(Code.BODY_CHANGED, "repeat a command with the very same bytes, or send the next")


def unavailable(error: StoreUnavailable) -> Problem:
    """The problem of a store that does not answer."""
    return Problem(
        Code.STORE_UNAVAILABLE,
        "repeat the request: a command is carried out at most once, and a trading state holds "
        "already where it could be set",
    )
