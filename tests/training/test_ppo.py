"""PPO: its estimates against plain Python, its rollout against the simulator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from service.core import metrics
from service.core.policy import Intent, grid_wish
from training.channels import NetworkConfig
from training.config import PPOConfig, TrainConfig
from training.episodes import Bars, to_device
from training.learner import learner
from training.policy import Network
from training.ppo import PPO
from training.rollout import Rollout, gae, log_prob_of, rollout, sampler, verdict
from training.simulator import play

from .small import by_hand, episodes


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


def played(method: Any = "iac-t", rounds: int = 2, repeating: int = 0) -> Rollout:
    """Five days; in the first ``repeating`` of them the second round intends what the first did."""
    network, config = made(method, rounds)
    draw, said = sampler(torch.Generator().manual_seed(3)), []

    def choose(k: int, logits: torch.Tensor) -> torch.Tensor:
        action = draw(k, logits)
        if k == 1:
            action[:repeating] = said[-1][:repeating]
        said.append(action)
        return action

    return rollout(network, to_device(episodes(2, days=5)), config, choose)


def test_a_rollout_is_what_the_simulator_played() -> None:
    data, batch = played(), to_device(episodes(2, days=5))
    steps, days, orders = batch.rules.steps, *batch.orders.side.shape
    assert data.features.shape[:2] == (steps * days, orders)
    assert data.actions.shape == (steps * days, 2, orders)
    actions = data.actions.view(steps, days, 2, orders)[:, :, -1]
    last = play(batch, lambda day, _: Intent(grid_wish(day, actions[day.step])))
    eg = metrics.execution_gain_bp(last)[batch.orders.live].mean()
    assert data.summary["eg_bp"] == pytest.approx(float(eg), abs=1e-3)
    assert data.summary["toc_pct"] == pytest.approx(100 * metrics.conflict_share(last).mean())
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
    data = played(rounds=3, repeating=2)
    same = data.actions[:, 0] == data.actions[:, 1]
    alike = same.all(dim=-1)  # another order's action may move the cash of all
    assert alike.sum() == 2 * data.steps
    assert not data.advantage[alike][:, 1].any()
    assert data.advantage[:, 0][alike].any()
    assert data.advantage[:, 1][~same & data.open].abs().mean() > 0
    reward, value = (x.view(data.steps, 5, -1) for x in (data.reward, data.values))
    final = gae(reward, value, PPOConfig().gamma, PPOConfig().lam).flatten(0, 1)[data.open]
    expected = (final - final.mean()) / final.std(correction=0)
    torch.testing.assert_close(data.advantage[:, 2][data.open], expected, atol=1e-4, rtol=1e-4)


def test_raw_attribution_has_no_baseline_and_none_has_no_credit() -> None:
    raw, based, none = (played(f"iac-t{kind}", 3) for kind in ("-raw", "", "-unattributed"))
    assert torch.equal(raw.actions, based.actions)
    difference = raw.advantage[:, 1] - raw.advantage[:, 0]
    torch.testing.assert_close(difference, based.advantage[:, 1])
    assert not none.advantage[:, :-1].any()


def test_the_sparse_verdict_is_on_the_whole_day() -> None:
    data, batch = played("ppo-sparse"), to_device(episodes(2, days=5))
    earlier, last = data.reward.view(data.steps, -1)[:-1], data.reward.view(data.steps, -1)[-1]
    assert not earlier.any()
    actions = data.actions.view(data.steps, 5, -1)
    day = play(batch, lambda day, _: Intent(grid_wish(day, actions[day.step])))
    lost = (torch.as_tensor(metrics.execution_gain_bp(day)) < 0) & batch.orders.live
    assert lost.any()
    assert torch.equal(last < 0, lost.flatten())


def test_a_verdict_is_won_by_a_tenth_and_lost_by_anything() -> None:
    """Of a price that doubles and falls back: bought at once, in even slices, and sold at once."""
    batch = by_hand()
    price = np.array([100_000, 150_000, 200_000, 100_000])[None, :, None] + 0 * batch.bars.close
    bars = Bars(price, price, price, price, price, batch.bars.volume)
    rules = replace(batch.rules, cash_buffer_bp=5_000)
    batch = to_device(replace(batch, bars=bars, rules=rules, cash_minor=np.array([100_000])))
    day = play(batch, lambda day, _: Intent(torch.tensor([[8, 2, 8]])))
    assert verdict(day).tolist() == [[1.0, 0.0, -1.0]]


def test_an_update_lowers_its_loss() -> None:
    """What was better becomes likelier, in both rounds, and values come nearer to returns."""
    learns, data = with_days(epochs=5, target_kl=0.0, lr=1e-2)

    @torch.no_grad()
    def judged() -> tuple[torch.Tensor, torch.Tensor]:
        actions = data.actions.unbind(-2)
        exchange = learns.network.exchange(data.features, data.live, lambda k, _: actions[k])
        ratio = (log_prob_of(exchange) - data.log_prob).exp()
        error = (learns.network.value(exchange.hidden, data.live) - data.returns)[data.live]
        gain = ratio * data.advantage * data.open.unsqueeze(-2)
        return gain.sum(dim=(0, 2)) / data.open.sum(), error.square().mean()

    gain_before, error_before = judged()
    learns.update(data, attribution=0.2)
    gain, error = judged()
    assert (gain > gain_before + 0.02).all()
    assert error < 0.25 * error_before


@pytest.mark.parametrize(("target_kl", "least", "most"), [(0.0, 12, 12), (0.01, 2, 11)])
def test_an_update_stops_at_the_kl(target_kl: float, least: int, most: int) -> None:
    learns, data = with_days(epochs=12, target_kl=target_kl, lr=2e-3)
    found, passes = learns._minibatches, []
    learns._minibatches = lambda data: passes.append(1) or found(data)
    diagnostics = learns.update(data, attribution=0.2)
    assert least <= len(passes) <= most
    assert diagnostics["kl"] > 0.01
    assert {"clip_fraction", "explained", "entropy_1", "entropy_2"} <= diagnostics.keys()


def with_days(**ppo: Any) -> tuple[PPO, Rollout]:
    """A learner, and days that its network has played."""
    network, config = made(**ppo)
    draw = sampler(torch.Generator().manual_seed(0))
    return PPO(network, config), rollout(network, to_device(episodes(1, days=16)), config, draw)


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
