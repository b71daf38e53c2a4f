"""Faults for the harness to find, put into a child of the warm parent before it serves.

The product has no switch for any of them.
"""

import asyncio
import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import service.__main__ as program
from service import booking
from service import store as store_module
from service.commits import Commit, digest_field
from service.desk import Answer, Desk, _Asked
from service.embedded import EmbeddedValkey
from service.plans import Effect
from service.records import logged
from service.shelf import Held, Shelf
from service.store import RedisStore

_SEQ_CHECK = "if seq ~= ARGV[4] then return {'STALE', seq} end\n"
_DIGEST_CHECK = "if held[3] == ARGV[3] then return {'REPLAYED', held[2]} end\n"


def accept_everysec() -> None:
    """Serve on a store that syncs once a second, and start an embedded one that way."""
    replace: Any = program
    replace.RedisStore = functools.partial(RedisStore, fsync_required="everysec")
    replace.EmbeddedValkey = functools.partial(EmbeddedValkey, fsync="everysec")


def skip_seq_check() -> None:
    """Commit on a day that moved on meanwhile."""
    patch_script(_SEQ_CHECK, "")


def skip_digest_check() -> None:
    """Replay a command whose body changed."""
    patch_script(_DIGEST_CHECK, "if true then return {'REPLAYED', held[2]} end\n")
    record = Desk._recorded

    async def recorded(self: Desk, key: tuple[str, str], asked: _Asked) -> Answer | None:
        name = digest_field(asked.command)
        held = (await self._store.load(*key, (name,))).fields.get(name, asked.digest)
        return await record(self, key, replace(asked, digest=held))

    Desk._recorded = recorded  # type: ignore[method-assign]


def answer_first() -> None:
    """Answer a command, then commit it."""
    under_way: set[asyncio.Task[Any]] = set()

    async def commit(
        self: Desk, key: tuple[str, str], asked: _Asked, held: Held, effect: Effect
    ) -> Answer | None:
        seq, told = held.seq, (asked.command, asked.digest, held.state)
        fields = effect.written() | logged(seq + 1, asked.command, held.state, asked.raw)
        later = Commit(*key, seq, *told, effect.reply, fields, effect.pins())
        task = asyncio.create_task(self._store.commit(later))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        self._shelf.put(key, Held(seq + 1, effect.live, held.state))
        return Answer(effect.reply)

    Desk._commit = commit  # type: ignore[method-assign]


def book_again() -> None:
    """Book an execution each time that it is reported."""
    booking._is_new = lambda index, report, known: True


def trust_the_cache() -> None:
    """Refuse on what this process last saw of a day."""

    async def is_current(self: Shelf, key: tuple[str, str], held: Held) -> bool:
        return True

    get = Shelf.get

    async def unasked(self: Shelf, key: tuple[str, str], names: Any, fits: Any = None) -> Held:
        return await get(self, key, names)

    Shelf.is_current = is_current  # type: ignore[method-assign]
    Shelf.get = unasked  # type: ignore[method-assign]


def patch_script(check: str, instead: str) -> None:
    """Put something else in the place of a check of the commit script."""
    text = store_module._COMMIT_LUA
    assert check in text
    store_module._COMMIT = store_module._hashed(text.replace(check, instead))


MUTANTS: dict[str, Callable[[], None]] = {
    fault.__name__: fault
    for fault in (
        accept_everysec,
        skip_seq_check,
        skip_digest_check,
        answer_first,
        book_again,
        trust_the_cache,
    )
}
