"""What a model file must prove before a session is made from it. Imports core and stdlib only.

The bytes are read once and only those bytes go on: their size and SHA-256 are the manifest's, the
contract they were trained for is this service's, and nothing in them points outside of them. That
last check walks the protobuf by hand, since the serving image has no ``onnx`` package: operators
of the standard domain only, no functions of its own, no tensor whose data lie in another file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.core.contract import fingerprint

MANIFEST = "manifest.json"
MANIFEST_BYTES_MAX = 1_000_000
MODEL_BYTES_MAX = 8_000_000
ROUNDS_MAX = 16
STANDARD_DOMAINS = {"", "ai.onnx"}
RETRAIN = "train and export it again with training/train.py"

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}(\.onnx)?")
# Field numbers of onnx.proto that hold the messages worth looking into.
_NESTED = {
    "model": {7: "graph", 8: "opset", 14: "entry", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_DEPTH_MAX = 32


class ModelRefused(Exception):
    """A model may not serve; the message says what is wrong with it and what to do."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A model whose bytes are those of the manifest; ``entry`` is its row there."""

    name: str
    data: bytes
    entry: dict[str, Any]

    @property
    def rounds(self) -> int:
        """K, the rounds that the model answers."""
        return int(self.entry["K"])

    @property
    def where(self) -> str:
        """How messages name the model."""
        return f"model {self.name!r} ({self.entry['file']})"


def admit(models_dir: Path, name: str) -> Admitted:
    """Read the model ``name`` of ``models_dir`` once and check it; raises ModelRefused."""
    entry = _entry(models_dir / MANIFEST, name)
    path = models_dir / str(entry["file"])
    data = _read(path, MODEL_BYTES_MAX)
    admitted = Admitted(name, data, entry)
    digest = hashlib.sha256(data).hexdigest()
    if digest != entry["sha256"]:
        raise ModelRefused(
            f"{admitted.where}: its SHA-256 is {digest[:12]}…, the manifest says "
            f"{str(entry['sha256'])[:12]}…; restore both from the same export, or {RETRAIN}"
        )
    _check_contract(admitted.where, "manifest", entry["contract"])
    _check_contract(admitted.where, "file", _inspect(admitted).get("contract"))
    return admitted


def _entry(path: Path, name: str) -> dict[str, Any]:
    """The manifest's row of a model, its fields present and of the right type."""
    try:
        manifest = json.loads(_read(path, MANIFEST_BYTES_MAX))
        rows = {row["name"]: row for row in manifest["models"]}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelRefused(f"{path} is not a manifest of models ({error!r}); {RETRAIN}") from error
    if name not in rows:
        held = ", ".join(map(str, rows)) or "none"
        raise ModelRefused(f"{path} lists no model {name!r} (it lists: {held}); {RETRAIN}")
    row: dict[str, Any] = rows[name]
    kinds = {"name": str, "file": str, "sha256": str, "version": str, "contract": str, "K": int}
    for field, kind in {**kinds, "golden": dict}.items():
        if not isinstance(row.get(field), kind):
            raise ModelRefused(f"{path}: {field!r} of model {name!r} is missing; {RETRAIN}")
    if not _PLAIN_NAME.fullmatch(row["file"]) or not 1 <= row["K"] <= ROUNDS_MAX:
        raise ModelRefused(f"{path}: the file name or K of model {name!r} is odd; {RETRAIN}")
    return row


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise ModelRefused(f"{path} cannot be read ({error.strerror}); {RETRAIN}") from error
    if len(data) > most:
        raise ModelRefused(f"{path} is larger than {most} bytes; {RETRAIN}")
    return data


def _check_contract(where: str, place: str, stamped: object) -> None:
    expected = fingerprint()
    if stamped != expected:
        raise ModelRefused(
            f"{where}: the {place} was made for contract {str(stamped)[:12]}, this service speaks "
            f"{expected[:12]}; {RETRAIN}"
        )


def _inspect(admitted: Admitted) -> dict[str, str]:
    """The metadata of an ONNX file that is self-contained and uses standard operators only."""
    metadata: dict[str, str] = {}
    try:
        for kind, fields in _walk("model", memoryview(admitted.data), 0):
            _refuse_foreign(admitted.where, kind, fields)
            if kind == "entry":
                metadata[_text(fields, 1)] = _text(fields, 2)
    except (IndexError, UnicodeDecodeError, RecursionError) as error:
        raise ModelRefused(f"{admitted.where} is not an ONNX file; {RETRAIN}") from error
    return metadata


def _refuse_foreign(where: str, kind: str, fields: dict[int, list[Any]]) -> None:
    if kind == "tensor" and (13 in fields or any(fields.get(14, []))):
        raise ModelRefused(f"{where} keeps weights in another file; export with them inside")
    domain = {"node": 7, "opset": 1}.get(kind)
    if kind == "function" or (domain and _text(fields, domain) not in STANDARD_DOMAINS):
        raise ModelRefused(f"{where} uses operators outside the ONNX standard; {RETRAIN}")


def _walk(kind: str, data: memoryview, depth: int) -> Iterator[tuple[str, dict[int, list[Any]]]]:
    """Every message below ``kind`` as its fields: integers, or raw bytes, by field number."""
    if depth > _DEPTH_MAX:
        raise IndexError("messages nest too deep")
    fields: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        value, at = _value(data, at, key & 7)
        fields.setdefault(key >> 3, []).append(value)
    yield kind, fields
    for number, inner in _NESTED.get(kind, {}).items():
        for part in fields.get(number, []):
            if not isinstance(part, memoryview):
                raise IndexError("a message is not a message")
            yield from _walk(inner, part, depth + 1)


def _value(data: memoryview, at: int, wire: int) -> tuple[Any, int]:
    if wire == 0:
        return _varint(data, at)
    size = {1: 8, 5: 4}.get(wire, -1)
    if wire == 2:
        size, at = _varint(data, at)
    if size < 0 or at + size > len(data):
        raise IndexError("a field ends outside the file")
    return data[at : at + size], at + size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
    raise IndexError("a number does not end")


def _text(fields: dict[int, list[Any]], number: int) -> str:
    value = fields.get(number, [b""])[-1]
    return bytes(value).decode() if not isinstance(value, int) else ""
