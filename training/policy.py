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
from typing import Literal

import torch
from torch import Tensor, nn

from service.core.contract import ACTIONS, FEATURES
from service.core.day import Day
from service.core.observe import Observation
from service.core.policy import Intent, Rounds, grid_wish

Choose = Callable[[int, Tensor], Tensor]
"""Intended actions int64 ``[..., N]`` of round k (from 0) for logits ``[..., N, A]``."""

NO_INTENTION = ACTIONS
"""The index of a_0: nobody has spoken yet."""
INTENTION_STD = 0.1
"""With the usual N(0, 1) embedding messages are noise at first and learning stalls."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Sizes of the network."""

    rounds: int = 3
    """Rounds of exchange K; 0: every order decides alone."""
    channel: Literal["attention", "mean"] = "mean"
    """How messages are pooled: attention (IaC^T) or mean (IaC^C). With equal gains on held-out days
    the mean is shipped: its time grows with N, attention's with its square."""
    hidden: int = 64
    """Width of an order's hidden state."""
    intention: int = 16
    """Width of the embedding of an intended action."""
    key: int = 16
    """Width of attention's keys and queries."""
    message: int = 32
    """Width of a message."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """Decisions of all rounds: ``logits`` ``[..., K, N, A]``, ``actions`` int64 ``[..., K, N]``.

    With K = 0 there is one round: the decision on the extracted state.
    """

    logits: Tensor
    actions: Tensor


class Extractor(nn.Module):
    """E: features ``[..., N, F]`` to the first hidden state ``[..., N, H]``."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _linear(len(FEATURES), hidden), nn.ReLU(), _linear(hidden, hidden), nn.ReLU()
        )

    def forward(self, features: Tensor) -> Tensor:
        """``[..., N, F]`` to ``[..., N, H]``."""
        return _tensor(self.layers(features))


class AttentionPool(nn.Module):
    """TarMAC's message: softmax over orders of query x key, the sender's own included."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.hidden + config.intention
        self.widths = [config.key, config.key, config.message]
        self.project = _linear(width, sum(self.widths))
        self.scale = config.key**-0.5

    def forward(self, spoken: Tensor, live: Tensor | None) -> Tensor:
        """Spoken ``[..., N, H + E]`` to messages ``[..., N, V]``; padding is not heard."""
        query, key, value = self.project(spoken).split(self.widths, dim=-1)
        score = query @ key.transpose(-1, -2) * self.scale
        if live is not None:
            score = score.masked_fill(~live.unsqueeze(-2), -1e9)
        return _tensor(score.softmax(dim=-1) @ value)


class MeanPool(nn.Module):
    """CommNet's message: the mean of what all others say; zero for an order that is alone."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.project = _linear(config.hidden + config.intention, config.message)

    def forward(self, spoken: Tensor, live: Tensor | None) -> Tensor:
        """Spoken ``[..., N, H + E]`` to messages ``[..., N, V]``; padding is not heard."""
        value = self.project(spoken)
        heard = torch.ones_like(value[..., :1]) if live is None else live.unsqueeze(-1).to(value)
        total = (value * heard).sum(dim=-2, keepdim=True) - value * heard
        others = heard.sum(dim=-2, keepdim=True) - heard
        return _tensor(total / others.clamp(min=1.0))


class Channel(nn.Module):
    """C: what a round changes in the hidden states, given what all orders intend."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        spoken = config.hidden + config.intention
        self.intention = nn.Embedding(ACTIONS + 1, config.intention)
        nn.init.normal_(self.intention.weight, std=INTENTION_STD)
        pool = AttentionPool if config.channel == "attention" else MeanPool
        self.pool = pool(config)
        self.update = nn.Sequential(
            _linear(spoken + config.message, config.hidden),
            nn.ReLU(),
            _linear(config.hidden, config.hidden, gain=0.0),
        )

    def forward(self, hidden: Tensor, actions: Tensor, live: Tensor | None) -> Tensor:
        """Hidden ``[..., N, H]`` and intended actions ``[..., N]`` to the next hidden."""
        spoken = torch.cat([hidden, self.intention(actions)], dim=-1)
        message = self.pool(spoken, live)
        return hidden + _tensor(self.update(torch.cat([spoken, message], dim=-1)))


class Value(nn.Module):
    """V: expected return of every order from its own state and the mean of all."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _linear(2 * hidden, hidden), nn.ReLU(), _linear(hidden, 1, gain=1.0)
        )

    def forward(self, hidden: Tensor, live: Tensor) -> Tensor:
        """``[..., N, H]`` to ``[..., N]``."""
        heard = live.unsqueeze(-1).to(hidden)
        mean = (hidden * heard).sum(-2, keepdim=True) / heard.sum(-2, keepdim=True).clamp(min=1.0)
        return _tensor(self.layers(torch.cat([hidden, mean.expand_as(hidden)], -1))).squeeze(-1)


class Network(nn.Module):
    """All of it. ``live`` bool ``[..., N]`` masks padding; None: there is none."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.extract = Extractor(config.hidden)
        self.channel = Channel(config) if config.rounds else None
        self.decide = _linear(config.hidden, ACTIONS, gain=0.01)
        self.value = Value(config.hidden)

    def exchange(self, hidden: Tensor, live: Tensor | None, choose: Choose) -> Exchange:
        """K rounds from the first hidden state ``[..., N, H]``."""
        actions = torch.full_like(hidden[..., 0], NO_INTENTION, dtype=torch.int64)
        logits, intended = [], []
        for k in range(max(self.config.rounds, 1)):
            if self.channel is not None:
                # a_{k-1} is data: whoever chose it, no gradient flows through it
                hidden = self.channel(hidden, actions, live)
            logits.append(self.decide(hidden))
            actions = choose(k, logits[-1])
            intended.append(actions)
        return Exchange(torch.stack(logits, dim=-3), torch.stack(intended, dim=-2))

    def forward(self, features: Tensor, live: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Greedy in every round: actions ``[..., K, N]``, probabilities ``[..., K, N, A]``."""
        rounds = self.exchange(self.extract(features), live, greedy)
        return rounds.actions, rounds.logits.softmax(dim=-1)


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


def _linear(inputs: int, outputs: int, gain: float = 2.0**0.5) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def _tensor(value: Tensor) -> Tensor:
    """States the type of a module's answer, which torch leaves open."""
    return value
