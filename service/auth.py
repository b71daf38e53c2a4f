"""API keys: who calls, and what they may do. Imports orjson, commits and errors.

A key is ``id.secret``; only the SHA-256 of the secret is stored, and compared in constant time.
The file is read again when it changes, so that a key can be made or revoked without a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from service.commits import day_key
from service.errors import Code, Problem

CHANGES_S = 1.0
"""How long after a change of the keys file it holds at the latest."""
RATE_PER_S_MAX = 100_000.0
_NOBODY = hashlib.sha256(b"no such key").hexdigest()


class Scope(StrEnum):
    """What a key may do."""

    TRADE = "trade"
    OBSERVE = "observe"
    HALT = "halt"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Client:
    """An authenticated caller: ``name`` owns days, ``scopes`` bound what this key may do.

    ``rate_per_s_max`` requests and ``body_bytes_max`` bytes, None: the service's own limits.
    """

    name: str
    scopes: frozenset[Scope]
    rate_per_s_max: float | None = None
    body_bytes_max: int | None = None

    def need(self, scope: Scope) -> Client:
        """Itself; raises SCOPE_MISSING without ``scope``."""
        if scope not in self.scopes:
            raise Problem(Code.SCOPE_MISSING, f"use a key with the scope {scope.value}")
        return self


@dataclass(frozen=True, slots=True)
class _Key:
    digest: str
    client: Client


class KeysRefused(Exception):
    """The keys file cannot be used; the message says what to do."""


class Keyring:
    """The keys that may call."""

    def __init__(self, keys: dict[str, _Key]) -> None:
        self._keys = keys

    def __repr__(self) -> str:
        return f"Keyring({len(self._keys)} keys)"

    def trading(self) -> frozenset[str]:
        """Names of the clients that some key lets trade."""
        clients = (key.client for key in self._keys.values())
        return frozenset(client.name for client in clients if Scope.TRADE in client.scopes)

    def client(self, authorization: str | None) -> Client:
        """The caller behind an Authorization header; raises UNAUTHENTICATED."""
        scheme, _, key = (authorization or "").partition(" ")
        key_id, _, secret = key.partition(".")
        held = self._keys.get(key_id)
        digest = hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
        # an unknown id costs the same comparison as a known one
        right = hmac.compare_digest(digest, held.digest if held else _NOBODY)
        if held is None or not right or scheme.lower() != "bearer":
            raise Problem(Code.UNAUTHENTICATED, "send Authorization: Bearer <key id>.<secret>")
        return held.client


class Watched:
    """The keyring of a file, read again when the file changes.

    A file that cannot be used any more changes nothing but ``problem``: to lock everybody out, or
    to let a revoked key in, must not be one slip of a pen away.
    """

    def __init__(self, path: Path, told: Callable[[str], None] = lambda problem: None) -> None:
        self._path, self._told = path, told
        self._stamp, self._ring = _stamp(path), load(path)
        self._due_s = time.monotonic() + CHANGES_S

    def trading(self) -> frozenset[str]:
        """Names of the clients that some key lets trade."""
        return self._ring.trading()

    def client(self, authorization: str | None) -> Client:
        """The caller behind an Authorization header; raises UNAUTHENTICATED."""
        now_s = time.monotonic()
        if now_s >= self._due_s:
            self._due_s = now_s + CHANGES_S
            self._look()
        return self._ring.client(authorization)

    def _look(self) -> None:
        try:
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._ring, self._stamp = load(self._path), stamp
                self._told("")
        except (KeysRefused, OSError) as error:
            self._told(str(error))


def _stamp(path: Path) -> tuple[int, int, int]:
    held = path.stat()
    return held.st_mtime_ns, held.st_ino, held.st_size


def load(path: Path) -> Keyring:
    """Read the keys file; raises KeysRefused when it is readable by others or malformed."""
    if path.stat().st_mode & 0o077:
        raise KeysRefused(f"{path} can be read by others: chmod 600 it")
    try:
        held = orjson.loads(path.read_bytes())
        entries, limits = held["keys"], held.get("clients", {})
        names = {entry["client"] for entry in entries}
        if not isinstance(entries, list) or held.keys() - {"keys", "clients"}:
            raise ValueError("keys is a list, clients an object, and there is nothing else")
        if set(limits) - names:
            raise ValueError("clients names a client without a key")
        if len({entry["id"] for entry in entries}) != len(entries):
            raise ValueError("an id occurs twice")
        return Keyring({entry["id"]: _key(entry, limits) for entry in entries})
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        page = f"({type(error).__name__}: {_why(error)}), see docs/configuration.md"
        raise KeysRefused(f"{path} is not a keys file {page}") from error


def _why(error: Exception) -> str:
    """What is wrong, if we said it; a library's words may hold a part of the file."""
    return str(error) if type(error) is ValueError else "not of this form"


def _key(entry: dict[str, object], limits: dict[str, dict[str, float]]) -> _Key:
    scopes = entry["scopes"]
    digest = bytes.fromhex(str(entry["digest"]))
    if not isinstance(scopes, list) or len(digest) != hashlib.sha256().digest_size:
        raise ValueError("scopes is a list, digest a SHA-256")
    name = str(entry["client"])
    day_key(name, "day")  # days are stored under this name
    if type(entry["id"]) is not str or "." in entry["id"]:
        raise ValueError("an id is a text without a dot")
    own: Any = limits.get(name, {})
    if own.keys() - {"rate_per_s_max", "body_bytes_max"}:
        raise ValueError("limits of a client are rate_per_s_max and body_bytes_max")
    rate, size = own.get("rate_per_s_max"), own.get("body_bytes_max")
    if rate is not None and (isinstance(rate, bool) or not 0 < rate <= RATE_PER_S_MAX):
        raise ValueError(f"rate_per_s_max is above 0, at most {RATE_PER_S_MAX:g}")
    if size is not None and (type(size) is not int or size < 1):
        raise ValueError("body_bytes_max is a number of bytes")
    return _Key(digest.hex(), Client(name, frozenset(map(Scope, scopes)), rate, size))
