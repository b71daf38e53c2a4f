"""What values options may have: one table, checked by one loop before anything runs.

What is refused here could only fail later, or train and score what cannot be.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from service.core.contract import LOT_MAX, N_MAX, STEPS_MAX
from service.core.limits import CASH_BUFFER_BP_MAX
from service.core.units import BP, PPM, PRICE_SCALE
from training.errors import Refused

Bound = tuple[str, float, float]
"""An option, its least and its largest value; of a range both ends lie between them."""

ROUNDS_MAX = 10
"""Most rounds of exchange that a network may have."""
COUNT_MAX = 1_000_000
"""Iterations whose random numbers are a seed's own (config.seed_at); no count needs more."""
SEED_MAX = 2**32 - 1
"""With it the seeds of all iterations fit in int64."""
WIDTH_MAX = 4_096
"""Widest layer: beyond it a slip of the hand asks for more memory than there is."""
BARS_MAX = 1_440
"""Bars of a day: files hold none shorter than a minute."""
WINDOW_MAX = 1_000
"""Windows before the last: a file of bars has far fewer."""
THREADS_MAX = 1_024
"""Threads or processes at a time."""
MARGIN_BP_MAX = 10 * BP
"""With it what a basket of CASH_MINOR_MAX needs stays inside int64."""
ABOVE_0 = 1e-12
"""Least of what may not be 0."""
FINITE = 1e30
"""Largest float: float32 ends at 3e38."""

TRAINED: dict[str, tuple[Bound, ...]] = {
    "": (
        ("seed", 0, SEED_MAX),
        ("iterations", 1, COUNT_MAX),
        ("days", 1, COUNT_MAX),
        ("price_limit_bp", 0, BP),
        ("window", 0, WINDOW_MAX),
        ("bars_a_day", 1, BARS_MAX),
        ("bars_per_step", 1, BARS_MAX),
        ("held_out_days", 1, COUNT_MAX),
        ("checkpoint_every", 1, COUNT_MAX),
        ("select_every", 1, COUNT_MAX),
        ("threads", 1, THREADS_MAX),
    ),
    "network": (
        ("rounds", 0, ROUNDS_MAX),
        ("hidden", 1, WIDTH_MAX),
        ("intention", 1, WIDTH_MAX),
        ("key", 1, WIDTH_MAX),
        ("message", 1, WIDTH_MAX),
        ("imagined", 1, STEPS_MAX),
        ("gate", 1, WIDTH_MAX),
    ),
    "reward": (
        ("alpha", 0, FINITE),
        ("sigma", 0, FINITE),
        ("penalised_from", 0, 1),
        ("penalised_fully", 0, 1),
        ("scale", ABOVE_0, FINITE),
    ),
    "basket": (
        ("orders", 1, N_MAX),
        ("buy_share", 0, 1),
        ("margin_bp", -BP, MARGIN_BP_MAX),
        ("lot", 1, LOT_MAX),
        ("cash_buffer_bp", 0, CASH_BUFFER_BP_MAX),
        ("ticks_per_minor", 1, PRICE_SCALE),
        ("volume_cap_ppm", 0, PPM),
        ("latency_bars", 0, BARS_MAX - 1),
        ("arrive_share", 0, 1),
        ("amend_share", 0, 1),
        ("cancel_share", 0, 1),
    ),
    "ppo": (
        ("lr", ABOVE_0, FINITE),
        ("epochs", 1, COUNT_MAX),
        ("minibatches", 1, COUNT_MAX),
        ("gamma", 0, 1),
        ("lam", 0, 1),
        ("clip", ABOVE_0, FINITE),
        ("target_kl", 0, FINITE),
        ("attribution", 0, FINITE),
        ("attribution_warmup", 0, COUNT_MAX),
        ("entropy_coef", 0, FINITE),
        ("value_coef", 0, FINITE),
        ("max_grad_norm", ABOVE_0, FINITE),
    ),
    "pathwise": (
        ("slope_lr", ABOVE_0, FINITE),
        ("days_a_step", 1, COUNT_MAX),
        ("entropy_bp", 0, FINITE),
        ("slope_attribution", 0, FINITE),
        ("weight_decay", 0, FINITE),
        ("slope_norm_max", ABOVE_0, FINITE),
        ("slope_bp_max", 0, FINITE),
        ("risk_per_bp", 0, FINITE),
    ),
    "ddqn": (
        ("td_lr", ABOVE_0, FINITE),
        ("rollouts_kept", 1, COUNT_MAX),
        ("updates", 1, COUNT_MAX),
        ("rows", 1, COUNT_MAX),
        ("exploring", ABOVE_0, 1),
        ("epsilon_last", 0, 1),
    ),
}
"""Every number that a run is told, by the part that holds it."""

SHARED = ("days", "price_limit_bp", "window", "bars_a_day", "bars_per_step", "orders")
EVALUATED = [bound for part in ("", "basket") for bound in TRAINED[part] if bound[0] in SHARED]
"""What an evaluation is told as well."""


def within(holder: Any, bounds: Iterable[Bound]) -> None:
    """Refuse the first value of ``holder`` that is out of its bounds, or a range that falls."""
    for name, least, largest in bounds:
        value = getattr(holder, name)
        ends = value if isinstance(value, tuple) else (value,)
        if not least <= ends[0] <= ends[-1] <= largest:  # nor is NaN
            pair = "the least, then the largest, both from " if len(ends) > 1 else ""
            shown = " ".join(str(end).removesuffix(".0") for end in ends)
            raise Refused(f"{as_typed(name)} is {shown}; choose {pair}{least:,} to {largest:,}")


def as_typed(name: str) -> str:
    """An option as it is given on the command line."""
    return f"--{name.replace('_', '-')}"
