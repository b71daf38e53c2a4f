"""The benchmark of training: what it counts, by a clock that the test winds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest

from service.core.day import Day
from training import bench
from training.channels import NetworkConfig
from training.config import PPOConfig
from training.simulator import Step


def wound(monkeypatch: pytest.MonkeyPatch, *seconds: int) -> None:
    """Let what is measured take so many seconds, one after the other."""

    def readings() -> Iterator[float]:
        now = 100.0
        for each in seconds:
            yield now
            now += each
            yield now

    left = readings()
    monkeypatch.setattr(bench, "time", SimpleNamespace(process_time=lambda: next(left)))


def test_the_simulator_counts_every_decision_of_every_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wound(monkeypatch, 9, 4, 1, 2)  # the first is not counted
    taken, advance = [], bench.advance

    def counted(day: Day, *given: object) -> Step:
        taken.append(day.orders.live.sum())
        return advance(day, *given)

    monkeypatch.setattr(bench, "advance", counted)
    found = bench.env_steps_per_cpu_s(rounds=3)
    assert len(taken) == 4 * found["steps"]
    assert found["env_steps_per_cpu_s"] == sum(taken) / 4
    assert found["env_steps_per_cpu_s_median"] == sum(taken) / 4 / 2
    assert found["days"] * found["orders"] == taken[0]
    assert (found["bars_per_step"], found["steps"]) == (6, 8)


def test_the_loop_tells_the_median_and_what_it_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    wound(monkeypatch, 9, 1, 4, 2)
    monkeypatch.setattr(bench, "LOOP_DAYS", 3)
    monkeypatch.setattr(bench, "LOOP_ORDERS", 5)
    network, ppo = NetworkConfig(rounds=2, hidden=16), PPOConfig(epochs=1)
    config = replace(bench.LOOP, iterations=4, network=network, ppo=ppo)
    assert bench.loop_steps_per_cpu_s(config) == {
        "loop_steps_per_cpu_s": 3 * 5 * 8 / 2,
        "loop_orders": 5,
        "rounds": 2,
        "epochs": 1,
    }


def test_help_measures_nothing() -> None:
    command = [sys.executable, "-m", "training.bench", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    assert "env_steps_per_cpu_s" not in done.stdout
