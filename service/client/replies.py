"""What the service answers, as frozen dataclasses. Imports the standard library only.

Fields are those of docs/api.md: columns are lists with one entry per order, money is in minor units
(integers), prices are decimal numbers, volumes are shares, moments are aware datetimes. Fields that
this version does not know are ignored here and stay reachable through ``Reply.json``; columns that
came after the first version are empty where an older service does not send them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Json = dict[str, Any]
Number = int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How a reply came; two replies are equal when their contents are.

    ``raw`` are the bytes of the body, the same for every repetition of a command; ``replayed`` is
    true when it had been carried out before. ``attempts`` counts how often it was sent by this
    call, ``elapsed_s`` is the round trip of the last of them.
    """

    raw: bytes = field(default=b"", repr=False, compare=False)
    replayed: bool = field(default=False, compare=False)
    attempts: int = field(default=1, compare=False)
    elapsed_s: float = field(default=0.0, repr=False, compare=False)

    @property
    def json(self) -> Json:
        """The whole body as it came, with the fields that this version does not know.

        Of a reply that came by itself: the decision inside a Record has no bytes of its own.
        """
        body: Json = json.loads(self.raw)
        return body


@dataclass(frozen=True, slots=True)
class Probe:
    """What a probe found; true in a condition when all is well. ``detail`` says what is not."""

    ok: bool
    detail: str = ""

    def __bool__(self) -> bool:
        return self.ok


@dataclass(frozen=True, slots=True, kw_only=True)
class Cash:
    """The account in minor units; ``min_cash_minor`` is the lowest balance of the day so far."""

    cash_minor: int
    reserved_minor: int
    free_minor: int
    min_cash_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """Orders as columns: what was asked, filled, is working, and is still to do, in shares.

    ``version`` counts the changes of each order, for ``expected_version`` of instructions.
    """

    cl_ord_id: list[str]
    symbol: list[str]
    side: list[str]
    order_qty: list[int]
    cum_qty: list[int]
    working_qty: list[int]
    leaves_qty: list[int]
    overfill_qty: list[int]
    version: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTerms(Orders):
    """Orders with what holds for them now; ``ord_status`` is FIX 39 by name."""

    ord_status: list[str] = field(default_factory=list)
    canceled_qty: list[int] = field(default_factory=list)
    limit_px: list[float | None] = field(default_factory=list)
    start_step: list[int] = field(default_factory=list)
    end_step: list[int] = field(default_factory=list)
    urgency_pct: list[int] = field(default_factory=list)
    completion: list[str] = field(default_factory=list)
    participation_ppm_min: list[int | None] = field(default_factory=list)
    participation_ppm_max: list[int | None] = field(default_factory=list)
    would_px: list[float | None] = field(default_factory=list)
    would_ppm: list[int] = field(default_factory=list)
    min_qty: list[int] = field(default_factory=list)
    auction: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A fact that broke a promise (docs/reasons.md); both numbers in the unit of its code."""

    code: str
    cl_ord_id: str | None
    exec_id: str | None
    observed: Number | None
    limit: Number | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a child is not what was wished (docs/reasons.md), and the two numbers compared."""

    code: str
    observed: Number | None
    limit: Number | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingChild:
    """A child whose volume is with the broker; ``protect_px`` None for no limit price."""

    child_id: str
    working_qty: int
    protect_px: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """A policy that decides beside the day's own; ``stopped`` is the code of what ended it."""

    policy: str
    model: dict[str, str]
    stopped: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Day(Reply):
    """The state of a day. ``next_step`` is None when no decision is due any more."""

    day_id: str
    account: str
    currency: str
    minor_digits: int
    status: str
    trading: str
    policy: str
    model: dict[str, str]
    fills: str
    step: int
    steps: int
    next_step: int | None
    times: list[datetime]
    cash: Cash
    conflicts: int
    fallbacks: int
    alarms: int
    orders: OrderTerms
    children: list[WorkingChild]
    limits: dict[str, int | None] = field(default_factory=dict)
    holdings: dict[str, int] | None = None
    shadows: list[Shadow] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedOrders(Orders):
    """The open orders with this step's child of each: 0 shares and no ``child_id`` for none."""

    child_id: list[str | None]
    child_qty: list[int]
    protect_px: list[float | None]
    reasons: list[list[Reason]]
    auction: list[str | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Child:
    """One child order to send: ``qty`` shares, at no worse price than ``protect_px`` if there.

    ``auction`` says that it may go to the opening or the closing auction.
    """

    child_id: str
    cl_ord_id: str
    symbol: str
    side: str
    qty: int
    protect_px: float | None
    auction: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Reply):
    """The answer to one step. ``fallback`` is true when the policy failed and the TWAP decided."""

    day_id: str
    step: int
    steps: int
    as_of: datetime
    policy: str
    model: dict[str, str]
    fallback: bool
    fallback_reason: str | None
    trading: str
    cash_cut: bool
    cash: Cash
    orders: DecidedOrders
    alarms: list[Alarm]

    @property
    def children(self) -> list[Child]:
        """The child orders to send to the market now, one for every order that trades."""
        of = self.orders
        sent = (of.child_id, of.cl_ord_id, of.symbol, of.side, of.child_qty, of.protect_px)
        rows = zip(*sent, of.auction or [None] * len(of.child_id), strict=True)
        return [Child(child_id, *row) for child_id, *row in rows if child_id is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of the exchange: the intended action of every order, and its distribution."""

    round: int
    action: list[int]
    probability: list[list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Reply):
    """A recorded decision: what was answered, the exchange before it, and the request.

    ``shadows`` are what they decided on paper, None of one that had stopped.
    """

    decision: Decision
    cl_ord_id: list[str]
    rounds: list[Round]
    request: Json
    shadows: list[Decision | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bookings(Reply):
    """What became of reported executions: ``BOOKED`` or ``DUPLICATE``, by ``exec_id``."""

    exec_id: list[str]
    result: list[str]
    cash: Cash
    orders: Orders
    alarms: list[Alarm]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructed(Reply):
    """The orders that instructions named, as they are now, and their children still working."""

    day_id: str
    instruction_id: str
    next_step: int | None
    cash: Cash
    orders: OrderTerms
    children: list[WorkingChild]


@dataclass(frozen=True, slots=True, kw_only=True)
class State(Reply):
    """The trading state that was set: ACTIVE, REDUCING or HALTED."""

    state: str
