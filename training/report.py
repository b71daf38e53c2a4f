"""From runs to what is published: JSON with every number, plots, and the page that shows them.

``python -m training.report`` reads ``runs/`` and renders only what is there. One record is one
method with one K and one seed on one test; a summary is the mean over seeds. Intervals resample
days; those marked ``runs`` resample seeds too. The words around the numbers are in
``docs/results/notes/<study>.md``, whose placeholders training/page.py fills from the summaries.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from service.core.units import BP
from training.cells import finite, where
from training.errors import Refused, told
from training.intervals import paired_interval, paired_interval_of_runs, share_interval
from training.page import BY_ROUND, Comparisons, Pages, Summary, page
from training.pairs import crossed, side_by_side
from training.places import Budget, Trial
from training.plots import calibration, eg_against_toc, learning_curves, lines
from training.scores import Floats
from training.simulator import RewardConfig
from training.studies import REFERENCES, STUDIES, Cell, command

WITHOUT_DIFFERENCES = ("critic", "open")
"""Studies whose methods are not compared day by day."""
COMPARED = ("eg_bp", "toc_pct", "slippage_bp", "objective_bp", "log_gain_bp")
KEPT = (
    "study", "arena", "market", "window", "test", "method", "title", "rounds", "seed", "days",
    "eg_bp", "toc_pct", "arr_pct", "pos", "glr", "slippage_bp", "shortfall_bp", "objective_bp",
    "log_gain_bp", "filled_pct", "low_water_pct", "decision_us", "q", "rank_correlation",
    "rank_correlation_added", "rank_correlation_untrained", "rank_correlation_added_untrained",
    "error_rms", "calibration", "agent_steps", "cpu_s", "curve",
    "command", "config_hash", "data_hash", "git_commit", "torch",
)  # fmt: skip
"""What is published of a record, where it has it."""
MEASURED = (
    "eg_bp", "toc_pct", "arr_pct", "pos", "glr", "slippage_bp", "shortfall_bp", "objective_bp",
    "log_gain_bp", "filled_pct", "low_water_pct", "decision_us", "share_informed",
    "share_clairvoyant", "share_planner",
)  # fmt: skip
"""What is averaged over seeds."""


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """Publish what the sweep left."""

    runs: Path = Path("runs")
    """Where runs and their records are."""
    data: Path = Path("data")
    """Folder of the folders of real bars."""
    docs: Path = Path("docs")
    """Where results.md and the folder results/ go."""
    budget: Budget = field(default_factory=Budget)
    """The budget that was run."""


@dataclass(frozen=True, slots=True)
class Row:
    """One record, its values by day, and the file that it was read from."""

    record: dict[str, Any]
    days: dict[str, Floats]
    path: Path

    @property
    def group(self) -> tuple[str, str, str, int]:
        """What a summary is over the seeds of."""
        held = self.record
        return held["arena"], held["test"], held["method"], held["rounds"]


def collected(study: str, config: ReportConfig) -> list[Row]:
    """The records of a study that are there, in its order, with their shares of the references."""
    cells = STUDIES[study].cells(config.budget, config.data.resolve())
    held = [row for cell in cells for test in cell.tests if (row := _read(cell, test, config))]
    bounds = {
        (row.record["test"], row.record["method"]): row.days["log_gain_bp"]
        for row in held
        if row.record["method"] in REFERENCES
    }
    _of_one_market(held)
    return [replace(row, record=row.record | shares(row, bounds)) for row in held]


def _of_one_market(rows: list[Row]) -> None:
    """Records of a test are of the same data, or must not stand side by side."""
    known: dict[str, str] = {}
    for row in rows:
        test, data = row.record["test"], row.record["data_hash"]
        if known.setdefault(test, data) != data:
            raise Refused(f"records of test {test} are of different data: sweep again")


def _read(cell: Cell, test: Trial, config: ReportConfig) -> Row | None:
    """The record of a test. ``objective_bp`` is what training is for: EG less the paper's penalty
    of every conflict."""
    place = where(cell, config.runs)
    if not place.record(test.name).is_file():
        return None
    held = place.held(test.name)
    with np.load(place.values(test.name)) as file:
        days = {name: file[name] for name in file.files}
    if "conflicts" in days:
        days["objective_bp"] = days["eg_bp"] - BP * RewardConfig().sigma * days["conflicts"]
        held["objective_bp"] = float(days["objective_bp"].mean())
    # a run may be shared by studies: the record is shown in the one that asks for it
    named = {"study": cell.study, "arena": cell.arena, "rounds": cell.rounds}
    named["command"] = command(cell, config.budget)
    kept = {name: held[name] for name in KEPT if name in held}
    return Row(kept | named, days, place.record(test.name))


def shares(row: Row, bounds: dict[tuple[str, str], Floats]) -> dict[str, float]:
    """The log gain as a share of each reference that is known for its test days."""
    if "log_gain_bp" not in row.days:
        return {}
    gain, found = row.days["log_gain_bp"], {}
    for name in REFERENCES:
        bound = bounds.get((row.record["test"], name))
        if bound is not None and row.record["method"] not in REFERENCES:
            _same_days(row.record["test"], bound, gain)
            found[f"share_{name}"] = float(gain.mean() / bound.mean())
    return found


def _same_days(test: str, bound: Floats, gain: Floats) -> None:
    """More days of a test are other days: the generator draws all of them together."""
    if len(bound) != len(gain):
        raise Refused(f"{test}: references of {len(bound)} days, gains of {len(gain)}")


def summaries(rows: list[Row]) -> list[Summary]:
    """Mean and sd over the seeds of every method, test and K, with intervals over days."""
    bounds = {
        (row.record["test"], row.record["method"]): row.days["log_gain_bp"]
        for row in rows
        if row.record["method"] in REFERENCES
    }
    return [_summary(list(group), bounds) for group in grouped(rows)]


def grouped(rows: list[Row]) -> Iterator[list[Row]]:
    """Rows that differ in their seed only."""
    keys = dict.fromkeys(row.group for row in rows)
    return ([row for row in rows if row.group == key] for key in keys)


def _summary(rows: list[Row], bounds: dict[tuple[str, str], Floats]) -> Summary:
    first, measured = rows[0].record, {}
    for name in MEASURED:
        values = [row.record[name] for row in rows if row.record.get(name) is not None]
        if values:
            sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
            measured[name] = {"mean": float(np.mean(values)), "sd": sd}
    for name in ("eg_bp", "log_gain_bp"):
        if name in measured:
            days = by_day(rows, name)
            found = paired_interval(days, np.zeros_like(days))
            measured[name] |= {"low": found.low, "high": found.high}
    for name in REFERENCES:
        bound = bounds.get((first["test"], name))
        if f"share_{name}" in measured and bound is not None:
            days = by_day(rows, "log_gain_bp")
            found = share_interval(days, bound)
            measured[f"share_{name}"] |= {"low": found.low, "high": found.high}
    for name in BY_ROUND:
        if name in first:
            values = [row.record[name] for row in rows]
            measured[name] = np.array(values, dtype=float).mean(axis=0).tolist()
    kept = {name: first[name] for name in ("study", "arena", "test", "method", "title", "rounds")}
    kept |= {"learned": first["seed"] is not None, "seeds": len(rows), "days": first["days"]}
    return kept | measured


def by_day(rows: list[Row], name: str) -> Floats:
    """Values ``[S, D]`` of the seeds."""
    return np.stack([row.days[name] for row in rows])


def comparisons(rows: list[Row]) -> Comparisons:
    """Differences between methods on the same test days, with intervals."""
    found = []
    for left, right in itertools.permutations(grouped(rows), 2):
        a, b = left[0].record, right[0].record
        if a["test"] != b["test"] or not (crossed(a, b) or side_by_side(a, b)):
            continue
        measured = {
            name: _difference(left, right, name)
            for name in COMPARED
            if name in left[0].days and name in right[0].days
        }
        against = f"{b['method']}@{b['arena']}" if crossed(a, b) else b["method"]
        names = {"method": a["method"], "rounds": a["rounds"], "against": against}
        names |= {"rounds_against": b["rounds"], "seeds": [len(left), len(right)]}
        found.append({name: a[name] for name in ("study", "arena", "test")} | names | measured)
    return found


def _difference(left: list[Row], right: list[Row], name: str) -> dict[str, Any]:
    a, b = by_day(left, name), by_day(right, name)
    days, runs = paired_interval(a, b), paired_interval_of_runs(a, b)
    sds = [float(x.mean(axis=1).std(ddof=1)) if len(x) > 1 else None for x in (a, b)]
    return {**asdict(days), "runs_low": runs.low, "runs_high": runs.high, "seed_sd": sds}


def plots(study: str, rows: list[Row], found: list[Summary], folder: Path) -> list[str]:
    """Draw what the study has; answers the names of the files."""
    makers: dict[str, Callable[[Path], bool]] = {}
    if study == "table":
        for arena in dict.fromkeys(row.record["arena"] for row in rows):
            here = [row.record for row in rows if row.record["arena"] == arena]
            mean = [summary for summary in found if summary["arena"] == arena]
            makers[f"curves-{arena}"] = partial(learning_curves, here)
            makers[f"eg-toc-{arena}"] = partial(eg_against_toc, mean)
    if study == "rounds":
        for name in ("eg_bp", "share_informed"):
            makers[f"rounds-{name}"] = partial(lines, found, "rounds", name)
    if study == "scale":
        for name in ("eg_bp", "toc_pct", "share_informed", "decision_us"):
            makers[f"scale-{name}"] = partial(lines, found, "orders", name)
    if study == "critic":
        records = [row.record for row in rows]
        makers["calibration"] = partial(calibration, records)
    return [f"{name}.svg" for name, make in makers.items() if make(folder / f"{name}.svg")]


@told("report")
def main(config: ReportConfig) -> Path:
    """Write all that can be; answers the page."""
    folder = config.docs / "results"
    pages, compared, shown = Pages(), [], set[Path]()
    written: dict[Path, Any] = {}
    for study in STUDIES.values():
        rows = collected(study.name, config)
        if shown.issuperset(row.path for row in rows):
            continue  # nothing, or nothing but runs that it shares with the studies before
        shown.update(row.path for row in rows)
        folder.mkdir(parents=True, exist_ok=True)
        found = summaries(rows)
        if study.name not in WITHOUT_DIFFERENCES:
            compared += comparisons(rows)
        name = "methods.json" if study.name == "table" else f"{study.name}.json"
        written[folder / name] = {
            "study": study.name,
            "command": study.command,
            "summaries": found,
            "records": [row.record for row in rows],
        }
        pages.summaries[study.name] = found
        trained = {row.path.parent.name: row.record.get("cpu_s") for row in rows}
        pages.trained_cpu_s |= {run: spent for run, spent in trained.items() if spent is not None}
        pages.plots[study.name] = plots(study.name, rows, found, folder)
    if not shown:
        raise Refused(
            f"{config.runs} holds no record of this budget; run training.sweep first, "
            "or give the --runs and the budget that it was given"
        )
    if compared:
        written[folder / "comparisons.json"] = compared
    pages.comparisons.extend(compared)
    text = page(pages, folder / "notes")  # may refuse: nothing is replaced before
    for path, value in written.items():
        _write(path, value)
    made = config.docs / "results.md"
    made.write_text(text, encoding="utf-8")
    return made


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(rounded(finite(value)), indent=1) + "\n", encoding="utf-8")


def rounded(value: Any) -> Any:
    """``value`` with its floats to six significant digits, at any depth."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    return [rounded(part) for part in value] if isinstance(value, list) else value


if __name__ == "__main__":
    import tyro

    print(main(tyro.cli(ReportConfig, config=(tyro.conf.OmitArgPrefixes,))))
