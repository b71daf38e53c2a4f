"""What the simulator's market does: the prices at which buys reserve cash, and fills.

Both rules are the core's; this module only says which applies in which setting.
"""

from __future__ import annotations

from service.core.day import Day
from service.core.fills import paper_fills
from service.core.limits import Protection, protection
from service.core.market import Fills, Snapshot
from service.core.orders import BUY, Proceeds
from service.core.units import namespace


def reservation(day: Day, coming: Snapshot) -> Protection:
    """Prices of the children of the ``coming`` interval; int64 ``[..., N]``.

    As the service does: protected above the last price. In the paper's setting cash is counted at
    the execution price itself, which is known only here; a sale that will not execute promises no
    proceeds.
    """
    if day.rules.proceeds is not Proceeds.SAME_STEP:
        return protection(day)
    xp = namespace(coming.price)
    trades = (coming.volume > 0) & ~coming.halted
    pays = xp.where(trades | (day.orders.side == BUY), coming.price, xp.zeros_like(coming.price))
    return Protection(coming.price, pays)


def execute(day: Day, coming: Snapshot) -> Fills:
    """What working volume gets in the interval: all of it at the interval price, within limits."""
    return paper_fills(day, coming)
