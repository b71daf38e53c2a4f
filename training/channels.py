"""How orders talk: what each says in a round, how it is pooled, what it changes. Imports torch.

CommNet and TarMAC pool hidden states, by mean and by attention; IaC^C and IaC^T pool hidden states
with the intended actions of the round before; Intention Sharing (Kim et al. 2021) sends a summary
of a trajectory that its sender imagines. Everything but the message is the same (paper section 8).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from service.core.contract import ACTIONS, FEATURES
from training.methods import Method

NO_INTENTION = ACTIONS
"""The index of a_0: nobody has spoken yet."""
INTENTION_STD = 0.1
"""With the usual N(0, 1) embedding messages are noise at first and learning stalls."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Sizes of the network."""

    rounds: int = 3
    """Rounds of exchange K; 0: every order decides alone."""
    hidden: int = 64
    """Width of an order's hidden state."""
    intention: int = 16
    """Width of the embedding of an intended action."""
    key: int = 16
    """Width of attention's keys and queries."""
    message: int = 32
    """Width of a message."""
    imagined: int = 3
    """Steps that Intention Sharing imagines ahead."""
    gate: int = 16
    """Products in what is said, for methods that are gated."""


class AttentionPool(nn.Module):
    """TarMAC's message: softmax over orders of query x key, the sender's own included."""

    def __init__(self, width: int, config: NetworkConfig) -> None:
        super().__init__()
        self.widths = [config.key, config.key, config.message]
        self.project = linear(width, sum(self.widths))
        self.scale = config.key**-0.5

    def forward(self, spoken: Tensor, live: Tensor | None) -> Tensor:
        """Spoken ``[..., N, S]`` to messages ``[..., N, V]``; padding is not heard."""
        query, key, value = self.project(spoken).split(self.widths, dim=-1)
        score = query @ key.transpose(-1, -2) * self.scale
        if live is not None:
            score = score.masked_fill(~live.unsqueeze(-2), -1e9)
        return typed(score.softmax(dim=-1) @ value)


class MeanPool(nn.Module):
    """CommNet's message: the mean of what all others say; zero for an order that is alone."""

    def __init__(self, width: int, config: NetworkConfig) -> None:
        super().__init__()
        self.project = linear(width, config.message)

    def forward(self, spoken: Tensor, live: Tensor | None) -> Tensor:
        """Spoken ``[..., N, S]`` to messages ``[..., N, V]``; padding is not heard."""
        return mean_of_others(self.project(spoken), live)


class Gate(nn.Module):
    """Products of what an order is with what it intends: how much cash an intention moves is its
    share times the order's value, which a linear message cannot say. Without intentions, products
    of the hidden state with itself."""

    def __init__(self, said: int, config: NetworkConfig) -> None:
        super().__init__()
        self.said = said or config.hidden
        self.amount = linear(config.hidden, config.gate, gain=1.0)
        self.open = linear(self.said, config.gate, gain=1.0)

    def forward(self, hidden: Tensor, spoken: Tensor) -> Tensor:
        """Hidden ``[..., N, H]`` and spoken ``[..., N, S]``, its end the intention, to products
        ``[..., N, G]``."""
        return typed(self.amount(hidden) * self.open(spoken[..., -self.said :]))


class Talk(nn.Module):
    """One round: what it changes in the hidden states, given what all orders say."""

    def __init__(self, config: NetworkConfig, method: Method) -> None:
        super().__init__()
        self.silent, self.through = method.silent, method.through
        self.intention = nn.Embedding(ACTIONS + 1, config.intention) if method.intends else None
        said = config.intention if method.intends else 0
        self.gate = Gate(said, config) if method.gated else None
        spoken = config.hidden + said + (config.gate if method.gated else 0)
        if self.intention is not None:
            nn.init.normal_(self.intention.weight, std=INTENTION_STD)
        pool = AttentionPool if method.channel == "attention" else MeanPool
        self.pool = pool(spoken, config)
        self.update = updater(spoken, config)

    def prepare(self, features: Tensor, decide: Callable[[Tensor], Tensor]) -> None:
        """Nothing is kept from round to round but the hidden states."""

    def forward(
        self, hidden: Tensor, actions: Tensor, kept: None, live: Tensor | None
    ) -> tuple[Tensor, None]:
        """Hidden ``[..., N, H]`` and intended actions ``[..., N]`` to the next hidden."""
        spoken = hidden
        if self.intention is not None:
            spoken = torch.cat([hidden, self._embedded(self.intention, actions)], dim=-1)
        if self.gate is not None:
            spoken = torch.cat([spoken, self.gate(hidden, spoken)], dim=-1)
        message = self.pool(spoken, live)
        if self.silent:
            message = torch.zeros_like(message)
        return hidden + typed(self.update(torch.cat([spoken, message], dim=-1))), None

    def _embedded(self, embedding: nn.Embedding, actions: Tensor) -> Tensor:
        """Embedded actions: indices ``[..., N]``, or one-hot with slopes ``[..., N, A]``."""
        if actions.is_floating_point():
            said = actions if self.through else actions.detach()
            return said @ embedding.weight[:ACTIONS]
        return typed(embedding(actions))


class Imagination(nn.Module):
    """Intention Sharing: every order imagines its next steps and sends a summary of them.

    A learned model of the observation and of the others' actions is rolled forward under the
    order's own policy. A round attends over the imagined steps with the messages received in
    the round before as the query, and the summaries are pooled by mean. The model is learned beside
    the policy (:meth:`model_loss`); no gradient of the policy's loss flows into it.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.imagined, self.key_width = config.imagined, config.key
        width = len(FEATURES)
        self.others = nn.Sequential(
            linear(width, config.hidden), nn.ReLU(), linear(config.hidden, ACTIONS, gain=0.01)
        )
        self.dynamics = nn.Sequential(
            linear(width + 2 * ACTIONS, config.hidden),
            nn.ReLU(),
            linear(config.hidden, width, gain=0.01),
        )
        self.query = linear(config.message, config.key)
        self.key = linear(width + ACTIONS, config.key)
        self.value = linear(width + ACTIONS, config.message)
        self.update = updater(config.hidden, config)

    @torch.no_grad()
    def prepare(
        self, features: Tensor, decide: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Imagined steps ``[..., N, I, F + A]``, and that nothing was heard yet ``[..., N, V]``.

        ``decide`` answers an order's own action probabilities ``[..., N, A]`` for features.
        """
        steps, seen = [], features
        for _ in range(self.imagined):
            own = decide(seen)
            steps.append(torch.cat([seen, own], dim=-1))
            seen = seen + self.dynamics(torch.cat([seen, own, self.guess(seen)], dim=-1))
        return torch.stack(steps, dim=-2), torch.zeros_like(self.value(steps[0]))

    def guess(self, features: Tensor) -> Tensor:
        """Expected action probabilities of the others ``[..., N, A]``."""
        return typed(self.others(features)).softmax(dim=-1)

    def forward(
        self, hidden: Tensor, actions: Tensor, kept: tuple[Tensor, Tensor], live: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The next hidden ``[..., N, H]``, and what was imagined and is heard now."""
        imagined, heard = kept
        score = (self.key(imagined) @ self.query(heard).unsqueeze(-1)) * self.key_width**-0.5
        summary = torch.tanh((score.softmax(dim=-2) * self.value(imagined)).sum(dim=-2))
        message = mean_of_others(summary, live)
        said = hidden + typed(self.update(torch.cat([hidden, message], dim=-1)))
        return said, (imagined, message)

    def model_loss(
        self, features: Tensor, actions: Tensor, following: Tensor, known: Tensor, live: Tensor
    ) -> Tensor:
        """Error of one imagined step against what followed, and of the guess of others' actions;
        a sum over orders.

        ``actions`` int64 ``[R, N]`` as executed, ``following`` the next features ``[R, N, F]``,
        ``known`` bool ``[R, N]`` where there is a next step.
        """
        own = nn.functional.one_hot(actions, ACTIONS).to(features)
        around = mean_of_others(own, live)
        guess = self.guess(features)
        step = self.dynamics(torch.cat([features, own, around], dim=-1))
        error = ((features + step - following) ** 2).mean(dim=-1)
        surprise = -(around * (guess + 1e-8).log()).sum(dim=-1)
        return typed(((error + 0.1 * surprise) * (known & live)).sum())


def updater(spoken: int, config: NetworkConfig) -> nn.Sequential:
    """What a round adds to the hidden state; zero at first, so K rounds start as none."""
    return nn.Sequential(
        linear(spoken + config.message, config.hidden),
        nn.ReLU(),
        linear(config.hidden, config.hidden, gain=0.0),
    )


def mean_of_others(value: Tensor, live: Tensor | None) -> Tensor:
    """Mean over all other live orders of ``[..., N, V]``; zero for an order that is alone."""
    heard = torch.ones_like(value[..., :1]) if live is None else live.unsqueeze(-1).to(value)
    total = (value * heard).sum(dim=-2, keepdim=True) - value * heard
    others = heard.sum(dim=-2, keepdim=True) - heard
    return typed(total / others.clamp(min=1.0))


def linear(inputs: int, outputs: int, gain: float = 2.0**0.5) -> nn.Linear:
    """A linear layer with orthogonal weights."""
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def typed(value: Tensor) -> Tensor:
    """States the type of a module's answer, which torch leaves open."""
    return value
