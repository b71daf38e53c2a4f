"""What callers send: strict, frozen pydantic models. Imports pydantic and the contract's limits.

Unknown fields, NaN, infinities, strings for numbers and lone surrogates are refused here. Columns
are plain lists, one entry per order or symbol, so that a data frame is one call away; their ranges
are checked as arrays in parse.py.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic.json_schema import models_json_schema

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
from service.errors import Code, Problem

CASH_OPEN_MINOR_MAX = 2**42 - 1
"""Largest opening balance; proceeds must fit beside it."""
SYMBOLS_MAX = 5_000
"""Symbols in one snapshot; those that the day does not trade are ignored."""
EXECUTIONS_MAX = 2_000
"""Executions in one request."""
ADV_MAX = 2**40
HOLDING_MAX = 2**40
SNAPSHOT_AGE_S_DEFAULT = 60
SNAPSHOT_AGE_S_MAX = 86_400
ERRORS_SHOWN_MAX = 20
PARTS_MAX = 25_000
"""Names in one body, and lists: no honest one has more, and each wrong one costs microseconds."""
_NAME = re.compile(rb'"\s*:')

Item = TypeVar("Item")
# one error per column: a body of a million wrong entries must not cost seconds
Column = Annotated[list[Item], Field(fail_fast=True)]
Moment = Annotated[
    AwareDatetime,
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(2200, 1, 1, tzinfo=UTC)),
]
Symbol = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,32}$")]
ClOrdId = Annotated[str, StringConstraints(pattern=r"^[!-.0-~]{1,64}$")]
ChildId = Annotated[str, StringConstraints(pattern=r"^[!-.0-~]{1,64}/[0-9]{1,4}$")]
ExecId = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,64}$")]
Account = Annotated[str, StringConstraints(pattern=r"^[ -~]{1,64}$")]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
ExchangeCode = Annotated[str, StringConstraints(pattern=r"^[A-Z]{4}$")]


class Strict(BaseModel):
    """Base of everything on the wire."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )


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
    order_qty: Column[Annotated[int, Field(ge=1, le=QTY_MAX)]]
    lot_size: Column[Annotated[int, Field(ge=1, le=LOT_MAX)]] | None = None
    limit_px: Column[float | None] | None = None
    start_step: Column[Annotated[int, Field(ge=1, le=STEPS_MAX)]] | None = None
    end_step: Column[Annotated[int, Field(ge=1, le=STEPS_MAX)]] | None = None


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


class OpenDay(Strict):
    """Body of PUT /v1/days/{day_id}."""

    account: Account
    currency: Currency
    schedule: Times | Session
    cash_minor: int = Field(ge=0, le=CASH_OPEN_MINOR_MAX)
    orders: OrderColumns
    policy: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$")] = "iac"
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
    """One execution report (FIX 17, 11, 150, 32, 31) for an order or one of its children."""

    exec_id: ExecId
    cl_ord_id: ClOrdId | None = None
    child_id: ChildId | None = None
    exec_type: ExecType
    last_qty: int | None = Field(None, ge=1, le=QTY_MAX)
    last_px: float | None = None


Executions = Annotated[Column[Execution], Field(max_length=EXECUTIONS_MAX)]


class Step(Strict):
    """Body of POST /v1/days/{day_id}/steps/{n}."""

    as_of: Moment
    snapshot: SnapshotColumns
    executions: Executions = ()  # type: ignore[assignment]


class ExecutionBatch(Strict):
    """Body of POST /v1/days/{day_id}/executions."""

    executions: Annotated[Column[Execution], Field(min_length=1, max_length=EXECUTIONS_MAX)]


class Close(Strict):
    """Body of POST /v1/days/{day_id}/close: what happened in the last interval."""

    as_of: Moment | None = None
    snapshot: SnapshotColumns | None = None
    executions: Executions = ()  # type: ignore[assignment]


class TradingState(Strict):
    """Body of PUT /v1/state."""

    state: Literal["ACTIVE", "REDUCING", "HALTED"]


BODIES: dict[type[Strict], TypeAdapter[Any]] = {
    model: TypeAdapter(model) for model in (OpenDay, Step, ExecutionBatch, Close, TradingState)
}
Body = TypeVar("Body", bound=Strict)


def read(model: type[Body], raw: bytes) -> Body:
    """Validate a raw body; raises NOT_JSON or BAD_FIELD naming every place, never the input."""
    names = len(_NAME.findall(raw))
    if max(names, raw.count(b"[")) > PARTS_MAX:
        raise Problem(Code.BAD_FIELD, f"send at most {PARTS_MAX} fields and lists in one body")
    try:
        body: Body = BODIES[model].validate_json(raw)
        if names != _count_names(body):
            json.loads(raw, object_pairs_hook=_refuse_repeated)
        return body
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    if any(item["type"] == "json_invalid" for item in found):
        raise Problem(Code.NOT_JSON, "send one UTF-8 JSON object") from None
    errors = [(_where(item), item["msg"]) for item in found[:ERRORS_SHOWN_MAX]]
    raise Problem(
        Code.BAD_FIELD, f"{len(found)} field(s) to change, see errors", errors=errors
    ) from None


def _count_names(value: Any) -> int:
    """Names that a validated value was read from; fewer than in its text if one was repeated."""
    if isinstance(value, Execution):  # up to thousands
        return len(value.model_fields_set)
    if isinstance(value, Strict):
        names = value.model_fields_set
        return len(names) + sum(_count_names(getattr(value, name)) for name in names)
    if isinstance(value, dict):
        return len(value)
    if isinstance(value, list) and value and isinstance(value[0], Execution):
        return sum(map(_count_names, value))
    return 0


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> None:
    """Of a repeated name readers take the first or the last value: so nobody may send one."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise Problem(Code.BAD_FIELD, "send each name of an object once")


def _where(item: Any) -> str:
    """The place of an error; names that the caller invented are not repeated."""
    places = list(item["loc"])
    if "holdings" in places[:1]:
        places[1:] = ["(symbol)"]
    if item["type"] == "extra_forbidden" and places:
        places[-1] = "(unknown field)"
    return ".".join(map(str, places)) or "(body)"


def schemas() -> dict[str, Any]:
    """JSON schemas of all bodies, for the OpenAPI document."""
    models: Any = [(model, "validation") for model in BODIES]
    _, document = models_json_schema(models, ref_template="#/components/schemas/{model}")
    definitions: dict[str, Any] = document["$defs"]
    return definitions
