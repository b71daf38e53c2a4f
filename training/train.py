"""Train a policy, judge it on days it never saw, and ship it if it is not worse.

``python training/train.py`` or ``python -m training.train``; ``--help`` lists every option. What is
shipped goes to ``models/``: the ONNX file, and the manifest that says where it comes from.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: its own folder must not be where modules are looked for
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.core.day import Day
from service.play.sample import SampleMarket
from training.config import TrainConfig
from training.episodes import EpisodeBatch, draw, map_arrays, to_device
from training.evaluate import (
    PLAY_BASKET,
    Score,
    baskets,
    held_out,
    play_day_by_day,
    report,
    rules,
    score,
    split,
    table,
)
from training.export import served, write_model
from training.markets import from_file, generated
from training.policy import Network, NetworkPolicy
from training.ppo import learn
from training.simulator import play

ROOT = Path(__file__).resolve().parents[1]


def batches(config: TrainConfig) -> Iterator[EpisodeBatch]:
    """An endless supply of training days; every batch has baskets of one size."""
    rng = np.random.default_rng([config.seed, 0])
    known = split(from_file(config.bars, config.bars_per_step))[0] if config.bars else None
    fewest, most = config.basket.orders
    while True:
        orders = int(rng.integers(fewest, most + 1))
        days = known or generated(
            rng, SampleMarket(), config.days, config.bars_a_day, config.bars_per_step, orders
        )
        basket = dataclasses.replace(config.basket, orders=(orders, orders))
        yield to_device(draw(rng, days, basket, config.days), config.device)


def train(config: TrainConfig, console: Console) -> tuple[Network, dict[str, float]]:
    """The trained network and the diagnostics of its last iteration."""
    torch.manual_seed(config.seed)
    network = Network(config.network).to(config.device)
    last: dict[str, float] = {}
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=config.iterations)
        for iteration, last in enumerate(learn(network, batches(config), config), 1):
            progress.update(task, advance=1, description=_line(last))
            if iteration % max(1, config.iterations // 10) == 0:
                console.print(f"{iteration:5d}  {_line(last)}")
    return network, last


def _line(found: dict[str, float]) -> str:
    entropies = " ".join(f"{v:.2f}" for name, v in found.items() if name.startswith("entropy_"))
    return (
        f"EG {found['eg_bp']:5.2f}  TOC {found['toc_pct']:5.2f}  kl {found['kl']:.3f}  "
        f"clip {found['clip_fraction']:.2f}  V {found['explained']:5.2f}  H {entropies}  "
        f"{found['agent_steps_per_cpu_s']:,.0f}/s"
    )


def judge(network: Network, config: TrainConfig) -> tuple[dict[str, Score], Score | None]:
    """Scores of the rules and of the network on held-out days, and of what is shipped now."""
    days = held_out(config.held_out_days, config.bars, config.bars_per_step, config.bars_a_day)
    played = baskets(days, config.bars is not None, PLAY_BASKET)
    scores = rules(played)
    policy = NetworkPolicy(network.eval())
    finished = [play(to_device(batch, config.device), policy) for batch in played]
    scores[config.name] = score([_on_host(day) for day in finished])
    shipped = served(config.models, config.name)
    if shipped is None:
        return scores, None
    return scores, score([play_day_by_day(batch, shipped) for batch in played])


def _on_host(day: Day) -> Day:
    return map_arrays(day, lambda array: array.cpu().numpy())


def provenance(config: TrainConfig, last: dict[str, float], cpu_s: float) -> dict[str, Any]:
    """Where a model comes from, for its manifest."""
    options = json.loads(json.dumps(dataclasses.asdict(config), default=_name_only))
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()
    market: Any = dataclasses.asdict(SampleMarket())
    if config.bars:
        market = {"file": config.bars.name, "sha256": _sha256(config.bars)}
    return {
        "command": shlex.join(["python", "training/train.py", *sys.argv[1:]]),
        "config": options,
        "config_sha256": digest,
        "seed": config.seed,
        "torch": torch.__version__,
        "git_commit": _git_commit(),
        "market": market,
        "agent_steps": int(last["agent_steps"]),
        "cpu_s": round(cpu_s),
    }


def _name_only(value: object) -> str:
    return value.name if isinstance(value, Path) else str(value)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_commit() -> str | None:
    """The commit that is checked out, None outside of a repository."""
    try:
        head = (ROOT / ".git" / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        return (ROOT / ".git" / head[5:]).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def main(config: TrainConfig) -> bool:
    """Train, judge, and ship if not worse; answers whether it shipped."""
    console = Console()
    torch.set_num_threads(config.threads)
    started, wall = time.process_time(), time.monotonic()
    network, last = train(config, console)
    cpu_s = time.process_time() - started
    config.checkpoints.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), config.checkpoints / f"{config.name}-{config.seed}.pt")
    console.print(f"trained in {time.monotonic() - wall:.0f} s, {cpu_s:.0f} CPU-s")
    scores, shipped = judge(network, config)
    records = report(scores)
    console.print(table(records, f"{len(scores[config.name].day_eg_bp)} held-out days"))
    new = scores[config.name].objective_bp()
    old = shipped.objective_bp() if shipped else float("-inf")
    if new < old:
        console.print(f"not shipped: its objective is {new:.2f} bp, the shipped model's {old:.2f}")
        return False
    method = f"iac-{config.network.channel}" if config.network.rounds else "ppo"
    record = {"training": provenance(config, last, cpu_s), "scores": records}
    row = write_model(config.models, network, config.name, method, record)
    console.print(f"shipped {row['file']}, version {row['version']}, objective {new:.2f} bp")
    return True


if __name__ == "__main__":
    main(tyro.cli(TrainConfig, config=(tyro.conf.OmitArgPrefixes,)))
