"""What a store of days promises: the values that go in and out, and a twin in memory for tests.

Imports roll and the standard library, so that routes can name these without touching Redis.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from service.roll import MemoryRoll

ACTIVE, REDUCING, HALTED = STATES = ("ACTIVE", "REDUCING", "HALTED")
GLOBAL_SCOPE = "*"
SEQ_ABSENT = -1
FIELDS_MAX = 3_000  # Lua's unpack holds about 8,000 values: two per field, and the script's own

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_RESERVED = re.compile(r"seq$|reply:|digest:")


class StoreUnavailable(Exception):
    """The store did not answer: whether a commit happened is unknown and a retry is safe."""


class StoreRefused(StoreUnavailable):
    """The store answered with an error; a refused commit wrote nothing."""


def reply_field(command: str) -> str:
    """Name of the hash field that holds the recorded reply of `command`."""
    return f"reply:{command}"


def digest_field(command: str) -> str:
    """Name of the hash field that holds the request digest of `command`."""
    return f"digest:{command}"


def strictest(states: Iterable[str]) -> str:
    """The strictest of trading states; HALTED if any of them is unknown."""
    ranks = [STATES.index(state) if state in STATES else STATES.index(HALTED) for state in states]
    return STATES[max(ranks, default=0)]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A day as stored: `seq` is -1 and `fields` empty when it does not exist."""

    seq: int
    fields: dict[str, bytes]
    state: str


@dataclass(frozen=True, slots=True)
class Commit:
    """One command's whole effect on a day; `expected_seq` -1 means the day must not exist.

    `state` is the trading state under which the decision was computed, `pins` what is added to the
    number of open days by model (name@version).
    Raises ValueError for identifiers, fields or states that cannot be stored.
    """

    client: str
    day_id: str
    expected_seq: int
    command: str
    digest: bytes
    state: str
    reply: bytes
    fields: Mapping[str, bytes] = field(default_factory=dict)
    pins: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        day_key(self.client, self.day_id)
        if self.expected_seq < SEQ_ABSENT or self.state not in STATES or not self.command:
            raise ValueError("a commit needs a sequence >= -1, a trading state and a command")
        check_names((*self.fields, *self.pins))
        if any(map(_RESERVED.match, self.fields)):
            raise ValueError("seq, reply:... and digest:... are names of the store's own")


@dataclass(frozen=True, slots=True)
class Committed:
    """Written and durable; `seq` is the day's new sequence."""

    seq: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """The same request was committed before; `reply` is what was answered then."""

    reply: bytes


@dataclass(frozen=True, slots=True)
class Conflict:
    """The command was committed before for a different request."""


@dataclass(frozen=True, slots=True)
class Stale:
    """The day moved on to `seq`: load it and start again."""

    seq: int


@dataclass(frozen=True, slots=True)
class StateMoved:
    """The trading state changed to `state`: load the day and start again."""

    state: str


Outcome = Committed | Replayed | Conflict | Stale | StateMoved


class Store(Protocol):
    """What the service needs of a store; every method may raise StoreUnavailable."""

    async def load(self, client: str, day_id: str, names: Sequence[str]) -> Loaded:
        """The day's sequence, those of the named fields that exist, and the trading state.

        Raises ValueError for more than FIELDS_MAX names.
        """

    async def commit(self, commit: Commit) -> Outcome:
        """Write everything of `commit` or nothing; durable when it answers Committed."""

    async def set_state(self, scope: str, state: str) -> None:
        """Set the trading state of a client, of a day (client/day), or of everyone (`*`)."""

    async def state(self, scope: str) -> str:
        """The state that was set for ``scope`` itself, ACTIVE where none was."""

    async def pins(self) -> Mapping[str, int]:
        """How many open days there are by model (name@version)."""

    async def ping(self) -> None:
        """Return when the store answers."""

    async def durability_problems(self) -> list[str]:
        """One sentence per setting that would break "acknowledged means durable"."""

    async def figures(self) -> Mapping[str, int]:
        """Bytes by name, those that are known: ``memory``, ``memory_max`` (0: any), ``log``."""

    async def close(self) -> None:
        """Drop the connections; a commit that is under way ends as if its reply was lost."""


def day_key(client: str, day_id: str) -> str:
    """Key of a day's hash. Raises ValueError for an identifier that could name another key."""
    if not _ID.fullmatch(client) or not _ID.fullmatch(day_id):
        raise ValueError("client and day ids are 1-64 characters of A-Z a-z 0-9 . _ -")
    return f"concord:{{{client}/{day_id}}}"


PINS_KEY = "concord:pins"
"""Key of the numbers of open days by model."""


def state_key(scope: str) -> str:
    """Key of the trading state of a client, of one of its days (client/day) or of everyone (*).

    Raises ValueError for another scope. A day's state is kept where its hash is.
    """
    client, _, day_id = scope.partition("/")
    if day_id:
        return f"{day_key(client, day_id)}:state"
    if scope != GLOBAL_SCOPE and not _ID.fullmatch(scope):
        raise ValueError("a scope is a client id, client id/day id, or *")
    return f"concord:state:{scope}"


def state_keys(client: str, day_id: str) -> tuple[str, str, str]:
    """The keys of every trading state that holds for a day."""
    return state_key(f"{client}/{day_id}"), state_key(client), state_key(GLOBAL_SCOPE)


def check_names(names: Collection[str]) -> None:
    """Raises ValueError for more fields than one script call can name."""
    if len(names) > FIELDS_MAX:
        raise ValueError(f"more than {FIELDS_MAX} fields")


def written(commit: Commit) -> dict[str, bytes]:
    """Everything the one HSET of a commit writes, the sequence first."""
    own = {
        "seq": str(commit.expected_seq + 1).encode(),
        reply_field(commit.command): commit.reply,
        digest_field(commit.command): commit.digest,
    }
    return own | dict(commit.fields)


def stored_seq(stored: bytes | None) -> int:
    """The sequence in a day's hash; -1 when there is none."""
    return SEQ_ABSENT if stored is None else int(stored)


def known_state(state: str) -> str:
    """`state` itself. Raises ValueError when it is not a trading state."""
    if state not in STATES:
        raise ValueError(f"a trading state is one of {', '.join(STATES)}")
    return state


class MemoryStore(MemoryRoll):
    """Twin of RedisStore for tests: the same answers, kept only as long as the object."""

    def __init__(self) -> None:
        super().__init__()
        self._days: dict[str, dict[str, bytes]] = {}
        self._states: dict[str, str] = {}
        self._pins: Counter[str] = Counter()

    async def load(self, client: str, day_id: str, names: Sequence[str]) -> Loaded:
        check_names(names)
        day = self._days.get(day_key(client, day_id), {})
        held = {name: day[name] for name in names if name in day}
        return Loaded(stored_seq(day.get("seq")), held, self._state(client, day_id))

    async def commit(self, commit: Commit) -> Outcome:
        key = day_key(commit.client, commit.day_id)
        day, state = self._days.get(key, {}), self._state(commit.client, commit.day_id)
        seq, reply = stored_seq(day.get("seq")), day.get(reply_field(commit.command))
        if reply is not None:
            same = day[digest_field(commit.command)] == commit.digest
            return Replayed(reply) if same else Conflict()
        if seq != commit.expected_seq:
            return Stale(seq)
        if state != commit.state:
            return StateMoved(state)
        self._days[key] = day | written(commit)
        self._pins.update(commit.pins)
        return Committed(seq + 1)

    async def set_state(self, scope: str, state: str) -> None:
        self._states[state_key(scope)] = known_state(state)

    async def state(self, scope: str) -> str:
        return self._states.get(state_key(scope), ACTIVE)

    async def pins(self) -> Mapping[str, int]:
        return {name: count for name, count in self._pins.items() if count}

    async def ping(self) -> None:
        return None

    async def durability_problems(self) -> list[str]:
        return []

    async def figures(self) -> Mapping[str, int]:
        return {}

    async def close(self) -> None:
        return None

    def _is_used(self) -> bool:
        return bool(self._days or self._states) or super()._is_used()

    def _state(self, client: str, day_id: str) -> str:
        return strictest(self._states.get(key, ACTIVE) for key in state_keys(client, day_id))
