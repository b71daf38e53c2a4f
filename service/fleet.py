"""The processes that serve one store together: none beside one of another contract.

Imports commits and roll. A process tells the store its contract before it serves and every BEAT_S
from then on; the store answers who else is live. What was heard last is what /readyz says.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from service.commits import Store, StoreUnavailable
from service.core.contract import fingerprint
from service.roll import LIVE_S, Roll

BEAT_S = 10.0
"""Seconds between two announcements: one durable write each; a third of LIVE_S."""
_NAMED_MAX = 3


class MixedFleet(Exception):
    """A process of another contract serves this store; the message names it."""


class Shared(Store, Roll, Protocol):
    """A store that several processes may serve."""


@dataclass(frozen=True, slots=True)
class Member:
    """A process: a name of its own, and the fingerprint of its contract."""

    instance: str
    contract: str


def this_process() -> Member:
    """A member with the contract of this code; its name tells the operator where it runs."""
    name = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
    return Member(name, fingerprint())


async def join(roll: Roll, member: Member) -> None:
    """Announce ``member``; raises MixedFleet where another contract is live, and writes nothing."""
    others = await roll.announce(member.instance, member.contract)
    if others:
        raise MixedFleet(_mixed(member, others))


def _mixed(member: Member, others: Mapping[str, str]) -> str:
    named = [f"{contract[:16]} ({name})" for name, contract in sorted(others.items())]
    more = len(named) - _NAMED_MAX
    listed = ", ".join(named[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
    return (
        f"contract {member.contract[:16]} is not the only one live on this store: stop the "
        f"processes of {listed} first, or wait {LIVE_S} s after their end"
    )


class Fleet:
    """One process among those of ``roll``."""

    def __init__(self, roll: Roll, member: Member, beat_s: float = BEAT_S) -> None:
        self._roll = roll
        self._member = member
        self._beat_s = beat_s
        self._others: Mapping[str, str] = {}

    def problems(self) -> list[str]:
        """One sentence where a process of another contract was live at the last beat."""
        return [_mixed(self._member, self._others)] if self._others else []

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Live from here to the end; raises MixedFleet as ``join`` does."""
        await join(self._roll, self._member)
        beats = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            beats.cancel()
            with suppress(asyncio.CancelledError):
                await beats
            with suppress(StoreUnavailable):  # the entry then ends by itself
                await self._roll.withdraw(self._member.instance)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._beat_s)
            with suppress(StoreUnavailable):  # which /readyz tells by itself
                self._others = await self._roll.announce(
                    self._member.instance, self._member.contract
                )
