"""Days in Redis: one hash per (client, day), changed only by a single-HSET compare-and-set.

The only module that imports redis; of the service it imports `commits`, `durability` and `roll`.
Connections are redis-py's low-level ones in a small stack of our own: its client resends commands
after an error, ten times by default, and no commit may be sent twice without its caller knowing.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.connection import Connection as TcpConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import NoScriptError, RedisError, ResponseError

from service.commits import (
    ACTIVE,
    PINS_KEY,
    Commit,
    Committed,
    Conflict,
    Loaded,
    Outcome,
    Replayed,
    Stale,
    StateMoved,
    StoreRefused,
    StoreUnavailable,
    check_names,
    day_key,
    digest_field,
    known_state,
    reply_field,
    state_key,
    state_keys,
    stored_seq,
    written,
)
from service.durability import SETTINGS, figures, find_problems, unreadable
from service.roll import ANNOUNCE_LUA, KEEP_LUA, LIVE_S, ROLL_KEY, cell_key

# An unknown trading state counts as HALTED: a typing error must never let orders through.
_STATE_LUA = """
local ranks = {ACTIVE = 1, REDUCING = 2, HALTED = 3}
local state = 'ACTIVE'
for i = 2, 4 do
  local held = redis.call('GET', KEYS[i]) or 'ACTIVE'
  if (ranks[held] or 3) > ranks[state] then state = ranks[held] and held or 'HALTED' end
end
"""

_LOAD_LUA = f"""{_STATE_LUA}
local values = redis.call('HMGET', KEYS[1], 'seq', unpack(ARGV))
return {{state, values}}
"""

# ARGV: reply field, digest field, digest, expected seq, state, how many arguments pins are, the
# pins and what is added to each, then the pairs of the one HSET.
_COMMIT_LUA = f"""{_STATE_LUA}
local held = redis.call('HMGET', KEYS[1], 'seq', ARGV[1], ARGV[2])
if held[2] then
  if held[3] == ARGV[3] then return {{'REPLAYED', held[2]}} end
  return {{'CONFLICT', ''}}
end
local seq = held[1] or '-1'
if seq ~= ARGV[4] then return {{'STALE', seq}} end
if state ~= ARGV[5] then return {{'STATE_MOVED', state}} end
local first = 7 + tonumber(ARGV[6])
for i = 7, first - 1, 2 do redis.call('HINCRBY', KEYS[5], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], unpack(ARGV, first))
return {{'COMMITTED', ARGV[first + 1]}}
"""


class RedisStore:
    """Store on one Redis or Valkey server, at a redis://, rediss:// or unix:// address.

    `timeout_s` bounds every call, waiting for one of `connections_max` connections included.
    `fsync_required` is the appendfsync that `durability_problems` insists on; below "always"
    acknowledged commits can be lost, which only a benchmark may accept.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 2.0,
        connections_max: int = 16,
        fsync_required: str = "always",
    ) -> None:
        self._timeout_s = timeout_s
        self._fsync_required = fsync_required
        self._connections = [_connection(url) for _ in range(connections_max)]
        # Last in, first out: a quiet service keeps using one warm connection.
        self._idle: asyncio.LifoQueue[AbstractConnection] = asyncio.LifoQueue()
        for connection in self._connections:
            self._idle.put_nowait(connection)

    async def load(self, client: str, day_id: str, names: Sequence[str]) -> Loaded:
        check_names(names)
        state, (seq, *values) = await self._script(_LOAD, client, day_id, names)
        held = zip(names, values, strict=True)
        fields = {name: value for name, value in held if value is not None}
        return Loaded(stored_seq(seq), fields, state.decode())

    async def commit(self, commit: Commit) -> Outcome:
        pairs = [part for pair in written(commit).items() for part in pair]
        names = (reply_field(commit.command), digest_field(commit.command))
        pins = [part for pin in commit.pins.items() for part in pin]
        told = (*names, commit.digest, commit.expected_seq, commit.state)
        args = (*told, len(pins), *pins, *pairs)
        tag, value = await self._script(_COMMIT, commit.client, commit.day_id, args)
        return _outcome(tag, value)

    async def set_state(self, scope: str, state: str) -> None:
        await self._call("SET", state_key(scope), known_state(state))

    async def state(self, scope: str) -> str:
        held = await self._call("GET", state_key(scope))
        return ACTIVE if held is None else str(held.decode())

    async def announce(self, instance: str, contract: str) -> Mapping[str, str]:
        args = (instance, contract, LIVE_S * 1_000)
        told = [part.decode() for part in await self._run(_ANNOUNCE, (ROLL_KEY,), args)]
        return dict(zip(told[::2], told[1::2], strict=True))

    async def withdraw(self, instance: str) -> None:
        await self._call("HDEL", ROLL_KEY, instance)

    async def keep(self, name: str, value: bytes = b"", *, alone: bool = False) -> bytes | None:
        held: bytes | None = await self._run(_KEEP, (cell_key(name),), (value, int(alone)))
        return held

    async def pins(self) -> Mapping[str, int]:
        held = await self._call("HGETALL", PINS_KEY)
        named = zip(held[::2], held[1::2], strict=True)
        return {name.decode(): int(count) for name, count in named if int(count)}

    async def ping(self) -> None:
        await self._call("PING")

    async def durability_problems(self) -> list[str]:
        try:
            answers = [await self._call("CONFIG", "GET", name) for name in SETTINGS]
            info = await self._call("INFO")
        except StoreRefused as error:
            return [unreadable(str(error))]
        found = zip(SETTINGS, answers, strict=True)
        config = {name: answer[1].decode() for name, answer in found if answer}
        return find_problems(config, info.decode(), self._fsync_required)

    async def figures(self) -> Mapping[str, int]:
        return figures((await self._call("INFO")).decode())

    async def close(self) -> None:
        for connection in self._connections:
            with suppress(RedisError, OSError):
                await connection.disconnect()

    async def _script(
        self, script: "_Script", client: str, day_id: str, args: Sequence[str | bytes | int]
    ) -> Any:
        keys = (day_key(client, day_id), *state_keys(client, day_id), PINS_KEY)
        return await self._run(script, keys, args)

    async def _run(
        self, script: "_Script", keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Any:
        try:
            return await self._call("EVALSHA", script.sha, len(keys), *keys, *args)
        except _ScriptMissing:
            return await self._call("EVAL", script.text, len(keys), *keys, *args)

    async def _call(self, *command: str | bytes | int) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._exchange(command)
        except NoScriptError as error:
            raise _ScriptMissing from error
        except ResponseError as error:
            raise StoreRefused(f"the store refused {command[0]!r}: {error}") from error
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            kind = type(error).__name__
            raise StoreUnavailable(f"no answer from the store: {kind}: {error}") from error

    async def _exchange(self, command: Sequence[Any]) -> Any:
        connection = await self._idle.get()
        try:
            # Something to read before asking: closed by the server, or out of step.
            if connection.is_connected and await connection.can_read():
                await connection.disconnect(nowait=True)
            await connection.send_packed_command(_PACKER.pack(*command), check_health=False)
            return await connection.read_response()
        except ResponseError:
            raise  # a complete reply was read: the connection is in step
        except BaseException:
            # The next caller must not read this one's reply. What was sent is not recalled: a
            # cancelled commit is one whose reply was lost. (A task and a shield per commit
            # would say the same, and took 30 of 185 us.)
            await connection.disconnect(nowait=True)
            raise
        finally:
            self._idle.put_nowait(connection)


class _ScriptMissing(StoreRefused):
    """The server does not know the script yet: nothing ran."""


@dataclass(frozen=True, slots=True)
class _Script:
    text: str
    sha: str


def _hashed(text: str) -> _Script:
    return _Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


# In C: the asyncio connection's own packing is Python, and cost a fifth of a commit.
_PACKER = HiredisRespSerializer()
_LOAD, _COMMIT = _hashed(_LOAD_LUA), _hashed(_COMMIT_LUA)
_ANNOUNCE, _KEEP = _hashed(ANNOUNCE_LUA), _hashed(KEEP_LUA)


def _connection(url: str) -> AbstractConnection:
    options: dict[str, Any] = dict(parse_url(url))
    kind = options.pop("connection_class", TcpConnection)
    fixed = {"protocol": 2, "socket_timeout": None, "retry": Retry(NoBackoff(), 0)}
    connection: AbstractConnection = kind(**(options | fixed))
    return connection


def _outcome(tag: bytes, value: bytes) -> Outcome:
    match tag:
        case b"COMMITTED":
            return Committed(int(value))
        case b"REPLAYED":
            return Replayed(value)
        case b"CONFLICT":
            return Conflict()
        case b"STALE":
            return Stale(int(value))
        case b"STATE_MOVED":
            return StateMoved(value.decode())
    raise StoreUnavailable(f"unknown answer {tag!r} from the commit script")
