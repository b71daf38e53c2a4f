"""Where studies take place, how long they train and what they test: arenas and budgets, as data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.baskets import BasketConfig, Spare
from training.config import PathwiseConfig, TrainConfig
from training.errors import Refused
from training.lab import LABS
from training.limits import COUNT_MAX, within
from training.simulator import RewardConfig

Measure = Literal["score", "critic"]
TIGHT_ARENAS = ("lab-tight", "lab-tight-trend", "lab-tight-regimes")
LAB_ARENAS = (*TIGHT_ARENAS, "lab-mild")
FOLDERS = {
    "cn_ashare_15m_2025": 2,
    "nse_equity_5m_2023": 6,
    "us_equity_5m_2025": 6,
    "us_equity_1m_2018": 30,
}
"""Folders of real bars, and how many bars make half an hour."""
WINDOWS = {
    "cn_ashare_15m_2025": (1, 2),
    "nse_equity_5m_2023": (1, 2),
    "us_equity_5m_2025": (1, 2),
}
"""Earlier test windows of folders with enough days for them; a suffix -w1 names the first."""
SPARE_ON_LEGS = ("cn_ashare_15m_2025",)
"""Folders whose spare cash is a share of the buys and of the sales each: with a share of what the
schedule needs on the whole TWAP itself ran short of cash in 1.6% of the steps."""
TRAIN_BASKET = TrainConfig().basket
PRICE_LIMITS_BP = {"cn_ashare_15m_2025": 1_000}
"""Daily price limits of markets that have one for all their symbols."""
FEW_DAYS = PathwiseConfig(risk_per_bp=0.03, weight_decay=0.1)
"""On real bars all orders of a day share the market's move, and there are few days: without an
aversion to risk the standard error of a day's EG was 1.6 bp on selection days, with it 0.5."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long is trained and how much is tested."""

    lab_iterations: int = 100
    """Rollouts of a run in a lab market."""
    market_iterations: int = 100
    """Rollouts of a run in the sample market."""
    bars_iterations: int = 60
    """Rollouts of a run on real bars: their days are few and soon known by heart."""
    rollout_days: int = 128
    """Days of one rollout."""
    lab_test_days: int = 2_000
    """Test days of a lab market; its references are computed on all of them."""
    sample_test_days: int = 1_000
    """Test days of the sample market; of real bars all days of the test window are used."""
    scale_test_days: int = 500
    """Test days of each number of orders."""

    def __post_init__(self) -> None:
        within(self, [(field.name, 1, COUNT_MAX) for field in dataclasses.fields(self)])


@dataclass(frozen=True, slots=True)
class Trial:
    """What a finished run is asked: ``basket`` of the test days, None for the arena's usual one."""

    name: str
    days: int
    basket: BasketConfig | None = None
    measure: Measure = "score"


def place(arena: str, budget: Budget, data: Path) -> TrainConfig:
    """The options of training that name an arena: a lab market, a folder of ``data``, sample."""
    days = budget.rollout_days
    if arena in FOLDERS:
        spare: Spare = "legs" if arena in SPARE_ON_LEGS else "need"
        return TrainConfig(
            bars=data / arena / "bars.parquet",
            bars_per_step=FOLDERS[arena],
            price_limit_bp=PRICE_LIMITS_BP.get(arena, 0),
            days=days,
            iterations=budget.bars_iterations,
            pathwise=FEW_DAYS,
            basket=dataclasses.replace(TRAIN_BASKET, margin_on=spare),
        )
    if arena == "sample":
        return TrainConfig(days=days, iterations=budget.market_iterations)
    lab = arena.removeprefix("lab-")
    if not arena.startswith("lab-") or lab not in LABS:
        known = ["sample", *(f"lab-{name}" for name in LABS), *FOLDERS]
        raise Refused(f"there is no arena {arena!r}; choose among {', '.join(known)}")
    # the bounds know no impact: neither do the rewards
    made = TrainConfig(lab=lab, days=days, iterations=budget.lab_iterations)
    return dataclasses.replace(made, reward=RewardConfig(alpha=0.0))


def usual_test(arena: str, budget: Budget) -> Trial:
    """The test days of an arena as they are published."""
    lab = arena.startswith("lab-")
    return Trial(arena, budget.lab_test_days if lab else budget.sample_test_days)
