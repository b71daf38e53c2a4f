"""On prices that nobody can foresee, nobody earns: not by chance, not by any option.

Bars here hold one price each, an exact martingale in ticks, so that the mean of what a policy pays
over TWAP is zero by optional stopping, in currency. The paper's EG is a ratio to a TWAP that moves
with the prices paid; its small bias is measured beside it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from service.core import metrics
from service.core.day import Day
from service.core.orders import BUY, SELL
from service.core.policy import Intent, grid_wish
from service.play.sample import SampleMarket
from training.episodes import BasketConfig, EpisodeBatch, draw, to_device
from training.markets import generated
from training.simulator import play

DAYS, BARS, WIDTH, ORDERS = 1_500, 24, 3, 10
BAR_SD = 0.02 / BARS**0.5
"""Of a bar, so that a day moves 2%."""


def driftless(seed: int, **basket: Any) -> EpisodeBatch:
    """Days of independent symbols whose price is a random walk in ticks: a martingale."""
    rng = np.random.default_rng(seed)
    days = generated(rng, SampleMarket(), DAYS, BARS, WIDTH, ORDERS)
    start = days.open[:, :1]
    move = np.rint(start * BAR_SD).astype(np.int64) * rng.choice([-1, 1], days.close.shape)
    price = start + np.cumsum(move, axis=1)
    flat = {name: price for name in ("high", "low", "close", "price")}
    opened = np.concatenate([start, price[:, :-1]], axis=1)
    # fees of rounding to a minor unit are not slippage: count money in ticks
    options = {"orders": (ORDERS, ORDERS), "ticks_per_minor": 1, "cash_buffer_bp": 2_000}
    days = replace(days, open=opened, **flat)
    return draw(rng, days, BasketConfig(**(options | basket)), DAYS)


def random_policy(seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)

    def decide(day: Day, _: Any) -> Intent:
        shape = day.orders.side.shape
        action = torch.randint(0, 8, shape, generator=generator) - 3  # seldom, then all sizes
        return Intent(grid_wish(day, action.clamp(min=0)))

    return decide


def momentum(day: Day, _: Any) -> Intent:
    """Trades half when the price is better than the mean so far, nothing while it is not."""
    better = day.orders.side * (day.last_px * day.intervals - day.sum_px) > 0
    return Intent(grid_wish(day, 2 * better.to(torch.int64)))


def slippage_bp(batch: EpisodeBatch, day: Day) -> torch.Tensor:
    """What each order got over TWAP, in bp of its value at the open; ``[B, N]``."""
    final = day.orders.order_qty.to(torch.float64)
    paid = metrics.average_price(day) - metrics.twap_price(day)
    whole = batch.orders.order_qty.clamp(min=1).to(torch.float64)
    share = final / whole  # a target that shrank counts as much less
    opened = batch.bars.open[:, 0].to(torch.float64)
    return 1e4 * day.orders.side * share * paid / opened


def mean_and_error(values: torch.Tensor) -> tuple[float, float]:
    return float(values.mean()), float(values.std() / values.numel() ** 0.5)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cap": {"volume_cap_ppm": 3_000},
    "tight cash": {"margin_bp": (0.0, 0.0), "buy_share": (0.7, 0.7)},
    "changes": {
        "arrive_share": (0.5, 0.5),
        "amend_share": (0.5, 0.5),
        "cancel_share": (0.2, 0.2),
        "volume_cap_ppm": 3_000,
    },
    "mixed": {"kind": "mixed"},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("policy", ["random", "momentum"])
def test_slippage_in_currency_is_zero(name: str, policy: str) -> None:
    batch = to_device(driftless(3, **OPTIONS[name]))
    day = play(batch, random_policy(1) if policy == "random" else momentum)
    earned = slippage_bp(batch, day)
    for side in (BUY, SELL):
        mean, error = mean_and_error(earned[day.orders.live & (day.orders.side == side)])
        assert abs(mean) < 3 * error
        assert error < 2.0


def test_the_ratio_of_eg_is_biased_by_its_own_variance() -> None:
    """EG divides by a TWAP that is high when later prices are: who trades early seems to gain on
    sales and to lose on buys, by about a basis point, and on average over both by nothing."""
    batch = to_device(driftless(4))
    batch = replace(batch, cash_minor=20 * batch.cash_minor)  # no buy waits for a sale

    def at_once(day: Day, _: Any) -> Intent:
        return Intent(day.orders.order_qty)

    day = play(batch, at_once)
    eg, money = metrics.execution_gain_bp(day), slippage_bp(batch, day)
    bias = {}
    for side in (BUY, SELL):
        mean, error = mean_and_error((eg - money)[day.orders.side == side])
        bias[side] = mean
        assert error < 0.03
    # minus the covariance of (first interval - TWAP) with TWAP, over the price squared
    assert bias[SELL] == pytest.approx(1.09, abs=0.1)
    assert bias[BUY] == pytest.approx(-1.09, abs=0.1)
