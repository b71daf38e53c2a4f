"""Whole trading days as an order management system sends them, each a function of its seed.

A day is a generator of commands that is told every answer. Two clients who play the same day send
the same bodies, because what the broker reports depends on the seed and on the answers only. At
some steps their bodies differ on purpose; then one of them is told of the other's decision.
"""

import hashlib
import json
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

Json = dict[str, Any]

OPEN, CLOSE = "open", "close"
TICKS = 10_000  # in one currency unit
_OPENING = datetime(2026, 1, 5, 10, tzinfo=UTC)
_POLICIES = ("twap", "twap", "vwap", "ac", "iac")
_PAPER_SHARE, _RIVAL_SHARE, _AGAIN_SHARE, _BY_ORDER_SHARE = 0.25, 0.25, 0.3, 0.2


@dataclass(frozen=True, slots=True)
class Command:
    """A command as the store names it; of two bodies each client sends its own."""

    name: str
    method: str
    place: str
    bodies: tuple[bytes, ...]


Play = Generator[Command, Json, None]


class DayScript:
    """One day: its orders, its market, and a broker who reports fills (or a paper day)."""

    def __init__(self, day_id: str, seed: str) -> None:
        self.day_id = day_id
        self._rng = rng = Random(f"{seed}/{day_id}")
        self.paper = rng.random() < _PAPER_SHARE
        self.steps = rng.randint(3, 8)
        count = rng.randint(2, 6)
        self._symbols = [f"S{i:02d}" for i in range(count)]
        self._px = [rng.randrange(20 * TICKS, 90 * TICKS) for _ in range(count)]
        self.orders = self._make_orders(count)

    @property
    def path(self) -> str:
        """Where the day lives."""
        return f"/v1/days/{self.day_id}"

    def commands(self) -> Play:
        """Every command from the opening to what is reported after the close."""
        broker = Broker(self._rng)
        yield Command(OPEN, "PUT", "", (self._opening(),))
        for step in range(1, self.steps + 1):
            decision = yield self._step(step, broker.due(2 * step))
            if not self.paper:
                broker.take(decision, self._px)
            yield from _reported(broker.due(2 * step + 1))
        last = {"snapshot": self._bars(), "executions": broker.due(2 * self.steps + 2)}
        yield Command(CLOSE, "POST", "/close", (dump(last),))
        yield from _reported(broker.due())

    def _make_orders(self, count: int) -> Json:
        rng = self._rng
        sides = ["BUY", "SELL", *rng.choices(["BUY", "SELL"], k=count - 2)]
        lots = rng.choices([1, 100], k=count)
        return {
            "cl_ord_id": [f"o{i}" for i in range(count)],
            "symbol": self._symbols,
            "side": sides,
            "order_qty": [lot * rng.randrange(5, 5_000 // lot) for lot in lots],
            "lot_size": lots,
            "limit_px": [self._limit(px) for px in self._px],
        }

    def _limit(self, px: int) -> float | None:
        """Now and then a limit; on paper days all of a bar is within what protects a child."""
        return px / TICKS if not self.paper and self._rng.random() < 0.1 else None

    def _opening(self) -> bytes:
        columns = (self.orders["side"], self.orders["order_qty"], self._px)
        rows = zip(*columns, strict=True)
        needed = sum(qty * px // 100 for side, qty, px in rows if side == "BUY")
        body = {
            "account": "crash",
            "currency": "USD",
            "schedule": {"times": [_time(step) for step in range(1, self.steps + 1)]},
            "cash_minor": int(needed * self._rng.choice((0.4, 1.2, 1.2))),
            "orders": self.orders,
            "policy": self._rng.choice(_POLICIES),
            "fills": "paper" if self.paper else "reported",
        }
        return dump(body)

    def _step(self, step: int, executions: list[Json]) -> Command:
        body = {"as_of": _time(step), "snapshot": self._bars(), "executions": executions}
        bodies = [dump(body)]
        if self._rng.random() < _RIVAL_SHARE:
            bodies.append(dump(body | {"as_of": _time(step, late_s=1), "snapshot": self._bars()}))
        return Command(f"step:{step}", "POST", f"/steps/{step}", tuple(bodies))

    def _bars(self) -> Json:
        """The next bar of every symbol; prices wander less than buys are protected for."""
        rng, before = self._rng, self._px
        self._px = after = [px + rng.randint(-px // 600, px // 600) for px in before]
        ends = list(zip(before, after, strict=True))
        high = [max(pair) + rng.randrange(200) for pair in ends]
        low = [min(pair) - rng.randrange(200) for pair in ends]
        mean = [rng.randint(*pair) for pair in zip(low, high, strict=True)]
        named = {"open": before, "high": high, "low": low, "close": after, "vwap": mean}
        prices = {name: [px / TICKS for px in column] for name, column in named.items()}
        return {"symbols": self._symbols, **prices, "volume": [50_000] * len(before)}


class Broker:
    """Fills children whole or in parts, cancels and rejects, late at times, and repeats itself.

    Slots are numbered: 2n goes with step n, 2n + 1 is reported between step n and the next.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._told: list[tuple[int, Json]] = []

    def take(self, decision: Json, px: list[int]) -> None:
        """Plan what will become of each child of a decision."""
        names = ("cl_ord_id", "child_id", "child_qty", "side", "protect_px")
        columns = (decision["orders"][name] for name in names)
        for order, child, qty, side, protect in zip(*columns, strict=True):
            if child:
                # within the protection of any child of the order, and seldom a whole cent
                edge = round(protect * TICKS) if protect else px[int(order[1:])]
                better = edge // 10 + self._rng.randrange(2_000)
                price = edge - better if side == "BUY" else edge + better
                self._plan(2 * decision["step"] + 1, child, qty, price / TICKS)

    def due(self, slot: int = 10_000) -> list[Json]:
        """What is reported in `slot`, each execution once."""
        found = {told["exec_id"]: told for when, told in self._told if when <= slot}
        self._told = [(when, told) for when, told in self._told if when > slot]
        return list(found.values())

    def _plan(self, slot: int, child: str, qty: int, px: float) -> None:
        rng = self._rng
        fate = rng.choice(("filled", "filled", "filled", "cancelled", "late", "rejected"))
        if fate == "rejected":
            return self._tell(slot, child, "REJECTED")
        slot += rng.choice((0, 0, 1, 3))
        parts = _parts(rng, qty)
        if fate == "filled" and len(parts) == 1:
            return self._tell(slot, child, "FILL", qty, px)
        kept = parts if fate == "filled" else parts[:-1]
        for part in kept:
            self._tell(slot, child, rng.choice(("TRADE", "PARTIAL_FILL")), part, px)
            slot += rng.randrange(3)
        if fate != "filled":
            self._tell(slot, child, rng.choice(("CANCELED", "EXPIRED", "DONE_FOR_DAY")))
        if fate == "late":
            self._tell(slot + 1, child, "TRADE", parts[-1], px)
        return None

    def _tell(self, slot: int, child: str, kind: str, qty: int = 0, px: float = 0.0) -> None:
        rng = self._rng
        told: Json = {"exec_id": f"{child}:{len(self._told)}", "exec_type": kind}
        by_order = kind == "TRADE" and rng.random() < _BY_ORDER_SHARE
        told |= {"cl_ord_id": child.split("/")[0]} if by_order else {"child_id": child}
        told |= {"last_qty": qty, "last_px": px} if qty else {}
        self._told.append((slot, told))
        if rng.random() < _AGAIN_SHARE:
            self._told.append((slot + rng.randint(1, 6), told))


def dump(body: Json) -> bytes:
    """A body's bytes."""
    return json.dumps(body).encode()


def _reported(executions: list[Json]) -> Play:
    if executions:
        body = dump({"executions": executions})
        name = f"exec:{hashlib.sha256(body).hexdigest()[:32]}"
        yield Command(name, "POST", "/executions", (body,))


def _parts(rng: Random, qty: int) -> list[int]:
    """One to three parts of a quantity."""
    cuts = sorted(rng.sample(range(1, qty), min(rng.randrange(3), qty - 1)))
    return [b - a for a, b in zip((0, *cuts), (*cuts, qty), strict=True)]


def _time(step: int, late_s: int = 0) -> str:
    return (_OPENING + timedelta(minutes=step, seconds=late_s)).isoformat()
