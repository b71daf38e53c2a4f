"""Methods side by side on the same days, with paired intervals over days.

``python -m training.evaluate`` scores the rules and a shipped model on generated days that no run
trains on, or on the last days of a Parquet file. Metrics are those of the core (paper.md section
6). EG is a mean over orders, so its interval resamples whole days: orders of one day share its
market.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from service.core import metrics
from service.core.baselines import BASELINES
from service.core.day import Day
from service.play.sample import SampleMarket
from training.episodes import BasketConfig, EpisodeBatch, draw, take_day
from training.markets import MarketDays, from_file, generated
from training.simulator import RewardConfig, play

Floats = npt.NDArray[np.float64]

HELD_OUT_SEED = 20_231_107
"""Seed of the generated days of evaluation; training seeds its own days with another stream."""
HELD_OUT_SHARE = 0.15
"""Share of a file's days, its last, that training does not see."""
RESAMPLES = 10_000
PLAY_BASKET = BasketConfig()
"""What the demo trades: 20 orders, half of them buys, 2% of spare cash."""
BASKETS_A_DAY = 8
"""Baskets drawn from each day of a file; a generated day has one."""


@dataclass(frozen=True, slots=True)
class Score:
    """One method on D days: ``day_eg_bp`` and ``day_conflicts`` float64 ``[D]``, and means."""

    day_eg_bp: Floats
    day_conflicts: Floats
    eg_bp: float
    toc_pct: float
    pos: float
    glr: float
    arr_pct: float
    slippage_arrival_bp: float
    filled_pct: float

    def objective_bp(self, sigma: float = RewardConfig().sigma) -> float:
        """What models are compared by: EG less the paper's cash penalty of every conflict."""
        return self.eg_bp - 1e4 * sigma * float(self.day_conflicts.mean())


def score(finished: list[Day]) -> Score:
    """The metrics of days after their last interval, NumPy ``[D, N]`` each; the same D days."""
    live = np.stack([day.orders.live for day in finished])
    eg = np.stack([metrics.execution_gain_bp(day) for day in finished])
    arrival = np.stack([metrics.slippage_arrival_bp(day) for day in finished])
    filled = np.stack([metrics.filled_share(day) for day in finished])
    conflicts = np.stack([day.conflicts for day in finished]).mean(axis=0)
    gains, losses = eg[live & (eg > 0)], eg[live & (eg < 0)]
    mean = float(eg[live].mean())
    return Score(
        day_eg_bp=(eg * live).sum(axis=(0, 2)) / live.sum(axis=(0, 2)),
        day_conflicts=conflicts.astype(np.float64),
        eg_bp=mean,
        toc_pct=100 * float(conflicts.mean()) / finished[0].rules.steps,
        pos=float((eg[live] > 0).mean()),
        glr=float(gains.mean() / -losses.mean()) if len(gains) and len(losses) else 1.0,
        arr_pct=100 * float((1 + 0.1 * mean * 1e-4) ** 250 - 1),
        slippage_arrival_bp=float(arrival[live].mean()),
        filled_pct=100 * float(filled[live].mean()),
    )


def interval_bp(difference: Floats, seed: int = 0) -> tuple[float, float]:
    """95% percentile bootstrap interval of the mean of paired day differences ``[D]``."""
    rng = np.random.default_rng(seed)
    days = len(difference)
    picks = (rng.integers(0, days, (100, days)) for _ in range(RESAMPLES // 100))
    means = np.concatenate([difference[pick].mean(axis=1) for pick in picks])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def held_out(count: int, bars: Path | None, bars_per_step: int, bars_a_day: int) -> MarketDays:
    """Days that training never sees: generated ones, or the last of a file."""
    if bars is not None:
        return split(from_file(bars, bars_per_step))[1]
    rng = np.random.default_rng(HELD_OUT_SEED)
    symbols = PLAY_BASKET.orders[1]
    return generated(rng, SampleMarket(), count, bars_a_day, bars_per_step, symbols)


def split(days: MarketDays) -> tuple[MarketDays, MarketDays]:
    """The days of a file to train on, and the later ones to hold out."""
    first = len(days.close) - max(1, round(HELD_OUT_SHARE * len(days.close)))
    return days.only(slice(0, first)), days.only(slice(first, None))


def baskets(days: MarketDays, real: bool, config: BasketConfig) -> list[EpisodeBatch]:
    """Episodes on every day once (generated) or with several baskets (real), the same each time."""
    rng = np.random.default_rng(HELD_OUT_SEED)
    return [draw(rng, days, config, len(days.close)) for _ in range(BASKETS_A_DAY if real else 1)]


def play_day_by_day(batch: EpisodeBatch, policy: Callable[[Day, Any], Any]) -> Day:
    """What :func:`play` answers, one day at a time as the service decides: for ONNX policies."""
    days = [play(take_day(batch, at), policy) for at in range(len(batch.cash_minor))]
    stacked: Day = stack(days)
    return stacked


def stack(days: list[Any]) -> Any:
    """Frozen values of equal shapes as one value with a leading axis."""
    first = days[0]
    changes: dict[str, Any] = {}
    for name in first.__dataclass_fields__:
        parts = [getattr(day, name) for day in days]
        if hasattr(parts[0], "dtype"):
            changes[name] = np.stack(parts)
        elif name == "orders":
            changes[name] = stack(parts)
        else:
            changes[name] = parts[0]
    return type(first)(**changes)


def rules(batches: list[EpisodeBatch]) -> dict[str, Score]:
    """The rule-based methods."""
    return {
        name: score([play(batch, policy) for batch in batches])
        for name, policy in BASELINES.items()
    }


def report(scores: dict[str, Score]) -> list[dict[str, float | str | list[float]]]:
    """One record per method, with its gain over each rule as a paired interval."""
    return [dict(_record(name, found, scores)) for name, found in scores.items()]


def _record(
    name: str, found: Score, scores: dict[str, Score]
) -> Iterator[tuple[str, float | str | list[float]]]:
    yield "method", name
    for field in ("eg_bp", "toc_pct", "pos", "glr", "arr_pct", "slippage_arrival_bp", "filled_pct"):
        yield field, round(getattr(found, field), 4)
    for rule in BASELINES:
        if rule in scores and rule != name:
            low, high = interval_bp(found.day_eg_bp - scores[rule].day_eg_bp)
            yield f"eg_over_{rule}_bp", [round(low, 3), round(high, 3)]


def table(records: list[dict[str, Any]], title: str) -> Table:
    """The records for people."""
    made = Table(title=title)
    for column in ("method", "EG bp", "95% over TWAP", "TOC %", "POS", "GLR", "filled %"):
        made.add_column(column, justify="left" if column == "method" else "right")
    for row in records:
        low_high = row.get("eg_over_twap_bp")
        made.add_row(
            str(row["method"]),
            f"{row['eg_bp']:.2f}",
            "" if low_high is None else f"{low_high[0]:.2f} .. {low_high[1]:.2f}",
            f"{row['toc_pct']:.2f}",
            f"{row['pos']:.3f}",
            f"{row['glr']:.2f}",
            f"{row['filled_pct']:.2f}",
        )
    return made


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """Score the rules and a shipped model on held-out days."""

    bars: Path | None = None
    """Parquet file whose last days are scored; none: the generated market."""
    days: int = 1_000
    """Generated days."""
    bars_a_day: int = 48
    """Bars of a generated day."""
    bars_per_step: int = 6
    """Bars in one decision step."""
    models: Path = Path("models")
    """Folder of the shipped models."""
    name: str = "iac"
    """Model to score beside the rules."""
    out: Path | None = None
    """Write the records here as JSON."""


def main(config: EvaluateConfig) -> list[dict[str, Any]]:
    """Score, show and perhaps write."""
    from training.export import served  # loads torch, which nothing else here needs

    days = held_out(config.days, config.bars, config.bars_per_step, config.bars_a_day)
    batches = baskets(days, config.bars is not None, PLAY_BASKET)
    scores = rules(batches)
    policy = served(config.models, config.name)
    if policy is None:
        raise SystemExit(f"{config.models} holds no usable model {config.name!r}; train one")
    scores[config.name] = score([play_day_by_day(batch, policy) for batch in batches])
    records = report(scores)
    where = config.bars.name if config.bars else "generated market"
    Console().print(table(records, f"{len(days.close)} held-out days, {where}"))
    if config.out:
        config.out.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    return records


if __name__ == "__main__":
    import tyro

    main(tyro.cli(EvaluateConfig))
