"""Days played with sampled actions, and what each action and each intention was worth.

Tensors: T steps, B days, N orders, K deciding rounds, A actions. What trades is round K; its
advantage is GAE on the return of each order (or of the team). Every round before it is credited
with what its own intention would have earned over the intention before it (paper.md section 4):

    A_k = Q(s, a_k) - Q(s, a_{k-1}),   Q(s, a_0) := V(s)

``branch``: Q(s, a) = r(s, a) + V(s'), had by branching the simulator one step, since the market
does not answer to our trades. ``learned``: a network trained on the returns of executed actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from service.core import metrics
from service.core.day import Day
from service.core.observe import Observation, observe
from service.core.policy import grid_wish
from training.channels import typed
from training.config import TrainConfig
from training.episodes import EpisodeBatch
from training.methods import Method
from training.parallel import ALONE, Ranks
from training.policy import ActionValue, Choose, Exchange, Network
from training.simulator import Market, Step, advance, begin, prepare, rewards

SPARSE_WIN_BP = 1_000
"""Gain from which the sparse reward is 1."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """What the update needs of B played days; one row per step and day, R = T x B.

    ``features`` ``[R, N, F]``, ``live`` and ``open`` bool ``[R, N]`` (an order whose action can
    change something), ``actions``, ``log_prob`` and ``advantage`` (on one scale for all rounds)
    ``[R, K, N]``, ``reward``, ``values``, and the return from here on ``[R, N]``: ``returns`` as
    lambda bootstraps it, ``played_out`` as it came.
    """

    features: Tensor
    live: Tensor
    open: Tensor
    actions: Tensor
    log_prob: Tensor
    advantage: Tensor
    reward: Tensor
    returns: Tensor
    played_out: Tensor
    values: Tensor
    steps: int
    summary: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Played:
    """One step of a rollout; ``credit`` ``[B, K - 1, N]`` is the Q of every round but the last."""

    seen: Observation
    open: Tensor
    exchange: Exchange
    log_prob: Tensor
    value: Tensor
    reward: Tensor
    credit: Tensor
    step: Step


def sampler(generator: torch.Generator, ranks: Ranks = ALONE) -> Choose:
    """Draws an action of every order in every round (exponential race: no copy to the host)."""

    def choose(k: int, logits: Tensor) -> Tensor:
        days = logits.shape[0] * ranks.world
        race = logits.new_empty(days, *logits.shape[1:]).exponential_(generator=generator)
        return typed((logits.softmax(dim=-1) / race[ranks.own(days)]).argmax(dim=-1))

    return choose


def can_act(day: Day) -> Tensor:
    """Orders whose action can still change something; bool ``[B, N]``."""
    return typed(day.orders.live & (day.remaining > 0) & (day.step + 1 < day.force_step))


def averaged(found: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Means of diagnostics."""
    return {name: torch.stack([part[name] for part in found]).mean(dim=0) for name in found[0]}


def as_numbers(mean: dict[str, Tensor]) -> dict[str, float]:
    """Diagnostics on the host; ``entropy`` ``[K]`` by round."""
    entropies = {f"entropy_{k}": value for k, value in enumerate(mean["entropy"].tolist(), 1)}
    return {name: float(part) for name, part in mean.items() if name != "entropy"} | entropies


def log_prob_of(exchange: Exchange) -> Tensor:
    """Log-probability of the actions taken; ``[..., K, N]``."""
    logs = exchange.logits.log_softmax(dim=-1)
    return logs.gather(-1, exchange.actions.unsqueeze(-1)).squeeze(-1)


@torch.no_grad()
def rollout(
    network: Network,
    batch: EpisodeBatch,
    config: TrainConfig,
    choose: Choose,
    *,
    action_value: ActionValue | None = None,
    ranks: Ranks = ALONE,
) -> Rollout:
    """Play all days of ``batch`` with the actions that ``choose`` picks."""
    market = prepare(batch)
    play = Player(network, market, config, choose, action_value)
    day, played = begin(batch, market), []
    for _ in range(batch.rules.steps):
        played.append(play.step(day))
        day = played[-1].step.day
    return _joined(played, config, network.method, ranks)


@dataclass(frozen=True, slots=True)
class Player:
    """What stays the same through a rollout: steps, and what actions are worth."""

    network: Network
    market: Market
    config: TrainConfig
    choose: Choose
    action_value: ActionValue | None

    def step(self, day: Day) -> _Played:
        """Exchange, act, and value what was intended on the way."""
        seen = observe(day)
        exchange = self.network.exchange(seen.features, seen.live, self.choose)
        *intended, executed = exchange.actions.unbind(-2)
        step, reward = self.live(day, executed)
        return _Played(
            seen=seen,
            open=can_act(day),
            exchange=exchange,
            log_prob=log_prob_of(exchange),
            value=self.network.value(exchange.hidden, seen.live),
            reward=reward,
            credit=self._credit(day, seen, intended),
            step=step,
        )

    def live(self, day: Day, action: Tensor) -> tuple[Step, Tensor]:
        """One step of the simulator with ``action`` ``[B, N]``, and its reward."""
        step = advance(day, grid_wish(day, action), self.market)
        gain = step.shaped if self.config.shaped else step.gain
        return step, rewards(step, gain, self.config.reward, self.config.credit)

    def _credit(self, day: Day, seen: Observation, intended: list[Tensor]) -> Tensor:
        """Q of every intention ``[B, K - 1, N]``."""
        if not intended or self.network.method.attribution == "none":
            days, orders = seen.live.shape
            return typed(seen.features.new_zeros(days, len(intended), orders))
        return torch.stack([self.q(day, seen, action) for action in intended], dim=-2)

    def q(self, day: Day, seen: Observation, action: Tensor) -> Tensor:
        """Q(s, a) ``[B, N]``: learned, or r(s, a) + V(s') of one simulated step."""
        if self.action_value is not None:
            return typed(self.action_value(seen.features, action, seen.live))
        step, reward = self.live(day, action)
        if step.day.step == day.rules.steps:
            return typed(reward)
        return typed(reward + self.config.ppo.gamma * self.value(observe(step.day)))

    def value(self, seen: Observation) -> Tensor:
        """V(s) ``[B, N]``."""
        return typed(self.network.value(self.network.extract(seen.features), seen.live))


def gae(reward: Tensor, value: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantage estimates ``[T, ...]``; the day ends after the last step."""
    advantage = torch.zeros_like(reward)
    carried, following = torch.zeros_like(reward[0]), torch.zeros_like(reward[0])
    for t in range(len(reward) - 1, -1, -1):
        delta = reward[t] + gamma * following - value[t]
        carried = delta + gamma * lam * carried
        advantage[t], following = carried, value[t]
    return advantage


def _joined(played: list[_Played], config: TrainConfig, method: Method, ranks: Ranks) -> Rollout:
    reward = torch.stack([p.reward for p in played])
    if method.reward == "sparse":
        reward = torch.zeros_like(reward)
        reward[-1] = verdict(played[-1].step.day)
    value = torch.stack([p.value for p in played])
    final = gae(reward, value, config.ppo.gamma, config.ppo.lam)
    is_open = torch.stack([p.open for p in played])
    credit = torch.stack([p.credit for p in played])
    earlier = _attributed(credit, value.unsqueeze(-2), method)
    return Rollout(
        features=torch.cat([p.seen.features for p in played]),
        live=torch.cat([p.seen.live for p in played]),
        open=is_open.flatten(0, 1),
        actions=torch.cat([p.exchange.actions for p in played]),
        log_prob=torch.cat([p.log_prob for p in played]),
        advantage=_on_one_scale(earlier, final, is_open, ranks).flatten(0, 1),
        reward=reward.flatten(0, 1),
        returns=(final + value).flatten(0, 1),
        played_out=reward.flip(0).cumsum(0).flip(0).flatten(0, 1),
        values=value.flatten(0, 1),
        steps=len(played),
        summary=_summary(played),
    )


def verdict(day: Day) -> Tensor:
    """Sparse reward of a finished day (Lin & Beling 2020): -1 for a price worse than TWAP's, 1 for
    one better by a tenth, else 0; ``[B, N]``."""
    gain = torch.as_tensor(metrics.execution_gain_bp(day))
    much = gain >= SPARSE_WIN_BP
    return typed((much.float() - (gain < 0).float()) * day.orders.live)


def _attributed(credit: Tensor, value: Tensor, method: Method) -> Tensor:
    """Advantages of the rounds before the last, from their Q ``[..., K - 1, N]``."""
    if method.attribution == "baseline":
        # the intention before is data, so the baseline leaves the gradient unbiased
        return credit.diff(dim=-2, prepend=value) if credit.shape[-2] else credit
    return credit


def _on_one_scale(earlier: Tensor, final: Tensor, acted: Tensor, ranks: Ranks) -> Tensor:
    """All advantages ``[..., K, N]`` over the spread of the last round's where orders acted.

    Normalised by itself, the noise of a small change would be as loud as what trades.
    """
    weight = acted.to(final)
    sums = torch.stack([weight.sum(), (final * weight).sum(), (final**2 * weight).sum()])
    count, total, squares = ranks.total(sums.double()).to(final)
    mean = total / count.clamp(min=1.0)
    spread = (squares / count.clamp(min=1.0) - mean**2).clamp(min=0.0).sqrt() + 1e-8
    return typed(torch.cat([earlier, (final - mean).unsqueeze(-2)], dim=-2) / spread)


def _summary(played: list[_Played]) -> dict[str, float]:
    """Sampled behaviour in this batch: mean gain in bp and share of steps with a conflict."""
    live = played[-1].seen.live
    gain = torch.stack([p.step.gain for p in played]).sum(dim=0)
    toc = torch.stack([p.step.cut for p in played]).float().mean()
    return {"eg_bp": 1e4 * float(gain[live].mean()), "toc_pct": 100 * float(toc)}
