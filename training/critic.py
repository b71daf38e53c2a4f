"""How well the value of an intention is known: Q against returns as they came.

Attribution rests on Q(s, a_k), the return to be expected if all orders did in this step what they
intend after round k and went on by the policy. The test does just that: from states of sampled
days every round's joint intention is executed in a branch of the simulator and the day is played
out by the sampled policy, a few times. Prices of a day are the same in all branches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from service.core.day import Day
from service.core.observe import observe
from training.arenas import TEST_SEED, Arena
from training.config import TrainConfig
from training.episodes import to_device
from training.learner import learner
from training.rollout import Player, can_act, sampler
from training.run import identity
from training.scores import Floats
from training.simulator import Market, begin, prepare

PLAYED_OUT = 4
"""Times that a day is played out from each intention; their mean is compared."""
BINS = 10
"""Bins of equal numbers of values in the calibration."""


@torch.no_grad()
def critic_errors(
    config: TrainConfig, where: Arena, days: int
) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Rank correlation by round, and calibration, of the finished run of ``config``.

    ``rank_correlation`` of Q itself; ``_added`` of what a round's intention adds to the one before
    (the first: to V), which is what trains it. In units of the training reward.
    """
    batch = to_device(where.test(days).batches[0], config.device)
    market = prepare(batch)
    player, day, rows = _restored(config, market), begin(batch, market), []
    for _ in range(batch.rules.steps):
        intended = _intended(player, day)
        rows.append(_compared(player, day, intended))
        day = player.live(day, intended[-1])[0].day
    # [K + 1, values]: V first, then Q of each round
    known, came = (np.concatenate([row[at] for row in rows], axis=1) for at in (0, 1))
    record = {
        "q": config.ppo.q,
        "rank_correlation": [_rank(q, g) for q, g in zip(known[1:], came[1:], strict=True)],
        "rank_correlation_added": [
            _rank(q, g) for q, g in zip(np.diff(known, axis=0), np.diff(came, axis=0), strict=True)
        ],
        "error_rms": [float(x) for x in np.sqrt(((known - came)[1:] ** 2).mean(axis=1))],
        "calibration": _calibration(known[1:].ravel(), came[1:].ravel()),
        "days": days,
    }
    return record, {}


def _restored(config: TrainConfig, market: Market) -> Player:
    """The networks of a finished run as they were after its last iteration."""
    saved = config.runs / identity(config) / "checkpoint.pt"
    made: Any = learner(config)
    state = torch.load(saved, map_location=config.device, weights_only=False)
    made.load_state_dict(state["learner"])
    generator = torch.Generator(device=config.device).manual_seed(TEST_SEED)
    return Player(made.network.eval(), market, config, sampler(generator), made.action_value)


def _intended(player: Player, day: Day) -> list[Tensor]:
    """What all orders intend after each round; K of ``[B, N]``, the last is executed."""
    seen = observe(day)
    return list(player.network.exchange(seen.features, seen.live, player.choose).actions.unbind(-2))


def _played_out(player: Player, day: Day, action: Tensor) -> Tensor:
    """Return ``[B, N]`` of ``action`` now and the sampled policy afterwards."""
    step, total = player.live(day, action)
    while step.day.step < day.rules.steps:
        step, reward = player.live(step.day, _intended(player, step.day)[-1])
        total = total + reward
    return total


def _compared(player: Player, day: Day, intended: list[Tensor]) -> tuple[Floats, Floats]:
    """V and all Q, and the returns that came, of orders that can act; ``[K + 1, values]`` each.

    The return of V is that of an action drawn by the policy itself.
    """
    acts, seen = can_act(day), observe(day)
    guesses = [player.value(seen), *(player.q(day, seen, action) for action in intended)]
    came = [torch.zeros_like(guesses[0]) for _ in guesses]
    for _ in range(PLAYED_OUT):
        tried = [_intended(player, day)[-1], *intended]
        for at, action in enumerate(tried):
            came[at] = came[at] + _played_out(player, day, action) / PLAYED_OUT
    return _picked(guesses, acts), _picked(came, acts)


def _picked(values: list[Tensor], chosen: Tensor) -> Floats:
    return np.stack([value[chosen].double().cpu().numpy() for value in values])


def _rank(known: Floats, came: Floats) -> float:
    if len(known) < 2 or np.ptp(known) == 0 or np.ptp(came) == 0:
        return float("nan")
    return float(stats.spearmanr(known, came).statistic)


def _calibration(known: Floats, came: Floats) -> list[dict[str, float]]:
    """Means of Q and of what came in bins of Q."""
    order = np.argsort(known)
    return [
        {"q": float(known[part].mean()), "return": float(came[part].mean()), "count": len(part)}
        for part in np.array_split(order, BINS)
        if len(part)
    ]
