"""What is on record of a day: its state, decisions, report, and the log of all its commands.

Imports commits, plans, render, shelf and live. Reading changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from service import plans, render
from service.commits import FIELDS_MAX, SEQ_ABSENT, Loaded, Store, day_key, reply_field
from service.core.day import Trading
from service.errors import Code, Problem
from service.live import LiveDay
from service.plans import rounds_field, shadows_field
from service.shelf import DAY_FIELDS, Held, held_from


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply: ``replayed`` when the command had been carried out before."""

    body: bytes
    replayed: bool = False


def request_field(command: str) -> str:
    """Store field of the request that a command answered."""
    return f"request:{command}"


def logged(seq: int, command: str, state: str, raw: bytes) -> dict[str, bytes]:
    """The store fields by which command number ``seq`` can be carried out again."""
    told = orjson.dumps({"command": command, "state": state})
    return {f"log:{seq}": told, request_field(command): raw}


class Records:
    """The days of all clients, to be read."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def day(self, client: str, day_id: str) -> Answer:
        """The state of a day."""
        held = held_from(await self._store.load(client, checked(day_id), DAY_FIELDS))
        live = there(held)
        trading = plans.effective(live, Trading(held.state))
        shown = render.state(live, trading, held.shadows)
        return Answer(render.dump({"day_id": day_id, **shown}))

    async def decision(self, client: str, day_id: str, n: int) -> Answer:
        """A recorded decision with every round of its exchange, and the request it answered."""
        command = f"step:{n}"
        names = (reply_field(command), rounds_field(n), request_field(command), shadows_field(n))
        loaded = await self._store.load(client, checked(day_id), (*names, *DAY_FIELDS))
        live = there(held_from(loaded))
        if names[0] not in loaded.fields:
            raise Problem(Code.STEP_NOT_FOUND, f"{live.day.step} steps have been decided")
        exchanged = loaded.fields[names[1]]
        record = {
            "decision": orjson.Fragment(loaded.fields[names[0]]),
            "cl_ord_id": live.terms.cl_ord_ids[: plans.orders_then(exchanged, live)],
            "rounds": render.rounds(plans.unpack_rounds(exchanged)),
            "request": orjson.Fragment(loaded.fields[names[2]]),
            "shadows": orjson.Fragment(loaded.fields.get(names[3], b"[]")),
        }
        return Answer(render.dump(record))

    async def report(self, client: str, day_id: str) -> Answer:
        """The report that the close answered."""
        loaded = await self._store.load(client, checked(day_id), (reply_field("close"),))
        if not opened(loaded).fields:
            raise Problem(Code.STEP_NOT_FOUND, "the report is made when the day is closed")
        return Answer(loaded.fields[reply_field("close")])

    async def log(self, client: str, day_id: str) -> Answer:
        """Every command of a day in its order, with the bytes that came and went."""
        seq = opened(await self._store.load(client, checked(day_id), ())).seq
        told = await self._all(client, day_id, [f"log:{n}" for n in range(seq + 1)])
        rows = [orjson.loads(entry) for entry in told]
        requests = await self._all(client, day_id, [request_field(r["command"]) for r in rows])
        replies = await self._all(client, day_id, [reply_field(r["command"]) for r in rows])
        commands = [
            {"seq": n, "of": seq + 1, **row, "request": request.decode(), "reply": reply.decode()}
            for n, (row, request, reply) in enumerate(zip(rows, requests, replies, strict=True))
        ]
        return Answer(render.dump({"day_id": day_id, "client": client, "commands": commands}))

    async def day_state(self, client: str, day_id: str) -> Answer:
        """The trading state that was set for a day itself."""
        opened(await self._store.load(client, checked(day_id), ()))
        return await self.state(f"{client}/{day_id}")

    async def state(self, scope: str) -> Answer:
        """The trading state that was set for a client, a day (client/day), or everyone (*)."""
        return Answer(render.dump({"state": await self._store.state(scope)}))

    async def _all(self, client: str, day_id: str, names: Sequence[str]) -> list[bytes]:
        """The values of fields that are there, in the order of ``names``."""
        found: dict[str, bytes] = {}
        for at in range(0, len(names), FIELDS_MAX):
            part = names[at : at + FIELDS_MAX]
            found |= (await self._store.load(client, day_id, part)).fields
        return [found[name] for name in names]


def checked(day_id: str) -> str:
    """The day id itself; raises BAD_DAY_ID."""
    try:
        day_key("client", day_id)
    except ValueError:
        raise Problem(Code.BAD_DAY_ID, "use 1-64 characters of A-Z a-z 0-9 . _ -") from None
    return day_id


def there(held: Held) -> LiveDay:
    """The day that is held; raises DAY_NOT_FOUND."""
    if held.live is None:
        raise _not_found()
    return held.live


def opened(loaded: Loaded) -> Loaded:
    """What was loaded of a day that is there; raises DAY_NOT_FOUND."""
    if loaded.seq == SEQ_ABSENT:
        raise _not_found()
    return loaded


def _not_found() -> Problem:
    return Problem(Code.DAY_NOT_FOUND, "open the day first: PUT /v1/days/{day_id}")
