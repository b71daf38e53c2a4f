"""What is called the return of an intention is the one that comes when it is executed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from service.core.day import Day
from service.core.observe import Observation
from training.arenas import arena
from training.channels import NetworkConfig
from training.config import PPOConfig, TrainConfig
from training.critic import _compared, _intended, _player, _ranks, critic_errors
from training.episodes import to_device
from training.policy import greedy
from training.rollout import Player
from training.run import train
from training.simulator import begin, prepare

DAYS = 6


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    made = TrainConfig(
        method="iac-t",
        lab="tight",
        iterations=3,
        days=16,
        select_every=3,
        network=NetworkConfig(rounds=2, hidden=16),
        runs=Path(tmp_path_factory.mktemp("runs")),
    )
    train(made, arena(made))
    return made


class Oracle(Player):
    """Knows what comes: it plays the day out."""

    def value(self, seen: Observation) -> Tensor:
        return self.q(self.day, seen, self.plan(self.day))

    def plan(self, day: Day) -> Tensor:
        return _intended(self, day)[-1]

    def q(self, day: Day, seen: Observation, action: Tensor) -> Tensor:
        step, total = self.live(day, action)
        while step.day.step < day.rules.steps:
            step, reward = self.live(step.day, self.plan(step.day))
            total = total + reward
        return total


@pytest.fixture
def player(config: TrainConfig) -> Player:
    market = prepare(to_device(arena(config).test(DAYS).batches[0], "cpu"))
    return replace(_player(config, market, trained=True), choose=greedy)


@torch.no_grad()
def test_who_knows_what_comes_makes_no_error(config: TrainConfig, player: Player) -> None:
    day = begin(to_device(arena(config).test(DAYS).batches[0], "cpu"), player.market)
    oracle = Oracle(player.network, player.market, player.config, greedy, player.action_value)
    compared = 0
    for _ in range(day.rules.steps):
        object.__setattr__(oracle, "day", day)
        known, _, came = _compared([oracle, player], day, _intended(player, day))
        np.testing.assert_allclose(known, came, atol=1e-6)
        compared += known.size
        day = player.live(day, _intended(player, day)[-1])[0].day
    assert compared > 100


def test_ranks_are_of_rounds_and_of_what_rounds_add() -> None:
    came = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    known = np.array([[5.0, 5.0, 5.0], [6.0, 7.0, 8.0], [4.0, 5.0, 6.0]])
    found = _ranks(known, came)
    assert found["rank_correlation"] == pytest.approx([1.0, -1.0])
    assert found["rank_correlation_added"][0] == pytest.approx(1.0)


@pytest.mark.parametrize("q", ["branch", "learned"])
def test_a_record_tells_trained_from_untrained(q: str, tmp_path: Path, config: TrainConfig) -> None:
    made = replace(config, ppo=PPOConfig(q=q), runs=tmp_path)  # type: ignore[arg-type]
    where = arena(made)
    train(made, where)
    record, _ = critic_errors(made, where, DAYS)
    assert record["q"] == q
    for name in ("rank_correlation", "rank_correlation_added"):
        trained, untrained = record[name], record[f"{name}_untrained"]
        assert len(trained) == len(untrained) == len(record["error_rms"]) == 2
        assert trained != untrained
        assert all(-1 <= rank <= 1 for rank in (*trained, *untrained))
    counts, bins = zip(*((part["count"], part["q"]) for part in record["calibration"]), strict=True)
    assert (len(counts), sorted(bins)) == (10, list(bins))
    assert max(counts) - min(counts) <= 1
