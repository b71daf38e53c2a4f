"""What is answered, as types: for the OpenAPI document and its tests. Imports pydantic and wire.

Those of a day's end, of states and of problems are in outcomes.py.

Replies are not checked against these when they are sent: render.py and reporting.py write them, and
tests hold every reply of the whole suite against its type. What a field means is in fields.py, by
its name. A later version may answer more fields and codes, so these types do not forbid any.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)

from service.atoms import Auction, Completion
from service.core import reasons as core
from service.core.alarms import AlarmCode
from service.core.day import Status, Trading
from service.errors import Code
from service.wire import LimitFields, Step

Side = Literal["BUY", "SELL"]


@dataclass(frozen=True, slots=True)
class Growing:
    """One of ``codes``, to which later versions add: clients must take those they do not know."""

    codes: type[StrEnum]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return AfterValidator(self.codes).__get_pydantic_core_schema__(source, handler)

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> Any:
        return handler(schema) | {"x-extensible-enum": [code.value for code in self.codes]}


ReasonCode = Annotated[str, Growing(core.Reason)]


def sometimes() -> Any:
    """A member that is there only where it has something to say."""
    return Field(default_factory=lambda: None)


class Answered(BaseModel):
    """Base of everything that is answered."""

    # built when somebody asks for the document, not at every start
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, defer_build=True)


class Model(Answered):
    """What a day's policy is pinned to."""

    name: str
    version: str
    fingerprint: str


class Cash(Answered):
    """The account, in minor units of the day's currency."""

    cash_minor: int
    reserved_minor: int
    free_minor: int
    min_cash_minor: int


class Orders(Answered):
    """Orders as columns: lists of equal length, one entry per order, in shares."""

    cl_ord_id: list[str]
    symbol: list[str]
    side: list[Side]
    order_qty: list[int]
    cum_qty: list[int]
    working_qty: list[int]
    leaves_qty: list[int]
    overfill_qty: list[int]
    version: list[int]


OrdStatus = Literal[
    "NEW",
    "PARTIALLY_FILLED",
    "FILLED",
    "DONE_FOR_DAY",
    "CANCELED",
    "PENDING_CANCEL",
    "SUSPENDED",
]


class OrderTerms(Orders):
    """Orders as columns, with what holds for them now."""

    ord_status: list[OrdStatus]
    canceled_qty: list[int]
    limit_px: list[float | None]
    start_step: list[int]
    end_step: list[int]
    urgency_pct: list[int]
    completion: list[Completion]
    participation_ppm_min: list[int | None]
    participation_ppm_max: list[int | None]
    would_px: list[float | None]
    would_ppm: list[int]
    min_qty: list[int]
    auction: list[Auction]


class Reason(Answered):
    """Why a child is not what the policy wished (docs/reasons.md)."""

    code: ReasonCode
    observed: float | None
    limit: float | None


class DecidedOrders(Orders):
    """The open orders as columns, with this step's child of each."""

    child_id: list[str | None]
    child_qty: list[int]
    protect_px: list[float | None]
    auction: list[Auction | None]
    reasons: list[list[Reason]]


class Alarm(Answered):
    """A fact that a desk should look at (docs/reasons.md)."""

    code: Annotated[str, Growing(AlarmCode)]
    cl_ord_id: str | None
    exec_id: str | None
    observed: float
    limit: float


class WorkingChild(Answered):
    """A child whose volume is with the broker."""

    child_id: str
    working_qty: int
    protect_px: float | None


class Shadow(Answered):
    """A policy that decides the day's steps on paper."""

    policy: str
    model: Model
    stopped: Annotated[str, Growing(Code)] | None


class HeldModel(Model):
    """A version of a model or of a rule that is loaded."""

    current: bool
    listed: bool
    open_days: int | None = sometimes()


class Models(Answered):
    """What decides now."""

    models: list[HeldModel]
    changed: bool | None = sometimes()


class Day(Answered):
    """The state of a day."""

    day_id: str
    account: str
    currency: str
    minor_digits: int
    status: Status
    trading: Trading
    policy: str
    model: Model
    fills: Literal["reported", "paper"]
    limits: LimitFields
    holdings: dict[str, int] | None
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
    shadows: list[Shadow]


class Decision(Answered):
    """The answer to one step: a child for every open order, and why it is what it is."""

    day_id: str
    step: int
    steps: int
    as_of: datetime
    policy: str
    model: Model
    fallback: bool
    fallback_reason: str | None
    trading: Trading
    cash_cut: bool
    cash: Cash
    orders: DecidedOrders
    alarms: list[Alarm]


class Round(Answered):
    """One round of the exchange: what every order intended, and what that was chosen from."""

    round: int
    action: list[int]
    probability: list[list[float]]


class Record(Answered):
    """A recorded decision: what was answered, the exchange before it, and the request."""

    decision: Decision
    cl_ord_id: list[str]
    rounds: list[Round]
    request: Step
    shadows: list[Decision | None]


class Bookings(Answered):
    """What became of reported executions."""

    exec_id: list[str]
    result: list[Literal["BOOKED", "DUPLICATE"]]
    cash: Cash
    orders: Orders
    alarms: list[Alarm]


class Instructed(Answered):
    """The orders that instructions named, as they are now."""

    day_id: str
    instruction_id: str
    next_step: int | None
    cash: Cash
    orders: OrderTerms
    children: list[WorkingChild]
