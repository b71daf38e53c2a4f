"""What trains a method: one way to build it, whatever it learns by."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from training.config import TrainConfig
from training.ddqn import DDQN
from training.episodes import EpisodeBatch
from training.errors import Refused
from training.methods import METHODS
from training.parallel import ALONE, Ranks
from training.pathwise import Pathwise
from training.policy import Network
from training.ppo import PPO


class Learner(Protocol):
    """Improves its network batch by batch; its state is all that an iteration depends on."""

    network: Network

    def improve(self, batch: EpisodeBatch, iteration: int) -> dict[str, float]:
        """Play the days of ``batch``, learn from them, answer the diagnostics."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next iteration depends on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` answered."""


def learner(config: TrainConfig, ranks: Ranks = ALONE) -> Learner:
    """The untrained method that ``config`` names."""
    torch.manual_seed(config.seed)
    method = METHODS[config.method]
    network = Network(config.network, method).to(config.device)
    if method.learns == "ddqn":
        if ranks.world > 1:
            raise Refused("ddqn trains in one process; start it without torchrun")
        return DDQN(network, config)
    if method.learns == "pathwise":
        return Pathwise(network, config, ranks)
    return PPO(network, config, ranks)
