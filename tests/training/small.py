"""Small batches for the tests: random episodes, and one day that is solved by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from service.core.limits import CHILD_NOTIONAL_MINOR_MAX, CHILD_QTY_MAX, PARTICIPATION_PPM_MAX
from service.core.orders import BUY, SELL, Orders, Proceeds, Rules
from service.play.sample import SampleMarket
from training.episodes import Bars, BasketConfig, EpisodeBatch, draw
from training.markets import generated


def episodes(seed: int, days: int = 6, **basket: Any) -> EpisodeBatch:
    """Generated days of 12 bars in 4 steps, with orders of unequal number."""
    rng = np.random.default_rng(seed)
    config = BasketConfig(**({"orders": (3, 7), "margin_bp": (0.0, 300.0)} | basket))
    market = generated(rng, SampleMarket(), days, 12, 3, config.orders[1])
    return draw(rng, market, config, days)


def by_hand() -> EpisodeBatch:
    """Two buys of 8 and a sale of 8 shares in 4 steps of one bar, and cash for 12 shares.

    The price is 10, 11, 12 and 10 in steps 1 to 4, each known only after its step.
    """
    shape = (1, 3)
    ones = np.ones(shape, dtype=np.int64)
    price = np.array([100_000, 110_000, 120_000, 100_000])[None, :, None] * ones[:, None]
    orders = Orders(
        side=np.array([[BUY, BUY, SELL]]),
        order_qty=8 * ones,
        lot=ones,
        limit_px=0 * ones,
        start_step=ones,
        end_step=4 * ones,
        live=ones > 0,
        prev_close=100_000 * ones,
        adv_qty=0 * ones,
        vol_ppm=20_000 * ones,
        profile_ppm=np.full((1, 4, 3), 250_000),
    )
    rules = Rules(
        steps=4,
        ticks_per_minor=100,
        cash_buffer_bp=0,
        child_qty_max=CHILD_QTY_MAX,
        child_notional_minor_max=CHILD_NOTIONAL_MINOR_MAX,
        participation_ppm_max=PARTICIPATION_PPM_MAX,
        proceeds=Proceeds.REPORTED,
    )
    bars = Bars(price, price, price, price, price, 0 * price + 1_000)
    return EpisodeBatch(orders, rules, np.array([12_000]), bars, 1)
