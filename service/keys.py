"""Making and revoking API keys: ``python -m service.keys make --client desk --scopes trade``.

Imports auth, files and orjson. The service reads the file again within a second; a file is replaced
whole or not at all, by one writer at a time. A client has at most two live keys: the one in use,
and the one that replaces it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import orjson

from service.auth import KeysRefused, Scope, load
from service.files import locked, write_whole

SECRET_BYTES = 32
LIVE_KEYS_MAX = 2
"""Keys of one client with the same scopes: two, so that one can replace the other."""
BOOTSTRAP_SCOPES = (Scope.TRADE, Scope.OBSERVE, Scope.HALT)
Entry = dict[str, Any]


def bootstrap(keys_file: Path, secret_file: Path, client: str = "desk") -> None:
    """Make a first key: the digest into ``keys_file``, the key itself into ``secret_file``.

    Of two starts at once the first makes it: the second must not change the key of a service that
    has read it.
    """
    with _locked(keys_file):
        if keys_file.exists():
            return
        key, entry = new_key(client, BOOTSTRAP_SCOPES)
        _write_private(secret_file, f"{key}\n".encode())
        _write(keys_file, {"keys": [entry]})


def new_key(client: str, scopes: Sequence[Scope]) -> tuple[str, Entry]:
    """A key ``id.secret`` and its entry in a keys file."""
    key_id, secret = f"k{secrets.token_hex(4)}", secrets.token_urlsafe(SECRET_BYTES)
    entry = {
        "id": key_id,
        "client": client,
        "digest": hashlib.sha256(secret.encode()).hexdigest(),
        "scopes": sorted(set(scopes)),
    }
    return f"{key_id}.{secret}", entry


def make(keys_file: Path, client: str, scopes: Sequence[Scope]) -> str:
    """Add a key for ``client``; answers it. Raises KeysRefused where two live ones are there."""
    with _locked(keys_file):
        held = _held(keys_file)
        key, entry = new_key(client, scopes)
        same = [e["id"] for e in held["keys"] if _is_twin(e, entry)]
        if len(same) >= LIVE_KEYS_MAX:
            raise KeysRefused(
                f"{client} has {len(same)} keys with these scopes: revoke one of {', '.join(same)}"
            )
        held["keys"].append(entry)
        _write(keys_file, held)
    return key


def revoke(keys_file: Path, key_id: str) -> None:
    """Take a key away; raises KeysRefused where there is no such key."""
    with _locked(keys_file):
        held = _held(keys_file)
        kept = [entry for entry in held["keys"] if entry["id"] != key_id]
        if len(kept) == len(held["keys"]):
            raise KeysRefused(f"there is no key {key_id}; `list` shows those that are there")
        _write(keys_file, held | {"keys": kept})


def listed(keys_file: Path) -> list[str]:
    """One line for each key: id, client, scopes; never a secret, which nobody has."""
    rows = (_held(keys_file)["keys"]) if keys_file.exists() else []
    return [f"{e['id']}  {e['client']}  {','.join(e['scopes'])}" for e in rows]


def _is_twin(a: Entry, b: Entry) -> bool:
    return bool(a["client"] == b["client"] and set(a["scopes"]) == set(b["scopes"]))


def _held(keys_file: Path) -> dict[str, Any]:
    if not keys_file.exists():
        return {"keys": []}
    load(keys_file)  # what the service would refuse is not written on
    held: dict[str, Any] = orjson.loads(keys_file.read_bytes())
    return held


def _locked(keys_file: Path) -> AbstractContextManager[None]:
    keys_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return locked(keys_file.parent)


def _write(keys_file: Path, held: dict[str, Any]) -> None:
    real = keys_file.resolve()  # not the link that names it
    partial = _write_private(real.with_name(f"{real.name}.new"), _text(held))
    try:
        load(partial)  # as the service will
        if real.exists():  # whoever writes, the service must still be able to read it
            owner = real.stat()
            os.chown(partial, owner.st_uid, owner.st_gid)
    except (KeysRefused, OSError):
        partial.unlink()
        raise
    partial.replace(real)


def _text(held: dict[str, Any]) -> bytes:
    return orjson.dumps(held, option=orjson.OPT_INDENT_2)


def _write_private(path: Path, content: bytes) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # half a keys file would keep every later start from serving
    return write_whole(path, content, 0o600)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; a new key is printed once and never again."""
    options = _parser().parse_args(argv)
    try:
        if options.command == "make":
            told = [make(options.file, options.client, [Scope(s) for s in options.scopes])]
        elif options.command == "revoke":
            revoke(options.file, options.id)
            told = []
        else:
            told = listed(options.file)
    except (KeysRefused, OSError) as error:
        sys.stderr.write(f"service.keys: {error}\n")
        return 1
    sys.stdout.writelines(f"{line}\n" for line in told)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service.keys", description=__doc__)
    data = Path(os.environ.get("CONCORD_DATA_DIR", "var/concord"))
    default = Path(os.environ.get("CONCORD_KEYS_FILE", data / "keys.json"))
    parser.add_argument("--file", type=Path, default=default, help="keys file (%(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("make", help="add a key and print it")
    made.add_argument("--client", required=True, help="whose days it is for")
    made.add_argument(
        "--scopes", nargs="+", required=True, choices=[scope.value for scope in Scope]
    )
    gone = commands.add_parser("revoke", help="take a key away")
    gone.add_argument("id", help="its id, the part before the dot")
    commands.add_parser("list", help="ids, clients and scopes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
