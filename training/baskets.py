"""The orders of a day: which symbols, on which side, and how many shares.

Sizes are those of ``service.play.orders``, as in the demo. Nothing here looks at what a day will
bring: only opening prices and what was known before the open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from service.core.limits import CASH_BUFFER_BP_DEFAULT
from service.core.orders import BUY, SELL, Proceeds
from service.core.units import floor_to_lot
from service.play.orders import SIZE_SHARE_MAX, draw_sizes
from training.errors import Refused
from training.markets import Ints, MarketDays

Pair = tuple[int, int]
Range = tuple[float, float]
Spare = Literal["need", "legs"]
Kind = Literal["uniform", "bwsl", "neutral", "rebalance", "one_sided", "mixed"]

MIXED: tuple[Kind, ...] = ("uniform", "bwsl", "neutral", "rebalance")
"""The kinds that a mixed batch draws from, one for each day."""
GROUP_SHARE = 0.3
"""Winners and losers are this share of the usable symbols each, or as many as are needed."""
FEW_SHARE = 0.2
"""Share of a rebalance's orders that are the few large ones."""


@dataclass(frozen=True, slots=True)
class BasketConfig:
    """What orders a day has."""

    orders: Pair = (20, 20)
    """Fewest and most orders of a day; the number is uniform between them."""
    buy_share: Range = (0.5, 0.5)
    """Least and largest share of orders that buy; uniform between them."""
    margin_bp: Range = (200.0, 200.0)
    """Initial cash over what an even schedule needs at the opening prices; uniform between."""
    margin_on: Spare = "need"
    """What the margin is a share of: the net need of the schedule, or its buys and its sales each,
    as in the demo. Of equal sides the net need is small, and prices move both of them."""
    lot: int = 1
    """Shares in a lot, the same for all orders."""
    cash_buffer_bp: int = CASH_BUFFER_BP_DEFAULT
    """How far above the last price a buy reserves cash."""
    ticks_per_minor: int = 100
    """Ticks of 1e-4 in one minor unit of the account currency."""
    proceeds: Proceeds = Proceeds.REPORTED
    """When sales pay: once reported (as the service does), or same_step (the paper's setting)."""
    kind: Kind = "uniform"
    """Random sides; bwsl: buy past winners, sell past losers; neutral: buys worth as much as sales;
    rebalance: few large orders against many small ones; one_sided: all buy or all sell; mixed: one
    of the first four, drawn for each day."""
    volume_cap_ppm: int = 0
    """Largest share of a bar's volume that a child may take in that bar; 0: no cap, and the bars of
    an interval are merged."""
    latency_bars: int = 0
    """Bars of every interval that have passed before what was decided reaches the market; the rest
    is walked bar by bar."""
    arrive_share: Range = (0.0, 0.0)
    """Least and largest share of orders that arrive during the day, with a window of their own."""
    amend_share: Range = (0.0, 0.0)
    """Least and largest share of orders whose target is changed once, to 50-150% of it."""
    cancel_share: Range = (0.0, 0.0)
    """Least and largest share of orders that are cancelled."""

    @property
    def changes(self) -> bool:
        """Whether orders may arrive, be amended or be cancelled during the day."""
        return max(self.arrive_share[1], self.amend_share[1], self.cancel_share[1]) > 0


@dataclass(frozen=True, slots=True)
class Basket:
    """Orders of B days ``[B, N]``: ``column`` of the symbol, BUY or SELL ``side``, ``qty`` shares
    (0 for padding); ``live`` is False for padding, which comes last."""

    column: Ints
    live: Any
    side: Ints
    qty: Ints


def draw_basket(
    rng: np.random.Generator, days: MarketDays, day: Ints, config: BasketConfig
) -> Basket:
    """One basket of ``config.kind`` for each of the days ``day`` ``[B]``."""
    if config.kind != "mixed":
        return _KINDS[config.kind](rng, days, day, config)
    kind = rng.integers(len(MIXED), size=len(day))
    shape = (len(day), config.orders[1])
    whole = {f.name: np.zeros(shape, dtype=np.int64) for f in fields(Basket)}
    for at in np.unique(kind):
        part = _KINDS[MIXED[at]](rng, days, day[kind == at], config)
        for name, array in whole.items():
            array[kind == at] = getattr(part, name)
    return Basket(whole["column"], whole["live"] > 0, whole["side"], whole["qty"])


def some_of(rng: np.random.Generator, live: Any, count: Any) -> Any:
    """``count`` (``[B, 1]``) of each day's live orders, chosen at random; bool ``[B, N]``."""
    key = np.where(live, rng.random(live.shape), 2.0)
    rank = np.argsort(np.argsort(key, axis=1), axis=1)
    return rank < count


def random_sides(rng: np.random.Generator, live: Any, buy_share: Range, least: int = 0) -> Ints:
    """BUY for a share of each day's live orders, chosen at random, at least ``least`` of each
    side; ``[B, N]``."""
    buys = _buys(rng, live, buy_share, least)
    return np.where(some_of(rng, live, buys), BUY, SELL)


def _uniform(
    rng: np.random.Generator, days: MarketDays, day: Ints, config: BasketConfig, least: int = 0
) -> Basket:
    """Random symbols and random sides, at least ``least`` orders of each."""
    column = _choose_symbols(rng, days, day, config)
    live = random_live(rng, config.orders, len(day))
    qty = _sizes(rng, days, day, column, live, config.lot)
    return Basket(column, live, random_sides(rng, live, config.buy_share, least), qty)


def _one_sided(
    rng: np.random.Generator, days: MarketDays, day: Ints, config: BasketConfig
) -> Basket:
    """All orders of a day buy, or all sell."""
    made = _uniform(rng, days, day, config)
    side = np.where(rng.random((len(day), 1)) < 0.5, BUY, SELL)
    return Basket(made.column, made.live, side + 0 * made.side, made.qty)


def _neutral(rng: np.random.Generator, days: MarketDays, day: Ints, config: BasketConfig) -> Basket:
    """Buys and sales of equal value at the opening prices."""
    _at_least_two(config)
    made = _uniform(rng, days, day, config, least=1)
    arrival = days.open[day[:, None], 0, made.column]
    qty = _matched(made.side, made.qty, arrival, config.lot)
    return Basket(made.column, made.live, made.side, qty)


def _rebalance(
    rng: np.random.Generator, days: MarketDays, day: Ints, config: BasketConfig
) -> Basket:
    """The few largest orders on one side, all others on the other, of equal value."""
    _at_least_two(config)
    made = _uniform(rng, days, day, config)
    arrival = days.open[day[:, None], 0, made.column]
    rank = np.argsort(np.argsort(-made.qty * arrival, axis=1), axis=1)
    few = np.maximum(np.rint(FEW_SHARE * made.live.sum(axis=1, keepdims=True)), 1)
    large = np.where(rng.random((len(day), 1)) < 0.5, BUY, SELL)
    side = np.where(rank < few, large, -large)
    return Basket(made.column, made.live, side, _matched(side, made.qty, arrival, config.lot))


def _bwsl(rng: np.random.Generator, days: MarketDays, day: Ints, config: BasketConfig) -> Basket:
    """Buys among the winners of the days before, sales among the losers; ties are drawn."""
    usable = _usable(days, config)[day]
    live = random_live(rng, config.orders, len(day))
    buys = _buys(rng, live, config.buy_share).astype(np.int64)
    sales = live.sum(axis=1, keepdims=True) - buys
    past = np.zeros(usable.shape) if days.past_return is None else days.past_return[day]
    best = np.lexsort((rng.random(usable.shape), np.where(usable, -past, np.inf)))
    rank, count = np.argsort(best, axis=1), usable.sum(axis=1, keepdims=True)
    group = (GROUP_SHARE * count).astype(np.int64)
    won = rank < np.maximum(buys, np.minimum(group, count - sales))
    lost = (count - 1 - rank < np.maximum(sales, np.minimum(group, count - buys))) & usable
    bought, sold = some_of(rng, won & usable, buys), some_of(rng, lost, sales)
    # the chosen in the order of their columns, then padding
    column = np.argsort(~(bought | sold), axis=1, kind="stable")[:, : config.orders[1]]
    side = np.where(np.take_along_axis(bought, column, axis=1), BUY, SELL)
    return Basket(column, live, side, _sizes(rng, days, day, column, live, config.lot))


_KINDS: dict[Kind, Callable[..., Basket]] = {
    "uniform": _uniform,
    "bwsl": _bwsl,
    "neutral": _neutral,
    "rebalance": _rebalance,
    "one_sided": _one_sided,
}


def enough_symbols(days: MarketDays, config: BasketConfig) -> None:
    """Refuse baskets of which the largest may have more orders than a day has symbols, before one
    is drawn; raises Refused."""
    _usable(days, config)


def _usable(days: MarketDays, config: BasketConfig) -> Any:
    """Symbols that trade enough for one lot; bool ``[D, S]``."""
    enough = days.reference.adv_qty * SIZE_SHARE_MAX >= config.lot * days.steps
    wanted, scarce = config.orders[1], int(enough.sum(axis=1).min())
    if wanted > scarce:
        raise Refused(
            f"{wanted} orders a day asked for, but one day has {scarce} symbols that trade enough; "
            "lower --orders or --lot, or give bars of more symbols"
        )
    return enough


def _choose_symbols(
    rng: np.random.Generator, days: MarketDays, day: Ints, config: BasketConfig
) -> Ints:
    """Columns ``[B, N]`` of different usable symbols, ascending."""
    enough, wanted = _usable(days, config), config.orders[1]
    key = np.where(enough[day], rng.random((len(day), enough.shape[1])), 2.0)
    return np.sort(np.argpartition(key, wanted - 1, axis=1)[:, :wanted], axis=1)


def random_live(rng: np.random.Generator, orders: Pair, count: int) -> Any:
    """Which of ``count`` days' places hold an order, a uniform number of them first; ``[B, N]``."""
    fewest, most = orders
    return np.arange(most) < rng.integers(fewest, most + 1, (count, 1))


def _sizes(
    rng: np.random.Generator, days: MarketDays, day: Ints, column: Ints, live: Any, lot: int
) -> Ints:
    adv_qty = days.reference.adv_qty[day[:, None], column]
    return np.where(live, draw_sizes(rng, adv_qty // days.steps, lot), 0)


def _buys(rng: np.random.Generator, live: Any, buy_share: Range, least: int = 0) -> Any:
    """How many of each day's live orders buy, at least ``least`` of each side; ``[B, 1]``."""
    share = rng.uniform(*buy_share, (len(live), 1))
    count = live.sum(axis=1, keepdims=True)
    return np.clip(np.rint(share * count), least, count - least)


def _at_least_two(config: BasketConfig) -> None:
    if config.orders[0] < 2:
        raise Refused(f"a {config.kind} basket needs at least 2 orders; raise the fewest orders")


def _matched(side: Ints, qty: Ints, px: Ints, lot: int) -> Ints:
    """``qty`` with the dearer side scaled down until both are worth the same, within one lot."""
    value, buys = qty * px, side == BUY
    bought = (value * buys).sum(axis=1, keepdims=True)
    sold = (value * ~buys).sum(axis=1, keepdims=True)
    dear = buys == (bought > sold)
    cut = _scaled(qty * dear, px, np.minimum(bought, sold), lot)
    # a lot of each may already be worth more than the other side, which then grows to match
    least = (cut * px).sum(axis=1, keepdims=True)
    grown = _scaled(qty * ~dear, px, np.maximum(least, np.minimum(bought, sold)), lot)
    return np.where(dear, cut, grown)


def _scaled(qty: Ints, px: Ints, target: Ints, lot: int) -> Ints:
    """``qty`` by one factor so that it is worth ``target`` ``[B, 1]`` or less by under one lot.

    Floored to lots, at least one; lots left over go to the largest remainders.
    """
    whole = np.maximum((qty * px).sum(axis=1, keepdims=True), 1)
    wanted = qty * (target / whole)
    base = np.where(qty > 0, np.maximum(floor_to_lot(wanted.astype(np.int64), lot), lot), 0)
    spare = target - (base * px).sum(axis=1, keepdims=True)
    order = np.argsort(np.where(qty > 0, base - wanted, np.inf), axis=1, kind="stable")
    price = np.where(qty > 0, lot * px, np.maximum(spare, 0) + 1)
    given = np.cumsum(np.take_along_axis(price, order, axis=1), axis=1) <= spare
    back = np.argsort(order, axis=1, kind="stable")
    return np.asarray(base + lot * np.take_along_axis(given, back, axis=1))
