"""The list of models that ships with them: read, checked, changed. Imports files.

``manifest.json`` has a row for each version of each model and says which version of a name is
``current``: days that are opened get that one. Versions that are listed beside it can be opened by
``name@version``, and one line of the manifest makes one of them current again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from service.files import write_whole

MANIFEST = "manifest.json"
MANIFEST_BYTES_MAX = 1_000_000
MODELS_MAX = 32
"""Versions that a manifest may list: each is kept loaded."""
ROUNDS_MAX = 16
RETRAIN = "train and export it again with training/train.py"

NAME = re.compile(r"[a-z0-9_-]{1,32}")
"""What a model may be called."""
_VERSION = re.compile(r"[0-9a-f]{12}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}(\.onnx)?")
_FIELDS = {
    "name": str,
    "file": str,
    "sha256": str,
    "version": str,
    "contract": str,
    "K": int,
    "golden": dict,
}

Row = dict[str, Any]
Version = tuple[str, str]
"""Name and version of a model."""


class ModelRefused(Exception):
    """A model may not serve; the message says what is wrong with it and what to do."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """``rows`` by name and version; ``current`` is the version of each name."""

    rows: Mapping[Version, Row]
    current: Mapping[str, str]

    def row(self, name: str, version: str | None = None) -> Row:
        """A version of a model, the current one without ``version``; raises ModelRefused."""
        wanted = self.current.get(name) if version is None else version
        held = self.rows.get((name, wanted or ""))
        if held is None:
            listed = ", ".join("@".join(each) for each in self.rows) or "none"
            asked = name if version is None else f"{name}@{version}"
            raise ModelRefused(f"the manifest lists no model {asked!r} (it lists: {listed})")
        return held

    def adding(self, row: Row) -> Manifest:
        """The same with one more version, which is current from now on; what was, is before it."""
        name = row["name"]
        version, before = (name, row["version"]), (name, self.current.get(name, ""))
        rows = {each: held for each, held in self.rows.items() if each not in (version, before)}
        rows |= {before: self.rows[before]} if before in self.rows else {}
        rows.pop(version, None)
        return Manifest(rows | {version: row}, {**self.current, version[0]: version[1]})

    def without(self, name: str, version: str) -> Manifest:
        """The same without a version that is not current; raises ModelRefused."""
        self.row(name, version)
        if self.current[name] == version:
            raise ModelRefused(f"{name}@{version} is current: use another version first")
        rows = {each: row for each, row in self.rows.items() if each != (name, version)}
        return Manifest(rows, self.current)


def read(models_dir: Path, using: Mapping[str, str] = MappingProxyType({})) -> Manifest:
    """The manifest of a folder, every row whole and of the right types; raises ModelRefused.

    ``using`` are versions to be current by name, whatever it says itself.
    """
    path = models_dir / MANIFEST
    try:
        held = json.loads(read_bytes(path, MANIFEST_BYTES_MAX))
        listed = [_checked(path, row) for row in held["models"]]
        current = dict(held.get("current", {})) | dict(using)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelRefused(f"{path} is not a manifest of models ({error!r}); {RETRAIN}") from error
    rows = {(row["name"], row["version"]): row for row in listed}
    if len(rows) != len(listed):
        raise ModelRefused(f"{path} lists a version twice: leave one of its rows")
    if not 1 <= len(rows) <= MODELS_MAX:
        raise ModelRefused(f"{path} lists {len(rows)} versions: it must list 1 to {MODELS_MAX}")
    for name, version in using.items():
        Manifest(rows, {}).row(name, version)
    return Manifest(rows, {name: _current(path, name, rows, current) for name, _ in rows})


def _current(
    path: Path, name: str, rows: Mapping[Version, Row], current: Mapping[str, object]
) -> str:
    """The version of a name that is current; a single one need not be named."""
    versions = [version for each, version in rows if each == name]
    others = " | ".join(versions)
    named = current.get(name, versions[0] if len(versions) == 1 else None)
    if named not in versions:
        raise ModelRefused(
            f"{path} does not say which version of {name!r} is current: "
            f"python -m service.models use {name} ({others})"
        )
    return str(named)


def _checked(path: Path, row: Row) -> Row:
    name = row["name"]
    for field, kind in _FIELDS.items():
        if not isinstance(row.get(field), kind):
            raise ModelRefused(f"{path}: {field!r} of model {name!r} is missing; {RETRAIN}")
    if not NAME.fullmatch(name) or not _VERSION.fullmatch(row["version"]):
        raise ModelRefused(f"{path}: the name or the version of model {name!r} is odd; {RETRAIN}")
    if row["version"] != row["sha256"][:12]:
        raise ModelRefused(f"{path}: the version of model {name!r} is not its SHA-256; {RETRAIN}")
    if not _FILE.fullmatch(row["file"]) or not 1 <= row["K"] <= ROUNDS_MAX:
        raise ModelRefused(f"{path}: the file name or K of model {name!r} is odd; {RETRAIN}")
    return row


def read_bytes(path: Path, most: int) -> bytes:
    """What is in a file of at most ``most`` bytes; raises ModelRefused."""
    try:
        if path.exists() and not path.is_file():
            raise ModelRefused(f"{path} is no regular file; {RETRAIN}")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise ModelRefused(f"{path} cannot be read ({error.strerror}); {RETRAIN}") from error
    if len(data) > most:
        raise ModelRefused(f"{path} is larger than {most} bytes; {RETRAIN}")
    return data


def write(models_dir: Path, manifest: Manifest) -> None:
    """Put ``manifest`` in the place of the one that is there, whole or not at all; raises
    ModelRefused for one that could not be read again."""
    if len(manifest.rows) > MODELS_MAX:
        raise ModelRefused(f"a manifest lists at most {MODELS_MAX} versions: drop some first")
    held = {"models": list(manifest.rows.values()), "current": dict(manifest.current)}
    text = json.dumps(held, indent=1, sort_keys=True) + "\n"
    write_whole(models_dir / MANIFEST, text.encode())
