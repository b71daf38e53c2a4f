"""How sure a mean, a difference or a share is: 95% intervals over test days, and over seeds too.

Orders of one day share its market, so days are the unit, paired between methods. Over days an
interval is a bootstrap. Over seeds there are six of them or three, too few to resample: percentiles
of six covered 88% where they said 95%, and of three 82%. There it is Student's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from training.scores import Floats

RESAMPLES = 10_000
BATCH = 500
"""Resamples that are held in memory at once."""
LEVEL = 0.95
DAYS_LEAST = 10
"""Fewer days have no interval: a bootstrap of 5 covers 83% where it says 95%."""
DAYS_MANY = 100
"""Fewer days get the bias-corrected bootstrap, which is slower."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95% interval, in the unit of what it is of; NaN where there is none."""

    value: float
    low: float
    high: float


def paired_interval(a: Floats, b: Floats, seed: int = 0) -> Interval:
    """Mean of ``a`` less ``b`` over the same days; ``[D]``, or ``[S, D]`` of S runs each.

    Runs are averaged by day first: the interval says what other days would change, for these runs.
    """
    difference = np.atleast_2d(a).mean(axis=0) - np.atleast_2d(b).mean(axis=0)
    return _bootstrap((difference,), np.mean, seed)


def share_interval(gain: Floats, bound: Floats, seed: int = 0) -> Interval:
    """Mean of ``gain`` over mean of ``bound``, both of the same days ``[D]`` (gain: ``[S, D]``)."""

    def ratio(top: Floats, bottom: Floats, axis: int = -1) -> Floats:
        return np.asarray(top.mean(axis=axis) / bottom.mean(axis=axis))

    return _bootstrap((np.atleast_2d(gain).mean(axis=0), bound), ratio, seed)


def _bootstrap(samples: tuple[Floats, ...], statistic: Any, seed: int) -> Interval:
    value, days = float(statistic(*samples)), len(samples[0])
    if days < DAYS_LEAST:
        return Interval(value, float("nan"), float("nan"))
    if all(np.allclose(sample, sample[..., :1], rtol=1e-9, atol=1e-12) for sample in samples):
        return Interval(value, value, value)
    found = stats.bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        batch=BATCH,
        vectorized=True,
        paired=True,
        axis=-1,
        confidence_level=LEVEL,
        method="percentile" if days >= DAYS_MANY else "BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(value, float(found.low), float(found.high))


def paired_interval_of_runs(a: Floats, b: Floats) -> Interval:
    """As :func:`paired_interval`, for other days and other seeds of training too; ``[S, D]`` each.

    Welch's t of three independent variances: of the paired day differences, and of the runs of
    either side; what is given as one run, as a rule is, has no variance of its own. The noise of
    the test days is in the variance of the runs as well, so the interval is a little wide.
    """
    a, b = np.atleast_2d(a), np.atleast_2d(b)
    value, parts = float(a.mean() - b.mean()), [a.mean(axis=0) - b.mean(axis=0)]
    parts += [each.mean(axis=1) for each in (a, b) if len(each) > 1]
    if a.shape[1] < DAYS_LEAST:
        return Interval(value, float("nan"), float("nan"))
    half = _welch_half_width(parts)
    return Interval(value, value - half, value + half)


def _welch_half_width(samples: list[Floats]) -> float:
    """Half of the interval of a sum of independent means (Welch 1947, Satterthwaite's degrees)."""
    variance = np.array([each.var(ddof=1) / len(each) for each in samples])
    degrees = np.array([len(each) - 1 for each in samples])
    if not variance.any():
        return 0.0
    freedom = variance.sum() ** 2 / (variance**2 / degrees).sum()
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(variance.sum()))
