"""Methods side by side on the same test days, with paired intervals over days.

``python -m training.evaluate`` scores the rules and a shipped model on generated days that no run
trains on, or on the test window of a Parquet file; ``--arenas`` names other markets, and
``--methods`` with ``--seeds`` adds what ``training.sweep`` has trained there. It answers a table,
and writes JSON, Markdown and plots where it is told to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from service.core.day import Day
from service.core.policy import Policy
from training import page
from training.arenas import PLAY_BASKET, Arena, Days, arena
from training.channels import NetworkConfig
from training.config import TrainConfig
from training.episodes import EpisodeBatch, map_arrays, some_days, take_day, to_device
from training.errors import Refused, told
from training.intervals import paired_interval
from training.lab import Truth
from training.limits import EVALUATED, within
from training.methods import METHODS, MethodName
from training.places import Budget, place
from training.policy import NetworkPolicy
from training.references.gains import play_logged
from training.rules import RULES
from training.run import network_of
from training.scores import MEANS, Floats, Score, score
from training.simulator import play
from training.studies import Cell, learned, with_rounds

PAIRS_AT_ONCE = 2**18
"""Pairs of orders that are played at once: attention holds a number for each."""
Decides = Policy | Callable[[Day, Any], Any]
COLUMNS = {
    "eg_bp": "EG bp",
    "toc_pct": "TOC %",
    "pos": "POS",
    "glr": "GLR",
    "slippage_bp": "cost bp",
    "filled_pct": "filled %",
}
"""What a table shows of a record."""


def played(
    days: Days, policy_of: Callable[[Truth | None], Decides], device: str | None = None
) -> Score:
    """The score of a policy on ``days``; with a ``device`` it plays tensors, else NumPy.

    ``policy_of`` makes the policy for the days of a truth (None but in lab markets). The log gain
    needs orders that are there all day.
    """
    found = [_played(batch, days.truth, policy_of, device) for batch in days.batches]
    logged = all(batch.changes is None for batch in days.batches)
    return score([day for day, _ in found], [gain for _, gain in found] if logged else None)


def always(policy: Decides) -> Callable[[Truth | None], Decides]:
    """The same policy for all days."""
    return lambda truth: policy


def _played(
    batch: EpisodeBatch,
    truth: Truth | None,
    policy_of: Callable[[Truth | None], Decides],
    device: str | None,
) -> tuple[Day, Floats]:
    finished, gains = [], []
    for cut in _cuts(batch):
        known = truth and replace(truth, state=truth.state[cut], sd=truth.sd[cut])
        part = some_days(batch, cut)
        part = to_device(part, device) if device else part
        day, gain = play_logged(part, policy_of(known))
        finished.append(on_host(day) if device else day)
        gains.append(gain.cpu().numpy() if device else gain)
    return combined(finished, np.concatenate), np.concatenate(gains)


def _cuts(batch: EpisodeBatch) -> Iterator[slice]:
    days, orders = batch.orders.side.shape
    size = max(1, PAIRS_AT_ONCE // orders**2)
    return (slice(at, at + size) for at in range(0, days, size))


def on_host(day: Day) -> Day:
    """Days of tensors in NumPy."""
    return map_arrays(day, lambda array: array.cpu().numpy())


def play_day_by_day(batch: EpisodeBatch, policy: Decides) -> Day:
    """What :func:`play` answers, one day at a time as the service decides: for ONNX policies."""
    days = [play(take_day(batch, at), policy) for at in range(len(batch.cash_minor))]
    whole: Day = combined(days, np.stack)
    return whole


def combined(days: list[Any], how: Callable[[list[Any]], Any]) -> Any:
    """Frozen values as one: every array made of their arrays by ``how``."""
    first = days[0]
    changes: dict[str, Any] = {}
    for name in first.__dataclass_fields__:
        parts = [getattr(day, name) for day in days]
        if hasattr(parts[0], "dtype"):
            changes[name] = how(parts)
        else:
            changes[name] = combined(parts, how) if name == "orders" else parts[0]
    return type(first)(**changes)


def rules(batches: list[EpisodeBatch]) -> dict[str, Score]:
    """The rule-based methods."""
    days = Days(batches)
    return {name: played(days, always(rule)) for name, rule in RULES.items()}


def report(scores: dict[str, Score]) -> list[dict[str, Any]]:
    """One record per method, with its gain over each rule as a paired interval."""
    return [dict(_record(name, found, scores)) for name, found in scores.items()]


def _record(name: str, found: Score, scores: dict[str, Score]) -> Iterator[tuple[str, Any]]:
    yield "method", name
    for key in ("eg_bp", "pos", "glr", "arr_pct", *MEANS):
        value = float(getattr(found, key))
        yield key, round(value, 4) if math.isfinite(value) else None
    if found.log_gain_bp is not None:
        yield "log_gain_bp", round(found.log_gain_bp, 4)
    for rule in RULES:
        if rule in scores and rule != name:
            over = paired_interval(found.day_eg_bp, scores[rule].day_eg_bp)
            known = math.isfinite(over.low)  # few days have no interval, and JSON no NaN
            interval = [round(over.low, 3), round(over.high, 3)] if known else None
            yield f"eg_over_{rule.replace('-', '_')}_bp", interval


def _cells(records: list[dict[str, Any]]) -> Iterator[list[str]]:
    """A head, then a row for each record."""
    yield ["method", "95% over TWAP", *COLUMNS.values()]
    for row in records:
        low_high = row.get("eg_over_twap_bp")
        over = "" if low_high is None else f"{low_high[0]:.2f} .. {low_high[1]:.2f}"
        shown = ("" if row[key] is None else f"{row[key]:.2f}" for key in COLUMNS)
        yield [str(row["method"]), over, *shown]


def table(records: list[dict[str, Any]], title: str) -> Table:
    """The records for people."""
    head, *rows = _cells(records)
    made = Table(title=title)
    for column in head:
        made.add_column(column, justify="left" if column == "method" else "right")
    for row in rows:
        made.add_row(*row)
    return made


def markdown(records: list[dict[str, Any]], title: str) -> str:
    """The records as a section of a Markdown page."""
    head, *rows = _cells(records)
    return f"## {title}\n\n{page.markdown(head, rows)}\n"


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """Score rules, a shipped model and trained methods on test days."""

    arenas: tuple[str, ...] = ()
    """Markets by name (training/places.py); none: ``bars``, or the sample market."""
    methods: tuple[MethodName, ...] = ()
    """Methods that training.sweep has trained in those markets."""
    seeds: tuple[int, ...] = (1,)
    """Their seeds."""
    rounds: tuple[int, ...] = (NetworkConfig().rounds,)
    """Rounds of exchange of those whose orders talk."""
    bars: Path | None = None
    """Parquet file whose test window is scored."""
    price_limit_bp: int = 0
    """Daily price limit of the market of ``bars``; give the one of training; 0: none."""
    window: int = 0
    """Test window of ``bars``: 0 the file's own, 1 the one before it, and so on."""
    days: int = 1_000
    """Generated test days."""
    bars_a_day: int = 48
    """Bars of a generated day."""
    bars_per_step: int = 6
    """Bars in one decision step of ``bars`` and of the sample market."""
    orders: int = PLAY_BASKET.orders[0]
    """Orders of a test day of ``bars`` and of the sample market."""
    models: Path = Path("models")
    """Folder of the shipped models."""
    name: str = "iac"
    """Shipped model to score beside the rules; empty: none."""
    runs: Path = Path("runs")
    """Where training.sweep left its runs."""
    data: Path = Path("data")
    """Folder of the folders of real bars."""
    out: Path | None = None
    """Write the records here as JSON."""
    page: Path | None = None
    """Write the tables here as Markdown."""
    plots: Path | None = None
    """Write a plot of EG against TOC per market into this folder, as SVG."""
    budget: Budget = field(default_factory=Budget)
    """The budget that the methods were trained with."""

    def __post_init__(self) -> None:
        within(self, EVALUATED)
        if self.methods and not self.arenas:
            raise Refused("--methods are trained in markets of --arenas; say in which")
        if self.bars and self.arenas:
            raise Refused("--bars and --arenas are different markets; give one of them")


@told("evaluate")
def main(config: EvaluateConfig) -> list[dict[str, Any]]:
    """Score, show and perhaps write."""
    for path in (config.out, config.page):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
    console, records, pages = Console(), [], []
    for name, where in _asked(config):
        days = where.test(config.days)
        found = report(_scores(config, name, where, days))
        title = f"{len(days.batches[0].cash_minor)} test days, {where.name}"
        console.print(table(found, title))
        pages.append(markdown(found, title))
        records += [{"arena": where.name, **record} for record in found]
    if config.out:
        config.out.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    if config.page:
        config.page.write_text("\n".join(pages), encoding="utf-8")
    if config.plots:
        from training.plots import eg_against_toc  # matplotlib takes a second to load

        for name in sorted({record["arena"] for record in records}):
            shown = [record for record in records if record["arena"] == name]
            eg_against_toc(shown, config.plots / f"eg-toc-{name}.svg")
    return records


def _asked(config: EvaluateConfig) -> Iterator[tuple[str, Arena]]:
    for name in config.arenas:
        yield name, arena(place(name, config.budget, config.data))
    if not config.arenas:
        tested = replace(PLAY_BASKET, orders=(config.orders, config.orders))
        options = TrainConfig(
            bars=config.bars,
            price_limit_bp=config.price_limit_bp,
            window=config.window,
            bars_a_day=config.bars_a_day,
            bars_per_step=config.bars_per_step,
            basket=tested,
        )
        yield "sample", arena(options, tested)


def _scores(config: EvaluateConfig, name: str, where: Arena, days: Days) -> dict[str, Score]:
    from training.export import shipped_policy  # torch's exporter takes a second to load

    scores = rules(days.batches)
    if config.name:
        policy = shipped_policy(config.models, config.name)
        scores[config.name] = score([play_day_by_day(batch, policy) for batch in days.batches])
    usual = replace(place(name, config.budget, config.data), runs=config.runs)
    for cell in _asked_for(config, name, usual):
        decides = NetworkPolicy(network_of(cell.config).eval())
        talks = f" K={cell.rounds}" if METHODS[cell.config.method].channel else ""
        label = f"{cell.player}{talks} seed {cell.config.seed}"
        scores[label] = played(days, always(decides), cell.config.device)
    return scores


def _asked_for(config: EvaluateConfig, name: str, usual: TrainConfig) -> Iterator[Cell]:
    """The runs of ``methods``; those whose orders do not talk are the same for all ``rounds``."""
    for method in config.methods:
        rounds = config.rounds if METHODS[method].channel else (usual.network.rounds,)
        for made in (with_rounds(usual, k) for k in rounds):
            yield from learned("table", name, made, (), (method,), config.seeds)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(EvaluateConfig, config=(tyro.conf.OmitArgPrefixes,)))
