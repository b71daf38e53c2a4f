"""Builds the fsync shim with the compiler that the ziglang package carries, once per source."""

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

_SOURCE = Path(__file__).with_name("fsync_shim.c")
_BUILD = Path(__file__).parents[2] / "build" / "crash"
_GLIBC = "2.17"  # older than any system that the Valkey wheel runs on


def shim_path() -> Path:
    """The shared library to preload, compiled when the source changed."""
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12]
    built = _BUILD / f"fsync_shim-{platform.machine()}-{digest}.so"
    if not built.exists():
        _BUILD.mkdir(parents=True, exist_ok=True)
        _compile(built)
    return built


def _compile(built: Path) -> None:
    target = f"{platform.machine()}-linux-gnu.{_GLIBC}"
    partial = built.with_suffix(f".{os.getpid()}")
    flags = ["-target", target, "-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", *flags, "-o", str(partial), str(_SOURCE)],
        check=True,
        env=os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(_BUILD / "zig")},
    )
    # Renamed when whole: a second run at the same time must not load half a library.
    partial.rename(built)
