"""The programs, run for real and small; and the statistics that they report."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from service.core.contract import fingerprint
from service.play.sample import generate_days
from training.arenas import arena
from training.config import TrainConfig
from training.train import may_ship, usual

from .small import write_bars

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--lab", "mild", "--method", "alone-pathwise", "--held-out-days", "100", "--sigma", "1e-4")
SHORT = (*TINY, "--iterations", "10", "--days", "64", "--select-every", "5")


def folders(models: Path) -> tuple[str, ...]:
    return ("--models", str(models), "--runs", str(models.parent / "runs"))


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("models")
    return folder, run("training/train.py", *SHORT, *folders(folder))


def test_a_run_ships_a_model_with_its_provenance(models) -> None:
    folder, said = models
    assert "shipped iac-" in said
    (row,) = json.loads((folder / "manifest.json").read_text())["models"]
    assert row["contract"] == fingerprint()
    assert row["method"] == "alone-pathwise"
    assert row["training"]["command"].startswith("python training/train.py --lab mild")
    assert row["training"]["config"]["days"] == 64
    assert not {"runs", "models"} & row["training"]["config"].keys()  # of this machine only
    assert row["training"]["agent_steps"] > 0
    methods = [record["method"] for record in row["scores"]]
    assert methods == ["twap", "vwap", "ac", "twap-sync", "iac"]
    low, high = row["scores"][-1]["eg_over_twap_bp"]
    assert low < high


def test_a_worse_model_does_not_replace_the_shipped_one(models) -> None:
    folder, _ = models
    before = (folder / "manifest.json").read_bytes()
    worse = run("-m", "training.train", *TINY, *folders(folder), "--iterations", "1", "--days", "4")
    assert "not shipped: its objective is" in worse
    assert (folder / "manifest.json").read_bytes() == before


def test_a_model_that_is_worse_than_a_rule_does_not_ship(tmp_path: Path) -> None:
    untrained = ("--iterations", "1", "--days", "4", *folders(tmp_path / "models"))
    said = run("-m", "training.train", *TINY, *untrained)
    assert "not shipped" in said
    assert not (tmp_path / "models" / "manifest.json").exists()


def test_a_model_of_another_market_is_not_replaced(models) -> None:
    folder, _ = models
    refused = failing("--lab", "tight", "--iterations", "3", "--days", "4", *folders(folder))
    assert "was trained on another market than lab-tight; give --name" in refused
    assert "bp" not in refused  # no iteration was run for it
    assert not list((folder.parent / "runs").glob("iac-c-*"))


def test_what_cannot_ship_is_said_before_the_run(models, tmp_path: Path) -> None:
    folder, _ = models
    (tmp_path / "manifest.json").write_bytes((folder / "manifest.json").read_bytes()[:500])
    config = TrainConfig(lab="mild", models=tmp_path)
    with pytest.raises(ValueError, match=r"manifest.json is not a manifest.*; restore it"):
        may_ship(config, arena(config))
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is no folder that can be written; give --models"):
        may_ship(replace(config, models=tmp_path / "file" / "models"), arena(config))
    with pytest.raises(ValueError, match=r"name is '../out'; use 1 to 32 of a-z"):
        may_ship(replace(config, models=folder, name="../out"), arena(config))
    may_ship(replace(config, models=tmp_path / "new" / "models"), arena(config))
    may_ship(replace(config, models=folder), arena(config))


def test_a_file_is_trained_on_and_its_diagnostics_are_logged(tmp_path: Path) -> None:
    """With ``--bars`` and ``--tensorboard``: what TensorBoard shows is what the run said last."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    bars = write_bars(tmp_path / "bars.parquet", generate_days(3, 8, symbols=6, bars=8))
    market = ("--bars", str(bars), "--bars-per-step", "2", "--orders", "4", "4")
    asked = ("--method", "alone-pathwise", "--iterations", "3", "--days", "4", "--tensorboard")
    said = run("training/train.py", *market, *asked, *folders(tmp_path / "models"))
    assert f"1 validation days, {tmp_path.name}" in said
    (saved,) = (tmp_path / "runs").glob("*/checkpoint.pt")
    progress = torch.load(saved, weights_only=False)["progress"]
    assert progress["agent_steps"] == 3 * 4 * 4 * 4  # iterations, days, orders, steps
    logged = EventAccumulator(str(saved.parent)).Reload()
    assert set(logged.Tags()["scalars"]) == set(progress["last"])
    for name, value in progress["last"].items():
        steps = logged.Scalars(name)
        assert [step.step for step in steps] == [1, 2, 3]
        assert steps[-1].value == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    ("program", "options", "said"),
    [
        ("train", "--lab nowhere", "train: there is no lab market 'nowhere'; choose among mild"),
        ("train", "--bars nowhere.parquet", "train: nowhere.parquet does not exist; give the path"),
        ("train", "--iterations 0", "--iterations is 0; choose 1 to 1,000,000"),
        ("evaluate", "--models nowhere", "evaluate: nowhere/manifest.json cannot be read"),
        ("evaluate", "--bars b.parquet --arenas lab-mild", "different markets; give one of them"),
        ("evaluate", "--arenas lab-mild --days 0", "--days is 0; choose 1 to 1,000,000"),
        ("sweep", "--study tables", "sweep: there is no study 'tables'; choose among table"),
        ("report", "--runs nowhere", "report: nowhere holds no record of this budget; run"),
    ],
)
def test_what_cannot_be_is_one_sentence(program: str, options: str, said: str) -> None:
    answer = failing(*options.split(), program=program)
    assert said in answer
    assert "Traceback" not in answer


def failing(*options: str, program: str = "train") -> str:
    command = [sys.executable, "-m", f"training.{program}", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)  # 2: the command line itself cannot be
    return " ".join((done.stdout + done.stderr).replace("│", " ").split())


def test_evaluate_scores_what_is_shipped(models, tmp_path: Path) -> None:
    folder, _ = models
    out = tmp_path / "scores.json"
    run("-m", "training.evaluate", "--days", "20", "--models", str(folder), "--out", str(out))
    records = {record["method"]: record for record in json.loads(out.read_text())}
    assert set(records) == {"twap", "vwap", "ac", "twap-sync", "iac"}
    assert records["twap"]["filled_pct"] == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize(("found", "device"), [(True, "cuda"), (False, "cpu")])
def test_a_gpu_is_used_where_there_is_one(
    found: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    assert usual().device == device


def test_few_days_and_few_symbols_are_scored_without_made_up_numbers(tmp_path: Path) -> None:
    bars = write_bars(tmp_path / "bars.parquet", generate_days(3, 8, symbols=6, bars=8))
    out, options = tmp_path / "new" / "scores.json", ("--name", "", "--bars-per-step", "2")
    said = run(
        "-m", "training.evaluate", "--bars", str(bars), "--orders", "4", *options, "--out", str(out)
    )
    assert "nan" not in said
    records = json.loads(out.read_text(), parse_constant=pytest.fail)
    assert [record.get("eg_over_twap_bp") for record in records] == [None] * 4
