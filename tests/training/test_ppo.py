"""PPO: its estimates against plain Python, its rollout against the simulator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from service.core import metrics
from service.core.policy import Intent, grid_wish
from training.bench import env_steps_per_cpu_s
from training.channels import NetworkConfig
from training.config import PPOConfig, TrainConfig
from training.episodes import to_device
from training.learner import learner
from training.policy import Network
from training.ppo import PPO
from training.rollout import Rollout, gae, rollout, sampler, verdict
from training.simulator import play

from .small import episodes


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


def made(method: Any = "iac-t", rounds: int = 2, **ppo: Any) -> tuple[Network, TrainConfig]:
    network = NetworkConfig(rounds=rounds, hidden=32)
    config = TrainConfig(method=method, network=network, ppo=PPOConfig(**ppo))
    return learner(config).network, config


def played(method: Any = "iac-t", rounds: int = 2, days: int = 5) -> Rollout:
    network, config = made(method, rounds)
    batch = to_device(episodes(2, days=days))
    return rollout(network, batch, config, sampler(torch.Generator().manual_seed(3)))


def test_a_rollout_is_what_the_simulator_played() -> None:
    data, batch = played(), to_device(episodes(2, days=5))
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


def test_returns_are_what_was_earned_from_there_on() -> None:
    data = played()
    reward = data.reward.view(data.steps, -1).numpy()
    for t in range(data.steps):
        whole = data.played_out.view(data.steps, -1)[t].numpy()
        np.testing.assert_allclose(whole, reward[t:].sum(axis=0), atol=1e-5)


def test_the_last_round_earns_gae_and_the_others_what_they_change() -> None:
    """Where two rounds intend the same, the second has changed nothing and is credited nothing."""
    data = played(rounds=3)
    same = data.actions[:, 0] == data.actions[:, 1]
    alike = same.all(dim=-1)  # another order's action may move the cash of all
    assert not data.advantage[alike][:, 1].any() or not alike.any()
    assert data.advantage[:, 1][~same & data.open].abs().mean() > 0
    assert data.advantage[:, 2][data.open].mean().abs() < 1e-5


def test_raw_attribution_has_no_baseline_and_none_has_no_credit() -> None:
    raw, based, none = (played(f"iac-t{kind}", 3) for kind in ("-raw", "", "-unattributed"))
    assert torch.equal(raw.actions, based.actions)
    difference = raw.advantage[:, 1] - raw.advantage[:, 0]
    torch.testing.assert_close(difference, based.advantage[:, 1])
    assert not none.advantage[:, :-1].any()


def test_the_sparse_verdict_is_on_the_whole_day() -> None:
    data = played("ppo-sparse")
    earlier, last = data.reward.view(data.steps, -1)[:-1], data.reward.view(data.steps, -1)[-1]
    assert not earlier.any()
    assert set(last.unique().tolist()) <= {-1.0, 0.0, 1.0}
    batch = to_device(episodes(2, days=5))
    day = play(batch, lambda day, _: Intent(grid_wish(day, torch.ones_like(day.cum_qty))))
    eg = torch.as_tensor(metrics.execution_gain_bp(day))
    assert torch.equal(verdict(day) < 0, (eg < 0) & batch.orders.live)


def test_an_update_lowers_its_loss_and_stops_at_the_kl() -> None:
    network, config = made(epochs=50, target_kl=0.01, lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    data = rollout(network, to_device(episodes(1, days=16)), config, sampler(generator))
    found = PPO(network, config).update(data, attribution=0.2)
    assert 0.01 < found["kl"] < 0.5
    assert {"clip_fraction", "explained", "entropy_1", "entropy_2"} <= found.keys()


@pytest.mark.parametrize("q", ["branch", "learned"])
@pytest.mark.parametrize(("credit", "shaped"), [("order", True), ("team", True), ("order", False)])
def test_every_credit_gives_finite_gradients(credit: Any, shaped: bool, q: Any) -> None:
    _, config = made(q=q)
    config = replace(config, credit=credit, shaped=shaped, iterations=1)
    found = learner(config).improve(to_device(episodes(1)), 0)
    assert all(np.isfinite(value) for value in found.values())


def test_a_learned_critic_comes_to_know_what_actions_earn() -> None:
    """Its error on the returns of executed actions falls while the policy stays as it is."""
    _, config = made(q="learned", lr=3e-3, attribution=0.0)
    learns = learner(replace(config, iterations=30))
    assert isinstance(learns, PPO)
    critic = learns.action_value
    assert critic is not None
    batch = to_device(episodes(5, days=64))

    def error(data: Rollout) -> float:
        value = critic(data.features, data.actions[:, -1], data.live)
        return float((value.detach() - data.played_out)[data.live].pow(2).mean())

    choose = sampler(torch.Generator().manual_seed(1))
    data = rollout(learns.network, batch, config, choose, action_value=critic)
    before = error(data)
    for _ in range(6):
        learns.update(data, attribution=0.0)
    assert error(data) < 0.8 * before


def test_the_benchmarks_count_what_they_say() -> None:
    """Far below what an idle core does; a measurement proper is ``make bench``."""
    found = env_steps_per_cpu_s(rounds=1)
    assert found["env_steps_per_cpu_s"] > 100_000
    assert (found["bars_per_step"], found["steps"]) == (6, 8)
