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
from training.identity import identity
from training.learner import learner
from training.rollout import Player, can_act, sampler
from training.run import loaded
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
    (the first: to V), which is what trains it; ``_untrained`` what networks know that never
    learned, since a branch sees the day's own prices. In units of the training reward.
    """
    batch = to_device(where.test(days).batches[0], config.device)
    market = prepare(batch)
    player, day, rows = _player(config, market, trained=True), begin(batch, market), []
    critics = [player, _player(config, market, trained=False)]
    for _ in range(batch.rules.steps):
        intended = _intended(player, day)
        rows.append(_compared(critics, day, intended))
        day = player.live(day, intended[-1])[0].day
    # [K + 1, values]: V first, then Q of each round
    known, naive, came = (np.concatenate(part, axis=1) for part in zip(*rows, strict=True))
    record = {
        "q": config.ppo.q,
        **_ranks(known, came),
        **{f"{name}_untrained": ranks for name, ranks in _ranks(naive, came).items()},
        "error_rms": [float(x) for x in np.sqrt(((known - came)[1:] ** 2).mean(axis=1))],
        "calibration": _calibration(known[1:].ravel(), came[1:].ravel()),
        "days": days,
    }
    return record, {}


def _player(config: TrainConfig, market: Market, *, trained: bool) -> Player:
    """The networks of a finished run as they were after its last iteration, or before the first."""
    made: Any = learner(config)
    if trained:
        saved = config.runs / identity(config) / "checkpoint.pt"
        made.load_state_dict(loaded(saved, config.device)["learner"])
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


def _compared(critics: list[Player], day: Day, intended: list[Tensor]) -> list[Floats]:
    """V and all Q of each critic, then the returns that came when the first one played on, of
    orders that can act; ``[K + 1, values]`` each.

    The return of V is that of an action drawn by the policy itself.
    """
    acts, seen, player = can_act(day), observe(day), critics[0]
    guesses = [
        [critic.value(seen), *(critic.q(day, seen, action) for action in intended)]
        for critic in critics
    ]
    came = [torch.zeros_like(guess) for guess in guesses[0]]
    for _ in range(PLAYED_OUT):
        tried = [_intended(player, day)[-1], *intended]
        for at, action in enumerate(tried):
            came[at] = came[at] + _played_out(player, day, action) / PLAYED_OUT
    return [*(_picked(guess, acts) for guess in guesses), _picked(came, acts)]


def _picked(values: list[Tensor], chosen: Tensor) -> Floats:
    return np.stack([value[chosen].double().cpu().numpy() for value in values])


def _ranks(known: Floats, came: Floats) -> dict[str, list[float]]:
    """Rank correlations by round: of Q, and of what a round's intention adds."""
    each = zip(known[1:], came[1:], strict=True)
    added = zip(np.diff(known, axis=0), np.diff(came, axis=0), strict=True)
    return {
        "rank_correlation": [_rank(q, g) for q, g in each],
        "rank_correlation_added": [_rank(q, g) for q, g in added],
    }


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
