"""The benchmarks are not run by the tests, but they can be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.stages import stages_us

BENCH = Path(__file__).parents[1] / "bench"
PROGRAMS = sorted(p.stem for p in BENCH.glob("*.py") if "argparse" in p.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_benchmark_starts(name: str) -> None:
    command = [sys.executable, "-m", f"tests.bench.{name}", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--out" in done.stdout


def test_every_stage_of_a_step_can_be_measured() -> None:
    assert all(micros > 0 for micros in stages_us(10).values())
