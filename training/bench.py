"""How fast the simulator and the whole training loop are, per CPU-second of one thread.

An agent-step is one decision of one order, with cash, observation, allocation, fills and reward.
The bars of an interval are merged once per batch, before the clock starts; ``bars_per_step`` says
how many. CPU time, not wall time, since the machine may be shared: of the simulator the best and
the median of some batches, of the loop the median of its iterations but the first.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from service.core.observe import observe
from service.core.policy import grid_wish
from service.play.sample import SampleMarket
from training.config import TrainConfig
from training.episodes import BasketConfig, EpisodeBatch, draw, to_device
from training.learner import learner
from training.markets import generated
from training.simulator import Market, RewardConfig, advance, begin, prepare, rewards

DAYS, ORDERS, BARS, BARS_PER_STEP = 512, 20, 48, 6
ROUNDS = 100
LOOP_DAYS, LOOP_ORDERS = 64, 50
LOOP = TrainConfig(method="iac-t", iterations=9)
"""The run whose iterations are timed."""


def env_steps_per_cpu_s(rounds: int = ROUNDS) -> dict[str, Any]:
    """Agent-steps per CPU-second of the simulator, under an even schedule with random slices."""
    batch = _batch(DAYS, ORDERS)
    market = prepare(batch)
    actions = _patient(batch)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = [_timed(batch, market, actions) for _ in range(rounds + 1)][1:]
    torch.set_num_threads(before)
    return {
        "env_steps_per_cpu_s": round(batch.agent_steps / min(seconds)),
        "env_steps_per_cpu_s_median": round(batch.agent_steps / float(np.median(seconds))),
        "bars_per_step": BARS_PER_STEP,
        "days": DAYS,
        "orders": ORDERS,
        "steps": batch.rules.steps,
    }


def loop_steps_per_cpu_s(config: TrainConfig = LOOP) -> dict[str, Any]:
    """Agent-steps per CPU-second of rollout and update."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    batch, learns = _batch(LOOP_DAYS, LOOP_ORDERS), learner(config)
    seconds = []
    for iteration in range(config.iterations):
        started = time.process_time()
        learns.improve(batch, iteration)
        seconds.append(time.process_time() - started)
    torch.set_num_threads(before)
    rate = round(batch.agent_steps / float(np.median(seconds[1:])))
    return {
        "loop_steps_per_cpu_s": rate,
        "loop_orders": LOOP_ORDERS,
        "rounds": config.network.rounds,
        "epochs": config.ppo.epochs,
    }


def _batch(days: int, orders: int) -> EpisodeBatch:
    rng = np.random.default_rng(0)
    market = generated(rng, SampleMarket(), days, BARS, BARS_PER_STEP, orders)
    return to_device(draw(rng, market, BasketConfig(orders=(orders, orders)), days))


def _patient(batch: EpisodeBatch) -> Tensor:
    """Quarters at random, one in two steps on average, so that orders live through the day."""
    shape = (batch.rules.steps, *batch.orders.side.shape)
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(0))


def _timed(batch: EpisodeBatch, market: Market, actions: Tensor) -> float:
    config, started = RewardConfig(), time.process_time()
    day = begin(batch, market)
    for action in actions:
        observe(day)
        step = advance(day, grid_wish(day, action), market)
        rewards(step, step.shaped, config)
        day = step.day
    return time.process_time() - started


def main() -> None:
    """Measure the simulator and the training loop, and write what was found as JSON."""
    print(json.dumps(env_steps_per_cpu_s() | loop_steps_per_cpu_s(), indent=1))


if __name__ == "__main__":
    import tyro

    tyro.cli(main)
