"""What a run is known by: the options that decide what it learns, and a hash of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from training.config import TrainConfig
from training.methods import METHODS

NOT_LEARNING = frozenset(
    "runs models name tensorboard checkpoint_every held_out_days threads device".split()
)
"""Options that change nothing of what is learned; the rest identify a run."""
ADDED = (
    ("pathwise", "risk_per_bp", 0.0),
    ("network", "gate", 16),
    ("pathwise", "slope_bp_max", 0.0),
    ("basket", "latency_bars", 0),
    ("basket", "margin_on", "need"),
    ("reward", "weight", "order"),
    ("", "window", 0),
)
"""Options that came later, by part, each with the value that means what was done before it came:
with it runs keep the name that they had."""


def identity(config: TrainConfig) -> str:
    """A name for all that decides what a run learns: method, seed and a hash of the options."""
    text = json.dumps(learned_options(config), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{config.method}-k{config.network.rounds}-s{config.seed}-{digest}"


def learned_options(config: TrainConfig) -> dict[str, Any]:
    """The options that decide what is learned, as JSON has them."""
    options = dataclasses.asdict(config).items()
    kept = {name: value for name, value in options if name not in NOT_LEARNING}
    if METHODS[config.method].learns != "pathwise":  # they have the whole penalty from the start
        kept["reward"] |= {"penalised_from": 0.0, "penalised_fully": 0.0}
    for group in {part for part, _, _ in ADDED if part}:
        kept[group] = as_before(group, kept[group])
    return dict(json.loads(json.dumps(as_before("", kept), default=by_name)))


def as_before(group: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a part without those of ADDED that mean what was done before they came."""
    later = {name: before for part, name, before in ADDED if part == group}
    return {k: value for k, value in options.items() if k not in later or value != later[k]}


def by_name(value: object) -> str:
    """A path as its folder and its name, which do not depend on where a project lies."""
    if not isinstance(value, Path):
        return str(value)
    whole = value.resolve()
    return f"{whole.parent.name}/{whole.name}"
