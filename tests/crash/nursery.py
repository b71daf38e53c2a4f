"""Processes of the service, started in a moment from a warm parent, and killed."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
# Below the ports that the system gives to outgoing connections: a client that knocks at a closed
# port of that range can be connected to itself.
_PORTS = range(20_000, 32_000)
_READY_S_MAX, _LOOK_S = 30.0, 0.005


class Nursery:
    """The warm parent of all children; use it as a context manager.

    They serve a copy of the models: a day is pinned to the model it was opened with, and another
    one may be put into the project's folder meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        self.models_dir = shutil.copytree(ROOT / "models", folder / "models")
        self._parent = subprocess.Popen(
            # onnxruntime keeps an idle thread, which newer Pythons warn of at each fork
            [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.crash.warm_parent"],
            cwd=ROOT,
            env=own_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._parent.communicate()

    def start(self, env: Mapping[str, str], log: Path, mutant: str = "") -> int:
        """Process id of a new service."""
        pid: int = self._ask({"env": dict(env), "log": str(log), "mutant": mutant})
        return pid

    def end(self, pid: int, signum: int) -> int | None:
        """Exit status after a signal; None if it was gone before."""
        status: int | None = self._ask({"pid": pid, "signal": signum})
        return status

    def ended(self, pid: int) -> bool:
        """Whether a service ended by itself."""
        return self._ask({"pid": pid, "signal": 0}) is not None

    def _ask(self, order: dict[str, Any]) -> Any:
        assert self._parent.stdin
        assert self._parent.stdout
        self._parent.stdin.write(json.dumps(order) + "\n")
        self._parent.stdin.flush()
        return json.loads(self._parent.stdout.readline())


class Service:
    """One place of the service: a port at which one process after the other serves."""

    def __init__(
        self, nursery: Nursery, folder: Path, env: Mapping[str, str], mutant: str = ""
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.log = folder / "service.log"
        self._nursery = nursery
        self._mutant = mutant
        self._env = {
            "CONCORD_PORT": str(self.port),
            "CONCORD_DATA_DIR": str(folder / "data"),
            "CONCORD_MODELS_DIR": str(nursery.models_dir),
            "CONCORD_LOG_LEVEL": "error",
            **env,
        }
        self._pid: int | None = None
        self.kills = 0

    def start(self) -> None:
        """Start a process, without waiting for it."""
        self._pid = self._nursery.start(self._env, self.log, self._mutant)

    def end(self, signum: int = signal.SIGKILL) -> int | None:
        """End the process; its exit status, None if there was none."""
        pid, self._pid = self._pid, None
        return None if pid is None else self._nursery.end(pid, signum)

    def kill(self) -> None:
        """Kill the process and start the next one, as a supervisor does."""
        self.end()
        self.kills += 1
        self.start()

    def serving(self) -> bool:
        """Whether it listens."""
        return listens(self.port)

    def supervise(self) -> None:
        """Start the next process if this one gave up, as it does without a store."""
        if self._pid is not None and self._nursery.ended(self._pid):
            self.start()

    def wait_until_serving(self) -> None:
        """Wait for the process to listen."""
        give_up = time.monotonic() + _READY_S_MAX
        while not self.serving():
            assert time.monotonic() < give_up, f"not serving; {self.log.read_text()[-2_000:]}"
            self.supervise()
            time.sleep(_LOOK_S)


def own_environment() -> dict[str, str]:
    """The environment without settings that are meant for another service."""
    foreign = ("CONCORD_", "REDIS_URL")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"OPENBLAS_NUM_THREADS": "1"}


def free_port() -> int:
    """A port that nobody listens at."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def listens(port: int) -> bool:
    """Whether somebody listens at a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
