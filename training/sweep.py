"""Cells of a study, many at a time.

``python -m training.sweep --study table --arenas lab-tight --methods iac-t tarmac --seeds 1 2``
runs what is not there yet and leaves the rest alone; a run that was interrupted goes on from its
checkpoint. Workers are processes of Ray, on this machine or on the cluster at ``--address`` (whose
machines share the folders of runs and data); ``--serial`` needs no Ray. A cell that fails is
reported with its error and stops no other.
"""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from service.play.bars import BarsError
from training.cells import missing, run_cell, where
from training.errors import OPERATING, Interrupted, Refused, told
from training.limits import THREADS_MAX, within
from training.places import Budget
from training.studies import STUDIES, Cell


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """Run the cells of a study that are not there yet."""

    study: str = "table"
    """Which study (training/studies.py)."""
    arenas: tuple[str, ...] = ()
    """Only these of its arenas; none: all."""
    methods: tuple[str, ...] = ()
    """Only these methods, rules and references; none: all."""
    seeds: tuple[int, ...] = ()
    """Only these seeds of learned methods; none: all."""
    rounds: tuple[int, ...] = ()
    """Only learned methods with so many rounds of exchange; none: all."""
    runs: Path = Path("runs")
    """Where runs and their records are."""
    data: Path = Path("data")
    """Folder of the folders of real bars."""
    workers: int = 2
    """Cells at a time on this machine, each with one thread; a cluster runs one on each CPU."""
    serial: bool = False
    """One cell after the other in this process, without Ray."""
    address: str | None = None
    """Ray cluster to run on, whose CPUs decide how many cells run; none: this machine."""
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        within(self, [("workers", 1, THREADS_MAX)])


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a cell ended: ``error`` is None where all its records are there."""

    name: str
    error: str | None = None


def chosen(config: SweepConfig) -> list[Cell]:
    """The cells that are asked for, in the order of the study."""
    if config.study not in STUDIES:
        raise Refused(f"there is no study {config.study!r}; choose among {', '.join(STUDIES)}")
    every = STUDIES[config.study].cells(config.budget, config.data.resolve())
    for name, asked in _filters(config).items():
        held = _held(every, name)
        if unknown := [str(value) for value in asked if value not in held]:
            raise Refused(
                f"study {config.study} has no {name} {', '.join(unknown)}; "
                f"choose among {', '.join(map(str, held))}"
            )
    cells = [cell for cell in every if _asked(cell, config)]
    if not cells:
        raise Refused(
            f"study {config.study} has no cell with all of what is asked for together; "
            "leave out --arenas, --methods, --seeds or --rounds to see what it has"
        )
    return cells


def _filters(config: SweepConfig) -> dict[str, tuple[Any, ...]]:
    return {name: getattr(config, name) for name in ("arenas", "methods", "seeds", "rounds")}


def _held(cells: list[Cell], name: str) -> list[Any]:
    """What the cells of a study may be chosen by, in its order."""
    learned = [cell for cell in cells if cell.learns]
    found: dict[str, list[Any]] = {
        "arenas": [cell.arena for cell in cells],
        "methods": [cell.player for cell in cells],
        "seeds": [cell.config.seed for cell in learned],
        "rounds": [cell.rounds for cell in learned],
    }
    return list(dict.fromkeys(found[name]))


def _asked(cell: Cell, config: SweepConfig) -> bool:
    named = not config.arenas or cell.arena in config.arenas
    named &= not config.methods or cell.player in config.methods
    if not cell.learns:
        return named
    named &= not config.rounds or cell.rounds in config.rounds
    return named and (not config.seeds or cell.config.seed in config.seeds)


def attempt(cell: Cell, budget: Budget, runs: Path) -> Outcome:
    """Run a cell; an error is an outcome too."""
    name = f"{cell.arena} {where(cell, runs).folder.name}"
    try:
        run_cell(cell, budget, runs)
    except Interrupted:
        raise
    except OPERATING as error:
        return Outcome(name, str(error))
    except Exception:  # whatever it is: the other cells go on, and a person reads it
        return Outcome(name, traceback.format_exc())
    return Outcome(name)


def in_turn(cells: Sequence[Cell], config: SweepConfig) -> Iterator[Outcome]:
    """One after the other, in this process."""
    for cell in cells:
        yield attempt(cell, config.budget, config.runs.resolve())


def on_ray(cells: Sequence[Cell], config: SweepConfig) -> Iterator[Outcome]:
    """As many at a time as there are workers, each in a process of its own."""
    try:
        import ray
    except ImportError as error:
        hint = "install the extra: pip install 'concord-execution[sweep]', or use --serial"
        raise Refused(f"running cells in parallel needs Ray; {hint}") from error
    ray.init(**_ray_options(config))
    try:
        remote: Any = ray.remote(num_cpus=1, max_retries=0)(attempt)
        runs = config.runs.resolve()
        names = {remote.remote(cell, config.budget, runs): cell for cell in cells}
        waiting = list(names)
        while waiting:
            (ready,), waiting = ray.wait(waiting)
            try:
                yield ray.get(ready)
            except ray.exceptions.RayError as error:  # the worker itself died
                cell = names[ready]
                yield Outcome(f"{cell.arena} {where(cell, runs).folder.name}", str(error))
    finally:
        ray.shutdown()


def _ray_options(config: SweepConfig) -> dict[str, Any]:
    if config.address:
        import service
        import training

        code = [str(Path(module.__path__[0])) for module in (service, training)]
        return {"address": config.address, "runtime_env": {"py_modules": code}}
    return {"num_cpus": config.workers, "include_dashboard": False, "log_to_driver": False}


def unlike(cells: Iterable[Cell], runs: Path) -> list[Cell]:
    """One cell for each run: cells that share one get all tests of it, in one process."""
    held: dict[Path, Cell] = {}
    for cell in cells:
        folder = where(cell, runs).folder
        known = held.get(folder)
        tests = cell.tests if known is None else tuple(dict.fromkeys(known.tests + cell.tests))
        held[folder] = dataclasses.replace(known or cell, tests=tests)
    return list(held.values())


def sweep(config: SweepConfig, console: Console) -> list[Outcome]:
    """Run what is missing; answers how each such cell ended."""
    cells = unlike(chosen(config), config.runs)
    waiting = [cell for cell in cells if _is_missing(cell, config.runs)]
    console.print(f"{len(cells)} cells, {len(cells) - len(waiting)} of them done before")
    if not waiting:
        return []
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    outcomes = []
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(config.study, total=len(waiting))
        for outcome in (in_turn if config.serial else on_ray)(waiting, config):
            outcomes.append(outcome)
            progress.update(task, advance=1, description=outcome.name)
            if outcome.error:
                console.print(f"failed: {outcome.name}\n{outcome.error}", markup=False)
            else:
                console.print(f"done: {outcome.name}", markup=False)
    return outcomes


def _is_missing(cell: Cell, runs: Path) -> bool:
    try:
        return bool(missing(cell, runs))
    except (BarsError, OSError):  # its data is not there: running the cell says so
        return True


@told("sweep")
def main(config: SweepConfig) -> None:
    """Run, and say with the exit status whether a cell failed."""
    outcomes = sweep(config, Console())
    failed = [outcome.name for outcome in outcomes if outcome.error]
    if failed:
        raise SystemExit(f"{len(failed)} of {len(outcomes)} cells failed: {'; '.join(failed)}")


if __name__ == "__main__":
    import tyro

    main(tyro.cli(SweepConfig, config=(tyro.conf.OmitArgPrefixes,)))
