"""Train a policy, judge it on days it never saw, and ship it if it is not worse.

``python training/train.py`` or ``python -m training.train``; ``--help`` lists every option, and
``torchrun --nproc-per-node 2 -m training.train`` shares the days of a run over processes. What is
shipped goes to ``models/``: the ONNX file, and the manifest that says where it comes from. A run
that was stopped goes on from its checkpoint when the same command is given again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: its own folder must not be where modules are looked for
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.arenas import Arena, arena
from training.config import TrainConfig
from training.episodes import to_device
from training.errors import Refused, told
from training.evaluate import on_host, play_day_by_day, report, rules, table
from training.export import served, shipped_row, write_model
from training.identity import by_name, identity
from training.ignored import ignored
from training.limits import as_typed
from training.methods import METHODS
from training.parallel import joined
from training.policy import Network, NetworkPolicy
from training.provenance import git_commit
from training.run import Finished, Report, train
from training.scores import Score, score
from training.simulator import play


@contextlib.contextmanager
def shown(config: TrainConfig, console: Console, quiet: bool) -> Iterator[Report]:
    """A progress bar, a line of diagnostics now and then, and TensorBoard's log if asked for."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    bar = Progress(*columns, console=console, disable=quiet)
    with bar as progress, _log(config, config.tensorboard and not quiet) as log:
        task = progress.add_task("", total=config.iterations)

        def each(iteration: int, found: dict[str, float]) -> None:
            progress.update(task, completed=iteration, description=_line(found))
            if not quiet and iteration % max(1, config.iterations // 10) == 0:
                console.print(f"{iteration:5d}  {_line(found)}")
            log(iteration, found)

        yield each


@contextlib.contextmanager
def _log(config: TrainConfig, wanted: bool) -> Iterator[Report]:
    if not wanted:
        yield lambda iteration, found: None
        return
    from torch.utils.tensorboard import SummaryWriter  # an extra that only this option needs

    with SummaryWriter(str(config.runs / identity(config))) as writer:

        def each(iteration: int, found: dict[str, float]) -> None:
            for name, value in found.items():
                writer.add_scalar(name, value, iteration)

        yield each


_SHORT: dict[str, tuple[str, str]] = {
    "eg_bp": ("EG", "5.2f"),
    "toc_pct": ("TOC", "5.2f"),
    "kl": ("kl", ".3f"),
    "clip_fraction": ("clip", ".2f"),
    "explained": ("V", "5.2f"),
    "td_error": ("td", ".3f"),
}


def _line(found: dict[str, float]) -> str:
    """The diagnostics that a person watches, in a row; entropies by round."""
    parts = [f"{name} {found[key]:{form}}" for key, (name, form) in _SHORT.items() if key in found]
    entropies = [f"{value:.2f}" for key, value in found.items() if key.startswith("entropy_")]
    rate = f"{found['agent_steps_per_cpu_s']:,.0f}/s"
    return "  ".join([*parts, *(["H " + " ".join(entropies)] if entropies else []), rate])


def judge(
    network: Network, config: TrainConfig, where: Arena
) -> tuple[dict[str, Score], Score | None]:
    """Scores of the rules and of the network on validation days, and of what is shipped now."""
    played = where.validate(config.held_out_days).batches
    scores = rules(played)
    policy = NetworkPolicy(network.eval())
    finished = [play(to_device(batch, config.device), policy) for batch in played]
    scores[config.name] = score([on_host(day) for day in finished])
    shipped = served(config.models, config.name)
    if shipped is None:
        return scores, None
    return scores, score([play_day_by_day(batch, shipped) for batch in played])


def may_ship(config: TrainConfig, where: Arena) -> None:
    """Refuse before a run what would refuse its model after it; raises Refused.

    A model is only replaced by one of its own market: gains elsewhere say nothing of it.
    """
    there = next(path for path in (config.models, *config.models.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise Refused(f"{there} is no folder that can be written; give --models another one")
    row = shipped_row(config.models, config.name) or {}
    held = row.get("training", {}).get("market")
    if held is not None and held != json.loads(json.dumps(where.source)):
        raise Refused(
            f"the shipped model {config.name!r} was trained on another market than {where.name}; "
            "give --name to ship beside it, or --models for another folder"
        )


def provenance(config: TrainConfig, done: Finished, where: Arena) -> dict[str, Any]:
    """Where a model comes from, for its manifest."""
    every = dataclasses.asdict(config)
    kept = {name: value for name, value in every.items() if name not in ("runs", "models")}
    options = json.loads(json.dumps(kept, default=by_name))
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()
    return {
        "command": shlex.join(["python", "training/train.py", *sys.argv[1:]]),
        "config": options,
        "config_sha256": digest,
        "seed": config.seed,
        "torch": torch.__version__,
        "git_commit": git_commit(),
        "market": where.source,
        "agent_steps": done.agent_steps,
        "cpu_s": round(done.cpu_s),
    }


def ship(done: Finished, config: TrainConfig, where: Arena, console: Console) -> bool:
    """Judge a finished run and write its model if it is worse neither than the rules nor than what
    is shipped."""
    scores, shipped = judge(done.network, config, where)
    may_ship(config, where)  # once more: another run may have shipped meanwhile
    if shipped is None and shipped_row(config.models, config.name) is not None:
        console.print(f"the shipped model {config.name!r} may not serve: compared with rules only")
    records, days = report(scores), len(scores[config.name].day_eg_bp)
    values = {name: found.objective_bp(config.reward) for name, found in scores.items()}
    new = values.pop(config.name)
    if shipped is not None:
        values["the shipped model"] = shipped.objective_bp(config.reward)
    best = max(values, key=lambda name: values[name])
    console.print(table(records, f"{days} validation days, {where.name}"))
    if new < values[best]:
        console.print(
            f"not shipped: its objective is {new:.2f} bp, that of {best} {values[best]:.2f}"
        )
        return False
    record = {"training": provenance(config, done, where), "scores": records}
    row = write_model(config.models, done.network, config.name, config.method, record)
    console.print(f"shipped {row['file']}, version {row['version']}, objective {new:.2f} bp")
    return True


def usual() -> TrainConfig:
    """What a run is without options: on a GPU where torch finds one."""
    return TrainConfig(device="cuda" if torch.cuda.is_available() else "cpu")


@told("train")
def main(config: TrainConfig) -> bool:
    """Train, judge, and ship if not worse; answers whether it shipped."""
    console, wall = Console(), time.monotonic()
    torch.set_num_threads(config.threads)
    where = arena(config)
    may_ship(config, where)
    with joined(config.device) as ranks:
        if ranks.first and (names := ignored(config)):
            options = ", ".join(map(as_typed, names))
            console.print(f"without effect for {config.method} on {where.name}: {options}")
        with shown(config, console, quiet=not ranks.first) as each:
            done = train(config, where, each, ranks)
    if not ranks.first:
        return False
    seconds = time.monotonic() - wall
    title = METHODS[config.method].title
    console.print(f"{title}: trained in {seconds:.0f} s, {done.cpu_s:.0f} CPU-s")
    return ship(done, config, where, console)


if __name__ == "__main__":
    main(tyro.cli(TrainConfig, default=usual(), config=(tyro.conf.OmitArgPrefixes,)))
