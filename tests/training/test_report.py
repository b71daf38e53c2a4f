"""The report from made-up records: numbers, shares, intervals, the page and its placeholders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.cells import where, write
from training.page import Pages, difference_table, filled
from training.report import ReportConfig, main
from training.studies import STUDIES, Budget, Cell, Trial

GAINS = {
    "twap": 0.0,
    "twap-sync": 0.0,
    "informed": 20.0,
    "iac-t": 12.0,
    "tarmac": 9.0,
    "iac-t-pathwise": 12.0,
    "tarmac-pathwise": 9.0,
}
SEEDS = (1, 2)
DAYS = 40


def made_up(cell: Cell, test: Trial, runs: Path, data: str = "d") -> None:
    """A record of a method whose gain is known: 1 bp more with every seed."""
    more = cell.config.seed - 1 if cell.learns else 0
    gain = GAINS[cell.player] + more + np.random.default_rng(0).normal(0, 1, DAYS)
    values = {"log_gain_bp": gain}
    record: dict[str, Any] = {
        "study": cell.study,
        "arena": cell.arena,
        "test": test.name,
        "method": cell.player,
        "title": cell.player.upper(),
        "rounds": cell.rounds,
        "seed": cell.config.seed if cell.learns else None,
        "days": DAYS,
        "log_gain_bp": float(gain.mean()),
        "data_hash": data,
        "command": "python -m training.sweep",
    }
    if cell.player != "informed":
        values |= {"eg_bp": gain, "toc_pct": np.zeros(DAYS)}
        record |= {"eg_bp": float(gain.mean()), "toc_pct": 0.0, "decision_us": 1234.5}
    if cell.learns:
        record |= {"curve": [[1, 5.0], [2, 8.0 + more]], "cpu_s": 1_800.0}
    write(where(cell, runs), test.name, record, values)


@pytest.fixture
def config(tmp_path: Path) -> ReportConfig:
    config = ReportConfig(runs=tmp_path / "runs", data=tmp_path, docs=tmp_path / "docs")
    for study in ("table", "scale"):
        for cell in STUDIES[study].cells(Budget(), tmp_path):
            known = cell.arena == "lab-tight" and cell.player in GAINS
            if known and (not cell.learns or cell.config.seed in SEEDS):
                for test in cell.tests:
                    made_up(cell, test, config.runs)
    return config


def published(config: ReportConfig, name: str) -> Any:
    return json.loads((config.docs / "results" / name).read_text())


def test_records_have_shares_of_the_references(config: ReportConfig) -> None:
    main(config)
    held = published(config, "methods.json")
    assert held["command"] == "python -m training.sweep --study table"
    records = {(row["method"], row["seed"]): row for row in held["records"]}
    assert len(records) == 3 + 4 * len(SEEDS)
    bound = records["informed", None]["log_gain_bp"]
    second = records["iac-t", 2]
    assert second["share_informed"] == pytest.approx(second["log_gain_bp"] / bound, rel=1e-4)
    assert "share_informed" not in records["informed", None]


def test_summaries_are_over_seeds(config: ReportConfig) -> None:
    main(config)
    rows = published(config, "methods.json")["summaries"]
    (row,) = [row for row in rows if row["method"] == "iac-t"]
    assert (row["seeds"], row["rounds"]) == (2, 3)
    assert row["eg_bp"]["mean"] == pytest.approx(12.5, abs=0.5)
    assert row["eg_bp"]["sd"] == pytest.approx(0.5**0.5, rel=1e-4)
    assert row["eg_bp"]["low"] < row["eg_bp"]["mean"] < row["eg_bp"]["high"]
    assert row["share_informed"]["low"] < 0.62 < row["share_informed"]["high"]


def test_comparisons_are_paired(config: ReportConfig) -> None:
    main(config)
    rows = {(r["method"], r["against"]): r for r in published(config, "comparisons.json")}
    assert ("tarmac", "twap-sync") in rows
    assert ("tarmac", "iac-t") not in rows
    found = rows["iac-t", "tarmac"]["eg_bp"]
    # the made-up days are the same for all: other days would change nothing, other seeds would
    assert (found["low"], found["high"]) == pytest.approx((3.0, 3.0))
    assert found["runs_low"] < 2.5 < 3.5 < found["runs_high"]


def test_the_page_shows_what_exists_and_nothing_else(config: ReportConfig) -> None:
    text = main(config).read_text(encoding="utf-8")
    assert "### lab-tight" in text
    # a run that two studies show took its time once
    trained = len(list(config.runs.glob("*-k3-*"))) + len(list(config.runs.glob("*-k0-*")))
    assert f"Training the {trained} runs on this page took {trained / 2:.1f} CPU-hours." in text
    assert "lab-mild" not in text
    assert "| TARMAC-PATHWISE | lab-tight-n200 | 3 | 2 |" in text
    for name in ("curves-lab-tight", "eg-toc-lab-tight", "scale-decision_us"):
        assert f"(results/{name}.svg)" in text
        assert (config.docs / "results" / f"{name}.svg").read_text().startswith("<?xml")
    assert sorted(path.name for path in config.docs.glob("results/*.json")) == [
        "comparisons.json",
        "methods.json",
        "scale.json",
    ]


def test_a_report_is_the_same_again(config: ReportConfig) -> None:
    def content() -> dict[str, bytes]:
        main(config)
        return {p.name: p.read_bytes() for p in config.docs.rglob("*.*") if p.is_file()}

    assert content() == content()


def test_notes_take_their_numbers_from_summaries(config: ReportConfig) -> None:
    notes = config.docs / "results" / "notes"
    notes.mkdir(parents=True)
    said = (
        "IaC^T gains {{scale lab-tight iac-t-pathwise eg_bp test=lab-tight-n50}} bp, TWAP {{ x }}."
    )
    (notes / "table.md").write_text(said.replace("{{ x }}", "{{table lab-tight twap eg_bp}}"))
    (notes / "scale.md").write_text("{{table lab-tight commnet eg_bp}}")
    with pytest.raises(SystemExit, match="fits 0 numbers"):
        main(config)
    (notes / "scale.md").write_text(
        "{{compare lab-tight iac-t-pathwise twap eg_bp test=lab-tight-n50}}"
    )
    (notes / "table.md").write_text("{{compare lab-tight iac-t tarmac eg_bp}}")
    text = main(config).read_text(encoding="utf-8")
    assert "{{" not in text
    assert "3.00 [3.00, 3.00] [" in text
    with pytest.raises(ValueError, match="cannot read"):
        filled(Pages(), "table lab-tight")


def test_records_of_different_data_do_not_stand_side_by_side(config: ReportConfig) -> None:
    cell = STUDIES["table"].cells(Budget(), config.data)[0]
    made_up(cell, cell.tests[0], config.runs, data="other")
    with pytest.raises(SystemExit, match="lab-tight are of different data"):
        main(config)


def test_a_record_that_cannot_be_read_is_named(config: ReportConfig) -> None:
    values = next(config.runs.glob("twap-lab-tight/score-lab-tight.npz"))
    values.rename(values.with_suffix(".old"))
    with pytest.raises(SystemExit, match=r"^report: .*score-lab-tight\.npz"):
        main(config)
    record = values.with_suffix(".json")
    record.write_bytes(record.read_bytes()[:50])
    with pytest.raises(SystemExit, match=r"score-lab-tight\.json is damaged; remove it and sweep"):
        main(config)


def test_nothing_is_replaced_unless_all_of_it_can_be(config: ReportConfig, tmp_path: Path) -> None:
    def content() -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in config.docs.glob("**/*.[jm]*") if p.is_file()}

    main(config)
    before = content()
    with pytest.raises(SystemExit, match="holds no record of this budget"):
        main(replace(config, runs=tmp_path / "nothing"))
    assert content() == before
    for record in config.runs.glob("iac-t-k3-s2-*/score-*.json"):
        record.unlink()
    (config.docs / "results" / "notes").mkdir()
    (config.docs / "results" / "notes" / "table.md").write_text("{{table lab-tight none eg_bp}}")
    with pytest.raises(SystemExit, match="fits 0 numbers"):
        main(config)
    assert {name: content()[name] for name in before} == before


def test_what_rounds_measured_can_be_told_too() -> None:
    row = {"arena": "lab-q", "method": "iac-t", "rounds": 2, "rank_correlation": [0.5, 0.75]}
    held = Pages(summaries={"critic": [row]})
    assert filled(held, "critic lab-q iac-t rank_correlation round=2") == "0.75"


def test_differences_of_one_method_name_their_rounds() -> None:
    row = {"method": "iac-t", "rounds": 3, "against": "iac-t", "rounds_against": 1}
    assert "| iac-t, K = 3 | iac-t, K = 1 |" in difference_table([row])
    assert "| iac-t | tarmac |" in difference_table([row | {"against": "tarmac"}])


def test_a_table_leaves_out_what_has_no_interval() -> None:
    row = {"method": "iac-t", "rounds": 3, "against": "ppo", "rounds_against": 0}
    nothing = {"value": 1.0, "low": float("nan"), "high": None, "runs_low": None, "runs_high": None}
    assert "| iac-t | ppo | 1.00 |" in difference_table([row | {"eg_bp": nothing}])
