"""What is answered of a day's end, of states and of problems, as types. Imports answers.

As those of answers.py: for the OpenAPI document and its tests, never in the way of a reply.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from service.amending import Refusal
from service.answers import (
    Alarm,
    Answered,
    Cash,
    Growing,
    Model,
    Orders,
    ReasonCode,
    Shadow,
    sometimes,
)
from service.core.day import Trading
from service.errors import Code


class ReportedOrders(Orders):
    """Every order of a closed day as columns: prices, gains and costs, and why it fell short."""

    avg_px: list[float | None]
    arrival_px: list[float | None]
    twap_px: list[float | None]
    vwap_px: list[float | None]
    close_px: list[float | None]
    eg_bp: list[float | None]
    slippage_arrival_bp: list[float | None]
    slippage_vwap_bp: list[float | None]
    slippage_close_bp: list[float | None]
    filled_pct: list[float]
    participation_pct: list[float | None]
    conflict_steps: list[int]
    canceled_qty: list[int]
    shortfall_qty: list[int]
    shortfall_reason: list[ReasonCode | None]


class Costs(Answered):
    """What all fills cost against four prices, in minor units, positive when worse."""

    arrival: int
    twap: int
    vwap: int
    close: int


class Cut(Answered):
    """What one safety rule cut of an order, and what that cost."""

    code: ReasonCode
    cl_ord_id: str
    cut_qty: int
    cost_minor: int | None


class Report(Answered):
    """The report of a closed day."""

    day_id: str
    account: str
    currency: str
    policy: str
    model: Model
    decisions: int
    steps: int
    fallbacks: int
    alarm_count: int
    filled_pct: float | None
    eg_bp: float | None
    toc_pct: float
    opening_cash_minor: int
    cash: Cash
    traded_minor: int
    cost_minor: Costs
    orders: ReportedOrders
    cuts: list[Cut]
    alarms: list[Alarm]
    shadows: list[ShadowReport]


class ShadowReport(Shadow):
    """The day as a shadow had it on paper."""

    report: Report | None


class LoggedCommand(Answered):
    """A command as it was carried out, with the bodies that came and went."""

    seq: int
    of: int
    command: str
    state: Trading
    request: str
    reply: str


class Log(Answered):
    """Every command of a day in its order."""

    day_id: str
    client: str
    commands: list[LoggedCommand]


class State(Answered):
    """The trading state that was set."""

    state: Trading


class WrongField(Answered):
    """One place of a body that has to change."""

    where: str
    what: str


class RefusedOrder(Answered):
    """An order that stands in the way of instructions (docs/errors.md)."""

    code: Annotated[str, Growing(Refusal)]
    cl_ord_id: str
    observed: float | None
    limit: float | None


class Problem(Answered):
    """Problem details (RFC 9457). Branch on ``code``; what is not required depends on it."""

    type: str
    title: str
    status: int
    code: Annotated[str, Growing(Code)]
    detail: str
    instance: str
    errors: list[WrongField] = sometimes()
    positions: list[int] = sometimes()
    count: int = sometimes()
    missing: list[str] = sometimes()
    refused: list[RefusedOrder] = sometimes()
    expected_step: int | None = sometimes()
    got_step: int = sometimes()
    earliest: datetime = sometimes()
    latest: datetime = sometimes()
    scheduled: datetime = sometimes()
    observed: int = sometimes()
    limit: int = sometimes()
    model: Model = sometimes()
    problems: list[str] = sometimes()
    retry_after_s: int = sometimes()
