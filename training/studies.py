"""What is run, as data: the studies, and the cells that each consists of.

A cell is one run of one method, rule or reference in one arena, and the tests that it takes. Cells
that say the same about training share one run, whichever study they belong to.
"""

from __future__ import annotations

import dataclasses
import itertools
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from training.baskets import MIXED, BasketConfig, Kind
from training.channels import NetworkConfig
from training.config import PathwiseConfig, PPOConfig, TrainConfig
from training.methods import METHODS, MethodName
from training.places import (
    FOLDERS,
    LAB_ARENAS,
    TIGHT_ARENAS,
    TRAIN_BASKET,
    WINDOWS,
    Budget,
    Trial,
    place,
    usual_test,
)
from training.rules import RULES

Reference = Literal["planner", "informed", "clairvoyant"]

REFERENCES: tuple[Reference, ...] = get_args(Reference)
COMPARED: tuple[MethodName, ...] = (
    "iac-t", "iac-c", "is", "tarmac", "commnet", "ppo", "ppo-sparse", "ddqn",
)  # fmt: skip
"""The methods of the paper's table."""
PATHWISE: tuple[MethodName, ...] = (
    "iac-t-pathwise", "iac-c-pathwise", "is-pathwise", "tarmac-pathwise", "commnet-pathwise",
    "alone-pathwise",
)  # fmt: skip
"""The same channels, trained along the slope of what days earn."""
ABLATIONS: tuple[MethodName, ...] = (
    "iac-t-unattributed", "iac-t-raw", "iac-t-observations", "iac-t-silent",
    "iac-t-pathwise-silent", "iac-t-pathwise-data",
)  # fmt: skip
GATED: tuple[MethodName, ...] = ("iac-t-pathwise-gated", "tarmac-pathwise-gated")
"""Products in what is said."""
BEST: MethodName = "iac-t-pathwise"
"""The method of the studies that look at one."""
LONGER = 4
"""How many times as long it is trained in the study of that."""
LONGER_SIGMA = 7e-4
"""What a conflict costs there: longer runs have fewer, so each may cost less (validation days)."""
BOUNDED = PathwiseConfig(slope_bp_max=1_000.0)
"""For many steps and many rounds, where slopes were seen to multiply until they said nothing."""
SEEDS = tuple(range(1, 7))
FEW_SEEDS = SEEDS[:3]
SCALES = (5, 10, 20, 50, 100, 200)
ARRIVING = BasketConfig(arrive_share=(0.3, 0.3))
"""Test baskets of which nearly a third arrives during the day."""
LATE_BARS = (1, 2, 4)
"""Bars of the six of an interval that pass before a decision reaches the market."""


@dataclass(frozen=True, slots=True)
class Cell:
    """``player`` is a learned method, a rule or a reference; only the first learns."""

    study: str
    arena: str
    player: str
    config: TrainConfig
    tests: tuple[Trial, ...]

    @property
    def learns(self) -> bool:
        """Whether there is anything to train."""
        return self.player in METHODS

    @property
    def rounds(self) -> int:
        """Rounds of exchange, 0 for what does not talk."""
        talks = self.learns and METHODS[self.config.method].channel is not None
        return self.config.network.rounds if talks else 0


@dataclass(frozen=True, slots=True)
class Study:
    """A question, and the cells that answer it."""

    name: str
    title: str
    cells: Callable[[Budget, Path], list[Cell]]

    @property
    def command(self) -> str:
        """What runs all of it."""
        return f"python -m training.sweep --study {self.name}"


def command(cell: Cell, budget: Budget) -> str:
    """What runs this cell alone."""
    said = ["python", "-m", "training.sweep", "--study", cell.study, "--arenas", cell.arena]
    said += ["--methods", cell.player]
    if cell.learns:
        said += ["--seeds", str(cell.config.seed)]
    if cell.learns and METHODS[cell.config.method].channel is not None:
        said += ["--rounds", str(cell.rounds)]
    for field in dataclasses.fields(Budget):
        value = getattr(budget, field.name)
        if value != field.default:
            said += [f"--{field.name.replace('_', '-')}", str(value)]
    if cell.config.bars is not None:
        said += ["--data", "DIR"]
    return shlex.join(said)


def learned(
    study: str,
    arena: str,
    config: TrainConfig,
    tests: Sequence[Trial],
    methods: Iterable[MethodName],
    seeds: Iterable[int] = SEEDS,
) -> list[Cell]:
    """One cell for each method and seed."""
    return [
        Cell(study, arena, name, dataclasses.replace(config, method=name, seed=seed), tuple(tests))
        for name, seed in itertools.product(methods, seeds)
    ]


def fixed(study: str, arena: str, config: TrainConfig, tests: Sequence[Trial]) -> list[Cell]:
    """The rules, and in a lab market the references."""
    names = (*RULES, *(REFERENCES if config.lab is not None else ()))
    return [Cell(study, arena, name, config, tuple(tests)) for name in names]


def with_rounds(config: TrainConfig, rounds: int) -> TrainConfig:
    """The same with K ``rounds``."""
    return dataclasses.replace(config, network=NetworkConfig(rounds=rounds))


def _table(budget: Budget, data: Path) -> list[Cell]:
    cells = []
    for arena in (*LAB_ARENAS, *FOLDERS):
        config, tests = place(arena, budget, data), (usual_test(arena, budget),)
        cells += fixed("table", arena, config, tests)
        cells += learned("table", arena, config, tests, (*COMPARED, *PATHWISE))
    return cells


def _long(budget: Budget, data: Path) -> list[Cell]:
    cells = []
    for arena in TIGHT_ARENAS:
        config, tests = place(arena, budget, data), [usual_test(arena, budget)]
        reward = dataclasses.replace(config.reward, sigma=LONGER_SIGMA)
        made = dataclasses.replace(config, iterations=LONGER * config.iterations, reward=reward)
        cells += fixed("long", arena, config, tests)
        compared: list[MethodName] = [BEST, "tarmac-pathwise"]
        if arena == "lab-tight":
            compared += ["iac-t", "tarmac", "ppo"]  # which still rise at the usual length
        cells += learned("long", f"{arena}-x{LONGER}", made, tests, compared)
    return cells


def _windows(budget: Budget, data: Path) -> list[Cell]:
    compared: tuple[MethodName, ...] = ("iac-t-pathwise", "iac-c-pathwise", "alone-pathwise")
    cells = []
    for folder, back in ((folder, back) for folder, many in WINDOWS.items() for back in many):
        arena = f"{folder}-w{back}"
        config = dataclasses.replace(place(folder, budget, data), window=back)
        tests = [dataclasses.replace(usual_test(folder, budget), name=arena)]
        cells += fixed("windows", arena, config, tests)
        cells += learned("windows", arena, config, tests, compared)
    return cells


def _rounds(budget: Budget, data: Path) -> list[Cell]:
    config, test = place("lab-tight", budget, data), usual_test("lab-tight", budget)
    cells = fixed("rounds", "lab-tight", config, [test])
    for rounds in range(6):
        made = with_rounds(config, rounds)
        cells += learned("rounds", "lab-tight", made, [test], [BEST])
    bounded = dataclasses.replace(config, pathwise=BOUNDED)
    for rounds in (3, 5):
        made = with_rounds(bounded, rounds)
        cells += learned("rounds", "lab-tight-bounded", made, [test], [BEST])
    return cells


def _ablations(budget: Budget, data: Path) -> list[Cell]:
    config, test = place("lab-tight", budget, data), usual_test("lab-tight", budget)
    cells = fixed("ablations", "lab-tight", config, [test])
    compared: tuple[MethodName, ...] = ("iac-t", "tarmac", "ppo", *PATHWISE, *ABLATIONS)
    cells += learned("ablations", "lab-tight", config, [test], compared)
    team = dataclasses.replace(config, credit="team")
    return cells + learned("ablations", "lab-tight-team", team, [test], ["iac-t", "ppo"])


def _messages(budget: Budget, data: Path) -> list[Cell]:
    config, test = place("lab-tight", budget, data), usual_test("lab-tight", budget)
    cells = fixed("messages", "lab-tight", config, [test])
    compared = (BEST, "tarmac-pathwise", *GATED)
    return cells + learned("messages", "lab-tight", config, [test], compared)


def _money(budget: Budget, data: Path) -> list[Cell]:
    usual, test = place("lab-tight", budget, data), usual_test("lab-tight", budget)
    compared: tuple[MethodName, ...] = (BEST, "tarmac-pathwise", "alone-pathwise")
    reward = dataclasses.replace(usual.reward, weight="value")
    config = dataclasses.replace(usual, reward=reward)
    cells = fixed("money", "lab-tight", usual, [test])
    cells += learned("money", "lab-tight", usual, [test], compared)
    return cells + learned("money", "lab-tight-money", config, [test], compared)


def _critic(budget: Budget, data: Path) -> list[Cell]:
    config, usual = place("lab-tight", budget, data), usual_test("lab-tight", budget)
    tests = [usual, Trial("critic", 256, measure="critic")]
    cells = []
    for q in ("branch", "learned"):
        made = dataclasses.replace(config, ppo=PPOConfig(q=q))
        cells += learned("critic", f"lab-tight-q-{q}", made, tests, ["iac-t"], FEW_SEEDS)
    return cells


def _scale(budget: Budget, data: Path) -> list[Cell]:
    config, days = place("lab-tight", budget, data), budget.scale_test_days
    tests = [Trial(f"lab-tight-n{n}", days, BasketConfig(orders=(n, n))) for n in SCALES]
    cells = fixed("scale", "lab-tight", config, tests)
    compared: tuple[MethodName, ...] = (BEST, "tarmac-pathwise", "alone-pathwise")
    cells += learned("scale", "lab-tight", config, tests, compared)
    for other, asked in (("sizes", tests), ("five", tests[:1])):
        arena = f"lab-tight-{other}"
        made = place(arena, budget, data)
        cells += learned("scale", arena, made, asked, [BEST, "alone-pathwise"])
    return cells


def _generators(budget: Budget, data: Path) -> list[Cell]:
    kinds: tuple[Kind, ...] = (*MIXED, "one_sided")
    sample, days = place("sample", budget, data), budget.sample_test_days
    baskets = [BasketConfig(kind=kind, margin_on="legs") for kind in kinds]
    tests = [Trial(f"sample-{basket.kind}", days, basket) for basket in baskets]
    cells = fixed("generators", "sample", sample, tests)
    for kind in (*kinds, "mixed"):
        basket = dataclasses.replace(TRAIN_BASKET, kind=kind, margin_on="legs")
        config = dataclasses.replace(sample, basket=basket)
        seeds = SEEDS if kind in ("mixed", "one_sided") else FEW_SEEDS
        cells += learned("generators", f"sample-{kind}", config, tests, [BEST], seeds)
    return cells


def _open(budget: Budget, data: Path) -> list[Cell]:
    sample, days, cells = place("sample", budget, data), budget.sample_test_days, []
    for width, slopes in ((3, BOUNDED), (6, sample.pathwise), (12, sample.pathwise)):
        arena = f"sample-{width}bars"
        config = dataclasses.replace(sample, bars_per_step=width, pathwise=slopes)
        cells += fixed("open", arena, config, [Trial(arena, days)])
        cells += learned("open", arena, config, [Trial(arena, days)], [BEST], FEW_SEEDS)
    for arena in ("lab-tight-regimes", "lab-mild"):
        config, test = place(arena, budget, data), usual_test(arena, budget)
        cells += fixed("open", arena, config, [test])
        for rounds in (0, 1, 3):
            made = with_rounds(config, rounds)
            cells += learned("open", arena, made, [test], [BEST], FEW_SEEDS)
    basket = dataclasses.replace(TRAIN_BASKET, arrive_share=(0.0, 0.5))
    tests = [Trial("sample-arriving", days, ARRIVING), Trial("sample", days)]
    late = [Trial(f"sample-late{n}", days, BasketConfig(latency_bars=n)) for n in LATE_BARS]
    cells += fixed("open", "sample", sample, [*tests, *late])
    cells += learned("open", "sample", sample, [*tests, *late], [BEST], FEW_SEEDS)
    arrivals = dataclasses.replace(sample, basket=basket)
    return cells + learned("open", "sample-arrivals", arrivals, tests, [BEST], FEW_SEEDS)


STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        Study("table", "All methods in all markets", _table),
        Study("windows", "Earlier test windows of real bars", _windows),
        Study("long", "The best method, trained longer", _long),
        Study("rounds", "Rounds of exchange", _rounds),
        Study("ablations", "Ablations of IaC^T", _ablations),
        Study("messages", "Products in what is said", _messages),
        Study("money", "Orders that count by their value", _money),
        Study("critic", "Where the value of an intention comes from", _critic),
        Study("scale", "Numbers of orders never trained on", _scale),
        Study("generators", "Baskets of other kinds than those of training", _generators),
        Study("open", "Open questions: step length, easy markets, arriving orders", _open),
    )
}
"""The studies by name."""
