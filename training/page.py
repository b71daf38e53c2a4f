"""The page of results in Markdown: notes written by people, numbers taken from summaries.

``notes/intro.md`` opens the page and ``notes/<study>.md`` each section, where they exist. In them

    {{table lab-tight iac-t eg_bp}}            a summary's mean, of a study, arena and method
    {{rounds lab-tight iac-t eg_bp k=0}}       where K or the test must be told apart: k=, test=
    {{critic lab-tight-q-branch iac-t rank_correlation round=1}}    what was measured of a round
    {{compare lab-tight iac-t tarmac eg_bp}}   a difference and its interval

are replaced; a placeholder that fits no number, or two, is an error, so what is filled in is never
stale.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.errors import Refused
from training.studies import STUDIES

Summary = dict[str, Any]
Comparisons = list[dict[str, Any]]

COLUMNS = {
    "eg_bp": "EG bp",
    "toc_pct": "TOC %",
    "arr_pct": "ARR %",
    "pos": "POS",
    "glr": "GLR",
    "slippage_bp": "slippage bp",
    "objective_bp": "objective bp",
    "log_gain_bp": "log gain bp",
    "share_planner": "of planner",
    "share_informed": "of informed",
    "share_clairvoyant": "of clairvoyant",
    "filled_pct": "filled %",
    "low_water_pct": "least cash %",
}
"""Columns of the main table; those that no row has are left out."""
FEWER = (
    "eg_bp", "toc_pct", "slippage_bp", "objective_bp", "log_gain_bp", "share_informed",
    "filled_pct",
)  # fmt: skip
"""Columns of the other studies."""
BY_ROUND = {
    "rank_correlation": "rank correlation of Q",
    "rank_correlation_untrained": "untrained",
    "rank_correlation_added": "of what an intention adds",
    "rank_correlation_added_untrained": "untrained",
    "error_rms": "RMS error of Q",
}
"""What the critic study measures of every round."""
DIFFERENCES = {
    "eg_bp": "EG bp",
    "toc_pct": "TOC %",
    "slippage_bp": "slippage bp",
    "objective_bp": "objective bp",
    "log_gain_bp": "log gain bp",
}
_PLACEHOLDER = re.compile(r"\{\{\s*(.+?)\s*\}\}")


@dataclass
class Pages:
    """What there is to show, by study."""

    summaries: dict[str, list[Summary]] = field(default_factory=dict)
    plots: dict[str, list[str]] = field(default_factory=dict)
    comparisons: Comparisons = field(default_factory=list)
    trained_cpu_s: dict[str, float] = field(default_factory=dict)
    """Processor time of each run that is shown."""


def page(held: Pages, notes: Path) -> str:
    """The whole page."""
    parts = ["# Results", _note(held, notes / "intro.md") or _LEGEND, _effort(held.trained_cpu_s)]
    for name, found in held.summaries.items():
        study = STUDIES[name]
        parts += [f"## {study.title}", f"`{study.command}`", _note(held, notes / f"{name}.md")]
        for arena in dict.fromkeys(row["arena"] for row in found):
            here = [row for row in found if row["arena"] == arena]
            scored = [row for row in here if "log_gain_bp" in row or "eg_bp" in row]
            parts += [f"### {arena}", table(scored, study_columns(name)) if scored else ""]
            parts.append(round_table([row for row in here if "rank_correlation" in row]))
            differences = [
                row for row in held.comparisons if (row["study"], row["arena"]) == (name, arena)
            ]
            if differences:
                parts.append(difference_table(differences))
        parts += [f"![{file.removesuffix('.svg')}](results/{file})" for file in held.plots[name]]
    return "\n\n".join(part for part in parts if part) + "\n"


_LEGEND = (
    "Mean over seeds; after ± the standard deviation between seeds, in brackets the 95% bootstrap "
    "interval over test days. Slippage is a cost. Differences are paired by day; the second "
    "interval is over seeds too (Welch's t)."
)


def _effort(cpu_s: dict[str, float]) -> str:
    if not cpu_s:
        return ""
    hours = sum(cpu_s.values()) / 3_600
    return f"Training the {len(cpu_s)} runs on this page took {hours:.1f} CPU-hours."


def study_columns(study: str) -> dict[str, str]:
    """The columns of a study's tables, with their titles."""
    if study == "table":
        return COLUMNS
    fewer = {name: COLUMNS[name] for name in FEWER}
    return fewer | {"decision_us": "decision µs"} if study == "scale" else fewer


def table(rows: list[Summary], columns: dict[str, str]) -> str:
    """Summaries side by side."""
    named = {row["test"] for row in rows} != {rows[0]["arena"]}
    shown = [name for name in columns if any(name in row for row in rows)]
    head = ["method", *(["test"] if named else []), "K", "seeds", *(columns[c] for c in shown)]
    lines = []
    for row in rows:
        first = [row["title"], *([row["test"]] if named else [])]
        count = [str(row["rounds"]), str(row["seeds"])] if row["learned"] else ["", ""]
        lines.append([*first, *count, *(_measured(row, c) for c in shown)])
    return markdown(head, lines)


def round_table(rows: list[Summary]) -> str:
    """What was measured of every round, means over seeds; nothing for no rows."""
    return "\n\n".join(
        markdown(
            ["round", *BY_ROUND.values()],
            (
                [str(k), *(_number(row[name][k - 1]) for name in BY_ROUND)]
                for k in range(1, len(row["rank_correlation"]) + 1)
            ),
        )
        for row in rows
    )


def difference_table(rows: Comparisons) -> str:
    """Differences side by side."""
    shown = [name for name in DIFFERENCES if any(name in row for row in rows)]
    head = ["method", "less", *(DIFFERENCES[name] for name in shown)]
    return markdown(
        head,
        (
            [
                _with_rounds(row["method"], row["rounds"], row),
                _with_rounds(row["against"], row["rounds_against"], row),
                *(_difference(row.get(c)) for c in shown),
            ]
            for row in rows
        ),
    )


def _with_rounds(method: str, rounds: int, row: dict[str, Any]) -> str:
    """A method, with its K where that is all in which the two differ."""
    return f"{method}, K = {rounds}" if row["method"] == row["against"] else method


def markdown(head: list[str], rows: Iterable[list[str]]) -> str:
    """A table; numbers to the right."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def _measured(row: Summary, name: str) -> str:
    found = row.get(name)
    if found is None:
        return ""
    text = _number(found["mean"])
    if found.get("sd") is not None:
        text += f" ± {_number(found['sd'])}"
    return text + _interval(found.get("low"), found.get("high"))


def _number(value: float | None) -> str:
    """Two decimals, none where they say nothing; no negative zero."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 1_000 else f"{round(value, 2) + 0.0:.2f}"


def _difference(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    days = _interval(found["low"], found["high"])
    return _number(found["value"]) + days + _interval(found["runs_low"], found["runs_high"])


def _interval(low: float | None, high: float | None) -> str:
    """In brackets; nothing for an interval of too few days."""
    known = low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
    return f" [{_number(low)}, {_number(high)}]" if known else ""


def _note(held: Pages, path: Path) -> str:
    if not path.is_file():
        return ""
    text, study = path.read_text(encoding="utf-8").strip(), path.stem
    # two studies may compare the same runs: a note speaks of its own
    own = f" study={study}" if any(row["study"] == study for row in held.comparisons) else ""

    def number(match: re.Match[str]) -> str:
        return filled(held, match[1] + (own if match[1].startswith("compare") else ""))

    return _PLACEHOLDER.sub(number, text)


def filled(held: Pages, asked: str) -> str:
    """What a placeholder stands for."""
    words = asked.split()
    options = dict(word.split("=", 1) for word in words if "=" in word)
    named = [word for word in words if "=" not in word]
    at = options.pop("round", None)
    if len(named) == 5 and named[0] == "compare":
        found = _fitting(held.comparisons, ("arena", "method", "against"), named[1:4], options)
        measured = [_difference(row[named[4]]) for row in found if named[4] in row]
    elif len(named) == 4:
        rows = held.summaries.get(named[0], [])
        found = _fitting(rows, ("arena", "method"), named[1:3], options)
        measured = [_number(_value(row[named[3]], at)) for row in found if named[3] in row]
    else:
        raise Refused(f"cannot read the placeholder {{{{{asked}}}}}: see training/page.py")
    if len(measured) != 1:
        raise Refused(f"the placeholder {{{{{asked}}}}} fits {len(measured)} numbers, not one")
    return measured[0]


def _value(measured: Any, at: str | None) -> float:
    """A mean over seeds, of a round (from 1) where one is asked for."""
    return float(measured["mean"] if at is None else measured[int(at) - 1])


def _fitting(
    rows: list[dict[str, Any]], keys: tuple[str, ...], values: list[str], options: dict[str, str]
) -> list[dict[str, Any]]:
    wanted = dict(zip(keys, values, strict=True))
    wanted |= {{"k": "rounds"}.get(name, name): value for name, value in options.items()}
    return [row for row in rows if all(str(row.get(k)) == v for k, v in wanted.items())]
