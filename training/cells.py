"""One cell of a study, from its options to the records that it leaves.

``runs/<identity>/`` holds the checkpoint of a run, and for every test ``score-<test>.json`` with
all that a reader needs to repeat it, and ``score-<test>.npz`` with its values by day. What is there
is not made again, unless it speaks of other data or another number of days.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from service.core.observe import observe
from service.core.policy import Policy
from service.play.sample import SampleMarket
from training.arenas import (
    BASKETS_A_DAY,
    TEST_SEED,
    TEST_SHARE,
    Arena,
    Days,
    arena,
    split_days,
    usual_basket,
)
from training.config import TrainConfig
from training.critic import critic_errors
from training.episodes import EpisodeBatch, some_days, to_device
from training.errors import OtherData, Refused
from training.evaluate import always, played
from training.identity import as_before, identity, learned_options
from training.lab import LABS, LabMarket
from training.methods import METHODS
from training.places import Budget, Trial
from training.policy import NetworkPolicy
from training.provenance import git_commit, sha256
from training.references.clairvoyant import clairvoyant_bp
from training.references.informed import informed_bp
from training.references.planner import Planner
from training.rules import RULES
from training.run import Finished, Report, train
from training.scores import Floats, Score
from training.simulator import advance, begin, prepare
from training.studies import Cell, command

COMMIT = git_commit()
"""What was checked out when this process read the code that it runs."""
TIMED = 200
"""Decisions of one basket that are timed."""
Values = dict[str, Floats]


@dataclass(frozen=True, slots=True)
class Where:
    """A folder, and what of it a test's record needs."""

    folder: Path

    def record(self, test: str) -> Path:
        """The numbers of a test, and where they come from."""
        return self.folder / f"score-{test}.json"

    def values(self, test: str) -> Path:
        """The same by day, float64 ``[D]`` each."""
        return self.folder / f"score-{test}.npz"

    def held(self, test: str) -> dict[str, Any]:
        """What the record of a test says; raises OtherData."""
        path = self.record(test)
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise OtherData(f"{path} is damaged; remove it and sweep again") from error


def where(cell: Cell, runs: Path) -> Where:
    """The folder of a cell; of rules and references by their arena."""
    name = identity(cell.config) if cell.learns else f"{cell.player}-{cell.arena}"
    return Where(runs / name)


def missing(cell: Cell, runs: Path) -> list[Trial]:
    """The tests of ``cell`` that are still to be taken."""
    return [test for test in cell.tests if not _is_done(cell, test, runs)]


def _is_done(cell: Cell, test: Trial, runs: Path) -> bool:
    place = where(cell, runs)
    if not (place.record(test.name).is_file() and place.values(test.name).is_file()):
        return False
    try:
        held = place.held(test.name)
    except OtherData:  # half a record is none
        return False
    asked = {
        "days_asked": test.days,
        "data_hash": data_hash(cell.config, test),
        "window": window(cell.config),
    }
    return all(held.get(name) == value for name, value in asked.items())


def data_hash(config: TrainConfig, test: Trial) -> str:
    """A hash of all that decides what a test's days are but their window: market, basket, seeds."""
    market: Any = dataclasses.asdict(SampleMarket())
    if config.bars is not None:
        market = _file_hash(config.bars, config.bars.stat().st_mtime_ns)
    elif config.lab is not None:
        lab = LABS[config.lab]
        # a basket of the test's own decides how many orders there are, not the market
        usual = lab.orders if test.basket is None else LabMarket().orders
        market = dataclasses.asdict(dataclasses.replace(lab, orders=usual))
    basket = usual_basket(config.basket) if test.basket is None else test.basket
    asked = as_before("basket", dataclasses.asdict(basket))
    steps = (config.bars_a_day, config.bars_per_step, config.price_limit_bp)
    parts = [market, asked, steps, TEST_SEED, BASKETS_A_DAY]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@functools.lru_cache
def _file_hash(path: Path, changed_ns: int) -> str:
    return sha256(path)


def run_cell(
    cell: Cell,
    budget: Budget,
    runs: Path,
    report: Report = lambda iteration, found: None,
) -> None:
    """Train if there is anything to train, and take every test that is missing."""
    tests = missing(cell, runs)
    if not tests:
        return
    torch.set_num_threads(cell.config.threads)
    cell = dataclasses.replace(cell, config=dataclasses.replace(cell.config, runs=runs))
    found, done = arena(cell.config), None
    if cell.learns:
        done = train(cell.config, found, report)
    for test in tests:
        started = time.process_time()
        record, values = _taken(cell, test, found, done)
        spent = time.process_time() - started
        stamp = _stamp(cell, test, budget, found, done) | {"test_cpu_s": round(spent, 2)}
        write(where(cell, runs), test.name, stamp | record, values)


def _taken(
    cell: Cell, test: Trial, found: Arena, done: Finished | None
) -> tuple[dict[str, Any], Values]:
    if test.measure == "critic":
        return critic_errors(cell.config, found, test.days)
    there = found if test.basket is None else arena(cell.config, test.basket)
    days = there.test(test.days)
    if cell.player in ("informed", "clairvoyant"):
        return _bound(cell.player, there, days)
    if cell.player == "planner":
        return _scored(played(days, lambda truth: Planner(cast(Any, truth))), {})
    if done is None:
        rule = RULES[cell.player]
        timed = {"decision_us": decision_us(rule, days.batches[0])}
        return _scored(played(days, always(rule)), timed)
    device = cell.config.device
    policy = NetworkPolicy(done.network.eval())
    first = to_device(some_days(days.batches[0], slice(1)), device)
    timed = {"decision_us": decision_us(policy, first)}
    return _scored(played(days, always(policy), device), timed)


def _scored(score: Score, more: dict[str, Any]) -> tuple[dict[str, Any], Values]:
    fields = {f.name: getattr(score, f.name) for f in dataclasses.fields(score)}
    days = fields.pop("days")
    return fields | {"days": len(days["eg_bp"])} | more, days


def _bound(player: str, there: Arena, days: Days) -> tuple[dict[str, Any], Values]:
    """A bound is known in the log gain only."""
    (batch,) = days.batches
    if player == "clairvoyant":
        gain = clairvoyant_bp(batch)
    elif days.truth is not None and there.lab is not None:
        gain = informed_bp(batch, days.truth, there.lab)
    else:
        raise Refused(f"{player} needs a lab market; {there.name} is none")
    return {"log_gain_bp": float(gain.mean()), "days": len(gain)}, {"log_gain_bp": gain}


def decision_us(policy: Policy | Callable[[Any, Any], Any], batch: EpisodeBatch) -> float:
    """Median wall time in microseconds of what one basket's decision takes, observation included.

    ``batch`` is cut to its first day.
    """
    one = some_days(batch, slice(1))
    market = prepare(one)
    spent: list[float] = []
    while len(spent) < TIMED:
        day = begin(one, market)
        for _ in range(one.rules.steps):
            started = time.perf_counter()
            wish = policy(day, observe(day)).wish
            spent.append(time.perf_counter() - started)
            day = advance(day, wish, market).day
    return round(1e6 * float(np.median(spent)), 1)


def _stamp(
    cell: Cell, test: Trial, budget: Budget, found: Arena, done: Finished | None
) -> dict[str, Any]:
    """Where a record comes from."""
    learned = METHODS[cell.config.method] if cell.learns else None
    stamp = {
        "study": cell.study,
        "arena": cell.arena,
        "market": found.name,
        "window": window(cell.config),
        "test": test.name,
        "method": cell.player,
        "title": learned.title if learned else cell.player,
        "rounds": cell.rounds,
        "seed": cell.config.seed if learned else None,
        "days_asked": test.days,
        "command": command(cell, budget),
        "data_hash": data_hash(cell.config, test),
        "source": found.source,
        "config": learned_options(cell.config) if learned else None,
        "config_hash": identity(cell.config).rsplit("-", 1)[1] if learned else None,
        "git_commit": COMMIT,
        "torch": torch.__version__,
    }
    if done is not None:
        stamp |= {"cpu_s": round(done.cpu_s, 1), "agent_steps": done.agent_steps}
        stamp |= {"curve": done.curve, "last": done.last}
    return stamp


def window(config: TrainConfig) -> str:
    """The days that a test looks at, in words."""
    if config.bars is None:
        return f"generated, seed {TEST_SEED}"
    beside, last = config.bars.parent / "split.json", f"last {TEST_SHARE:.0%} of the file's days"
    if beside.is_file():
        _, start, end = split_days(beside)
        last = f"{start} to {end}"
    return f"{config.window} windows before {last}" if config.window else last


def write(place: Where, test: str, record: dict[str, Any], values: Values) -> None:
    """Values first, then the record that says that both are there; each whole or not at all."""
    place.folder.mkdir(parents=True, exist_ok=True)
    fresh = place.folder / f".{test}.{os.getpid()}.npz"
    np.savez_compressed(fresh, allow_pickle=False, **values)
    os.replace(fresh, place.values(test))
    text = json.dumps(finite(record), indent=1, default=str) + "\n"
    fresh = fresh.with_suffix(".json")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, place.record(test))


def finite(value: Any) -> Any:
    """``value`` with everything that JSON cannot say as null, at any depth."""
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return int(value) if isinstance(value, np.integer) else value
