"""Values of options: every bound from both sides, and the sentence that refuses what is beyond."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace
from typing import Any

import pytest

from training.channels import NetworkConfig
from training.config import DDQNConfig, TrainConfig
from training.errors import Refused
from training.evaluate import EvaluateConfig
from training.limits import COUNT_MAX, EVALUATED, SEED_MAX, THREADS_MAX, TRAINED, as_typed, within
from training.places import Budget
from training.sweep import SweepConfig

ROWS = [(part, *bound) for part, bounds in TRAINED.items() for bound in bounds]
WIDE = TrainConfig()
WIDE = replace(WIDE, reward=replace(WIDE.reward, penalised_from=0.0, penalised_fully=1.0))
"""Both ends of the penalty's bounds are possible beside it."""
each_row = pytest.mark.parametrize(("part", "name", "least", "largest"), ROWS)


def told(part: str, name: str, *ends: float) -> TrainConfig:
    """Options with ``name`` of ``part`` at one value, or a range between two."""
    holder = getattr(WIDE, part) if part else WIDE
    usual = getattr(holder, name)
    value: Any = (ends[0], ends[-1]) if isinstance(usual, tuple) else type(usual)(ends[0])
    changed = replace(holder, **{name: value})
    return replace(WIDE, **{part: changed}) if part else changed


def beyond(part: str, name: str, bound: float, way: int) -> float:
    usual = getattr(getattr(WIDE, part) if part else WIDE, name)
    whole = isinstance(usual, int) or (isinstance(usual, tuple) and isinstance(usual[0], int))
    return bound + way if whole else math.nextafter(bound, way * math.inf)


@each_row
def test_bounds_themselves_are_possible(part: str, name: str, least: float, largest: float) -> None:
    told(part, name, least)
    told(part, name, largest)
    told(part, name, least, largest)


@each_row
def test_what_is_beyond_a_bound_is_refused(
    part: str, name: str, least: float, largest: float
) -> None:
    for value in (beyond(part, name, least, -1), beyond(part, name, largest, 1)):
        with pytest.raises(Refused, match=rf"^{as_typed(name)} is \S+( \S+)?; choose ") as refusal:
            told(part, name, value)
        assert str(value).removesuffix(".0") in str(refusal.value)
        assert str(refusal.value).endswith(f"{least:,} to {largest:,}")


@each_row
def test_no_number_is_nan(part: str, name: str, least: float, largest: float) -> None:
    if not isinstance(getattr(getattr(WIDE, part) if part else WIDE, name), int):
        for ends in ((math.nan,), (least, math.nan)):
            if len(ends) == 1 or isinstance(getattr(getattr(WIDE, part), name), tuple):
                with pytest.raises(Refused, match=f"{as_typed(name)} is .*nan"):
                    told(part, name, *ends)


def test_every_number_has_its_bounds() -> None:
    for part, bounds in TRAINED.items():
        holder = getattr(WIDE, part) if part else WIDE
        held = {field.name: getattr(holder, field.name) for field in dataclasses.fields(holder)}
        numbers = {
            name
            for name, value in held.items()
            if isinstance(value, int | float | tuple) and not isinstance(value, bool)
        }
        assert numbers == {name for name, _, _ in bounds}
    assert {name for name, _, _ in EVALUATED} == {
        name
        for name in EvaluateConfig.__dataclass_fields__
        if isinstance(getattr(EvaluateConfig(), name), int)
    }


def test_a_refusal_is_one_sentence_that_can_be_typed() -> None:
    with pytest.raises(Refused, match=r"^--exploring is 0; choose 1e-12 to 1$"):
        TrainConfig(ddqn=DDQNConfig(exploring=0.0))
    falling = "^--margin-bp is 500 100; choose the least, then the largest, both from -10,000 to 1"
    with pytest.raises(Refused, match=falling):
        told("basket", "margin_bp", 500.0, 100.0)
    with pytest.raises(Refused, match=r"^--penalised-from is 0\.6; choose at most --penalised-f"):
        replace(WIDE, reward=replace(WIDE.reward, penalised_from=0.6, penalised_fully=0.5))


def test_seeds_of_iterations_fit_and_are_their_own() -> None:
    last = TrainConfig(seed=SEED_MAX, network=NetworkConfig()).seed_at(COUNT_MAX - 1)
    assert last < 2**63
    assert TrainConfig(seed=1).seed_at(COUNT_MAX - 1) < TrainConfig(seed=2).seed_at(0)


@pytest.mark.parametrize(("name", "least", "largest"), EVALUATED)
def test_bounds_of_an_evaluation(name: str, least: int, largest: int) -> None:
    for value in (least, largest):
        assert getattr(EvaluateConfig(**{name: value}), name) == value  # type: ignore[arg-type]
    for value in (least - 1, largest + 1):
        with pytest.raises(Refused, match=f"{as_typed(name)} is {value}; choose"):
            EvaluateConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Budget)])
def test_bounds_of_a_budget(name: str) -> None:
    within(Budget(**{name: 1}), [])
    within(Budget(**{name: COUNT_MAX}), [])
    for value in (0, COUNT_MAX + 1):
        with pytest.raises(Refused, match=f"{as_typed(name)} is {value}; choose"):
            Budget(**{name: value})


def test_bounds_of_workers() -> None:
    for workers in (1, THREADS_MAX):
        assert SweepConfig(workers=workers).workers == workers
    for workers in (0, THREADS_MAX + 1):
        with pytest.raises(Refused, match=f"--workers is {workers}; choose 1 to"):
            SweepConfig(workers=workers)
