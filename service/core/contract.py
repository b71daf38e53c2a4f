"""What a policy and the core must agree on. Imports units only.

A network is trained against the feature list, the action grid and the observation rules below.
:func:`fingerprint` condenses them; it is stamped into every exported model, and the service
refuses a model whose stamp differs. Change the meaning of a feature: raise OBSERVE_VERSION.
"""

from __future__ import annotations

import hashlib
import json

from service.core.units import PRICE_SCALE, QTY_MAX

N_MAX = 1_000
"""Orders in one day."""
STEPS_MAX = 1_000
"""Decision steps in one day."""
LOT_MAX = 1_000_000
GRID_QUARTERS = (0, 1, 2, 3, 4)
"""The paper's action grid {0, .25, .5, .75, 1} of the target, in quarters."""
GRID_DENOMINATOR = 4
ACTIONS = len(GRID_QUARTERS)
OBSERVE_VERSION = 1

FEATURES = (
    "side",
    "elapsed",
    "remaining",
    "behind_even",
    "last_chance",
    "arrival_move",
    "arrival_move_relative",
    "last_move",
    "last_move_relative",
    "twap_move",
    "twap_move_relative",
    "range_position",
    "last_range",
    "overnight_gap",
    "volume_surprise",
    "size_in_volume",
    "volatility",
    "tradable",
    "cash_to_need",
    "sales_to_need",
    "share_of_basket",
    "buy_weight",
)
"""Per-order inputs of the policy in their order; service/core/observe.py defines each."""


def fingerprint() -> str:
    """SHA-256 (hex) of everything above that a trained network depends on."""
    agreed = {
        "features": FEATURES,
        "grid": GRID_QUARTERS,
        "observe": OBSERVE_VERSION,
        "price_scale": PRICE_SCALE,
        "qty_max": QTY_MAX,
    }
    return hashlib.sha256(json.dumps(agreed, sort_keys=True).encode()).hexdigest()
