"""The end of a played day: its summary, as JSON and in words. Standard library and NumPy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from service.play.oms import Played
from service.play.script import Json

KEYS = (
    "orders",
    "decisions",
    "filled_pct",
    "eg_bp",
    "toc_pct",
    "min_cash_minor",
    "step_ms_p50",
    "step_ms_p99",
    "policy",
    "fallbacks",
)


def summarise(played: Played) -> Json:
    """The figures of a day, exactly KEYS; latencies are round trips seen by the client."""
    report = played.report
    median, slowest = np.percentile(played.step_ms, (50, 99))
    figures = {
        "orders": len(report["orders"]["cl_ord_id"]),
        "decisions": report["decisions"],
        "filled_pct": report["filled_pct"],
        "eg_bp": report["eg_bp"],
        "toc_pct": report["toc_pct"],
        "min_cash_minor": report["cash"]["min_cash_minor"],
        "step_ms_p50": round(float(median), 3),
        "step_ms_p99": round(float(slowest), 3),
        "policy": report["policy"],
        "fallbacks": report["fallbacks"],
    }
    return {key: figures[key] for key in KEYS}


def save(folder: Path, played: Played) -> tuple[Path, Path]:
    """Write the service's report and the summary; answers both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    report, summary = folder / "report.json", folder / "summary.json"
    for path, value in ((report, played.report), (summary, summarise(played))):
        path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    return report, summary


def lines(played: Played) -> Iterator[str]:
    """The summary in words."""
    told = summarise(played)
    report = played.report
    model = " ".join(f"{name} {value}" for name, value in report["model"].items())
    yield (
        f"policy          {told['policy']} ({model})"
        if model
        else f"policy          {told['policy']}"
    )
    yield f"orders          {told['orders']}, decisions {told['decisions']}"
    yield f"filled          {told['filled_pct']:.4f} %"
    yield from _shortfalls(report["orders"])
    yield f"EG to TWAP px   {told['eg_bp']:+.2f} bp"
    yield f"TOC             {told['toc_pct']:.1f} % of the steps ran short of cash"
    least, first = told["min_cash_minor"] / 100, report["opening_cash_minor"] / 100
    yield f"lowest cash     {least:,.2f} of {first:,.2f} {report['currency']} at the open"
    yield f"step            p50 {told['step_ms_p50']:.1f} ms, p99 {told['step_ms_p99']:.1f} ms"
    yield f"fallbacks       {told['fallbacks']}, repeated requests {played.repeats}"


def _shortfalls(orders: Json) -> Iterator[str]:
    """Every order that is not complete, and the reason that the service names."""
    names = ("cl_ord_id", "symbol", "order_qty", "shortfall_qty", "shortfall_reason")
    for order, symbol, qty, short, reason in zip(*(orders[name] for name in names), strict=True):
        if short:
            yield f"  short         {order} {symbol}: {short} of {qty} shares, {reason}"
