"""What an order's own style makes of a policy's wish, before any rule of safety.

Imports baselines, day, limits, reasons and units. These stages may raise a wish or lower it;
whatever they ask for, allocation cuts to what is allowed.
"""

from __future__ import annotations

from service.core.baselines import almgren_chriss, twap
from service.core.day import Day
from service.core.limits import participation_qty
from service.core.orders import BUY, Style
from service.core.reasons import Reason, Stage
from service.core.units import PPM, Array, namespace

PERCENT = 100


def styled(day: Day, wish: Array) -> tuple[Array, tuple[Stage, ...]]:
    """The wish (int64 ``[..., N]``) as each order wants to be worked, and the stages to it."""
    style = day.orders.style
    if style is None:
        return wish, ()
    urgent = _urgent(day, style, wish)
    would = _would(day, style, urgent.after)
    least = _at_least(day, style, would.after)
    return least.after, (urgent, would, least)


def _urgent(day: Day, style: Style, wish: Array) -> Stage:
    """wish + |u| (schedule - wish): even for u < 0, front-loaded (Almgren-Chriss) for u > 0."""
    xp = namespace(wish)
    schedule = xp.where(style.urgency_pct > 0, almgren_chriss(day).wish, twap(day).wish)
    moved = wish + (schedule - wish) * abs(style.urgency_pct) // PERCENT
    return Stage(Reason.URGENCY, wish, moved, wish, schedule)


def _would(day: Day, style: Style, wish: Array) -> Stage:
    """At the would price or better, at least its share of what remains."""
    xp, last = namespace(wish), day.last_px
    better = xp.where(day.orders.side == BUY, last <= style.would_px, last >= style.would_px)
    share = -(-day.remaining * style.would_ppm // PPM)
    raised = xp.where(better & (style.would_px > 0), xp.maximum(wish, share), wish)
    return Stage(Reason.WOULD_PRICE, wish, raised, last, style.would_px)


def _at_least(day: Day, style: Style, wish: Array) -> Stage:
    """The least share of the symbol's volume, as far as it can be had."""
    xp = namespace(wish)
    least = participation_qty(day, style.participation_ppm_min)
    return Stage(Reason.MIN_VOLUME, wish, xp.maximum(wish, least), wish, least)
