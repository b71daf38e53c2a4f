"""Double DQN (Ning et al. 2018): every order alone, the paper's value-based baseline.

The decision head of a network without rounds answers Q of the five actions, so the greedy policy,
the export and the evaluation are those of every other method. Transitions of the latest rollouts
are replayed; the target takes the action of the online network and its value from a slower copy.
Where an order is forced out at the next step its return is known, and nothing is guessed.
"""

from __future__ import annotations

import copy
from collections import deque
from typing import Any

import torch
from torch import Tensor, nn

from training.config import TrainConfig
from training.episodes import EpisodeBatch
from training.policy import Choose, Network
from training.rollout import Rollout, rollout


class DDQN:
    """Improves ``network`` by playing batches of days and replaying them."""

    def __init__(self, network: Network, config: TrainConfig) -> None:
        self.network, self.config = network, config
        self.target = copy.deepcopy(network).requires_grad_(False)
        self.generator = torch.Generator(device=config.device)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=config.ddqn.td_lr, eps=1e-5)
        self.memory: deque[Rollout] = deque(maxlen=config.ddqn.rollouts_kept)

    def improve(self, batch: EpisodeBatch, iteration: int) -> dict[str, float]:
        """Play the days of ``batch``, replay, and answer the diagnostics."""
        ddqn = self.config.ddqn
        self.generator.manual_seed(self.config.seed_at(iteration))
        done = iteration / self.config.iterations
        epsilon = max(ddqn.epsilon_last, 1 - done / ddqn.exploring)
        played = rollout(
            self.network, batch, self.config.at(iteration), explorer(epsilon, self.generator)
        )
        self.memory.append(played)
        errors = [self._replay(self._pick()) for _ in range(ddqn.updates)]
        self.target.load_state_dict(self.network.state_dict())
        return played.summary | {"epsilon": epsilon, "td_error": float(torch.stack(errors).mean())}

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next iteration depends on, the replayed rollouts included."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "memory": list(self.memory),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` answered."""
        self.network.load_state_dict(state["network"])
        self.target.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.memory.clear()
        self.memory.extend(state["memory"])

    def _pick(self) -> Rollout:
        device = self.generator.device
        at = torch.randint(len(self.memory), (), generator=self.generator, device=device)
        return self.memory[int(at)]

    def _replay(self, data: Rollout) -> Tensor:
        """One step of gradient descent on the TD error of some day-steps of ``data``."""
        wanted, device = (self.config.ddqn.rows,), self.generator.device
        rows = torch.randint(len(data.features), wanted, generator=self.generator, device=device)
        taken = data.actions[rows][..., -1, :].unsqueeze(-1)
        value = q_values(self.network, data.features[rows], data.live[rows])
        error = value.gather(-1, taken).squeeze(-1) - self._target(data, rows)
        weight = data.open[rows].to(error)
        loss = (nn.functional.smooth_l1_loss(error, error * 0, reduction="none") * weight).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss /= weight.sum().clamp(min=1.0)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.ppo.max_grad_norm)
        self.optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def _target(self, data: Rollout, rows: Tensor) -> Tensor:
        """r + Q'(s', argmax Q(s')) while the order can act at s', else the known return."""
        days = len(data.features) // data.steps
        after = (rows + days).clamp(max=len(data.features) - 1)
        features, live = data.features[after], data.live[after]
        best = q_values(self.network, features, live).argmax(dim=-1, keepdim=True)
        guess = q_values(self.target, features, live).gather(-1, best).squeeze(-1)
        goes_on = data.open[after] & (rows + days < len(data.features))[:, None]
        return torch.where(goes_on, data.reward[rows] + guess, data.played_out[rows])


def q_values(network: Network, features: Tensor, live: Tensor) -> Tensor:
    """Q of every action ``[..., N, A]``."""
    return network.exchange(features, live, lambda _, logits: logits.argmax(dim=-1)).logits[
        ..., -1, :, :
    ]


def explorer(epsilon: float, generator: torch.Generator) -> Choose:
    """The best action, or any with probability ``epsilon``."""

    def choose(k: int, logits: Tensor) -> Tensor:
        best = logits.argmax(dim=-1)
        draw = logits.new_empty(2, *best.shape).uniform_(generator=generator)
        anything = (draw[1] * logits.shape[-1]).to(best.dtype)
        return torch.where(draw[0] < epsilon, anything, best)

    return choose
