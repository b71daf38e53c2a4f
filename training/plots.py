"""The plots of the results page, as SVG files that are the same whenever the numbers are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

LABELS = {
    "eg_bp": "EG (bp)",
    "toc_pct": "steps with a cash conflict (%)",
    "share_informed": "share of the informed bound",
    "decision_us": "time per decision (µs)",
    "rounds": "rounds of exchange K",
    "orders": "orders in the basket",
}
LOGARITHMIC = ("decision_us",)
Record = dict[str, Any]


def learning_curves(records: Sequence[Record], path: Path) -> bool:
    """Objective on the selection days over iterations, mean and range of seeds by method."""
    curves: dict[str, list[Any]] = {}
    for record in records:
        if record.get("curve"):
            curves.setdefault(record["title"], []).append(np.array(record["curve"], dtype=float))
    if not curves:
        return False
    figure, axes = _figure("iteration", "EG less conflict penalty, selection days (bp)")
    for title, runs in curves.items():
        known = min(len(run) for run in runs)
        values = np.stack([run[:known, 1] for run in runs])
        (line,) = axes.plot(runs[0][:known, 0], values.mean(axis=0), marker=".", label=title)
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(runs[0][:known, 0], low, high, alpha=0.15, color=line.get_color())
    axes.legend(fontsize="small")
    return _saved(figure, path)


def eg_against_toc(summaries: Sequence[Record], path: Path) -> bool:
    """Every method as a point: gain against conflicts, with the spread between seeds.

    Takes summaries (mean and sd) and single records.
    """
    shown = [row for row in summaries if "eg_bp" in row and "toc_pct" in row]
    if not shown:
        return False
    figure, axes = _figure(LABELS["toc_pct"], LABELS["eg_bp"])
    for row in shown:
        (x, across), (y, along) = _mean_sd(row["toc_pct"]), _mean_sd(row["eg_bp"])
        axes.errorbar(x, y, xerr=across, yerr=along, fmt="o", capsize=2, markersize=4)
        name = str(row.get("title", row["method"]))
        axes.annotate(name, (x, y), xytext=(5, 4), textcoords="offset points", fontsize="small")
    return _saved(figure, path)


def lines(summaries: Sequence[Record], over: str, measured: str, path: Path) -> bool:
    """``measured`` over ``rounds``, or over the number of ``orders`` of the test, by method and
    the arena that it was trained in (named unless it is the first).

    Over rounds only methods that were run with several.
    """
    series: dict[str, list[tuple[float, float, float]]] = {}
    usual = summaries[0]["arena"]
    for row in summaries:
        if measured in row:
            mean, sd = _mean_sd(row[measured])
            title = row["title"] if row["arena"] == usual else f"{row['title']}, {row['arena']}"
            series.setdefault(title, []).append((_place(row, over), mean, sd))
    series = {title: sorted(points) for title, points in series.items() if len(points) > 1}
    if not series:
        return False
    figure, axes = _figure(LABELS[over], LABELS[measured])
    for title, points in series.items():
        x, mean, sd = np.array(points).T
        axes.errorbar(x, mean, yerr=sd, marker=".", capsize=2, label=title)
    if over == "orders":
        axes.set_xscale("log")
    if measured in LOGARITHMIC:
        axes.set_yscale("log")
    axes.legend(fontsize="small")
    return _saved(figure, path)


def calibration(records: Sequence[Record], path: Path) -> bool:
    """What came against Q in bins of Q, one line for each run."""
    shown = [record for record in records if record.get("calibration")]
    if not shown:
        return False
    figure, axes = _figure("Q (training reward)", "return as it came")
    for record in shown:
        bins = record["calibration"]
        known, came = [part["q"] for part in bins], [part["return"] for part in bins]
        axes.plot(known, came, marker=".", label=f"{record['q']}, seed {record['seed']}")
    ends = [part["q"] for record in shown for part in record["calibration"]]
    axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color="grey", linewidth=0.8)
    axes.legend(fontsize="small")
    return _saved(figure, path)


def _place(row: Record, over: str) -> float:
    """Where a row stands on the axis ``over``; tests of N orders are named ``...-nN``."""
    return float(row["test"].rsplit("-n", 1)[1]) if over == "orders" else float(row[over])


def _mean_sd(found: Any) -> tuple[float, float]:
    if isinstance(found, dict):
        return float(found["mean"]), float(found["sd"] or 0.0)
    return float(found), 0.0


def _figure(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _saved(figure: Figure, path: Path) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    # ids of an SVG come from the salt, and a date would change the file at every run
    with matplotlib.rc_context({"svg.hashsalt": "concord"}):
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    return True
