"""Finished runs on test days: as swept, with other K, as pages and plots, under price limits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from service.play.day_bars import DayBars
from service.play.sample import generate_days
from training.evaluate import EvaluateConfig, main
from training.places import Budget
from training.sweep import SweepConfig, sweep

from .small import write_bars

BUDGET = Budget(lab_iterations=1, rollout_days=4, lab_test_days=5)
TALKS, ALONE = "iac-t-pathwise", "alone-pathwise"
RULES = ["twap", "vwap", "ac", "twap-sync"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for study, method, rounds in (("rounds", TALKS, (1, 3)), ("table", ALONE, ())):
        asked = SweepConfig(
            study, ("lab-tight",), (method,), (1,), rounds, folder, serial=True, budget=BUDGET
        )
        assert {outcome.error for outcome in sweep(asked, Console(quiet=True))} == {None}
    return folder


def asked(runs: Path, **more: Any) -> EvaluateConfig:
    options = {"arenas": ("lab-tight",), "methods": (TALKS, ALONE), "name": "", "days": 5}
    return EvaluateConfig(runs=runs, budget=BUDGET, **(options | more))


def test_finished_runs_are_scored_as_the_sweep_scored_them(runs: Path) -> None:
    found = {row["method"]: row["eg_bp"] for row in main(asked(runs, rounds=(1, 3)))}
    learned = {
        f"{TALKS} K=1 seed 1": f"{TALKS}-k1",
        f"{TALKS} K=3 seed 1": f"{TALKS}-k3",
        f"{ALONE} seed 1": ALONE,
    }
    assert list(found) == [*RULES, *learned]
    for label, run in learned.items():
        (record,) = runs.glob(f"{run}-*/score-lab-tight.json")
        assert found[label] == pytest.approx(json.loads(record.read_text())["eg_bp"], abs=1e-4)


def test_pages_and_plots_are_written_where_they_are_asked_for(runs: Path, tmp_path: Path) -> None:
    made, plots = tmp_path / "new" / "page.md", tmp_path / "plots"
    main(asked(runs, page=made, plots=plots, out=tmp_path / "scores.json"))
    text = made.read_text()
    assert text.startswith("## 5 test days, lab-tight\n")
    assert f"| {TALKS} K=3 seed 1 |" in text
    assert "K=1" not in text
    assert [path.name for path in plots.iterdir()] == ["eg-toc-lab-tight.svg"]
    assert f"{ALONE} seed 1" in (plots / "eg-toc-lab-tight.svg").read_text()
    assert len(json.loads((tmp_path / "scores.json").read_text())) == len(RULES) + 2


def test_runs_that_are_not_there_are_named(runs: Path) -> None:
    with pytest.raises(SystemExit, match=f"^evaluate: {TALKS} with seed 1 is not trained in .*k2"):
        main(asked(runs, rounds=(2,)))


def limit_up(day: DayBars, last: DayBars) -> DayBars:
    """``day`` with its second half at the price limit of 10%, untraded against."""
    half, top = len(day.starts) // 2, last.close[-1] * 11 // 10
    columns = {name: getattr(day, name).copy() for name in ("open", "high", "low", "close")}
    for column in columns.values():
        column[half:] = top
    columns["high"][:half] = columns["high"][:half].clip(max=top)
    return replace(day, **columns)


def test_a_price_limit_locks_bars_of_the_test_window(tmp_path: Path) -> None:
    *days, last = generate_days(3, 8, symbols=6, bars=8)
    file = write_bars(tmp_path / "bars.parquet", [*days, limit_up(last, days[-1])])

    def filled(limit_bp: int) -> float:
        config = EvaluateConfig(
            bars=file, price_limit_bp=limit_bp, bars_per_step=2, orders=4, name=""
        )
        return float(main(config)[0]["filled_pct"])

    assert filled(1_000) < filled(0) - 10
