"""What callers send: strict, frozen pydantic models. Imports pydantic and the contract's limits.

Unknown fields, NaN, infinities, strings for numbers and lone surrogates are refused here. Columns
are plain lists, one entry per order or symbol, so that a data frame is one call away; their ranges
are checked as arrays in parse.py.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    model_validator,
)

from service.atoms import (
    ADV_MAX,
    BALANCE_PPM_MIN,
    CASH_OPEN_MINOR_MAX,
    COLLAR_BP_MAX,
    EXECUTIONS_MAX,
    HOLDING_MAX,
    INSTRUCTED_MAX,
    REFERENCES_MAX,
    SHADOWS_MAX,
    SNAPSHOT_AGE_S_DEFAULT,
    SNAPSHOT_AGE_S_MAX,
    SYMBOLS_MAX,
    Account,
    Auction,
    ChildId,
    ClOrdId,
    Column,
    Completion,
    Currency,
    ExchangeCode,
    ExecId,
    MinQty,
    Moment,
    Quantity,
    Share,
    StepNumber,
    Strict,
    Symbol,
    Urgency,
)
from service.core.book import ExecType
from service.core.contract import LOT_MAX, STEPS_MAX
from service.core.limits import (
    CASH_BUFFER_BP_DEFAULT,
    CASH_BUFFER_BP_MAX,
    CHILD_NOTIONAL_MINOR_MAX,
    CHILD_QTY_MAX,
    PARTICIPATION_PPM_MAX,
)
from service.core.units import PPM, QTY_MAX


class Times(Strict):
    """Explicit decision times; ``end`` is when the last interval is over."""

    times: Column[Moment] = Field(min_length=1, max_length=STEPS_MAX)
    end: Moment | None = None


class Session(Strict):
    """Decision times from an exchange calendar: every ``step_minutes`` of trading."""

    exchange: ExchangeCode
    date: date
    step_minutes: int = Field(ge=1, le=480)


class OrderColumns(Strict):
    """Parent orders, one entry each; FIX names (11, 55, 54, 38, 44)."""

    cl_ord_id: Column[ClOrdId] = Field(min_length=1)
    symbol: Column[Symbol]
    side: Column[Literal["BUY", "SELL"]]
    order_qty: Column[Quantity]
    lot_size: Column[Annotated[int, Field(ge=1, le=LOT_MAX)]] | None = None
    limit_px: Column[float | None] | None = None
    start_step: Column[StepNumber] | None = None
    end_step: Column[StepNumber] | None = None
    urgency_pct: Column[Urgency] | None = None
    completion: Column[Completion] | None = None
    participation_ppm_min: Column[Share | None] | None = None
    participation_ppm_max: Column[Share | None] | None = None
    would_px: Column[float | None] | None = None
    would_ppm: Column[Share | None] | None = None
    min_qty: Column[MinQty] | None = None
    auction: Column[Auction] | None = None


class ReferenceColumns(Strict):
    """What is known of each symbol from past days; any column may be left out."""

    symbol: Column[Symbol] = Field(min_length=1, max_length=SYMBOLS_MAX)
    prev_close: Column[float | None] | None = None
    adv_qty: Column[Annotated[int, Field(ge=0, le=ADV_MAX)] | None] | None = None
    daily_vol_bp: Column[float | None] | None = None
    volume_profile: Column[Column[float]] | None = None


class LimitFields(Strict):
    """Hard limits of the day; none can be overridden later."""

    cash_buffer_bp: int = Field(CASH_BUFFER_BP_DEFAULT, ge=0, le=CASH_BUFFER_BP_MAX)
    child_qty_max: int = Field(CHILD_QTY_MAX, ge=1, le=CHILD_QTY_MAX)
    child_notional_minor_max: int = Field(
        CHILD_NOTIONAL_MINOR_MAX, ge=1, le=CHILD_NOTIONAL_MINOR_MAX
    )
    participation_ppm_max: int = Field(PARTICIPATION_PPM_MAX, ge=1, le=PPM)
    snapshot_age_s_max: int = Field(SNAPSHOT_AGE_S_DEFAULT, ge=0, le=SNAPSHOT_AGE_S_MAX)
    cash_floor_minor: int = Field(0, ge=0, le=CASH_OPEN_MINOR_MAX)
    gross_notional_minor_max: int | None = Field(None, ge=1, le=CHILD_NOTIONAL_MINOR_MAX)
    net_notional_minor_min: int | None = Field(None, ge=-CHILD_NOTIONAL_MINOR_MAX, le=0)
    net_notional_minor_max: int | None = Field(None, ge=0, le=CHILD_NOTIONAL_MINOR_MAX)
    balance_ppm_max: int | None = Field(None, ge=BALANCE_PPM_MIN, le=PPM)
    collar_close_bp: int | None = Field(None, ge=1, le=COLLAR_BP_MAX)
    collar_arrival_bp: int | None = Field(None, ge=1, le=COLLAR_BP_MAX)


PolicyName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}(@[0-9a-f]{1,12})?$")]
"""A rule, a model in its current version, or one version of a model (name@version)."""


def _once(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("name each policy once")
    return names


class OpenDay(Strict):
    """Body of PUT /v1/days/{day_id}."""

    account: Account
    currency: Currency
    schedule: Times | Session
    cash_minor: int = Field(ge=0, le=CASH_OPEN_MINOR_MAX)
    orders: OrderColumns
    policy: PolicyName = "iac"
    shadows: Annotated[Column[PolicyName], AfterValidator(_once)] = Field(
        default_factory=list, max_length=SHADOWS_MAX, json_schema_extra={"uniqueItems": True}
    )
    fills: Literal["reported", "paper"] = "reported"
    limits: LimitFields = Field(default_factory=lambda: LimitFields.model_validate({}))
    reference: ReferenceColumns | None = None
    holdings: dict[Symbol, Annotated[int, Field(ge=0, le=HOLDING_MAX)]] | None = None


class SnapshotColumns(Strict):
    """One bar per symbol for the time since the last decision, as columns."""

    symbols: Column[Symbol] = Field(min_length=1, max_length=SYMBOLS_MAX)
    open: Column[float]
    high: Column[float]
    low: Column[float]
    close: Column[float]
    volume: Column[int]
    vwap: Column[float] | None = None
    status: Column[Literal["TRADING", "HALT"]] | None = None


class Execution(Strict):
    """One execution report (FIX 17, 19, 11, 150, 32, 31) for an order or one of its children."""

    exec_id: ExecId
    exec_ref_id: ExecId | None = None
    cl_ord_id: ClOrdId | None = None
    child_id: ChildId | None = None
    exec_type: ExecType
    last_qty: int | None = Field(None, ge=1, le=QTY_MAX)
    last_px: float | None = None


def _few_references(executions: list[Execution]) -> list[Execution]:
    if sum(e.exec_ref_id is not None for e in executions) > REFERENCES_MAX:
        raise ValueError(f"send at most {REFERENCES_MAX} cancels and corrections in one request")
    return executions


Executions = Annotated[
    Column[Execution], Field(max_length=EXECUTIONS_MAX), AfterValidator(_few_references)
]


class Step(Strict):
    """Body of POST /v1/days/{day_id}/steps/{n}."""

    as_of: Moment
    snapshot: SnapshotColumns
    executions: Executions = ()  # type: ignore[assignment]


class ExecutionBatch(Strict):
    """Body of POST /v1/days/{day_id}/executions."""

    executions: Annotated[Executions, Field(min_length=1)]


class Close(Strict):
    """Body of POST /v1/days/{day_id}/close: what happened in the last interval."""

    as_of: Moment | None = None
    snapshot: SnapshotColumns | None = None
    executions: Executions = ()  # type: ignore[assignment]


Reporting = TypeVar("Reporting", Step, Close)


def without_executions(body: Reporting) -> Reporting:
    """What a shadow hears of a body: executions are of children that it did not send."""
    return body.model_copy(update={"executions": []})


TAKEN_AWAY = {"limit_px", "would_px"}
"""What an order may lose: only these may be null in an amend."""


def without_versions(body: Instructions) -> Instructions:
    """What a shadow hears of instructions: versions are of the orders that their sender knows."""
    return body.model_copy(update={"expected_version": {}})


class Amend(Strict):
    """New terms of one order; what is left out stays. ``limit_px`` and ``would_px`` null: none."""

    cl_ord_id: ClOrdId
    order_qty: Quantity | None = None
    limit_px: float | None = None
    start_step: StepNumber | None = None
    end_step: StepNumber | None = None
    urgency_pct: Urgency | None = None
    completion: Completion | None = None
    participation_ppm_min: Share | None = None
    participation_ppm_max: Share | None = None
    would_px: float | None = None
    would_ppm: Share | None = None
    min_qty: MinQty | None = None
    auction: Auction | None = None

    @model_validator(mode="after")
    def _only_prices_are_taken_away(self) -> Self:
        empty = {name for name in self.model_fields_set if getattr(self, name) is None}
        if empty - TAKEN_AWAY:
            raise ValueError("only limit_px and would_px may be null; leave out what stays")
        return self


ClOrdIds = Annotated[Column[ClOrdId], Field(max_length=INSTRUCTED_MAX)]
Some = ClOrdIds | Literal["ALL"]
Amends = Annotated[Column[Amend], Field(max_length=INSTRUCTED_MAX)]


class Instructions(Strict):
    """Body of POST /v1/days/{day_id}/instructions: all of it is carried out, or nothing.

    ``expected_version`` guards orders against an instruction that crossed with this one.
    """

    instruction_id: ClOrdId
    cancel: Some = ()  # type: ignore[assignment]
    pause: Some = ()  # type: ignore[assignment]
    resume: Some = ()  # type: ignore[assignment]
    amend: Amends = ()  # type: ignore[assignment]
    add: OrderColumns | None = None
    reference: ReferenceColumns | None = None
    expected_version: dict[ClOrdId, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)


class TradingState(Strict):
    """Body of PUT /v1/state."""

    state: Literal["ACTIVE", "REDUCING", "HALTED"]


COMMANDS = (OpenDay, Step, ExecutionBatch, Instructions, Close, TradingState)
