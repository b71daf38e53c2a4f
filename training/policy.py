"""The paper's network: extract, exchange intended actions for K rounds, decide. Imports torch.

Per order i: h_0 = E(features); for k = 1..K: h_k = h_{k-1} + C(h_{k-1}, a_{k-1}) over all orders,
a_k ~ D(h_k); only a_K trades (paper.md section 3). E, C and D are shared by orders and rounds. The
update of a round starts at zero, so an untrained exchange of K rounds decides as K = 0 does.
The loop over rounds exists once, in :meth:`Network.exchange`; what an order intends is chosen by
the caller: sampled in a rollout, replayed in an update, greedy when evaluated or served.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from service.core.contract import ACTIONS, FEATURES
from service.core.day import Day
from service.core.observe import Observation
from service.core.policy import Intent, Rounds, grid_wish
from training.channels import (
    NO_INTENTION,
    Imagination,
    NetworkConfig,
    Talk,
    linear,
    typed,
)
from training.methods import METHODS, Method

Choose = Callable[[int, Tensor], Tensor]
"""Intended actions of the k-th decision (from 0) for logits ``[..., N, A]``: int64 ``[..., N]``, or
one-hot with slopes ``[..., N, A]``."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """``hidden`` h_0 ``[..., N, H]``; of all deciding rounds ``logits`` ``[..., K, N, A]`` and
    ``actions`` int64 ``[..., K, N]``.

    With K = 0, and for methods that only decide at the end, there is one deciding round.
    """

    hidden: Tensor
    logits: Tensor
    actions: Tensor


class Extractor(nn.Module):
    """E: features ``[..., N, F]`` to the first hidden state ``[..., N, H]``."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            linear(len(FEATURES), hidden), nn.ReLU(), linear(hidden, hidden), nn.ReLU()
        )

    def forward(self, features: Tensor) -> Tensor:
        """``[..., N, F]`` to ``[..., N, H]``."""
        return typed(self.layers(features))


class Value(nn.Module):
    """V: expected return of every order from its own state and the mean of all."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            linear(2 * hidden, hidden), nn.ReLU(), linear(hidden, 1, gain=1.0)
        )

    def forward(self, hidden: Tensor, live: Tensor) -> Tensor:
        """``[..., N, H]`` to ``[..., N]``."""
        heard = live.unsqueeze(-1).to(hidden)
        mean = (hidden * heard).sum(-2, keepdim=True) / heard.sum(-2, keepdim=True).clamp(min=1.0)
        return typed(self.layers(torch.cat([hidden, mean.expand_as(hidden)], -1))).squeeze(-1)


class ActionValue(nn.Module):
    """Q: expected return of every order when all do what they intend (paper.md section 4)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.extract = Extractor(config.hidden)
        self.intention = nn.Embedding(ACTIONS, config.intention)
        self.value = Value(config.hidden + config.intention)

    def forward(self, features: Tensor, actions: Tensor, live: Tensor) -> Tensor:
        """Features ``[..., N, F]`` and actions int64 ``[..., N]`` to ``[..., N]``."""
        joined = torch.cat([self.extract(features), self.intention(actions)], dim=-1)
        return typed(self.value(joined, live))


class Network(nn.Module):
    """All of it. ``live`` bool ``[..., N]`` masks padding; None: there is none."""

    def __init__(self, config: NetworkConfig, method: Method = METHODS["iac-c"]) -> None:
        super().__init__()
        self.config, self.method = config, method
        self.extract = Extractor(config.hidden)
        self.talk: Talk | Imagination | None = None
        if config.rounds and method.channel is not None:
            imagines = method.channel == "imagination"
            self.talk = Imagination(config) if imagines else Talk(config, method)
        self.decide = linear(config.hidden, ACTIONS, gain=0.01)
        self.value = Value(config.hidden)

    @property
    def decisions(self) -> int:
        """Rounds that end with an intended action, at least one."""
        every = self.talk is not None and self.method.decides_each_round
        return self.config.rounds if every else 1

    def exchange(self, features: Tensor, live: Tensor | None, choose: Choose) -> Exchange:
        """K rounds from the features ``[..., N, F]``."""
        hidden = first = self.extract(features)
        actions = torch.full_like(hidden[..., 0], NO_INTENTION, dtype=torch.int64)
        logits: list[Tensor] = []
        intended: list[Tensor] = []
        last = self.config.rounds if self.talk is not None else 0
        kept = None if self.talk is None else self.talk.prepare(features, self._alone)
        for k in range(min(last, 1), last + 1):
            if self.talk is not None:
                # a_{k-1} is data: whoever chose it, no gradient flows through it
                hidden, kept = self.talk(hidden, actions, kept, live)
            if k == last or self.method.decides_each_round:
                logits.append(self.decide(hidden))
                actions = choose(len(intended), logits[-1])
                intended.append(actions)
        deciding = -3 if intended[0].is_floating_point() else -2
        return Exchange(first, torch.stack(logits, dim=-3), torch.stack(intended, dim=deciding))

    def forward(self, features: Tensor, live: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Greedy in every round: actions ``[..., K, N]``, probabilities ``[..., K, N, A]``."""
        rounds = self.exchange(features, live, greedy)
        return rounds.actions, rounds.logits.softmax(dim=-1)

    def _alone(self, features: Tensor) -> Tensor:
        """What an order would do without hearing anybody: probabilities ``[..., N, A]``."""
        return typed(self.decide(self.extract(features))).softmax(dim=-1)


def greedy(k: int, logits: Tensor) -> Tensor:
    """The likeliest action of every order, in every round."""
    return logits.argmax(dim=-1)


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """A network as a policy of the core, decoding greedily, on batches ``[B, N]`` of torch."""

    network: Network

    @torch.no_grad()
    def __call__(self, day: Day, observation: Observation) -> Intent:
        """What every order should trade in the coming interval."""
        actions, probabilities = self.network(observation.features, observation.live)
        return Intent(grid_wish(day, actions[..., -1, :]), Rounds(actions, probabilities))
