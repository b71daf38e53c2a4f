"""Processes of the service that share stores, each ``python -m service`` on a port of its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from service import store as store_module
from tests.crash.mutants import patch_script, skip_seq_check
from tests.crash.nursery import ROOT, free_port, listens, own_environment

TRADER, ADMIN = "desk.fleet", "chief.fleet"
_READY_S_MAX = 60.0
_MUTATED = """
import sys
from tests.fleet.workers import MUTANTS
MUTANTS[sys.argv[1]]()
from service.__main__ import main
main()
"""


def commit_blindly() -> None:
    """Write whatever comes: neither the sequence nor an earlier reply is looked at."""
    text = store_module._COMMIT_LUA
    start, end = text.index("local held = redis.call('HMGET'"), text.index("if state ~= ARGV[5]")
    store_module._COMMIT = store_module._hashed(text[:start] + text[end:])


def skip_state_check() -> None:
    """Commit what was decided before a halt, or on what this process remembers of the state."""
    patch_script("if state ~= ARGV[5] then return {'STATE_MOVED', state} end\n", "")


MUTANTS: dict[str, Callable[[], None]] = {
    "skip_seq_check": skip_seq_check,
    "commit_blindly": commit_blindly,
    "skip_state_check": skip_state_check,
}


class Worker:
    """One place of the fleet: a port at which one process after the other serves."""

    def __init__(self, folder: Path, number: int, urls: str, mutant: str = "") -> None:
        self.port = free_port()
        self.log = folder / f"worker-{number}.log"
        self._command = [sys.executable, "-m", "service"]
        if mutant:
            self._command = [sys.executable, "-c", _MUTATED, mutant]
        self._env = {
            "CONCORD_PORT": str(self.port),
            "CONCORD_DATA_DIR": str(folder / f"data-{number}"),
            "CONCORD_KEYS_FILE": str(folder / "keys.json"),
            "CONCORD_REDIS_URL": urls,
            "CONCORD_LOG_LEVEL": "error",
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the one that was started last."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start a process, without waiting for it."""
        Path(self._env["CONCORD_DATA_DIR"]).mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=own_environment() | self._env, stderr=log
            )

    async def serving(self) -> None:
        """Wait until it listens."""
        give_up = time.monotonic() + _READY_S_MAX
        while not listens(self.port):
            assert self._process is not None
            assert self._process.poll() is None, self.log.read_text()[-2_000:]
            assert time.monotonic() < give_up
            await asyncio.sleep(0.05)

    def kill(self) -> None:
        """End the process as a crash would, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def write_keys(folder: Path) -> Path:
    """A keys file for all workers: who trades, and who may halt everyone."""
    digest = hashlib.sha256(b"fleet").hexdigest()
    keys = [
        {"id": "desk", "client": "desk", "digest": digest, "scopes": ["trade", "observe"]},
        {"id": "chief", "client": "chief", "digest": digest, "scopes": ["admin"]},
    ]
    path = folder / "keys.json"
    path.write_text(json.dumps({"keys": keys}))
    path.chmod(0o600)
    return path
