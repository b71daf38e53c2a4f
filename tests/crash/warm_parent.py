"""A warm parent: imports the service once, then forks a child for each start of it.

Run by `nursery.Nursery`. A child runs `service.__main__.main()` as `python -m service` does, which
saves the second that imports take. Orders come as JSON lines and are answered in turn; when no
more can come, the children are killed. The store is still a process of its own program.
"""

import ctypes
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import service.__main__ as program
from tests.crash.mutants import MUTANTS

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_children: set[int] = set()


def serve() -> None:
    """Carry out orders until there are no more."""
    gc.freeze()  # what is imported stays shared with the children
    for line in sys.stdin:
        order = json.loads(line)
        answer = _end(order) if "pid" in order else _start(order)
        print(json.dumps(answer), flush=True)
    for pid in _children:
        os.kill(pid, signal.SIGKILL)


def _start(order: Mapping[str, Any]) -> int:
    parent, pid = os.getpid(), os.fork()
    if pid == 0:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os._exit(_serve_as_child(order) if os.getppid() == parent else 1)
    _children.add(pid)
    return pid


def _end(order: Mapping[str, Any]) -> int | None:
    """Send a signal and wait for the end; without a signal, only look whether it has ended."""
    pid, signum = order["pid"], order["signal"]
    if pid not in _children:
        return None
    if signum:
        os.kill(pid, signum)
    found, status = os.waitpid(pid, 0 if signum else os.WNOHANG)
    if not found:
        return None
    _children.discard(pid)
    return os.waitstatus_to_exitcode(status)


def _serve_as_child(order: Mapping[str, Any]) -> int:
    """Everything `python -m service` would do; answers its exit status."""
    try:
        _redirect(Path(order["log"]))
        os.environ.update(order["env"])
        if order["mutant"]:
            MUTANTS[order["mutant"]]()
        program.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stderr.flush()
    return 0


def _redirect(log: Path) -> None:
    written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for source, target in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(source, target)


if __name__ == "__main__":
    serve()
