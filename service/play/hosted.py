"""A service of the client's own: started for one day, and gone with it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.client import Concord

READY_S_MAX = 60.0
PROBE_S_MAX = 2.0
STOP_S_MAX = 10.0
_LOG_TAIL = 2_000  # characters


class ServiceError(Exception):
    """The service cannot be started or named; the message says why."""


@contextmanager
def hosted() -> Iterator[tuple[str, str]]:
    """Start ``python -m service`` with an embedded store in a temporary folder; (url, API key).

    On leaving, whatever the reason, the service is stopped and the folder removed.
    """
    with tempfile.TemporaryDirectory(prefix="concord-") as folder:
        data, port = Path(folder) / "data", _free_port()
        log_path = Path(folder) / "service.log"
        settings = {
            "CONCORD_HOST": "127.0.0.1",
            "CONCORD_PORT": str(port),
            "CONCORD_DATA_DIR": data,
        }
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "service"],
                env={**_own_environment(), **{name: str(v) for name, v in settings.items()}},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this client only, which then stops it
            )
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_ready(process, url, log_path)
            yield url, (data / "dev.key").read_text().strip()
        finally:
            _stop(process)


def _own_environment() -> dict[str, str]:
    """The environment without settings meant for another service."""
    foreign = ("CONCORD_", "REDIS_URL")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    if "CONCORD_MODELS_DIR" in os.environ:
        kept["CONCORD_MODELS_DIR"] = os.environ["CONCORD_MODELS_DIR"]
    return kept


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    give_up = time.monotonic() + READY_S_MAX
    with Concord(url, timeout_s=PROBE_S_MAX) as concord:
        while not concord.ready():
            if process.poll() is not None:
                raise ServiceError(f"the service ended with {process.returncode}:\n{_tail(log)}")
            if time.monotonic() > give_up:
                told = f"the service is not ready after {READY_S_MAX:.0f} s"
                raise ServiceError(f"{told}:\n{_tail(log)}")
            time.sleep(0.05)


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-_LOG_TAIL:]


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
