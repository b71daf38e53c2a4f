"""One day in plain Python integers, written from the rules and not from the core's code.

Slow on purpose: a loop over orders, no arrays, nothing imported from the service. Whole-day orders
without limit prices, cash by reported proceeds; what the simulator must equal, order by order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Order:
    side: int  # -1 buys, +1 sells
    target: int
    lot: int
    adv: int
    profile: list[int]
    filled: int = 0
    notional: int = 0
    children: list[int] = field(default_factory=list)

    @property
    def left(self) -> int:
        return self.target - self.filled


@dataclass
class Bar:
    low: int
    high: int
    close: int
    price: int
    volume: int


@dataclass
class Result:
    orders: list[Order]
    cash: list[int]
    cuts: list[bool]
    gains: list[list[float]]  # R_e by step and order


def round_lot(quarters: int, order: Order) -> int:
    if quarters == 4:
        return order.target
    lots = (2 * order.target * quarters + 4 * order.lot) // (8 * order.lot)
    return lots * order.lot


def wanted(order: Order, quarters: int, step: int, steps: int, expected: int) -> int:
    """A child before cash: forced at the end, within what is left, the volume and whole lots."""
    force = max(steps - 1, 1) if order.side == 1 else steps
    qty = order.left if step >= force else min(round_lot(quarters, order), order.left)
    if order.adv > 0:
        qty = min(qty, expected)
    if order.side == 1 and qty == order.left:
        return qty
    return qty // order.lot * order.lot


def cost(qty: int, px: int, ticks: int) -> int:
    return -(-qty * px // ticks)


def fill(order: Any, sent: int, protect: int, bar: Any) -> tuple[int, int]:
    """Shares and price: sales trade whole, buys what their protection allows."""
    if not bar.volume:
        return 0, 0
    if order.side == 1 or bar.price <= protect:
        return sent, bar.price
    part = sent * max(protect - bar.low, 0) // max(bar.high - bar.low, 1) // order.lot * order.lot
    return part, (bar.low + protect + 1) // 2 if part else 0


def cut_to_cash(buys: list[tuple[int, int, int]], cash: int, ticks: int) -> list[int]:
    """Volumes of ``buys`` (wanted, reserve price, lot) that ``cash`` pays, by one common factor."""
    need = sum(cost(q, px, ticks) for q, px, _ in buys)
    payable = min(max(cash - sum(q > 0 for q, _, _ in buys), 0), need)
    rho = (payable << 20) // max(need, 1)
    given = [(q * rho >> 20) // lot * lot for q, _, lot in buys]
    spare = cash - sum(cost(g, px, ticks) for g, (_, px, _) in zip(given, buys, strict=True))
    rest = [
        (-((q * rho - (g << 20)) // lot), i)
        for i, (g, (q, _, lot)) in enumerate(zip(given, buys, strict=True))
        if g + lot <= q
    ]
    for _, i in sorted(rest):
        _, px, lot = buys[i]
        spare -= cost(given[i] + lot, px, ticks) - cost(given[i], px, ticks)
        if spare < 0:
            break
        given[i] += lot
    return given


def play(
    orders: list[Order],
    bars: list[list[Bar]],
    actions: list[list[int]],
    opening: list[int],
    cash: int,
    buffer_bp: int,
    ticks: int,
) -> Result:
    """A day: ``bars`` and ``actions`` (quarters of the target) by step and order."""
    steps = len(bars)
    result = Result(orders, [cash], [], [])
    twap = [
        sum(b.price for b in own if b.volume) / max(1, sum(b.volume > 0 for b in own))
        for own in (list(column) for column in zip(*bars, strict=True))
    ]
    last = list(opening)
    for step in range(1, steps + 1):
        protect = [px * (10_000 + buffer_bp) // 10_000 for px in last]
        reserve = [-(-px // ticks) * ticks for px in protect]
        asked = [
            wanted(o, actions[step - 1][i], step, steps, o.adv * o.profile[step - 1] // 1_000_000)
            for i, o in enumerate(orders)
        ]
        at = [i for i, o in enumerate(orders) if o.side == -1]
        need = sum(cost(asked[i], reserve[i], ticks) for i in at)
        sent = list(asked)
        if need > cash:
            parts = cut_to_cash([(asked[i], reserve[i], orders[i].lot) for i in at], cash, ticks)
            for i, part in zip(at, parts, strict=True):
                sent[i] = part
        result.cuts.append(sent != asked)
        gains = []
        for i, order in enumerate(orders):
            bar = bars[step - 1][i]
            qty, px = fill(order, sent[i], protect[i], bar)
            order.children.append(sent[i])
            order.filled += qty
            order.notional += qty * px
            cash += qty * px // ticks if order.side == 1 else -cost(qty, px, ticks)
            gain = qty * (px - twap[i])
            if step == steps:  # what is left is marked at the last interval's price
                gain += (order.target - order.filled) * (bar.price - twap[i])
            gains.append(order.side * gain / order.target / twap[i])
            last[i] = bar.close
        result.gains.append(gains)
        result.cash.append(cash)
    return result
