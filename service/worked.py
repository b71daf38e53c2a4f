"""How orders and a day are to be worked, as it was asked: the core's numbers back on the wire.

Imports wire and the core. The other way is ordering.py and opening.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from service.atoms import AUCTIONS
from service.core.orders import Orders, plain_style
from service.core.units import PRICE_SCALE
from service.live import LiveDay
from service.wire import LimitFields


def style_columns(orders: Orders, at: np.ndarray) -> dict[str, list[Any]]:
    """The style of the orders numbered ``at`` by its columns on the wire; None for none."""
    style = orders.style or plain_style(orders.side)
    shares = {
        name: [share or None for share in getattr(style, name)[at].tolist()]
        for name in ("participation_ppm_min", "participation_ppm_max")
    }
    return {
        "urgency_pct": style.urgency_pct[at].tolist(),
        "completion": ["BEST_EFFORT" if flag else "MUST" for flag in style.best_effort[at]],
        **shares,
        "would_px": [px / PRICE_SCALE or None for px in style.would_px[at].tolist()],
        "would_ppm": style.would_ppm[at].tolist(),
        "min_qty": style.min_qty[at].tolist(),
        "auction": [AUCTIONS[bits] for bits in style.auction[at].tolist()],
    }


def bounds(live: LiveDay) -> dict[str, Any]:
    """The limits of the day, those that were left out too (None for none), and what is held."""
    rules, terms = live.day.rules, live.terms
    asked = {name: getattr(rules, name, None) for name in LimitFields.model_fields}
    limits = asked | {"snapshot_age_s_max": terms.snapshot_age_s_max}
    return {"limits": limits, "holdings": terms.holdings}
