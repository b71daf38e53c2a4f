"""A whole day under every kind of request, against a plain model of it in dictionaries.

The model knows nothing of arrays or policies: it takes the children from the replies, as an OMS
does, and keeps cash, volume and children by itself. After every rule the wire must agree with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from service.commits import MemoryStore
from tests.service.api import Api, Json, Reply, alarms, bars, day, encoded, end, fill, order, step

STEPS = 5
NAMES = "ABCD"
SYMBOLS = [f"S{name}" for name in NAMES]
prices = st.integers(95_000, 105_000).map(lambda ticks: ticks / 10_000)
names = st.sampled_from(NAMES)


@dataclass
class Child:
    """Volume at the market in the model."""

    name: str
    step: int
    qty: int
    protect: float | None
    sent: int

    @property
    def id(self) -> str:
        return f"{self.name}/{self.step}"


@dataclass
class Model:
    """What an OMS would know of the day."""

    side: dict[str, str]
    target: dict[str, int]
    lot: dict[str, int]
    cash: int
    cum: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    protect: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(NAMES))
    children: list[Child] = field(default_factory=list)
    ever: list[str] = field(default_factory=list)
    canceled: set[str] = field(default_factory=set)
    paused: set[str] = field(default_factory=set)
    breached: bool = False
    low: int = 0
    step: int = 0
    closed: bool = False

    def working(self, name: str) -> int:
        return sum(child.qty for child in self.children if child.name == name)

    def remaining(self, name: str) -> int:
        if name in self.canceled:
            return 0
        return max(self.target[name] - self.cum[name] - self.working(name), 0)

    @property
    def reserved(self) -> int:
        buys = [child for child in self.children if self.side[child.name] == "BUY"]
        return sum(child.qty * ceil(Fraction(str(child.protect)) * 100) for child in buys)

    def is_worse(self, name: str, px: float, protect: float | None) -> bool:
        if protect is None:
            return False
        return px > protect if self.side[name] == "BUY" else px < protect

    def loosen(self, name: str, protect: float | None) -> None:
        """A late fill may be of any child, so the weakest protection of all counts."""
        if any(child.startswith(f"{name}/") for child in self.ever):
            known = self.protect[name]
            weaker = max if self.side[name] == "BUY" else min
            protect = None if known is None or protect is None else weaker(known, protect)
        self.protect[name] = protect

    def book(self, execution: Json) -> list[str]:
        """Apply a fact; the alarms that it must raise, without those of the whole request."""
        child_id = execution.get("child_id")
        name = child_id.partition("/")[0] if child_id else execution["cl_ord_id"]
        named = [c for c in self.children if c.name == name and child_id in (None, c.id)]
        if execution["exec_type"] != "TRADE":
            self.children = [child for child in self.children if child not in named]
            return [] if named else ["NOTHING_WORKING"]
        qty, px, raised = execution["last_qty"], execution["last_px"], []
        money = Fraction(str(px)) * qty * 100
        self.cash += -ceil(money) if self.side[name] == "BUY" else floor(money)
        self.cum[name] += qty
        protect = self.protect[name]
        for child in sorted(named, key=lambda c: self.is_worse(name, px, c.protect)):
            if qty:
                protect, taken = child.protect, min(qty, child.qty)
                child.qty -= taken
                qty -= taken
        self.children = [child for child in self.children if child.qty]
        if self.is_worse(name, px, protect):
            self.breached = True
            raised.append("PROTECT_BREACH")
        return raised + ["LATE_FILL"] * (qty > 0)

    def unbook(self, trade: Json) -> int:
        """Take a fill back; how many of its shares are working again."""
        child_id = trade.get("child_id")
        name = child_id.partition("/")[0] if child_id else trade["cl_ord_id"]
        named = [c for c in self.children if c.name == name and child_id in (None, c.id)]
        qty = trade["last_qty"]
        money = Fraction(str(trade["last_px"])) * qty * 100
        self.cash -= -ceil(money) if self.side[name] == "BUY" else floor(money)
        self.cum[name] -= qty
        left = qty
        for child in named:
            back = min(left, child.sent - child.qty)
            child.qty += back
            left -= back
        return qty - left

    def book_all(self, executions: list[Json]) -> list[str]:
        """Apply the facts of one request, with the alarms that only their sum shows."""
        over = {n: max(self.cum[n] + self.working(n) - self.target[n], 0) for n in NAMES}
        free = self.cash - self.reserved
        raised = [code for execution in executions for code in self.book(execution)]
        for name in NAMES:
            held = self.cum[name] + self.working(name) - self.target[name]
            raised += ["OVERFILL"] * (held > over[name])
        self.low = min(self.low, self.cash)
        after = self.cash - self.reserved
        if executions and after < 0:
            self.breached = True
            raised += ["CASH_BREACH"] * (after < free)
        return raised


class DayMachine(RuleBasedStateMachine):
    """Requests in any order over one service, restarted at will over the same store."""

    service: Api

    def __init__(self) -> None:
        super().__init__()
        self.api = DayMachine.service
        self.api.restart(MemoryStore())
        self.sent: list[tuple[str, str, bytes, bytes]] = []
        self.booked: list[Json] = []
        self.trades: list[Json] = []
        self.count = 0
        self.trading = "ACTIVE"

    # sending

    def command(self, method: str, path: str, body: Any) -> Reply:
        """Send a command that must succeed, and remember its bytes."""
        raw = encoded(body)
        reply = self.api.call(method, f"/v1/days/d{path}", raw)
        assert reply.status == 200, reply.body
        assert not reply.replayed
        self.sent.append((method, path, raw, reply.body))
        return reply

    def unchanged(self, act: Callable[[], Reply], status: int, code: str) -> None:
        before = self.api.call("GET", "/v1/days/d").body
        reply = act()
        assert (reply.status, reply.code) == (status, code), reply.body
        assert self.api.call("GET", "/v1/days/d").body == before

    def note(self, told: list[Json]) -> None:
        """Remember what was booked, for duplicates and busts."""
        self.booked += told
        self.trades += [e for e in told if e["exec_type"] == "TRADE"]

    def fresh_id(self) -> str:
        self.count += 1
        return f"e{self.count}"

    # rules

    @initialize(
        cash=st.sampled_from([0, 5_000, 300_000, 10_000_000]),
        policy=st.sampled_from(["twap", "all", "none", "failing", "vwap", "huge"]),
        sides=st.lists(st.sampled_from(["BUY", "SELL"]), min_size=4, max_size=4),
        lots=st.lists(st.sampled_from([1, 1, 10]), min_size=4, max_size=4),
        sizes=st.lists(st.integers(1, 60), min_size=4, max_size=4),
        limits=st.lists(st.sampled_from([None, 9.9, 10.2]), min_size=4, max_size=4),
    )
    def open(
        self,
        cash: int,
        policy: str,
        sides: list[str],
        lots: list[int],
        sizes: list[int],
        limits: list[float | None],
    ) -> None:
        rows = zip(NAMES, sides, lots, sizes, limits, strict=True)
        orders = [
            order(name, side, size * lot, lot_size=lot, limit_px=limit)
            for name, side, lot, size, limit in rows
        ]
        self.model = Model(
            side=dict(zip(NAMES, sides, strict=True)),
            target={row["cl_ord_id"]: row["order_qty"] for row in orders},
            lot=dict(zip(NAMES, lots, strict=True)),
            cash=cash,
            low=cash,
        )
        self.command("PUT", "", day(*orders, steps=STEPS, policy=policy, cash_minor=cash))

    @property
    def next_step(self) -> int:
        return self.model.step + 1

    def deciding(self) -> bool:
        return not self.model.closed and self.model.step < STEPS

    @precondition(deciding)
    @rule(px=st.lists(prices, min_size=4, max_size=4), halted=names, data=st.data())
    def decide(self, px: list[float], halted: str, data: st.DataObject) -> None:
        n, model = self.next_step, self.model
        told = data.draw(st.lists(self.executions(), max_size=2))
        status = ["HALT" if name == halted else "TRADING" for name in NAMES]
        columns = {name: px for name in ("open", "high", "low", "close")}
        snapshot = bars(SYMBOLS, **columns, status=status)
        raised = model.book_all(told)
        answer = self.command("POST", f"/steps/{n}", step(n, snapshot, *told)).json
        self.note(told)
        assert sorted(alarms(answer)) == sorted(raised)
        free = model.cash - model.reserved
        spent = self.take(answer, n, dict(zip(NAMES, px, strict=True)), halted)
        assert spent <= max(free, 0)
        model.step = n

    def take(self, answer: Json, n: int, px: dict[str, float], halted: str) -> int:
        """Put the children of a decision to work in the model; the cash that they reserve."""
        model, columns = self.model, answer["orders"]
        expected = [name for name in NAMES if model.remaining(name) or model.working(name)]
        assert columns["cl_ord_id"] == expected
        before = model.reserved
        fresh = zip(*(columns[c] for c in ("cl_ord_id", "child_qty", "protect_px")), strict=True)
        for name, qty, protect in fresh:
            assert 0 <= qty <= model.remaining(name)
            assert qty % model.lot[name] == 0 or qty == model.remaining(name)
            if answer["trading"] == "HALTED" or name in {halted, *model.paused, *model.canceled}:
                assert qty == 0
            if answer["trading"] == "REDUCING" and model.side[name] == "BUY":
                assert qty == 0
            if qty:
                assert not model.is_worse(name, px[name], protect)
                model.loosen(name, protect)
                model.children.append(Child(name, n, qty, protect, qty))
                model.ever.append(f"{name}/{n}")
        return model.reserved - before

    def executions(self) -> st.SearchStrategy[Json]:
        """A fill or an end of a child, of an order, late or too large."""
        children = [child.id for child in self.model.children]
        places = st.sampled_from(children or list(NAMES))
        places |= st.sampled_from([*NAMES, *self.model.ever])
        fills = st.builds(
            lambda place, qty, px: fill(self.fresh_id(), place, qty, px),
            places,
            st.integers(1, 80),
            prices,
        )
        kinds = st.sampled_from(["CANCELED", "REJECTED", "EXPIRED"])
        ends = st.builds(lambda place, kind: end(self.fresh_id(), place, kind), places, kinds)
        return fills | fills | ends

    @rule(data=st.data())
    def report(self, data: st.DataObject) -> None:
        told = data.draw(st.lists(self.executions(), min_size=1, max_size=3))
        raised = self.model.book_all(told) + ["AFTER_CLOSE"] * self.model.closed
        answer = self.command("POST", "/executions", {"executions": told}).json
        self.note(told)
        assert sorted(alarms(answer)) == sorted(raised)
        assert answer["result"] == ["BOOKED"] * len(told)

    @precondition(lambda self: bool(self.model.children))
    @rule(data=st.data())
    def fill_exactly(self, data: st.DataObject) -> None:
        child = data.draw(st.sampled_from(self.model.children))
        px = child.protect or 10.0
        told = [fill(self.fresh_id(), child.id, child.qty, px, "FILL") | {"exec_type": "FILL"}]
        raised = self.model.book_all([told[0] | {"exec_type": "TRADE"}])
        answer = self.command("POST", "/executions", {"executions": told}).json
        assert "PROTECT_BREACH" not in alarms(answer)
        assert sorted(alarms(answer)) == sorted(raised + ["AFTER_CLOSE"] * self.model.closed)

    @precondition(lambda self: bool(self.trades))
    @rule(data=st.data())
    def bust(self, data: st.DataObject) -> None:
        trade, model = data.draw(st.sampled_from(self.trades)), self.model
        self.trades.remove(trade)
        free = model.cash - model.reserved
        place = trade.get("child_id") or trade["cl_ord_id"]
        told = end(self.fresh_id(), place, "TRADE_CANCEL") | {"exec_ref_id": trade["exec_id"]}
        working = model.unbook(trade)
        answer = self.command("POST", "/executions", {"executions": [told]}).json
        assert (answer["alarms"][0]["code"], answer["alarms"][0]["limit"]) == (
            "TRADE_CANCELED",
            working,
        )
        model.low, after = min(model.low, model.cash), model.cash - model.reserved
        model.breached |= after < 0
        assert ("CASH_BREACH" in alarms(answer)) == (after < min(free, 0))
        again = end(self.fresh_id(), place, "TRADE_CANCEL") | {"exec_ref_id": trade["exec_id"]}
        self.unchanged(lambda: self.api.report([again]), 422, "BAD_EXECUTION")

    def instruct(self, **body: Any) -> None:
        body = {"instruction_id": self.fresh_id(), **body}
        if self.model.closed:
            act = lambda: self.api.call("POST", "/v1/days/d/instructions", body)  # noqa: E731
            return self.unchanged(act, 409, "DAY_CLOSED")
        self.command("POST", "/instructions", body)
        return None

    def instructable(self) -> list[str]:
        return [name for name in NAMES if name not in self.model.canceled]

    @precondition(instructable)
    @rule(data=st.data(), pauses=st.booleans())
    def pause(self, data: st.DataObject, pauses: bool) -> None:
        name = data.draw(st.sampled_from(self.instructable()))
        self.instruct(**{"pause" if pauses else "resume": [name]})
        if not self.model.closed:
            (self.model.paused.add if pauses else self.model.paused.discard)(name)

    @precondition(instructable)
    @rule(data=st.data(), lots=st.integers(0, 80))
    def amend(self, data: st.DataObject, lots: int) -> None:
        name, model = data.draw(st.sampled_from(self.instructable())), self.model
        done = model.cum[name] + model.working(name)
        qty = max(lots, 1) * model.lot[name]
        amend = [{"cl_ord_id": name, "order_qty": qty}]
        if qty < done and not model.closed:
            act = lambda: self.api.instruct(self.fresh_id(), amend=amend)  # noqa: E731
            self.unchanged(act, 409, "INSTRUCTIONS_REFUSED")
        else:
            self.instruct(amend=amend)
            model.target[name] = model.target[name] if model.closed else qty

    @precondition(instructable)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name, model = data.draw(st.sampled_from(self.instructable())), self.model
        self.instruct(cancel=[name])
        if not model.closed:
            model.canceled.add(name)

    @precondition(lambda self: bool(self.booked))
    @rule(data=st.data())
    def duplicate(self, data: st.DataObject) -> None:
        told = data.draw(st.sampled_from(self.booked))
        again = encoded({"executions": [told]}) + b" " * self.count
        self.count += 1
        reply = self.api.call("POST", "/v1/days/d/executions", again)
        assert (reply.status, reply.json["result"]) == (200, ["DUPLICATE"])
        assert alarms(reply.json) == []
        kind = "TRADE" if told["exec_type"] == "CANCELED" else "CANCELED"
        name = told.get("cl_ord_id", "A")
        other = fill(told["exec_id"], name, 1) if kind == "TRADE" else end(told["exec_id"], name)
        self.unchanged(lambda: self.api.report([other]), 409, "EXEC_ID_REUSED")

    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        method, path, raw, answered = data.draw(st.sampled_from(self.sent))
        before = self.api.call("GET", "/v1/days/d").body
        reply = self.api.call(method, f"/v1/days/d{path}", raw)
        assert (reply.status, reply.body, reply.replayed) == (200, answered, True)
        assert self.api.call("GET", "/v1/days/d").body == before
        if path != "/executions":
            changed = lambda: self.api.call(method, f"/v1/days/d{path}", raw + b" ")  # noqa: E731
            self.unchanged(changed, 409, "BODY_CHANGED")

    @rule(ahead=st.integers(1, 3))
    def gap(self, ahead: int) -> None:
        n = self.next_step + ahead
        code = "DAY_CLOSED" if self.model.closed else "STEP_GAP"
        self.unchanged(lambda: self.api.step(n, step(n, bars(SYMBOLS))), 409, code)

    @rule(qty=st.integers(1, 50))
    def contradict(self, qty: int) -> None:
        good = fill(self.fresh_id(), "A", qty)
        steps = range(1, self.model.step + 2)
        for unsent in {f"A/{n}" for n in steps} - set(self.model.ever):
            bad = fill(self.fresh_id(), unsent, qty)
            self.unchanged(lambda bad=bad: self.api.report([good, bad]), 422, "BAD_EXECUTION")

    @rule(state=st.sampled_from(["ACTIVE", "ACTIVE", "REDUCING", "HALTED"]))
    def halt(self, state: str) -> None:
        assert self.api.trading(state).status == 200
        self.trading = state

    @rule()
    def restart(self) -> None:
        self.api.restart()

    @precondition(lambda self: not self.model.closed and self.model.step == STEPS)
    @rule()
    def close(self) -> None:
        report = self.command("POST", "/close", {}).json
        self.model.closed = True
        for at, name in enumerate(NAMES):
            short = max(self.model.target[name] - self.model.cum[name], 0)
            assert report["orders"]["shortfall_qty"][at] == short
            assert (report["orders"]["shortfall_reason"][at] is None) == (short == 0)

    # what always holds

    @invariant()
    def the_wire_agrees_with_the_model(self) -> None:
        if not hasattr(self, "model"):
            return
        state, model = self.api.state(), self.model
        orders = state["orders"]
        columns = ("order_qty", "cum_qty", "working_qty", "leaves_qty", "overfill_qty")
        for at, name in enumerate(NAMES):
            target, cum, working, leaves, over = (orders[column][at] for column in columns)
            assert target == model.target[name]
            assert cum + leaves == target - orders["canceled_qty"][at] + over
            assert orders["canceled_qty"][at] == 0 or name in model.canceled
            assert (cum, working) == (model.cum[name], model.working(name))
            assert leaves == working + model.remaining(name)
        cash = state["cash"]
        assert cash["cash_minor"] == model.cash
        assert cash["reserved_minor"] == model.reserved
        assert cash["free_minor"] == model.cash - model.reserved
        assert cash["min_cash_minor"] == model.low
        assert cash["free_minor"] >= 0 or model.breached
        found = [(c["child_id"], c["working_qty"], c["protect_px"]) for c in state["children"]]
        assert found == [(c.id, c.qty, c.protect) for c in model.children]
        expected = "REDUCING" if model.breached and self.trading == "ACTIVE" else self.trading
        assert state["trading"] == expected
        assert state["step"] == model.step
        assert state["status"] == ("CLOSED" if model.closed else "OPEN")


DayMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class TestAnyDay(DayMachine.TestCase):
    """The machine as a test case."""

    @pytest.fixture(autouse=True)
    def _service(self) -> Iterator[None]:
        with Api() as DayMachine.service:
            yield
