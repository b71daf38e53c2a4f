"""PPO: its estimates against plain Python, its rollout against the simulator; it learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from service.core import metrics
from service.core.policy import Intent, grid_wish
from service.play.sample import SampleMarket
from training.bench import env_steps_per_cpu_s
from training.config import PPOConfig, TrainConfig
from training.episodes import BasketConfig, EpisodeBatch, draw, to_device
from training.markets import generated
from training.policy import Network, NetworkConfig, NetworkPolicy
from training.ppo import gae, learn, rollout, update
from training.simulator import play, prepare

from .small import episodes

# An edge that a blind eye sees: most of each move is gone within the day.
OBVIOUS = SampleMarket(half_life_bars=2.0, reverting_share=0.9, volatility_spread=0.0)


def slow_gae(reward: Any, value: Any, gamma: float, lam: float) -> list[float]:
    """The definition: a sum of discounted errors, for one order."""
    steps = len(reward)
    following = [*value[1:], 0.0]
    delta = [reward[t] + gamma * following[t] - value[t] for t in range(steps)]
    return [sum((gamma * lam) ** (s - t) * delta[s] for s in range(t, steps)) for t in range(steps)]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (1.0, 0.9), (0.95, 0.5), (1.0, 0.0)])
def test_gae_equals_its_definition(gamma: float, lam: float) -> None:
    rng = np.random.default_rng(0)
    reward, value = rng.normal(size=(2, 7, 3))
    fast = gae(torch.tensor(reward), torch.tensor(value), gamma, lam)
    for i in range(3):
        slow = slow_gae(reward[:, i], value[:, i], gamma, lam)
        np.testing.assert_allclose(fast[:, i], slow)


def made(rounds: int = 2, **ppo: Any) -> tuple[Network, TrainConfig]:
    torch.manual_seed(0)
    network = NetworkConfig(rounds=rounds, hidden=32)
    config = TrainConfig(network=network, ppo=PPOConfig(**ppo))
    return Network(network), config


def test_a_rollout_is_what_the_simulator_played() -> None:
    network, config = made()
    batch = to_device(episodes(2, days=5))
    data = rollout(network, batch, config, torch.Generator().manual_seed(3))
    steps, days, orders = batch.rules.steps, *batch.orders.side.shape
    assert data.features.shape[:2] == (steps * days, orders)
    assert data.actions.shape == (steps * days, 2, orders)
    actions = data.actions.view(steps, days, 2, orders)[:, :, -1]
    last = play(batch, lambda day, _: Intent(grid_wish(day, actions[day.step])))
    eg = metrics.execution_gain_bp(last)[batch.orders.live].mean()
    filled = (last.remaining == 0).all()
    assert data.summary["eg_bp"] == pytest.approx(float(eg), abs=1e-3) or not filled
    # actions of padding, of finished orders and of forced steps are not trained on
    assert not data.open[~data.live].any()
    assert not data.open.view(steps, days, orders)[-1].any()


def test_the_last_round_earns_gae_and_the_others_what_they_change() -> None:
    """Where two rounds intend the same, the second has changed nothing and is credited nothing."""
    network, config = made(rounds=3)
    data = rollout(network, to_device(episodes(2)), config, torch.Generator().manual_seed(3))
    same = data.actions[:, 0] == data.actions[:, 1]
    alike = same.all(dim=-1)  # another order's action may move the cash of all
    assert not data.advantage[alike][:, 1].any() or not alike.any()
    assert data.advantage[:, 1][~same & data.open].abs().mean() > 0
    assert data.advantage[:, 2][data.open].mean().abs() < 1e-5


def test_an_update_lowers_its_loss_and_stops_at_the_kl() -> None:
    network, config = made(epochs=50, target_kl=0.01, lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    data = rollout(network, to_device(episodes(1, days=16)), config, generator)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.ppo.lr)
    found = update(network, optimizer, data, config.ppo)
    assert 0.01 < found["kl"] < 0.5
    assert {"clip_fraction", "explained", "entropy_1", "entropy_2"} <= found.keys()


@pytest.mark.parametrize(("credit", "shaped"), [("order", True), ("team", True), ("order", False)])
def test_every_credit_gives_finite_gradients(credit: Any, shaped: bool) -> None:
    network, config = made()
    config = replace(config, credit=credit, shaped=shaped, iterations=1)
    batch = to_device(episodes(1))
    for found in learn(network, iter([batch]), config):
        assert all(np.isfinite(value) for value in found.values())


@pytest.mark.parametrize("channel", ["attention", "mean"])
def test_it_learns_an_obvious_edge(channel: Any) -> None:
    """A dozen small iterations must beat the even schedule on days that were not trained on."""
    torch.manual_seed(0)
    shape = NetworkConfig(rounds=2, channel=channel, hidden=32)
    network = Network(shape)
    config = TrainConfig(iterations=14, network=shape, ppo=PPOConfig(lr=3e-3))
    rng = np.random.default_rng(0)
    untrained = _gain(network, _toy(np.random.default_rng(1), 200))
    batches = (_toy(rng, 64) for _ in range(config.iterations))
    list(learn(network, batches, config))
    gained = _gain(network, _toy(np.random.default_rng(1), 200))
    low = gained.mean() - 4 * gained.std() / len(gained) ** 0.5
    assert low > 5.0, gained.mean()
    assert gained.mean() > untrained.mean() + 5.0


def _toy(rng: np.random.Generator, days: int) -> EpisodeBatch:
    basket = BasketConfig(orders=(8, 8), margin_bp=(2_000.0, 2_000.0))
    return to_device(draw(rng, generated(rng, OBVIOUS, days, 12, 2, 8), basket, days))


def _gain(network: Network, batch: EpisodeBatch) -> np.ndarray:
    day = play(batch, NetworkPolicy(network), prepare(batch))
    return np.asarray(metrics.execution_gain_bp(day).mean(dim=-1))


def test_the_benchmarks_count_what_they_say() -> None:
    """Far below what an idle core does; a measurement proper is ``make bench``."""
    found = env_steps_per_cpu_s(rounds=1)
    assert found["env_steps_per_cpu_s"] > 100_000
    assert (found["bars_per_step"], found["steps"]) == (6, 8)
