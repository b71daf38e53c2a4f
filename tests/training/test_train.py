"""The programs, run for real and small; and the statistics that they report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from service.core.contract import fingerprint
from training.train import usual

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
    refused = failing("--lab", "tight", "--iterations", "1", "--days", "4", *folders(folder))
    assert "was trained on another market than lab-tight; give --name" in refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--lab", "nowhere"), "train: there is no lab market 'nowhere'; choose among mild"),
        (("--bars", "nowhere.parquet"), "nowhere.parquet"),
        (("--iterations", "0"), "iterations is 0; it must be at least 1"),
    ],
)
def test_what_cannot_be_is_one_sentence(options: tuple[str, ...], said: str) -> None:
    answer = failing(*options)
    assert said in answer
    assert "Traceback" not in answer


def failing(*options: str) -> str:
    command = [sys.executable, "-m", "training.train", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)
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
