"""Where numbers come from: the commit that is checked out, and hashes of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def git_commit() -> str | None:
    """The commit that is checked out, None outside of a repository."""
    try:
        head = (ROOT / ".git" / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        return (ROOT / ".git" / head[5:]).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def sha256(path: Path) -> str:
    """Of a file's content, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
