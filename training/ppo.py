"""PPO with intended-action value attribution, top to bottom: rollout, gae, update, learn.

Tensors: T steps, B days, N orders, K rounds, A actions. What trades is round K; its advantage is
GAE on the return of each order (or of the team). Every round before it is trained on what its own
intention would have earned over the intention before it (paper.md section 4):

    A_k = Q(s, a_k) - Q(s, a_{k-1}),   Q(s, a_0) := V(s),   Q(s, a) = r(s, a) + V(s')

The market does not answer to our trades, so r and s' are had by branching the simulator one step
for each round: no critic of actions has to be learned. The intention before is data, so no gradient
flows through it and the baseline leaves the gradient unbiased.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from service.core.day import Day
from service.core.observe import Observation, observe
from service.core.policy import grid_wish
from training.config import PPOConfig, TrainConfig
from training.episodes import EpisodeBatch
from training.policy import Exchange, Network
from training.simulator import Market, Step, advance, begin, prepare, rewards


@dataclass(frozen=True, slots=True)
class Rollout:
    """What the update needs of B played days; one row per step and day, R = T x B.

    ``features`` ``[R, N, F]``, ``live`` and ``open`` bool ``[R, N]`` (an order whose action can
    change something), ``actions``, ``log_prob`` and ``advantage`` (on one scale for all rounds)
    ``[R, K, N]``, ``returns`` and ``values`` ``[R, N]``.
    """

    features: Tensor
    live: Tensor
    open: Tensor
    actions: Tensor
    log_prob: Tensor
    advantage: Tensor
    returns: Tensor
    values: Tensor
    summary: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Played:
    """One step of a rollout: what was seen and done, its reward, and Q of every round's action."""

    seen: Observation
    open: Tensor
    exchange: Exchange
    log_prob: Tensor
    value: Tensor
    reward: Tensor
    branch: Tensor
    step: Step


def sampler(generator: torch.Generator) -> Callable[[int, Tensor], Tensor]:
    """Draws an action of every order in every round (exponential race: no copy to the host)."""

    def choose(k: int, logits: Tensor) -> Tensor:
        race = torch.empty_like(logits).exponential_(generator=generator)
        return (logits.softmax(dim=-1) / race).argmax(dim=-1)

    return choose


def log_prob_of(exchange: Exchange) -> Tensor:
    """Log-probability of the actions taken; ``[..., K, N]``."""
    logs = exchange.logits.log_softmax(dim=-1)
    return logs.gather(-1, exchange.actions.unsqueeze(-1)).squeeze(-1)


@torch.no_grad()
def rollout(
    network: Network, batch: EpisodeBatch, config: TrainConfig, generator: torch.Generator
) -> Rollout:
    """Play all days of ``batch`` with sampled actions."""
    market = prepare(batch)
    day = begin(batch, market)
    played = []
    for _ in range(batch.rules.steps):
        played.append(_play_step(network, day, market, config, generator))
        day = played[-1].step.day
    return _joined(played, config.ppo)


def _play_step(
    network: Network, day: Day, market: Market, config: TrainConfig, generator: torch.Generator
) -> _Played:
    seen = observe(day)
    hidden = network.extract(seen.features)
    exchange = network.exchange(hidden, seen.live, sampler(generator))
    tried = [_try(network, day, market, config, action) for action in exchange.actions.unbind(-2)]
    step, reward, _ = tried[-1]
    return _Played(
        seen=seen,
        open=seen.live & (day.remaining > 0) & (day.step + 1 < day.force_step),
        exchange=exchange,
        log_prob=log_prob_of(exchange),
        value=network.value(hidden, seen.live),
        reward=reward,
        branch=torch.stack([q for _, _, q in tried], dim=-2),
        step=step,
    )


def _try(
    network: Network, day: Day, market: Market, config: TrainConfig, action: Tensor
) -> tuple[Step, Tensor, Tensor]:
    """Live one step with ``action`` ``[B, N]``: the step, its reward, and Q = r + V(s')."""
    step = advance(day, grid_wish(day, action), market)
    gain = step.shaped if config.shaped else step.gain
    reward = rewards(step, gain, config.reward, config.credit)
    if step.day.step == day.rules.steps:
        return step, reward, reward
    after = observe(step.day)
    value = network.value(network.extract(after.features), after.live)
    return step, reward, reward + config.ppo.gamma * value


def gae(reward: Tensor, value: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantage estimates ``[T, ...]``; the day ends after the last step."""
    advantage = torch.zeros_like(reward)
    carried, following = torch.zeros_like(reward[0]), torch.zeros_like(reward[0])
    for t in range(len(reward) - 1, -1, -1):
        delta = reward[t] + gamma * following - value[t]
        carried = delta + gamma * lam * carried
        advantage[t], following = carried, value[t]
    return advantage


def _joined(played: list[_Played], config: PPOConfig) -> Rollout:
    reward = torch.stack([p.reward for p in played])
    value = torch.stack([p.value for p in played])
    final = gae(reward, value, config.gamma, config.lam)
    branch = torch.stack([p.branch for p in played])
    attributed = branch.diff(dim=-2, prepend=value.unsqueeze(-2))
    advantage = torch.cat([attributed[..., :-1, :], final.unsqueeze(-2)], dim=-2)
    is_open = torch.stack([p.open for p in played])
    # one scale for all rounds: normalised by itself, the noise of a small change would be as loud
    acted = final[is_open]
    advantage /= acted.std() + 1e-8
    advantage[..., -1, :] -= advantage[..., -1, :][is_open].mean()
    return Rollout(
        features=torch.cat([p.seen.features for p in played]),
        live=torch.cat([p.seen.live for p in played]),
        open=is_open.flatten(0, 1),
        actions=torch.cat([p.exchange.actions for p in played]),
        log_prob=torch.cat([p.log_prob for p in played]),
        advantage=advantage.flatten(0, 1),
        returns=(final + value).flatten(0, 1),
        values=value.flatten(0, 1),
        summary=_summary(played),
    )


def _summary(played: list[_Played]) -> dict[str, float]:
    """Sampled behaviour in this batch: mean gain in bp and share of steps with a conflict."""
    live = played[0].seen.live
    gain = sum((p.step.gain for p in played), torch.zeros(()))
    toc = torch.stack([p.step.cut for p in played]).float().mean()
    return {"eg_bp": 1e4 * float(gain[live].mean()), "toc_pct": 100 * float(toc)}


def update(
    network: Network, optimizer: torch.optim.Optimizer, data: Rollout, config: PPOConfig
) -> dict[str, float]:
    """Some epochs of minibatches over ``data``; answers the diagnostics of the last epoch."""
    found: list[dict[str, Tensor]] = []
    for _ in range(config.epochs):
        found = []
        for rows in torch.randperm(len(data.features)).chunk(config.minibatches):
            loss, diagnostics = _loss(network, data, rows, config)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), config.max_grad_norm)
            optimizer.step()
            found.append(diagnostics)
        mean = {name: torch.stack([f[name] for f in found]).mean(dim=0) for name in found[0]}
        if config.target_kl and float(mean["kl"]) > config.target_kl:
            break
    entropies = mean.pop("entropy").tolist()
    answer = {name: float(value) for name, value in mean.items()}
    answer |= {f"entropy_{k}": value for k, value in enumerate(entropies, 1)}
    return answer | {"explained": _explained(data)}


def _loss(
    network: Network, data: Rollout, rows: Tensor, config: PPOConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    actions, live = data.actions[rows], data.live[rows]
    hidden = network.extract(data.features[rows])
    # rounds are replayed with the stored intentions, so that the ratios are well defined
    exchange = network.exchange(hidden, live, lambda k, _: actions[..., k, :])
    logs = exchange.logits.log_softmax(dim=-1)
    chosen = logs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    log_ratio = chosen - data.log_prob[rows]
    ratio, advantage = log_ratio.exp(), data.advantage[rows]
    clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
    gain = torch.minimum(ratio * advantage, clipped * advantage)
    # only orders that can still change something: the rest would add noise
    acting = data.open[rows].unsqueeze(-2).to(gain)
    count = acting.sum().clamp(min=1.0)
    rounds = gain.new_full((gain.shape[-2], 1), config.attribution)
    rounds[-1] = 1.0
    entropy = -(logs.exp() * logs).sum(dim=-1)
    policy_loss = -(gain * rounds * acting).sum() / count
    entropy_loss = -(entropy * rounds * acting).sum() / count
    error = (network.value(hidden, live) - data.returns[rows]) ** 2
    value_loss = 0.5 * (error * live).sum() / live.sum()
    loss = policy_loss + config.entropy_coef * entropy_loss + config.value_coef * value_loss
    with torch.no_grad():
        final, acts = log_ratio[..., -1, :], acting[..., 0, :]
        outside = ((final.exp() - 1).abs() > config.clip).to(acts)
        diagnostics = {
            "kl": ((final.exp() - 1 - final) * acts).sum() / count,
            "clip_fraction": (outside * acts).sum() / count,
            "value_loss": value_loss.detach(),
            "entropy": (entropy * acting).sum(dim=(0, 2)) / count,
        }
    return loss, diagnostics


def _explained(data: Rollout) -> float:
    """Share of the variance of returns that V explains."""
    returns, values = data.returns[data.live], data.values[data.live]
    return float(1 - (returns - values).var() / (returns.var() + 1e-12))


def learn(
    network: Network, batches: Iterator[EpisodeBatch], config: TrainConfig
) -> Iterator[dict[str, float]]:
    """Train ``network`` in place; yields the diagnostics of each iteration."""
    generator = torch.Generator(device=config.device).manual_seed(config.seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.ppo.lr, eps=1e-5)
    started, agent_steps = time.process_time(), 0
    for iteration in range(config.iterations):
        left = 1 - iteration / config.iterations
        optimizer.param_groups[0]["lr"] = config.ppo.lr * (left if config.ppo.anneal else 1.0)
        batch = next(batches)
        data = rollout(network, batch, config, generator)
        diagnostics = update(network, optimizer, data, config.ppo)
        agent_steps += batch.agent_steps
        rate = agent_steps / (time.process_time() - started)
        timing = {"agent_steps": float(agent_steps), "agent_steps_per_cpu_s": rate}
        yield data.summary | diagnostics | timing
