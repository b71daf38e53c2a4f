"""Pathwise training: the slope of what a day earns, through the simulator, all steps and rounds.

PPO learns from actions that happened to be drawn; here every order is told how the day's gain would
change had it asked for a little more, now and through all that its cash and its messages change
later (training/twin.py). Actions are drawn as the network would draw them and get the slope of
their probabilities (straight-through Gumbel softmax), so every number is one of a real day.
Intended actions are drawn likewise; the slope through what was said stands for the attribution.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from service.core.observe import observe
from training.config import TrainConfig
from training.episodes import EpisodeBatch, map_arrays
from training.parallel import ALONE, Ranks
from training.policy import Exchange, Network
from training.simulator import begin, prepare
from training.twin import features, live, open_twin

BP = 1e4


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
        self.generator.manual_seed(self.config.seed * 1_000_003 + iteration)
        self.optimizer.param_groups[0]["lr"] = options.slope_lr * left
        count = len(batch.cash_minor)
        starts = range(0, count, options.days_a_step)
        found = [
            self._step(_days(batch, slice(start, min(start + options.days_a_step, count))), left)
            for start in starts
        ]
        mean = {name: torch.stack([f[name] for f in found]).mean(dim=0) for name in found[0]}
        entropies = mean.pop("entropy").tolist()
        answer = {name: float(value) for name, value in mean.items()}
        return answer | {f"entropy_{k}": value for k, value in enumerate(entropies, 1)}

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next iteration depends on."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` answered."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _step(self, batch: EpisodeBatch, temperature: float) -> dict[str, Tensor]:
        earned, diagnostics, entropy = self.play(self.ranks.share(batch))
        days = len(batch.cash_minor)
        bonus = self.config.pathwise.entropy_bp * temperature * entropy
        loss = -(BP * earned + bonus).sum() / days
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.ranks.add_gradients(self.network.parameters())
        limit = self.config.pathwise.slope_norm_max
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), limit)
        self.optimizer.step()
        shared = {name: self.ranks.total(value) for name, value in diagnostics.items()}
        return {name: value / self.ranks.world for name, value in shared.items()} | {
            "slope_norm": norm.detach()
        }

    def play(self, batch: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """What each day earned with slopes ``[B]``, diagnostics, and entropy of the days ``[B]``:
        a sum over steps of the mean over orders that could still act."""
        market, chooser = prepare(batch), _Drawn(self.generator, self.ranks)
        twin = open_twin(begin(batch, market))
        earned, entropy = twin.cash * 0, twin.cash * 0
        gains, cuts, spread = [], [], []
        for _ in range(batch.rules.steps):
            seen = observe(twin.day)
            exchange = self.network.exchange(features(twin, seen), seen.live, chooser)
            acts = seen.live & (twin.day.remaining > 0) & (twin.day.step + 1 < twin.day.force_step)
            by_round = _entropy(exchange, acts)
            entropy = entropy + by_round[:, -1]
            twin, gained, step = live(
                twin, exchange.actions[..., -1, :, :], market, self.config.reward
            )
            earned = earned + gained
            gains.append(step.gain)
            cuts.append(step.cut)
            spread.append(by_round.detach().mean(dim=0))
        eg = torch.stack(gains).sum(dim=0)
        there = batch.orders.live
        return (
            earned,
            {
                "eg_bp": BP * eg[there].mean(),
                "toc_pct": 100 * torch.stack(cuts).float().mean(),
                "objective_bp": BP * earned.detach().mean(),
                "entropy": torch.stack(spread).mean(dim=0),
            },
            entropy,
        )


class _Drawn:
    """Draws one-hot actions with the slope of their probabilities (Gumbel softmax)."""

    def __init__(self, generator: torch.Generator, ranks: Ranks) -> None:
        self.generator, self.ranks = generator, ranks

    def __call__(self, k: int, logits: Tensor) -> Tensor:
        days = logits.shape[0] * self.ranks.world
        race = logits.new_empty(days, *logits.shape[1:]).exponential_(generator=self.generator)
        noisy = logits - race[self.ranks.own(days)].clamp(min=1e-20).log()
        soft = noisy.softmax(dim=-1)
        hard = nn.functional.one_hot(noisy.argmax(dim=-1), soft.shape[-1]).to(soft)
        return hard + soft - soft.detach()


def _entropy(exchange: Exchange, acts: Tensor) -> Tensor:
    """Mean entropy of each round over the orders that act; ``[B, K]``."""
    logs = exchange.logits.log_softmax(dim=-1)
    each = -(logs.exp() * logs).sum(dim=-1) * acts.unsqueeze(-2)
    return each.sum(dim=-1) / acts.sum(dim=-1, keepdim=True).clamp(min=1)


def _days(batch: EpisodeBatch, chosen: slice) -> EpisodeBatch:
    return map_arrays(batch, lambda array: array[chosen])
