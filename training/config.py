"""What a training run can be told; the command line is made from it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from training.channels import NetworkConfig
from training.episodes import BasketConfig
from training.errors import Refused
from training.limits import TRAINED, within
from training.methods import METHODS, MethodName
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
    q: Literal["branch", "learned"] = "branch"
    """Where the value of an intention comes from: one simulated step and V, or a learned Q."""
    attribution: float = 0.2
    """Weight of the rounds before the last, each trained on what its intention adds."""
    attribution_warmup: int = 0
    """Iterations before the rounds before the last are trained at all."""
    entropy_coef: float = 0.002
    """Weight of the entropy bonus."""
    value_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Gradients are clipped to this norm."""


@dataclass(frozen=True, slots=True)
class PathwiseConfig:
    """How the policy is improved along the slope of what days earn."""

    slope_lr: float = 3e-3
    """Adam's step size at the start; it falls linearly to zero over the run."""
    days_a_step: int = 16
    """Days of a rollout in each step of Adam."""
    entropy_bp: float = 2.0
    """Weight of the entropy bonus of all rounds at the start, falling to zero; bp a step."""
    slope_attribution: float = 0.3
    """Part of the slope of what trades that the intentions of earlier rounds are told too."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW), against learning few days by heart."""
    slope_norm_max: float = 10.0
    """Gradients (of bp) are clipped to this norm."""
    slope_bp_max: float = 0.0
    """Most that a whole target, or cash for all buys, may be worth in the slopes of one day (bp);
    0: no bound. Usual slopes are below 1,000, those of a few days many times that."""
    risk_per_bp: float = 0.0
    """Risk aversion: a basket's day is worth x - risk x^2, with x what it earns in bp. It keeps
    baskets from exposing themselves to the market's move, which cash ties them to do."""


@dataclass(frozen=True, slots=True)
class DDQNConfig:
    """How the value-based baseline learns."""

    td_lr: float = 5e-4
    """Adam's step size."""
    rollouts_kept: int = 8
    """Rollouts that are replayed."""
    updates: int = 64
    """Steps of gradient descent after each rollout; then the target network is renewed."""
    rows: int = 128
    """Day-steps in one of them; all orders of each."""
    exploring: float = 0.5
    """Share of the run over which exploration falls."""
    epsilon_last: float = 0.02
    """Share of random actions at the end."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One training run."""

    method: MethodName = "iac-c-pathwise"
    """How orders talk and learn; see training/methods.py."""
    seed: int = 1
    """Seed of the network, of the days and of the sampled actions."""
    iterations: int = 400
    """Rollouts, each followed by an update."""
    days: int = 128
    """Days played in one rollout."""
    lab: str | None = None
    """Lab market to train on (training/lab.py); none: bars, or the sample market."""
    bars: Path | None = None
    """Parquet file of bars to train on; none: the sample market."""
    price_limit_bp: int = 0
    """Daily price limit of the market of ``bars``; a bar locked at it does not trade; 0: none."""
    window: int = 0
    """Test window of ``bars``: 0 the file's own, 1 the one before it and as long, and so on. Only
    days before it are trained and selected on."""
    bars_a_day: int = 48
    """Bars of a generated day (5 minutes each)."""
    bars_per_step: int = 6
    """Bars in one decision step."""
    credit: Credit = "order"
    """Whose return trains an order: its own gain and impact with everyone's cash penalty, or the
    mean of all. Its own is less noisy, but leaves out what its cash does to the gains of others."""
    shaped: bool = True
    """Train on gains against the even schedule on the same prices (see simulator)."""
    held_out_days: int = 1_000
    """Days of the final evaluation, never trained on."""
    models: Path = Path("models")
    """Folder of the shipped models."""
    name: str = "iac"
    """Name of the exported model."""
    runs: Path = Path("runs")
    """Folder for what a run leaves behind: its checkpoint and its logs."""
    checkpoint_every: int = 20
    """Iterations between checkpoints; a run that is started again goes on from the last."""
    select_every: int = 20
    """Iterations between looks at the selection days; the best weights of the run are kept."""
    tensorboard: bool = False
    """Write the diagnostics for TensorBoard too."""
    device: str = "cpu"
    """Where tensors live: cpu or cuda; training/train.py takes a GPU where torch finds one."""
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
    pathwise: PathwiseConfig = field(default_factory=PathwiseConfig)
    ddqn: DDQNConfig = field(default_factory=DDQNConfig)

    def __post_init__(self) -> None:
        for part, bounds in TRAINED.items():
            within(getattr(self, part) if part else self, bounds)
        began, whole = self.reward.penalised_from, self.reward.penalised_fully
        if began > whole:
            raise Refused(f"--penalised-from is {began}; choose at most --penalised-fully, {whole}")
        if self.lab is not None and self.bars is not None:
            raise Refused("--lab and --bars are two markets; give one of them")
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise Refused(f"--device is {self.device}; choose cpu or cuda")
        if self.device != "cpu" and not torch.cuda.is_available():
            raise Refused(f"--device is {self.device}, but torch finds no GPU; use --device cpu")

    def seed_at(self, iteration: int) -> int:
        """The seed of all random numbers of an iteration."""
        return self.seed * 1_000_003 + iteration

    def at(self, iteration: int) -> TrainConfig:
        """The options as they hold in an iteration: pathwise, the conflict penalty sets in late."""
        reward, done = self.reward, iteration / self.iterations
        if METHODS[self.method].learns != "pathwise" or done >= reward.penalised_fully:
            return self
        width = reward.penalised_fully - reward.penalised_from
        part = max(0.0, (done - reward.penalised_from) / width) if width > 0 else 0.0
        return replace(self, reward=replace(reward, sigma=part * reward.sigma))
