"""The tools that judge the code, each as a test that shows what the tool said."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"\n{done.stdout}\n{done.stderr}"


def test_ruff_check() -> None:
    _run(sys.executable, "-m", "ruff", "check", "service", "training", "tests")


def test_ruff_format() -> None:
    _run(sys.executable, "-m", "ruff", "format", "--diff", "service", "training", "tests")


@pytest.mark.parametrize("package", ["service", "training"])
def test_mypy_strict(package: str) -> None:
    _run(sys.executable, "-m", "mypy", "--strict", package)


def test_who_may_import_whom() -> None:
    _run(BIN / "lint-imports", "--no-cache")
