"""What a model file must prove before a session is made from it. Imports manifest and the core.

The bytes are read once and only those bytes go on: their size and SHA-256 are the manifest's, the
contract they were trained for is this service's, and nothing in them points outside of them. That
last check walks the protobuf by hand, since the serving image has no ``onnx`` package: operators
of the standard domain only, no functions of its own, no tensor whose data lie in another file.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.core.contract import fingerprint
from service.manifest import RETRAIN, ModelRefused, Row, read_bytes

MODEL_BYTES_MAX = 8_000_000
BREATH_PARTS, BREATH_S = 40, 0.002
"""After so many parts of a file the interpreter is left to the thread that answers: a decision is
a few milliseconds of it, and reading all of a file would cost as much at once."""
STANDARD_DOMAINS = {"", "ai.onnx"}

# Field numbers of onnx.proto that hold the messages worth looking into.
_NESTED = {
    "model": {7: "graph", 8: "opset", 14: "entry", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_DEPTH_MAX = 32


@dataclass(frozen=True, slots=True)
class Admitted:
    """A model whose bytes are those of the manifest; ``entry`` is its row there."""

    data: bytes
    entry: Row

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.entry["name"])

    @property
    def rounds(self) -> int:
        """K, the rounds that the model answers."""
        return int(self.entry["K"])

    @property
    def where(self) -> str:
        """How messages name the model."""
        return f"model {self.name!r} ({self.entry['file']})"


def admit(models_dir: Path, entry: Row) -> Admitted:
    """Read the model of a manifest's row once and check it; raises ModelRefused."""
    admitted = listed(models_dir, entry)
    _check_contract(admitted.where, "manifest", entry["contract"])
    _check_contract(admitted.where, "file", _inspect(admitted).get("contract"))
    return admitted


def listed(models_dir: Path, entry: Row) -> Admitted:
    """The bytes of a manifest's row, which are those that it names; raises ModelRefused."""
    admitted = Admitted(read_bytes(models_dir / entry["file"], MODEL_BYTES_MAX), entry)
    digest = hashlib.sha256(admitted.data).hexdigest()
    if digest != entry["sha256"]:
        raise ModelRefused(
            f"{admitted.where}: its SHA-256 is {digest[:12]}…, the manifest says "
            f"{entry['sha256'][:12]}…; restore both from the same export, or {RETRAIN}"
        )
    return admitted


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
        parts = _walk("model", memoryview(admitted.data), 0)
        for number, (kind, fields) in enumerate(parts):
            if number % BREATH_PARTS == 0:
                time.sleep(BREATH_S)
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
