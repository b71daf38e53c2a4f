"""Pathwise training: the slope of what a day earns, through the simulator, all steps and rounds.

PPO learns from actions that happened to be drawn; here every order is told how the day's gain would
change had it asked for a little more, now and through all that its cash and its messages change
later (training/twin.py). Actions are drawn as the network would draw them and get the slope of
their probabilities (straight through), so every number is one of a real day.
Intended actions are drawn likewise; the slope through what was said stands for the attribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from service.core.observe import Observation, observe
from service.core.units import BP
from training.channels import Imagination, typed
from training.config import TrainConfig
from training.episodes import EpisodeBatch, some_days
from training.parallel import ALONE, Ranks
from training.policy import Exchange, Network
from training.rollout import as_numbers, averaged, can_act
from training.simulator import RewardConfig, Step, begin, prepare
from training.twin import Bounds, bounded, features, live, open_twin


class Pathwise:
    """Improves ``network`` by playing batches of days that gradients flow through."""

    def __init__(self, network: Network, config: TrainConfig, ranks: Ranks = ALONE) -> None:
        self.network, self.config, self.ranks = network, config, ranks
        self.generator = torch.Generator(device=config.device)
        self.optimizer = torch.optim.AdamW(
            network.parameters(),
            lr=config.pathwise.slope_lr,
            weight_decay=config.pathwise.weight_decay,
        )

    def improve(self, batch: EpisodeBatch, iteration: int) -> dict[str, float]:
        """Play the days of ``batch`` in parts, each followed by a step of Adam."""
        options, left = self.config.pathwise, 1 - iteration / self.config.iterations
        reward = self.config.at(iteration).reward
        self.generator.manual_seed(self.config.seed_at(iteration))
        self.optimizer.param_groups[0]["lr"] = options.slope_lr * left
        found = [
            self._step(some_days(batch, slice(at, at + options.days_a_step)), reward, left)
            for at in range(0, len(batch.cash_minor), options.days_a_step)
        ]
        return as_numbers(averaged(found))

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next iteration depends on."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` answered."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _step(
        self, batch: EpisodeBatch, reward: RewardConfig, temperature: float
    ) -> dict[str, Tensor]:
        days, options = len(batch.cash_minor), self.config.pathwise
        slope_max = options.slope_bp_max / days if options.slope_bp_max else torch.inf
        played = self.play(self.ranks.share(batch), reward, temperature, slope_max)
        bonus = options.entropy_bp * temperature * played.entropy
        earned = BP * played.earned
        worth = earned - options.risk_per_bp * earned**2
        loss = (played.model_error - (worth + bonus).sum()) / days
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.ranks.add_gradients(self.network.parameters())
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), options.slope_norm_max)
        self.optimizer.step()
        shared = {name: self.ranks.total(value) for name, value in played.diagnostics.items()}
        return {name: value / self.ranks.world for name, value in shared.items()} | {
            "slope_norm": norm.detach()
        }

    def play(
        self,
        batch: EpisodeBatch,
        reward: RewardConfig,
        noise: float = 1.0,
        slope_max: float = torch.inf,
    ) -> Played:
        """The days of ``batch`` with drawn actions, their randomness scaled by ``noise``, and the
        slopes of what an action, cash and rests are worth within ``slope_max`` (twin.Bounds)."""
        market = prepare(batch)
        twin = open_twin(begin(batch, market), batch.orders.live)
        bounds = Bounds(slope_max / twin.bought, slope_max / twin.orders)
        chooser = _Drawn(self.generator, self.ranks, noise, bounds)
        earned, entropy, error = twin.cash * 0, twin.cash * 0, twin.cash.new_zeros(())
        steps, by_round = [], []
        for _ in range(batch.rules.steps):
            seen = observe(twin.day)
            exchange = self.network.exchange(features(twin, seen), seen.live, chooser)
            by_round.append(_entropy(exchange, can_act(twin.day)))
            entropy = entropy + by_round[-1].mean(dim=-1)
            action = _attributed(exchange.actions, self.config.pathwise.slope_attribution)
            twin, gained, step = live(twin, action, market, reward)
            bounds.keep(twin)
            earned = earned + gained
            error = error + self._model_error(seen, action, step)
            steps.append(step)
        eg = torch.stack([step.gain for step in steps]).sum(dim=0)
        diagnostics = {
            "eg_bp": BP * eg[batch.orders.live].mean(),
            "toc_pct": 100 * torch.stack([step.cut for step in steps]).float().mean(),
            "objective_bp": BP * earned.detach().mean(),
            "entropy": torch.stack(by_round).detach().mean(dim=(0, 1)),
        }
        return Played(earned, entropy, error, diagnostics)

    def _model_error(self, seen: Observation, action: Tensor, step: Step) -> Tensor:
        """What the model of an imagination is trained on, a sum over days; 0 for other channels."""
        talk = self.network.talk
        if not isinstance(talk, Imagination) or step.day.step == step.day.rules.steps:
            return action.new_zeros(())
        after, there = observe(step.day), seen.live
        error = talk.model_loss(
            seen.features, action.argmax(dim=-1), after.features, after.live, there
        )
        return typed(error / there.sum(dim=-1).clamp(min=1).float().mean())


@dataclass(frozen=True, slots=True)
class Played:
    """Days with slopes: what each ``earned`` ``[B]``, the ``entropy`` ``[B]`` of its last rounds (a
    sum over steps of the mean over orders that could act), the error of an imagination's model."""

    earned: Tensor
    entropy: Tensor
    model_error: Tensor
    diagnostics: dict[str, Tensor]


class _Drawn:
    """Draws one-hot actions with the slope of their probabilities (straight through).

    A day is nearly linear in each action, and for what is linear this slope is unbiased. ``noise``
    1 draws as likely as the network says, 0 takes the likeliest, as serving does.
    """

    def __init__(
        self, generator: torch.Generator, ranks: Ranks, noise: float, bounds: Bounds
    ) -> None:
        self.generator, self.ranks, self.noise, self.bounds = generator, ranks, noise, bounds

    def __call__(self, k: int, logits: Tensor) -> Tensor:
        days = logits.shape[0] * self.ranks.world
        race = logits.new_empty(days, *logits.shape[1:]).exponential_(generator=self.generator)
        likely = logits.softmax(dim=-1)
        gumbel = -race[self.ranks.own(days)].clamp(min=1e-20).log()
        drawn = (logits.detach() + self.noise * gumbel).argmax(dim=-1)
        hard = nn.functional.one_hot(drawn, likely.shape[-1]).to(likely)
        return bounded(hard + likely - likely.detach(), self.bounds.order[:, None, None])


def _attributed(actions: Tensor, weight: float) -> Tensor:
    """What trades ``[B, N, A]``, of actions ``[B, K, N, A]`` of all rounds: the value of the last
    one, with a slope that reaches the earlier ones too, as if they had traded."""
    *earlier, last = actions.unbind(dim=-3)
    for intended in earlier:
        last = last + weight * (intended - intended.detach())
    return last


def _entropy(exchange: Exchange, acts: Tensor) -> Tensor:
    """Mean entropy of each round over the orders that act; ``[B, K]``."""
    logs = exchange.logits.log_softmax(dim=-1)
    each = -(logs.exp() * logs).sum(dim=-1) * acts.unsqueeze(-2)
    return each.sum(dim=-1) / acts.sum(dim=-1, keepdim=True).clamp(min=1)
