"""Where numbers come from is told, also when it is no commit."""

from __future__ import annotations

import subprocess
from pathlib import Path

from training.provenance import git_commit


def test_a_commit_says_whether_files_differ_from_it(tmp_path: Path) -> None:
    def git(*said: str) -> str:
        named = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        asked = ["git", "-C", str(tmp_path), *named, *said]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()

    assert git_commit(tmp_path) is None
    git("init", "-q")
    assert git_commit(tmp_path) is None  # nothing is committed
    kept = tmp_path / "kept"
    kept.write_text("1")
    git("add", "kept")
    git("commit", "-qm", "first")
    git("pack-refs", "--all")
    assert git_commit(tmp_path) == git("rev-parse", "HEAD")
    kept.write_text("2")
    assert git_commit(tmp_path) == git("rev-parse", "HEAD") + "-dirty"
