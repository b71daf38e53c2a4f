"""Versions of the shipped model that differ in nothing but their names."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from service import manifest

_METADATA = 14
"""Number of the field of an ONNX model that holds notes."""


def noted(data: bytes, note: str) -> bytes:
    """The same model with one more note in it: another file, the same decisions."""
    entry = b"".join(
        bytes([number << 3 | 2, len(text)]) + text
        for number, text in ((1, b"note"), (2, note.encode()))
    )
    return data + bytes([_METADATA << 3 | 2, len(entry)]) + entry


def add_version(folder: Path, note: str, name: str = "iac", *, current: bool = False) -> str:
    """List one more version of the current model of ``folder``; the version."""
    path = folder / manifest.MANIFEST
    held = json.loads(path.read_text())
    now = manifest.read(folder)
    row = now.row("iac")
    data = noted((folder / row["file"]).read_bytes(), note)
    digest = hashlib.sha256(data).hexdigest()
    file = f"{name}-{digest[:12]}.onnx"
    (folder / file).write_bytes(data)
    told = {"name": name, "file": file, "sha256": digest, "version": digest[:12]}
    held["models"].append(row | told)
    chosen = digest[:12] if current else now.current.get(name, digest[:12])
    held["current"] = {**now.current, name: chosen}
    path.write_text(json.dumps(held))
    return digest[:12]
