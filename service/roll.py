"""What a store keeps of the processes and stores that serve together: a port, scripts, a twin.

Imports the standard library only. A process tells its contract by the store's clock, since those of
machines differ; a store keeps who it is in a cell that is written once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

LIVE_S = 30
"""How long a process counts as live after it was last heard of, in seconds of the store's clock."""

ROLL_KEY = "concord:fleet"

# KEYS: the roll. ARGV: instance, contract, milliseconds to live. Answers instance and contract of
# every live process of another contract; writes only where there is none, or the caller is live.
ANNOUNCE_LUA = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local held, is_live, others = redis.call('HGETALL', KEYS[1]), false, {}
for i = 1, #held, 2 do
  local contract, until_ms = string.match(held[i + 1], '^(%S+) (%d+)$')
  if not until_ms or tonumber(until_ms) <= now then
    redis.call('HDEL', KEYS[1], held[i])
  elseif held[i] == ARGV[1] then
    is_live = contract == ARGV[2]
  elseif contract ~= ARGV[2] then
    others[#others + 1] = held[i]
    others[#others + 1] = contract
  end
end
if is_live or #others == 0 then
  local until_ms = string.format('%.0f', now + tonumber(ARGV[3]))
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. until_ms)
end
return others
"""

# KEYS: the cell. ARGV: value (none: only read), and 1 where nothing else may be in the database.
KEEP_LUA = """
local held = redis.call('GET', KEYS[1])
if held or ARGV[1] == '' then return held end
if ARGV[2] == '1' and redis.call('DBSIZE') > 0 then return false end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
"""


class Roll(Protocol):
    """What the service needs of a store beside days; every method may raise StoreUnavailable."""

    async def announce(self, instance: str, contract: str) -> Mapping[str, str]:
        """The contract of every live process that has another one than ``contract``, by instance.

        ``instance`` is live for LIVE_S from now, unless there is such a process and ``instance``
        was not live itself: who comes second, or wakes up late, does not count.
        """

    async def withdraw(self, instance: str) -> None:
        """``instance`` has ended."""

    async def keep(self, name: str, value: bytes = b"", *, alone: bool = False) -> bytes | None:
        """What is kept under ``name``; ``value``, where nothing was and ``value`` is not empty.

        With ``alone`` it is written to an empty database only, and None is the answer otherwise.
        """


def cell_key(name: str) -> str:
    """Key of a value that is written once."""
    return f"concord:once:{name}"


class MemoryRoll:
    """Twin of RedisStore's roll for tests; ``clock`` answers seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._live: dict[str, tuple[str, float]] = {}
        self._kept: dict[str, bytes] = {}

    async def announce(self, instance: str, contract: str) -> Mapping[str, str]:
        now = self._clock()
        self._live = {name: told for name, told in self._live.items() if told[1] > now}
        others = {
            name: theirs
            for name, (theirs, _) in self._live.items()
            if theirs != contract and name != instance
        }
        if not others or self._live.get(instance, ("",))[0] == contract:
            self._live[instance] = (contract, now + LIVE_S)
        return others

    async def withdraw(self, instance: str) -> None:
        self._live.pop(instance, None)

    async def keep(self, name: str, value: bytes = b"", *, alone: bool = False) -> bytes | None:
        if name not in self._kept and value and not (alone and self._is_used()):
            self._kept[name] = value
        return self._kept.get(name)

    def _is_used(self) -> bool:
        return bool(self._kept or self._live)
