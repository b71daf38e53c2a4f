"""Where numbers come from: the commit that is checked out, and hashes of files."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def git_commit(root: Path = ROOT) -> str | None:
    """The commit that is checked out, with ``-dirty`` where tracked files differ from it; None
    outside of a repository or without git."""
    asked = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(  # noqa: S603 - nothing here comes from outside
            [*asked, "--exclude=*"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def sha256(path: Path) -> str:
    """Of a file's content, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
