"""One training run: iterations, selection of weights, checkpoints.

A checkpoint holds all that the rest of the run depends on. Days and random numbers of an iteration
come from its number, so a run that was interrupted and started again ends with the same numbers as
one that was not. Ctrl-C ends a run after the iteration at hand and saves it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from service.core import metrics
from service.core.units import BP
from training.arenas import Arena
from training.config import TrainConfig
from training.episodes import EpisodeBatch, to_device
from training.errors import Diverged, Interrupted, OtherData, Refused
from training.identity import identity
from training.learner import Learner, learner
from training.parallel import ALONE, Ranks
from training.policy import Network, NetworkPolicy
from training.rollout import Rollout
from training.simulator import RewardConfig, play, weights

Report = Callable[[int, dict[str, float]], None]
"""Called after each iteration with its number from 1 and its diagnostics."""
ECHO_S = 2.0
"""Under torchrun Ctrl-C comes twice, from the terminal and from torchrun: within this many seconds
it is one request."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A run after its last iteration, ``network`` with the best weights on the selection days.

    ``agent_steps`` decisions of orders played, ``cpu_s`` processor time, ``curve`` one row
    (iteration, objective on the selection days in bp) per look at them.
    """

    network: Network
    agent_steps: int
    cpu_s: float
    curve: list[tuple[int, float]]
    last: dict[str, float]


@dataclass
class _Progress:
    """What a checkpoint holds beside the learner."""

    done: int = 0
    agent_steps: int = 0
    cpu_s: float = 0.0
    best: dict[str, torch.Tensor] | None = None
    best_bp: float = float("-inf")
    curve: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    last: dict[str, float] = dataclasses.field(default_factory=dict)


def train(
    config: TrainConfig,
    where: Arena,
    report: Report = lambda iteration, found: None,
    ranks: Ranks = ALONE,
) -> Finished:
    """Train the method of ``config`` in ``where``; raises Interrupted after Ctrl-C."""
    made, progress = learner(config, ranks), _Progress()
    saved = config.runs / identity(config) / "checkpoint.pt"
    source = source_hash(where)
    _restore(saved, made, progress, config.device, source)
    saved.parent.mkdir(parents=True, exist_ok=True)  # rather fails now than at the first checkpoint
    chosen = [to_device(batch, config.device) for batch in where.select().batches]
    with _asked_to_stop(ECHO_S if ranks.world > 1 else 0.0) as asked:
        while progress.done < config.iterations:
            started = time.process_time()
            found = _iterate(config, where, made, progress, chosen)
            progress.cpu_s += time.process_time() - started
            progress.last = found | {"agent_steps_per_cpu_s": progress.agent_steps / progress.cpu_s}
            report(progress.done, progress.last)
            # all stop after the same iteration: one that went on alone would wait for the others
            stopping = ranks.any(asked(), config.device)
            due = progress.done % config.checkpoint_every == 0
            if ranks.first and (due or stopping or progress.done == config.iterations):
                _save(saved, made, progress, source)
            if stopping:
                raise Interrupted(f"stopped after iteration {progress.done}; saved in {saved}")
    if progress.best is not None:
        made.network.load_state_dict(progress.best)
    return Finished(
        made.network, progress.agent_steps, progress.cpu_s, progress.curve, progress.last
    )


def network_of(config: TrainConfig) -> Network:
    """The network of a finished run, with its best weights; raises Refused if it is not over."""
    saved = config.runs / identity(config) / "checkpoint.pt"
    progress: dict[str, Any] = {"done": 0}
    if saved.is_file():
        progress = loaded(saved, config.device)["progress"]
    if progress["done"] < config.iterations:
        who = f"{config.method} with seed {config.seed}"
        raise Refused(f"{who} is not trained in {saved.parent}; run training.sweep first")
    network = learner(config).network
    network.load_state_dict(progress["best"])
    return network


def _iterate(
    config: TrainConfig,
    where: Arena,
    made: Learner,
    progress: _Progress,
    chosen: list[EpisodeBatch],
) -> dict[str, float]:
    rng = np.random.default_rng([config.seed, progress.done])
    batch = to_device(where.draw(rng, config.days), config.device)
    found = made.improve(batch, progress.done)
    broken = [name for name, value in found.items() if not math.isfinite(value)]
    if broken:
        raise Diverged(
            f"{broken[0]} is not finite in iteration {progress.done + 1}; lower the step size, "
            "or bound the slopes of pathwise learning with --slope-bp-max 1000"
        )
    progress.done += 1
    progress.agent_steps += batch.agent_steps
    if progress.done % config.select_every == 0 or progress.done == config.iterations:
        value = objective_bp(made.network, chosen, config.reward)
        progress.curve.append((progress.done, value))
        if value > progress.best_bp:
            progress.best_bp = value
            state = made.network.state_dict()
            progress.best = {name: part.clone() for name, part in state.items()}
    return found


def objective_bp(network: Network, batches: list[EpisodeBatch], config: RewardConfig) -> float:
    """Mean EG of greedy play, orders as much as they count, less the paper's cash penalty of every
    conflict, in bp."""
    network.eval()
    values = []
    for batch in batches:
        day = play(batch, NetworkPolicy(network))
        gain = torch.as_tensor(metrics.execution_gain_bp(day)) * weights(day, config)
        cost = BP * config.sigma * day.conflicts.double().mean()
        values.append(float(gain[day.orders.live].mean() - cost))
    network.train()
    return float(np.mean(values))


def source_hash(where: Arena) -> str:
    """A hash of the market: of its definition, or of its file."""
    text = json.dumps(where.source, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _restore(saved: Path, made: Learner, progress: _Progress, device: str, source: str) -> None:
    if not saved.is_file():
        return
    state = loaded(saved, device)
    if state["source"] != source:
        raise OtherData(f"{saved.parent} was trained on other data; remove it to train anew")
    made.load_state_dict(state["learner"])
    for name, value in state["progress"].items():
        setattr(progress, name, value)


def loaded(saved: Path, device: str) -> dict[str, Any]:
    """What :func:`_save` wrote; raises OtherData, also for a file that would run code."""
    try:
        with torch.serialization.safe_globals([Rollout]):  # DDQN keeps those that it replays
            return dict(torch.load(saved, map_location=device, weights_only=True))
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise OtherData(f"{saved} is damaged; remove it to train anew") from error


def _save(saved: Path, made: Learner, progress: _Progress, source: str) -> None:
    """Write the checkpoint whole or not at all."""
    fresh = saved.with_suffix(f".{os.getpid()}")
    state = {"learner": made.state_dict(), "progress": vars(progress), "source": source}
    torch.save(state, fresh)
    os.replace(fresh, saved)


@contextlib.contextmanager
def _asked_to_stop(echo_s: float) -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM came; a second one, later than ``echo_s``, ends the process at
    once."""
    asked: list[float] = []

    def stop(number: int, frame: Any) -> None:
        asked.append(time.monotonic())
        if asked[-1] - asked[0] < echo_s:
            return
        for each, handler in before.items():
            signal.signal(each, handler)
        if len(asked) > 1:
            signal.raise_signal(number)

    try:
        before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever started it must stop it
        before = {}
    try:
        yield lambda: bool(asked)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
