"""API keys: who calls, and what they may do. Imports orjson, commits and errors.

A key is ``id.secret``; only the SHA-256 of the secret is stored, and compared in constant time.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import orjson

from service.commits import day_key
from service.errors import Code, Problem

SECRET_BYTES = 32
_NOBODY = hashlib.sha256(b"no such key").hexdigest()


class Scope(StrEnum):
    """What a key may do."""

    TRADE = "trade"
    OBSERVE = "observe"
    HALT = "halt"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Client:
    """An authenticated caller: ``name`` owns days, ``scopes`` bound what this key may do."""

    name: str
    scopes: frozenset[Scope]

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


def load(path: Path) -> Keyring:
    """Read the keys file; raises KeysRefused when it is readable by others or malformed."""
    if path.stat().st_mode & 0o077:
        raise KeysRefused(f"{path} can be read by others: chmod 600 it")
    try:
        entries = orjson.loads(path.read_bytes())["keys"]
        return Keyring({entry["id"]: _key(entry) for entry in entries})
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        page = f"({type(error).__name__}), see docs/configuration.md"
        raise KeysRefused(f"{path} is not a keys file {page}") from error


def _key(entry: dict[str, object]) -> _Key:
    scopes = entry["scopes"]
    digest = bytes.fromhex(str(entry["digest"]))
    if not isinstance(scopes, list) or len(digest) != hashlib.sha256().digest_size:
        raise ValueError("scopes is a list, digest a SHA-256")
    client = str(entry["client"])
    day_key(client, "day")  # days are stored under this name
    return _Key(digest.hex(), Client(client, frozenset(map(Scope, scopes))))


def bootstrap(keys_file: Path, secret_file: Path, client: str = "desk") -> None:
    """Make a first key: the digest into ``keys_file``, the key itself into ``secret_file``.

    Of two starts at once the first makes it: the second must not change the key of a service that
    has read it.
    """
    keys_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(keys_file.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not keys_file.exists():
            _make_key(keys_file, secret_file, client)
    finally:
        os.close(lock)


def _make_key(keys_file: Path, secret_file: Path, client: str) -> None:
    key_id, secret = f"k{secrets.token_hex(4)}", secrets.token_urlsafe(SECRET_BYTES)
    entry = {
        "id": key_id,
        "client": client,
        "digest": hashlib.sha256(secret.encode()).hexdigest(),
        "scopes": [Scope.TRADE, Scope.OBSERVE, Scope.HALT],
    }
    _write_private(secret_file, f"{key_id}.{secret}\n".encode())
    _write_private(keys_file, orjson.dumps({"keys": [entry]}, option=orjson.OPT_INDENT_2))


def _write_private(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # whole or not there: half a keys file would keep every later start from serving
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
