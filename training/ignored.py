"""Options that are set and that a run does not look at: which kinds of run look at which, as data.

A run is of several kinds: how its method learns, what its orders say, which market it is in.
"""

from __future__ import annotations

import dataclasses

from training.config import TrainConfig
from training.methods import METHODS

LOOKED_AT: dict[str, dict[str, str]] = {
    "network": {
        "rounds": "talks",
        "intention": "intends learned-q",
        "key": "attention imagination",
        "message": "speaks",
        "imagined": "imagination",
        "gate": "gated",
    },
    "reward": {
        "alpha": "dense",
        "penalised_from": "pathwise",
        "penalised_fully": "pathwise",
        "scale": "rewarded",
    },
    "basket": {"*": "sample bars", "buy_share": "sided"},
    "ppo": {
        "*": "ppo",
        "q": "credited",
        "attribution": "credited-earlier",
        "attribution_warmup": "credited-earlier",
        "max_grad_norm": "ppo ddqn",
    },
    "pathwise": {"*": "pathwise", "slope_attribution": "pathwise-earlier"},
    "ddqn": {"*": "ddqn"},
    "": {
        "price_limit_bp": "bars",
        "window": "bars",
        "bars_a_day": "sample",
        "bars_per_step": "sample bars",
        "credit": "rewarded",
        "shaped": "rewarded",
        "held_out_days": "sample lab",
    },
}
"""By part: the kinds of run that look at an option, at all others of the part (*); else every run
does. Conflicts (sigma) and weight count where weights are chosen, whatever trains."""


def kinds(config: TrainConfig) -> set[str]:
    """What ``config`` is, in the words of LOOKED_AT."""
    method, rounds = METHODS[config.method], config.network.rounds
    market = "lab" if config.lab is not None else "sample" if config.bars is None else "bars"
    speaks, dense = method.channel is not None and rounds > 0, method.reward == "dense"
    earlier = speaks and rounds > 1 and method.decides_each_round
    pathwise, credited = method.learns == "pathwise", method.attribution != "none"
    known = {
        method.learns: True,
        market: True,
        "talks": method.channel is not None,
        "speaks": speaks,
        str(method.channel): speaks,
        "intends": speaks and method.intends,
        "gated": speaks and method.gated,
        "credited": credited,
        "credited-earlier": credited and earlier,
        "learned-q": credited and config.ppo.q == "learned",
        "pathwise-earlier": pathwise and earlier,
        "dense": dense,
        "rewarded": dense and not pathwise,
        "sided": market != "lab" and config.basket.kind not in ("rebalance", "one_sided"),
    }
    return {kind for kind, is_so in known.items() if is_so}


def ignored(config: TrainConfig) -> list[str]:
    """Options of ``config`` that are not as usual and that neither its method nor its market looks
    at."""
    of, plain, found = kinds(config), TrainConfig(), []
    for part, lookers in LOOKED_AT.items():
        held, usual = (getattr(each, part) if part else each for each in (config, plain))
        for name in (field.name for field in dataclasses.fields(held)):
            asked = lookers.get(name, lookers.get("*"))
            unheard = asked is not None and of.isdisjoint(asked.split())
            if unheard and getattr(held, name) != getattr(usual, name):
                found.append(name)
    return found
