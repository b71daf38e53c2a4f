"""One day in plain Python integers, written from the rules and not from the core's code.

Slow on purpose: a loop over orders, no arrays, nothing imported from the service, no limit prices.
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
    start: int
    end: int
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
    halted: bool = False
    parts: list[Bar] = field(default_factory=list)  # the bars that an interval is merged from


@dataclass
class Setting:
    """What holds for the whole day."""

    buffer_bp: int
    ticks: int
    cap_ppm: int  # of a bar's volume, the most that a child takes of it; 0: any
    late: int  # bars of an interval that pass before what was decided for it can trade
    same_step: bool  # sales pay for the buys of their own step

    @property
    def walked(self) -> bool:
        return self.cap_ppm > 0 or self.late > 0


@dataclass
class Result:
    orders: list[Order]
    cash: list[int]
    cuts: list[bool]
    gains: list[list[float]]  # R_e by step and order


def met(bars: list[Bar], locked: list[int], side: int, opening: int) -> list[Bar]:
    """What an order meets of a day: nothing trades in a halt, nor in a bar locked against it."""
    last, found = opening, []
    for bar, lock in zip(bars, locked, strict=True):
        if bar.halted:
            bar = Bar(last, last, last, last, 0, True)
        elif lock == -side:
            bar = Bar(bar.low, bar.high, bar.close, bar.price, 0)
        last = bar.close
        found.append(bar)
    return found


def merge(bars: list[Bar]) -> Bar:
    """An interval: the mean price of the bars that traded, the last close where none did."""
    traded = [bar.price for bar in bars if bar.volume]
    close = bars[-1].close
    return Bar(
        low=min(bar.low for bar in bars),
        high=max(bar.high for bar in bars),
        close=close,
        price=(2 * sum(traded) + len(traded)) // (2 * len(traded)) if traded else close,
        volume=sum(bar.volume for bar in bars),
        halted=all(bar.halted for bar in bars),
        parts=bars,
    )


def round_lot(quarters: int, order: Order) -> int:
    if quarters == 4:
        return order.target
    lots = (2 * order.target * quarters + 4 * order.lot) // (8 * order.lot)
    return lots * order.lot


def forced_at(order: Order, steps: int, same_step: bool) -> int:
    """The step from which all that is left must go; a sale that pays later, before the last."""
    if order.side == 1 and not same_step:
        return max(min(order.end, max(steps - 1, 1)), order.start)
    return order.end


def wanted(order: Order, quarters: int, step: int, force: int, halted: bool) -> int:
    """A child before cash: forced at the end, within what is left, the volume and whole lots."""
    if halted or not order.start <= step <= order.end:
        return 0
    qty = order.left if step >= force else min(round_lot(quarters, order), order.left)
    if order.adv > 0:
        qty = min(qty, order.adv * order.profile[step - 1] // 1_000_000)
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


def walk(order: Order, sent: int, protect: int, bars: list[Bar], cap_ppm: int) -> list[Any]:
    """Shares and price of each bar: equal slices, each cut by what the bar's volume allows."""
    done, found, count = 0, [], len(bars)
    for k, bar in enumerate(bars, 1):
        lots = (2 * sent * k + count * order.lot) // (2 * count * order.lot)
        upto = sent if k == count else min(lots, sent // order.lot) * order.lot
        part, done = upto - done, upto
        most = bar.volume * (cap_ppm or 1_000_000) // 1_000_000
        found.append(
            fill(order, part if part <= most else most // order.lot * order.lot, protect, bar)
        )
    return found


def instruct(order: Order, asked: int, step: int) -> None:
    """The target before decision ``step``; a cancel ends the window."""
    if step < order.start:
        order.target = 0
        return
    order.target = max(asked, order.filled)
    if not asked and order.end >= step > order.start:
        order.end = step - 1


def benchmark(order: Order, bars: list[Bar], asked: list[int]) -> tuple[float, int]:
    """TWAP of the order's window and the price at which a rest is marked."""
    end = order.end
    for step in range(order.start + 1, order.end + 1):
        if not asked[step - 1]:
            end = step - 1
            break
    window = bars[order.start - 1 : end]
    traded = [bar.price for bar in window if bar.volume]
    mark = window[-1].price
    return (sum(traded) / len(traded) if traded else mark), mark


def earned(order: Order, twap: float) -> float:
    """Gain so far as a share of the target in force."""
    gain = order.notional - order.filled * twap
    return order.side * gain / order.target / twap if order.target else 0.0


def rest(order: Order, twap: float, mark: int) -> float:
    """What is left unfilled, marked at a price, as a share of the target."""
    gain = order.side * order.left * (mark - twap) / twap
    return gain / order.target if order.target else 0.0


def cut_to_cash(buys: list[tuple[int, int, int]], cash: int, ticks: int) -> list[int]:
    """Volumes of ``buys`` (wanted, reserve price, lot) that ``cash`` pays, by one common factor."""
    need = sum(cost(q, px, ticks) for q, px, _ in buys)
    payable = min(max(cash - sum(q > 0 for q, _, _ in buys), 0), need)
    rho = (payable << 20) // max(need, 1)
    given = [(q * rho >> 20) // lot * lot for q, _, lot in buys]
    spare = cash - sum(cost(g, px, ticks) for g, (_, px, _) in zip(given, buys, strict=True))
    room = [
        (-((q * rho - (g << 20)) // lot), i)
        for i, (g, (q, _, lot)) in enumerate(zip(given, buys, strict=True))
        if g + lot <= q
    ]
    for _, i in sorted(room):
        _, px, lot = buys[i]
        spare -= cost(given[i] + lot, px, ticks) - cost(given[i], px, ticks)
        if spare < 0:
            break
        given[i] += lot
    return given


def fills(order: Order, sent: int, protect: int, bar: Bar, day: Setting) -> list[Any]:
    """Shares and price of what an interval gives to a child: at once, or bar by bar."""
    if day.walked:
        return walk(order, sent, protect, bar.parts[day.late :], day.cap_ppm)
    return [fill(order, sent, protect, bar)]


def limits(last: int, bar: Bar, day: Setting) -> tuple[int, int]:
    """Dearest price that a buy may pay, and the price at which it reserves cash in whole cents.

    In the paper's setting what it will pay, or the dearest of the bars that it is walked through.
    """
    if day.same_step and not day.walked:
        return bar.price, bar.price  # one execution, rounded once
    protect = last * (10_000 + day.buffer_bp) // 10_000
    if day.same_step:
        protect = max([part.price for part in bar.parts[day.late :] if part.volume] or [bar.price])
    return protect, -(-protect // day.ticks) * day.ticks


def flow(order: Order, parts: list[Any], ticks: int) -> int:
    """What cash changes by: each execution of a sale rounded down, each of a buy up."""
    if order.side == 1:
        return sum(qty * px // ticks for qty, px in parts)
    return -sum(cost(qty, px, ticks) for qty, px in parts)


def promised(order: Order, sent: int, bar: Bar, day: Setting) -> int:
    """What a sale adds to the cash of its own step's buys; walked, at its mean price in ticks."""
    if order.side == -1 or not day.same_step or not sent:
        return 0
    paid = flow(order, fills(order, sent, 0, bar, day), day.ticks)
    return sent * (paid * day.ticks // sent) // day.ticks if day.walked else paid


def paid_for(
    orders: list[Order], wishes: list[int], reserve: list[int], cash: int, ticks: int
) -> list[int]:
    """The children that cash pays for: ``wishes``, its buys cut together where it runs short."""
    at = [i for i, order in enumerate(orders) if order.side == -1]
    need = sum(cost(wishes[i], reserve[i], ticks) for i in at)
    sent = list(wishes)
    if need > cash:
        parts = cut_to_cash([(wishes[i], reserve[i], orders[i].lot) for i in at], cash, ticks)
        for i, part in zip(at, parts, strict=True):
            sent[i] = part
    return sent


def play(
    orders: list[Order],
    bars: list[list[Bar]],
    actions: list[list[int]],
    opening: list[int],
    cash: int,
    day: Setting,
    asked: list[list[int]] | None = None,
) -> Result:
    """A day: ``bars``, ``actions`` (quarters of the target) and ``asked`` by step and order."""
    steps = len(bars)
    result = Result(orders, [cash], [], [])
    asked = asked or [[order.target for order in orders]] * steps
    known = [
        benchmark(order, [row[i] for row in bars], [row[i] for row in asked])
        for i, order in enumerate(orders)
    ]
    for order, qty in zip(orders, asked[0], strict=True):
        instruct(order, qty, 1)
    last, halted = list(opening), [False] * len(orders)
    for step in range(1, steps + 1):
        before = [earned(order, twap) for order, (twap, _) in zip(orders, known, strict=True)]
        coming = bars[step - 1]
        wishes = [
            wanted(o, actions[step - 1][i], step, forced_at(o, steps, day.same_step), halted[i])
            for i, o in enumerate(orders)
        ]
        priced = [limits(px, bar, day) for px, bar in zip(last, coming, strict=True)]
        sales = sum(promised(o, wishes[i], coming[i], day) for i, o in enumerate(orders))
        sent = paid_for(orders, wishes, [px for _, px in priced], cash + sales, day.ticks)
        result.cuts.append(sent != wishes)
        for i, order in enumerate(orders):
            bar = coming[i]
            order.children.append(sent[i])
            got = fills(order, sent[i], priced[i][0], bar, day)
            cash += flow(order, got, day.ticks)
            order.filled += sum(qty for qty, _ in got)
            order.notional += sum(qty * px for qty, px in got)
            last[i], halted[i] = bar.close, bar.halted
            if step < steps:
                instruct(order, asked[step][i], step + 1)
        gains = [
            earned(order, twap) - old
            for order, (twap, _), old in zip(orders, known, before, strict=True)
        ]
        if step == steps:  # what is left is marked at the last price of its window
            gains = [gain + rest(o, *k) for gain, o, k in zip(gains, orders, known, strict=True)]
        result.gains.append(gains)
        result.cash.append(cash)
    return result
