"""PPO over all rounds of the exchange, top to bottom: improve, update, loss.

The loss is the paper's sum over rounds: clipped PPO for what trades, and for every round before it
the same on what its intention added (training/rollout.py), under one coefficient. Ratios are per
order with that order's advantage; rounds are replayed with the stored intentions, so that they are
well defined.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from training.channels import Imagination
from training.config import PPOConfig, TrainConfig
from training.episodes import EpisodeBatch
from training.parallel import ALONE, Ranks
from training.policy import ActionValue, Network
from training.rollout import Rollout, as_numbers, averaged, rollout, sampler

Losses = tuple[Tensor, dict[str, Tensor]]


class PPO:
    """Improves ``network`` by playing batches of days.

    Every random number of an iteration comes from its number and the run's seed, so a run that was
    interrupted between two iterations goes on as if it had not been.
    """

    def __init__(self, network: Network, config: TrainConfig, ranks: Ranks = ALONE) -> None:
        self.network, self.config, self.ranks = network, config, ranks
        self.generator = torch.Generator(device=config.device)
        learned = config.ppo.q == "learned" and network.method.attribution != "none"
        self.action_value = ActionValue(network.config).to(config.device) if learned else None
        self.modules = nn.ModuleList([network])
        if self.action_value is not None:
            self.modules.append(self.action_value)
        self.optimizer = torch.optim.Adam(self.modules.parameters(), lr=config.ppo.lr, eps=1e-5)

    def improve(self, batch: EpisodeBatch, iteration: int) -> dict[str, float]:
        """Play the days of ``batch``, update, and answer the diagnostics."""
        ppo = self.config.ppo
        self.generator.manual_seed(self.config.seed_at(iteration))
        left = 1 - iteration / self.config.iterations
        self.optimizer.param_groups[0]["lr"] = ppo.lr * (left if ppo.anneal else 1.0)
        own, choose = self.ranks.share(batch), sampler(self.generator, self.ranks)
        played = rollout(
            self.network,
            own,
            self.config.at(iteration),
            choose,
            action_value=self.action_value,
            ranks=self.ranks,
        )
        credited = self.network.method.attribution != "none"
        heard = ppo.attribution if credited and iteration >= ppo.attribution_warmup else 0.0
        return played.summary | self.update(played, heard)

    def update(self, data: Rollout, attribution: float) -> dict[str, float]:
        """Some epochs of minibatches over ``data``; answers the diagnostics of the last epoch."""
        ppo = self.config.ppo
        for _ in range(ppo.epochs):
            found = [self._step(data, rows, attribution) for rows in self._minibatches(data)]
            mean = averaged(found)
            if ppo.target_kl and float(mean["kl"]) > ppo.target_kl:
                break
        return as_numbers(mean) | {"explained": _explained(data)}

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next iteration depends on."""
        return {"modules": self.modules.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` answered."""
        self.modules.load_state_dict(state["modules"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _minibatches(self, data: Rollout) -> list[Tensor]:
        """Rows of this rank in each minibatch; whole day-steps, drawn over all ranks."""
        days = len(data.features) // data.steps
        world, own = days * self.ranks.world, self.ranks.own(days * self.ranks.world)
        device = data.features.device
        order = torch.randperm(world * data.steps, generator=self.generator, device=device)
        parts = order.chunk(self.config.ppo.minibatches)
        if self.ranks.world == 1:
            return list(parts)
        mine = [part[(part % world >= own.start) & (part % world < own.stop)] for part in parts]
        return [part // world * days + part % world - own.start for part in mine]

    def _step(self, data: Rollout, rows: Tensor, attribution: float) -> dict[str, Tensor]:
        loss, diagnostics = self._loss(data, rows, attribution)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.ranks.add_gradients(self.modules.parameters())
        nn.utils.clip_grad_norm_(self.modules.parameters(), self.config.ppo.max_grad_norm)
        self.optimizer.step()
        return {name: self.ranks.total(value) for name, value in diagnostics.items()}

    def _loss(self, data: Rollout, rows: Tensor, attribution: float) -> Losses:
        """Sums over this rank's orders over counts of all ranks; diagnostics likewise."""
        ppo, live = self.config.ppo, data.live[rows]
        features, actions = data.features[rows], data.actions[rows]
        exchange = self.network.exchange(features, live, lambda k, _: actions[..., k, :])
        logs = exchange.logits.log_softmax(dim=-1)
        chosen = logs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        # only orders that can still change something: the rest would add noise
        acting = data.open[rows].unsqueeze(-2).to(logs)
        counts = self.ranks.total(torch.stack([acting.sum(), live.sum().to(logs)])).clamp(min=1.0)
        weight = acting * _weights(logs, attribution) / counts[0]
        log_ratio = chosen - data.log_prob[rows]
        gain = _clipped(log_ratio.exp(), data.advantage[rows], ppo)
        entropy = -(logs.exp() * logs).sum(dim=-1)
        error = (self.network.value(exchange.hidden, live) - data.returns[rows]) ** 2
        value_loss = 0.5 * (error * live).sum() / counts[1]
        loss = -((gain + ppo.entropy_coef * entropy) * weight).sum() + ppo.value_coef * value_loss
        loss = loss + self._extra(data, rows, features, live, counts[1])
        acts = acting[..., 0, :] / counts[0]
        return loss, _diagnostics(log_ratio[..., -1, :].detach(), acts, ppo.clip) | {
            "value_loss": value_loss.detach(),
            "entropy": (entropy * acting).sum(dim=(0, 2)).detach() / counts[0],
        }

    def _extra(
        self, data: Rollout, rows: Tensor, features: Tensor, live: Tensor, count: Tensor
    ) -> Tensor:
        """What the learned Q and an imagination are trained on."""
        executed, extra = data.actions[rows][..., -1, :], features.new_zeros(())
        if self.action_value is not None:
            error = self.action_value(features, executed, live) - data.returns[rows]
            extra = extra + 0.5 * self.config.ppo.value_coef * (error**2 * live).sum() / count
        if isinstance(self.network.talk, Imagination):
            days = len(data.features) // data.steps
            known = rows + days < len(data.features)
            following = data.features[torch.where(known, rows + days, rows)]
            model_loss = self.network.talk.model_loss
            extra = extra + model_loss(features, executed, following, known[:, None], live) / count
        return extra


def _weights(like: Tensor, attribution: float) -> Tensor:
    """``[K, 1]``: one for what trades, ``attribution`` for the rounds before it."""
    weights = like.new_full((like.shape[-3], 1), attribution)
    weights[-1] = 1.0
    return weights


def _clipped(ratio: Tensor, advantage: Tensor, config: PPOConfig) -> Tensor:
    """PPO's pessimistic gain."""
    near = ratio.clamp(1 - config.clip, 1 + config.clip)
    return torch.minimum(ratio * advantage, near * advantage)


def _diagnostics(log_ratio: Tensor, weight: Tensor, clip: float) -> dict[str, Tensor]:
    """Of the round that trades: approximate KL, and the share of ratios beyond the clip."""
    ratio = log_ratio.exp()
    outside = ((ratio - 1).abs() > clip).to(weight)
    return {
        "kl": ((ratio - 1 - log_ratio) * weight).sum(),
        "clip_fraction": (outside * weight).sum(),
    }


def _explained(data: Rollout) -> float:
    """Share of the variance of returns that V explains."""
    returns, values = data.returns[data.live], data.values[data.live]
    return float(1 - (returns - values).var() / (returns.var() + 1e-12))
