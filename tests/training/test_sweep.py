"""Sweeps, small: in this process and on Ray, resumed, and with a cell that cannot run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from training.cells import where
from training.errors import Refused
from training.places import Budget
from training.run import network_of
from training.studies import STUDIES, Cell, command
from training.sweep import SweepConfig, chosen, main, on_ray, sweep

ROOT = Path(__file__).resolve().parents[2]
BUDGET = Budget(lab_iterations=2, rollout_days=4, lab_test_days=6)
SAID = ("--lab-iterations", "2", "--rollout-days", "4", "--lab-test-days", "6")
MEASURED = ("cpu_s", "test_cpu_s", "decision_us", "last")
METHODS = ("iac-t", "ppo", "twap", "informed")


def tiny(runs: Path, **more: Any) -> SweepConfig:
    options = {"arenas": ("lab-mild",), "methods": METHODS, "seeds": (1,), "serial": True}
    return SweepConfig(runs=runs, budget=BUDGET, **(options | more))


def quietly(config: SweepConfig) -> list[Any]:
    return sweep(config, Console(quiet=True))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert [outcome.error for outcome in quietly(tiny(folder))] == [None] * 4
    return folder


def records(runs: Path) -> dict[str, Any]:
    paths = sorted(runs.glob("*/score-*.json"))
    return {path.parent.name: json.loads(path.read_text()) for path in paths}


def test_a_record_says_where_it_comes_from(runs: Path) -> None:
    found = {record["method"]: record for record in records(runs).values()}
    assert set(found) == set(METHODS)
    learned = found["iac-t"]
    assert learned["command"].endswith(
        "--arenas lab-mild --methods iac-t --seeds 1 --rounds 3 " + " ".join(SAID)
    )
    assert learned["config"]["iterations"] == 2
    assert learned["agent_steps"] == 2 * 4 * 24 * 8
    assert learned["curve"][-1][0] == 2
    assert (learned["days"], found["ppo"]["rounds"]) == (6, 0)
    assert found["twap"]["data_hash"] == learned["data_hash"]
    assert found["informed"]["log_gain_bp"] > found["twap"]["log_gain_bp"]
    for path in runs.glob("*/score-lab-mild.npz"):
        with np.load(path) as values:
            assert values["log_gain_bp"].shape == (6,)


def test_what_is_done_is_left_alone(runs: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*.*")}
    assert quietly(tiny(runs)) == []
    assert before == {path: path.stat().st_mtime_ns for path in runs.rglob("*.*")}


def test_a_trained_run_is_tested_again_without_training(runs: Path) -> None:
    (record,) = runs.glob("ppo-*/score-lab-mild.json")
    checkpoint = record.parent / "checkpoint.pt"
    held, when = json.loads(record.read_text()), checkpoint.stat().st_mtime_ns
    record.unlink()
    (outcome,) = quietly(tiny(runs))
    assert outcome.error is None
    assert checkpoint.stat().st_mtime_ns == when
    assert without(json.loads(record.read_text())) == without(held)


def test_a_checkpoint_of_another_market_is_refused(runs: Path, tmp_path: Path) -> None:
    config = tiny(tmp_path, methods=("ppo",))
    (folder,) = runs.glob("ppo-*")
    (tmp_path / folder.name).mkdir()
    state = torch.load(folder / "checkpoint.pt", weights_only=False)
    torch.save(state | {"source": "another market"}, tmp_path / folder.name / "checkpoint.pt")
    (outcome,) = quietly(config)
    assert "trained on other data" in outcome.error


def without(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in MEASURED}


def test_ray_leaves_the_same_records(runs: Path, tmp_path: Path) -> None:
    said = ("--arenas", "lab-mild", "--methods", *METHODS, "--seeds", "1", "--workers", "2", *SAID)
    done = subprocess.run(
        [sys.executable, "-m", "training.sweep", "--runs", str(tmp_path), *said],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    serial, parallel = records(runs), records(tmp_path)
    assert serial.keys() == parallel.keys()
    for name, record in serial.items():
        assert without(record) == without(parallel[name])


def test_a_failing_cell_stops_no_other(tmp_path: Path) -> None:
    asked = {"arenas": ("us_equity_1m_2018", "lab-mild"), "methods": ("twap", "planner")}
    config = tiny(tmp_path, data=tmp_path / "nothing", **asked)
    outcomes = quietly(config)
    assert len(outcomes) == 3
    (failed,) = [outcome for outcome in outcomes if outcome.error]
    assert "us_equity_1m_2018" in failed.name
    assert "bars.parquet does not exist" in failed.error
    assert "Traceback" not in failed.error
    assert len(records(tmp_path)) == 2
    with pytest.raises(SystemExit, match="1 of 1 cells failed"):
        main(config)


def test_a_damaged_split_is_the_error_of_its_cell(tmp_path: Path) -> None:
    beside = tmp_path / "data" / "us_equity_1m_2018"
    beside.mkdir(parents=True)
    for name, text in (("bars.parquet", ""), ("split.json", '{"split": {}}')):
        (beside / name).write_text(text)
    config = tiny(tmp_path, data=beside.parent, arenas=(beside.name,), methods=("twap",))
    (cell,) = chosen(config)
    place, (test, *_) = where(cell, tmp_path), cell.tests
    place.folder.mkdir(parents=True)
    for done in (place.record(test.name), place.values(test.name)):
        done.write_text("{}")
    (outcome,) = quietly(config)
    assert outcome.error is not None
    assert "does not name its days" in outcome.error
    assert "Traceback" not in outcome.error


def test_without_ray_the_error_names_the_extra(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Refused, match=r"concord-execution\[sweep\].*--serial"):
        next(on_ray([], tiny(tmp_path)))


@pytest.mark.parametrize("address", [None, "ray://there:10001"])
def test_a_cluster_is_asked_at_its_address(
    address: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def init(**options: Any) -> None:
        asked.update(options)
        raise ConnectionError

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(ConnectionError):
        quietly(tiny(tmp_path, serial=False, workers=3, address=address))
    assert asked.get("address") == address
    assert asked.get("num_cpus") == (None if address else 3)
    if address:  # with the code of this machine
        code = [Path(part) for part in asked["runtime_env"]["py_modules"]]
        assert code == [ROOT / "service", ROOT / "training"]


def test_what_is_not_trained_is_not_evaluated(runs: Path, tmp_path: Path) -> None:
    (cell,) = chosen(tiny(tmp_path, methods=("ppo",)))
    with pytest.raises(ValueError, match="ppo with seed 1 is not trained"):
        network_of(cell.config)


@pytest.mark.parametrize("study", list(STUDIES))
def test_every_cell_has_a_command_of_its_own(study: str, tmp_path: Path) -> None:
    cells = STUDIES[study].cells(BUDGET, tmp_path)
    commands = [command(cell, BUDGET) for cell in cells]
    assert len(set(commands)) == len(commands)
    assert all(said.startswith(STUDIES[study].command) for said in commands)
    places = {(where(cell, tmp_path).folder, test) for cell in cells for test in cell.tests}
    assert len({(folder, test.name) for folder, test in places}) == len(places)


def test_the_scales_train_nothing_new(tmp_path: Path) -> None:
    """But for the market of many sizes, which is there to be trained in."""

    def folders(study: str, arena: str) -> set[Path]:
        cells: list[Cell] = STUDIES[study].cells(BUDGET, tmp_path)
        return {
            where(cell, tmp_path).folder for cell in cells if cell.learns and cell.arena == arena
        }

    assert folders("scale", "lab-tight") < folders("table", "lab-tight")
    assert not folders("scale", "lab-tight-sizes") & folders("scale", "lab-tight")


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no study 'tables'"):
        chosen(tiny(tmp_path, study="tables"))
    with pytest.raises(ValueError, match="has no arenas lab-none; choose among lab-tight, "):
        chosen(tiny(tmp_path, arenas=("lab-mild", "lab-none")))
    with pytest.raises(ValueError, match="has no methods ppos; choose among twap, "):
        chosen(tiny(tmp_path, methods=("ppo", "ppos")))
    with pytest.raises(ValueError, match="has no seeds 0, 9; choose among 1, 2, "):
        chosen(tiny(tmp_path, seeds=(0, 1, 9)))
    with pytest.raises(ValueError, match="has no rounds 7; choose among 3, 0"):
        chosen(tiny(tmp_path, rounds=(3, 7)))
    with pytest.raises(ValueError, match="no cell with all of what is asked for"):
        chosen(tiny(tmp_path, methods=("ppo",), rounds=(3,)))
