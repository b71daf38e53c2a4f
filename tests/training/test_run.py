"""A run: interrupted or not it ends with the same numbers, and it keeps its best weights."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from training.arenas import Arena, arena
from training.channels import NetworkConfig
from training.config import TrainConfig
from training.episodes import to_device
from training.errors import Diverged, Interrupted, OtherData
from training.identity import identity, learned_options
from training.methods import MethodName
from training.policy import Network
from training.run import Finished, network_of, objective_bp, train


def small(runs: Path, **options: Any) -> TrainConfig:
    config = TrainConfig(
        lab="mild",
        days=6,
        iterations=5,
        runs=runs,
        checkpoint_every=2,
        select_every=2,
        network=NetworkConfig(rounds=2, hidden=16),
    )
    return replace(config, **options)


def weights(done: Finished) -> torch.Tensor:
    return flat(done.network)


def flat(network: Network) -> torch.Tensor:
    return torch.cat([part.flatten() for part in network.state_dict().values()])


def interrupted(config: TrainConfig, where: Arena, after: int) -> None:
    """Start the run and ask it to stop during iteration ``after``."""

    def stop(iteration: int, found: dict[str, float]) -> None:
        if iteration == after:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match=f"after iteration {after}"):
        train(config, where, stop)


@pytest.mark.parametrize("method", ["iac-t", "iac-c-pathwise", "ddqn", "is-pathwise"])
@pytest.mark.parametrize("after", [1, 3, 4])
def test_an_interrupted_run_ends_as_one_that_was_not(
    tmp_path: Path, method: Any, after: int
) -> None:
    whole, parts = small(tmp_path / "whole", method=method), small(tmp_path / "p", method=method)
    where = arena(whole)
    expected = train(whole, where)
    interrupted(parts, where, after)
    resumed = train(parts, where)
    assert torch.equal(weights(expected), weights(resumed))
    assert expected.curve == resumed.curve
    assert expected.agent_steps == resumed.agent_steps
    assert expected.last["eg_bp"] == resumed.last["eg_bp"]


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    config = small(tmp_path)
    where = arena(config)
    first = train(config, where)
    seen: list[int] = []
    again = train(config, where, lambda iteration, found: seen.append(iteration))
    assert seen == []
    assert torch.equal(weights(first), weights(again))


def test_weights_are_looked_at_on_the_selection_days(tmp_path: Path) -> None:
    config = small(tmp_path)
    where = arena(config)
    done = train(config, where)
    best = max(value for _, value in done.curve)
    chosen = [to_device(batch) for batch in where.select().batches]
    assert objective_bp(done.network, chosen, config.reward) == pytest.approx(best)
    assert [iteration for iteration, _ in done.curve] == [2, 4, 5]


def test_the_best_weights_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three looks the second one is the best: its weights are answered, and read again."""
    config, looks, worth = small(tmp_path), [], [1.0, 3.0, 2.0]

    def look(network: Network, *given: object) -> float:
        looks.append(flat(network))
        return worth[len(looks) - 1]

    monkeypatch.setattr("training.run.objective_bp", look)
    done = train(config, arena(config))
    assert [value for _, value in done.curve] == worth
    assert not torch.equal(looks[1], looks[2])
    assert torch.equal(weights(done), looks[1])
    assert torch.equal(flat(network_of(config)), looks[1])


def test_what_a_run_is_called_depends_on_what_it_learns_only(tmp_path: Path) -> None:
    config = small(tmp_path)
    assert identity(config) == identity(replace(config, runs=tmp_path / "other", threads=2))
    for change in ({"seed": 2}, {"iterations": 6}, {"method": "tarmac"}, {"lab": "tight"}):
        assert identity(config) != identity(replace(config, **change))


def test_a_file_of_bars_is_known_by_its_folder_and_name(tmp_path: Path, monkeypatch) -> None:
    there = small(tmp_path, lab=None, bars=tmp_path / "us" / "bars.parquet")
    monkeypatch.chdir(tmp_path)
    for near in ("us/bars.parquet", "us/../us/bars.parquet"):
        assert identity(there) == identity(replace(there, bars=Path(near)))
    assert identity(there) != identity(replace(there, bars=Path("cn/bars.parquet")))
    (tmp_path / "us").mkdir()
    monkeypatch.chdir(tmp_path / "us")
    assert identity(there) == identity(replace(there, bars=Path("bars.parquet")))


def test_options_that_came_later_leave_older_runs_their_name(tmp_path: Path) -> None:
    config = small(tmp_path)
    assert "risk_per_bp" not in learned_options(config)["pathwise"]
    averse = replace(config, pathwise=replace(config.pathwise, risk_per_bp=0.1))
    assert learned_options(averse)["pathwise"]["risk_per_bp"] == 0.1
    assert identity(config) != identity(averse)


def test_a_folder_that_cannot_be_written_fails_before_the_first_iteration(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    config, seen = small(tmp_path / "runs"), []
    with pytest.raises(OSError, match="runs"):
        train(config, arena(config), lambda iteration, found: seen.append(iteration))
    assert not seen


def test_a_second_interrupt_is_not_held_back(tmp_path: Path) -> None:
    config = small(tmp_path)

    def stop(iteration: int, found: dict[str, float]) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(config, arena(config), stop)


def test_a_checkpoint_of_other_data_is_not_gone_on_with(tmp_path: Path) -> None:
    config = small(tmp_path)
    train(config, arena(config))
    other = replace(arena(config), source={"lab": "mild", "changed": True})
    with pytest.raises(OtherData, match="was trained on other data; remove it"):
        train(config, other)


@pytest.mark.parametrize("left", [0, 4, 1_000])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, left: int) -> None:
    config = small(tmp_path, method="alone-pathwise")
    train(config, arena(config))
    saved = tmp_path / identity(config) / "checkpoint.pt"
    saved.write_bytes(saved.read_bytes()[:left])
    for again in (lambda: train(config, arena(config)), lambda: network_of(config)):
        with pytest.raises(OtherData, match=r"checkpoint.pt is damaged; remove it"):
            again()


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    config = small(tmp_path, method="alone-pathwise")
    saved = tmp_path / identity(config) / "checkpoint.pt"
    saved.parent.mkdir()
    torch.save({"learner": {}, "progress": {}, "source": Harmful(tmp_path / "ran")}, saved)
    with pytest.raises(OtherData, match=r"checkpoint.pt is damaged; remove it"):
        train(config, arena(config))
    assert not (tmp_path / "ran").exists()


@dataclass
class Harmful:
    """Unpickling it makes a folder."""

    made: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.made),)


def test_a_run_that_diverges_says_so_and_keeps_what_was_saved(tmp_path: Path) -> None:
    config = small(tmp_path, method="iac-t", checkpoint_every=1)
    broken = replace(config, ppo=replace(config.ppo, lr=1e30))
    where = arena(config)
    interrupted(config, where, after=2)
    saved = tmp_path / identity(config)
    kept = (saved / "checkpoint.pt").read_bytes()
    saved.rename(tmp_path / identity(broken))
    with pytest.raises(Diverged, match="is not finite in iteration 3"):
        train(broken, where)
    assert [path.read_bytes() for path in tmp_path.glob("*/*")] == [kept]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lab": "mild", "bars": Path("bars.parquet")}, "--lab and --bars are two markets"),
        ({"device": "gpu"}, "--device is gpu; choose cpu or cuda"),
        ({"device": "cuda"}, "torch finds no GPU; use --device cpu"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_what_to_change(
    options: Any, said: str
) -> None:
    if "device" in options and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match=said):
        TrainConfig(**options)


def test_the_penalty_of_conflicts_sets_in_as_asked() -> None:
    config = TrainConfig(iterations=10)
    sigmas = [config.at(iteration).reward.sigma for iteration in range(10)]
    assert sigmas[:3] == [0.0, 0.0, 0.0]
    assert sigmas[5:] == [config.reward.sigma] * 5
    assert 0.0 < sigmas[3] < sigmas[4] < sigmas[5]


@pytest.mark.parametrize("method", ["ppo", "iac-t", "ddqn"])
def test_who_explores_is_charged_for_conflicts_from_the_start(method: MethodName) -> None:
    """And when the penalty sets in names no run that it does not change."""
    config = TrainConfig(method=method, iterations=10)
    assert config.at(0) == config
    late = replace(config.reward, penalised_from=0.5, penalised_fully=0.9)
    assert identity(config) == identity(replace(config, reward=late))
    pathwise = replace(config, method="iac-t-pathwise")
    assert identity(pathwise) != identity(replace(pathwise, reward=late))
