"""The README does what it says: its session runs against a real service, as it is shown."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from contextlib import contextmanager
from os import environ
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PORT = 8917
START_S_MAX = 60.0


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@contextmanager
def serving(data_dir: Path):
    """A service of its own, started as ``make serve`` does."""
    settings = {"CONCORD_PORT": str(PORT), "CONCORD_DATA_DIR": str(data_dir)}
    process = subprocess.Popen([sys.executable, "-m", "service"], env=environ | settings, cwd=ROOT)
    try:
        _wait_until_ready(process)
        yield
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_S_MAX
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{PORT}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail("the service did not become ready")


def test_the_session_prints_what_the_readme_shows(tmp_path):
    (session,), shown = blocks("python"), blocks("text")[0]
    # only where the service listens and keeps its key differs from `make serve`
    script = session.replace("127.0.0.1:8000", f"127.0.0.1:{PORT}")
    script = script.replace("var/concord", str(tmp_path))
    with serving(tmp_path):
        run = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
    assert run.returncode == 0, run.stderr
    assert run.stdout == shown


def test_every_make_target_that_the_readme_names_exists():
    named = set(re.findall(r"`?make ([a-z][a-z-]+)", README))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]+):", makefile, flags=re.MULTILINE))
    assert named
    assert named <= targets


def test_every_link_of_the_readme_leads_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
