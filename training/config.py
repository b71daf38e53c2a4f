"""What a training run can be told; the command line is made from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from training.episodes import BasketConfig
from training.policy import NetworkConfig
from training.simulator import Credit, RewardConfig


@dataclass(frozen=True, slots=True)
class PPOConfig:
    """How the policy is improved from a rollout."""

    lr: float = 1e-3
    """Adam's step size at the start."""
    anneal: bool = True
    """Lower the step size linearly to zero over the run."""
    epochs: int = 4
    """Passes over each rollout."""
    minibatches: int = 8
    """Minibatches in a pass; whole day-steps, so that all orders of a basket stay together."""
    gamma: float = 1.0
    """Discount: a day is short, and every basis point counts alike."""
    lam: float = 0.95
    """GAE's lambda."""
    clip: float = 0.2
    """How far the probability ratio may leave 1."""
    target_kl: float = 0.05
    """End a rollout's passes early when the approximate KL exceeds this; 0: never."""
    attribution: float = 0.2
    """Weight of the rounds before the last, each trained on what its intention adds."""
    entropy_coef: float = 0.002
    """Weight of the entropy bonus."""
    value_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Gradients are clipped to this norm."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One training run."""

    seed: int = 1
    """Seed of the network, of the days and of the sampled actions."""
    iterations: int = 200
    """Rollouts, each followed by an update."""
    days: int = 128
    """Days played in one rollout."""
    bars: Path | None = None
    """Parquet file of bars to train on; none: the generated market."""
    bars_a_day: int = 48
    """Bars of a generated day (5 minutes each)."""
    bars_per_step: int = 6
    """Bars in one decision step."""
    credit: Credit = "order"
    """Whose return trains an order: its own gain and impact with everyone's cash penalty, or the
    mean of all. The objective is the same sum; the credit is finer."""
    shaped: bool = True
    """Train on gains against the even schedule on the same prices (see simulator)."""
    held_out_days: int = 1_000
    """Days of the final evaluation, never trained on."""
    models: Path = Path("models")
    """Folder of the shipped models."""
    name: str = "iac"
    """Name of the exported model."""
    checkpoints: Path = Path("runs")
    """Folder for the weights of a finished run, written before it is judged and exported."""
    device: str = "cpu"
    """Where tensors live: cpu or cuda."""
    threads: int = 1
    """Threads of torch on the CPU. The matrices are small: two threads were measured to take three
    times as long as one."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    basket: BasketConfig = field(
        default_factory=lambda: BasketConfig(
            orders=(10, 30), buy_share=(0.3, 0.7), margin_bp=(100.0, 500.0)
        )
    )
    ppo: PPOConfig = field(default_factory=PPOConfig)
