"""The smallest things on the wire: bounded numbers, names, columns. Imports pydantic and the core.

Ranges of columns are checked as arrays elsewhere; here is what one entry may be.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from service.core.contract import STEPS_MAX
from service.core.units import PPM, QTY_MAX

CASH_OPEN_MINOR_MAX = 2**42 - 1
"""Largest opening balance; proceeds must fit beside it."""
SYMBOLS_MAX = 5_000
"""Symbols in one snapshot; those that the day does not trade are ignored."""
EXECUTIONS_MAX = 2_000
"""Executions in one request."""
SHADOWS_MAX = 2
"""Shadows of a day: each costs every step another decision."""
REFERENCES_MAX = 900
"""Of them, those that speak of an earlier one: the store reads both."""
INSTRUCTED_MAX = 1_000
"""Orders that one list of an instruction names."""
URGENCY_PCT_MAX = 100
BALANCE_PPM_MIN = 10_000
"""A narrower band could keep both sides from sending their first lot."""
COLLAR_BP_MAX = 9_999
ADV_MAX = 2**40
HOLDING_MAX = 2**40
SNAPSHOT_AGE_S_DEFAULT = 60
SNAPSHOT_AGE_S_MAX = 86_400

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


StepNumber = Annotated[int, Field(ge=1, le=STEPS_MAX)]
Quantity = Annotated[int, Field(ge=1, le=QTY_MAX)]
MinQty = Annotated[int, Field(ge=0, le=QTY_MAX)]
Urgency = Annotated[int, Field(ge=-URGENCY_PCT_MAX, le=URGENCY_PCT_MAX)]
Share = Annotated[int, Field(ge=1, le=PPM)]
Completion = Literal["MUST", "BEST_EFFORT"]
Auction = Literal["NONE", "OPEN", "CLOSE", "BOTH"]
AUCTIONS: tuple[str, ...] = get_args(Auction)
"""By their bits in the core."""


class Strict(BaseModel):
    """Base of everything on the wire."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )
