"""Reports of closed days and lists of models, as frozen dataclasses. Imports replies.

Percentages are of 100, gains and slippages in basis points, money in minor units.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from service.client.replies import Alarm, Cash, Json, Orders, Reply, Shadow


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedOrders(Orders):
    """Every order of a closed day: prices, gains in basis points, and why it fell short."""

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
    shortfall_reason: list[str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What one safety rule cut of an order, and what that cost (minor units, negative: gained)."""

    code: str
    cl_ord_id: str
    cut_qty: int
    cost_minor: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Reply):
    """The report of a closed day; percentages are of 100, gains in basis points."""

    day_id: str
    account: str
    currency: str
    policy: str
    model: dict[str, str]
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
    cost_minor: dict[str, int]
    orders: ReportedOrders
    cuts: list[Cut]
    alarms: list[Alarm]
    shadows: list[ShadowReport] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowReport(Shadow):
    """The day as a shadow had it on paper; no ``report`` of one that stopped."""

    report: Report | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldModel:
    """A version of a model or a rule that is loaded.

    ``current`` decides days that are opened by its name alone; one that is not ``listed`` any more
    is kept for the days that are pinned to it, ``open_days`` of them.
    """

    name: str
    version: str
    fingerprint: str
    current: bool
    listed: bool
    open_days: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Models(Reply):
    """What is loaded; after a reload ``changed`` says whether it is something else than before."""

    models: list[HeldModel]
    changed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Log(Reply):
    """Every command of a day in its order; ``raw`` is what ``service.replay`` takes as a file."""

    day_id: str
    client: str
    commands: list[Json]
