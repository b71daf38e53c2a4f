"""Days over several independent stores: a store of stores. Imports commits, durability and roll.

A day lives whole on one shard, which its name alone decides; a trading state of a client or of
everyone lives on every shard, beside the days that it holds for, so that a commit asks one server
only. Shards know nothing of each other: no transaction, replica or election spans two of them.
"""

from __future__ import annotations

import asyncio
import secrets
from binascii import crc_hqx
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Protocol, TypeVar

from service.commits import (
    Commit,
    Loaded,
    Outcome,
    Store,
    StoreRefused,
    StoreUnavailable,
    day_key,
    strictest,
)
from service.durability import AWAY
from service.roll import Roll

SHARDS_MAX = 16
"""Every change of a state and every start asks all of them: more serve a group of services each."""
SLOTS = 16_384
LOOK_S_MAX = 1.5
"""A shard that takes longer to tell how it stands counts as away."""

_IDENTITY, _SERVED, _LOST = "shard", "shard-served", b"lost"
_HOW = "see docs/operations.md, More than one store"
T = TypeVar("T")


class WrongShards(Exception):
    """The stores are not those of one fleet in their order; the message says what to do."""


class Shard(Store, Roll, Protocol):
    """A store that can be one of several."""


def addresses(text: str) -> list[str]:
    """The addresses in a comma-separated list; raises WrongShards for a list that cannot be one."""
    found = [address.strip() for address in text.split(",")]
    if not all(found):
        raise WrongShards("REDIS_URL has an empty place: write addresses with one comma between")
    if len(found) > SHARDS_MAX:
        raise WrongShards(f"REDIS_URL names {len(found)} stores: at most {SHARDS_MAX} make a fleet")
    if len(set(found)) < len(found):
        raise WrongShards("REDIS_URL names a store twice: name each once")
    return found


def slot(client: str, day_id: str) -> int:
    """CRC16 (XMODEM) of ``client/day_id`` modulo 16384: the slot that a Redis cluster gives it.

    Raises ValueError for an identifier that cannot be stored.
    """
    day_key(client, day_id)
    return crc_hqx(f"{client}/{day_id}".encode(), 0) % SLOTS


def shard_of(client: str, day_id: str, shards: int) -> int:
    """Number of the shard that holds a day, from 0: equal ranges of slots in the shards' order."""
    return slot(client, day_id) * shards // SLOTS


class ShardedStore:
    """Days over ``shards``, whose order matters; two to SHARDS_MAX of them."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        if not 2 <= len(shards) <= SHARDS_MAX:
            raise WrongShards(f"a sharded store has 2 to {SHARDS_MAX} shards, not {len(shards)}")
        self._shards = tuple(shards)

    async def load(self, client: str, day_id: str, names: Sequence[str]) -> Loaded:
        at = shard_of(client, day_id, len(self._shards))
        with _named(at):
            return await self._shards[at].load(client, day_id, names)

    async def commit(self, commit: Commit) -> Outcome:
        at = shard_of(commit.client, commit.day_id, len(self._shards))
        with _named(at):
            return await self._shards[at].commit(commit)

    async def set_state(self, scope: str, state: str) -> None:
        """Set a state; everyone's and a client's are set when every shard was seen to hold it.

        All that can be reached are set even where one is away, and the error then says that the
        change is not whole: the same again is safe. Read after all were written, so that of two
        changes that crossed on their way at least one is told so.
        """
        client, _, day_id = scope.partition("/")
        if day_id:
            at = shard_of(client, day_id, len(self._shards))
            with _named(at):
                return await self._shards[at].set_state(scope, state)
        await self._all(lambda shard: shard.set_state(scope, state))
        if set(await self._all(lambda shard: shard.state(scope))) != {state}:
            raise StoreUnavailable("another trading state was set meanwhile: look, and repeat")

    async def state(self, scope: str) -> str:
        """The strictest that a shard has: a change that is not whole yet counts where it holds."""
        client, _, day_id = scope.partition("/")
        if not day_id:
            return strictest(await self._all(lambda shard: shard.state(scope)))
        at = shard_of(client, day_id, len(self._shards))
        with _named(at):
            return await self._shards[at].state(scope)

    async def pins(self) -> Mapping[str, int]:
        """Over all shards, all of which must answer: a model may go once no day needs it."""
        total: Counter[str] = Counter()
        for pins in await self._all(lambda shard: shard.pins()):
            total.update(pins)
        return total

    async def ping(self) -> None:
        await self._all(lambda shard: shard.ping())

    async def durability_problems(self) -> list[str]:
        """As of one store, each with its shard's number; raises when all shards are away.

        A shard that does not answer is a problem of its own (durability.AWAY): days on the others
        go on without it.
        """
        told = await self._each(_problems_of)
        away = [error for error in told if isinstance(error, StoreUnavailable)]
        if len(away) == len(told):
            raise away[0]
        held = [answer[1] if isinstance(answer, tuple) else None for answer in told]
        problems = [f"shard {at} {wrong}" for at, wrong in _misplaced(held).items()]
        for at, answer in enumerate(told):
            if isinstance(answer, tuple):
                problems += [f"shard {at}: {problem}" for problem in answer[0]]
            else:
                problems.append(f"shard {at}: {AWAY} until it answers again; its days stand still")
        return problems

    async def figures(self) -> Mapping[str, int]:
        """Memory of the fullest shard, and the largest log: what runs out first."""
        told = await self._each(lambda shard: shard.figures())
        known = [figures for figures in told if not isinstance(figures, StoreUnavailable)]
        if not known:
            raise StoreUnavailable("no shard answers")
        fullest = sorted(known, key=_fullness)[-1]
        logs = [figures["log"] for figures in known if "log" in figures]
        return {**fullest, "log": max(logs)} if logs else fullest

    async def announce(self, instance: str, contract: str) -> Mapping[str, str]:
        """Shard 0 keeps the roll of processes: a start needs all shards anyway."""
        with _named(0):
            return await self._shards[0].announce(instance, contract)

    async def withdraw(self, instance: str) -> None:
        with _named(0):
            await self._shards[0].withdraw(instance)

    async def keep(self, name: str, value: bytes = b"", *, alone: bool = False) -> bytes | None:
        with _named(0):
            return await self._shards[0].keep(name, value, alone=alone)

    async def close(self) -> None:
        for shard in self._shards:
            await shard.close()

    async def _all(self, ask: Callable[[Shard], Awaitable[T]]) -> list[T]:
        """What every shard answers; raises after all have ended, naming those that failed."""
        told = await asyncio.gather(*map(ask, self._shards), return_exceptions=True)
        away = [(at, error) for at, error in enumerate(told) if isinstance(error, StoreUnavailable)]
        if away:
            raise StoreUnavailable("; ".join(f"shard {at}: {error}" for at, error in away))
        return [_answer(each) for each in told]

    async def _each(self, ask: Callable[[Shard], Awaitable[T]]) -> list[T | StoreUnavailable]:
        """What every shard answers within LOOK_S_MAX, or that it is away."""

        async def asked(shard: Shard) -> T | StoreUnavailable:
            try:
                async with asyncio.timeout(LOOK_S_MAX):
                    return await ask(shard)
            except StoreUnavailable as error:
                return error
            except TimeoutError:
                return StoreUnavailable("no answer in time")

        return await asyncio.gather(*map(asked, self._shards))


async def unsafe(shards: Sequence[Shard]) -> list[str]:
    """Durability problems of ``shards`` before they serve, each with its shard's number.

    Raises StoreUnavailable where one does not answer: a start needs all.
    """
    found = []
    for at, shard in enumerate(shards):
        with _named(at) if len(shards) > 1 else nullcontext():
            where = f"shard {at}: " if len(shards) > 1 else ""
            found += [f"{where}{problem}" for problem in await shard.durability_problems()]
    return found


async def enrol(shards: Sequence[Shard]) -> None:
    """Check that ``shards`` are one fleet in its order, and make them one at the first start.

    Each keeps its fleet, its number and their count. Nothing is written before all were read; of
    several processes that start at once the first to reach shard 0 names the fleet. Raises
    WrongShards, or StoreUnavailable where one does not answer.
    """
    count, served = len(shards), any([await shard.keep(_SERVED) for shard in shards])
    # from the last one back: who writes goes forward, so what is seen of it begins at shard 0
    held = [await shard.keep(_IDENTITY) for shard in reversed(shards)][::-1]
    wrong = _misplaced(held)
    if wrong:
        at, why = next(iter(wrong.items()))
        raise WrongShards(f"shard {at} {why}")
    fleet = held[0].split()[0] if held[0] else secrets.token_hex(8).encode()
    for at, shard in enumerate(shards):
        if held[at] is None and (served or (at == 0 and any(held))):
            raise WrongShards(
                f"shard {at} is empty, but others of the list are not: restore it, or name the "
                f"stores of this fleet in their order; {_HOW}"
            )
        kept = await shard.keep(_IDENTITY, _identity(fleet, at, count), alone=count > 1)
        if kept is None:
            raise WrongShards(
                f"shard {at} is no empty database, and days in it would not be found again: "
                f"start a fleet of {count} on empty stores; {_HOW}"
            )
        fleet = kept.split()[0] if at == 0 else fleet
        if kept != _identity(fleet, at, count):
            raise WrongShards(f"shard {at} {_misplacement(kept, fleet, at, count)}")
    for shard in shards:
        await shard.keep(_SERVED, b"yes")


async def _problems_of(shard: Shard) -> tuple[list[str], bytes | None]:
    return await shard.durability_problems(), await shard.keep(_IDENTITY) or _LOST


def _identity(fleet: bytes, at: int, count: int) -> bytes:
    return b"%s %d %d" % (fleet, at, count)


def _misplaced(held: Sequence[bytes | None]) -> dict[int, str]:
    """What is wrong with what shards say of themselves, by number; None says nothing."""
    fleet = next((kept.split()[0] for kept in held if kept and kept != _LOST), b"")
    found = {}
    for at, kept in enumerate(held):
        if kept and kept != _identity(fleet, at, len(held)):
            found[at] = _misplacement(kept, fleet, at, len(held))
    return found


def _misplacement(kept: bytes, fleet: bytes, at: int, count: int) -> str:
    theirs, *numbers = kept.split()
    if len(numbers) != 2:
        return f"has lost who it is: stop, and restore it; {_HOW}"
    number, size = map(int, numbers)
    if size != count:
        return (
            f"belongs to a fleet of {size}, but REDIS_URL names {count}: name all {size} in their "
            f"order, or start a fleet of {count} on empty stores; {_HOW}"
        )
    if theirs != fleet:
        return f"belongs to another fleet than those before it: name the stores of one; {_HOW}"
    return f"is number {number} of its fleet: name its stores in their order, each once; {_HOW}"


def _fullness(figures: Mapping[str, int]) -> tuple[float, int]:
    memory, most = figures.get("memory", 0), figures.get("memory_max", 0)
    return (memory / most if most else 0.0), memory


def _answer(told: T | BaseException) -> T:
    if isinstance(told, BaseException):
        raise told
    return told


@contextmanager
def _named(at: int) -> Iterator[None]:
    """Errors say which shard it was: by its number, an address could hold a password."""
    try:
        yield
    except StoreRefused as error:
        raise StoreRefused(f"shard {at}: {error}") from error
    except StoreUnavailable as error:
        raise StoreUnavailable(f"shard {at}: {error}") from error
