"""The programs, run for real and small; and the statistics that they report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from service.core.contract import fingerprint

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--iterations", "2", "--days", "8", "--orders", "4", "6", "--held-out-days", "20")


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
    return folder, run("training/train.py", *TINY, *folders(folder))


def test_a_run_ships_a_model_with_its_provenance(models) -> None:
    folder, said = models
    assert "shipped iac.onnx" in said
    (row,) = json.loads((folder / "manifest.json").read_text())["models"]
    assert row["contract"] == fingerprint()
    assert row["method"] == "iac-c-pathwise"
    assert row["training"]["command"].startswith("python training/train.py --iterations 2")
    assert row["training"]["config"]["days"] == 8
    assert row["training"]["agent_steps"] > 0
    methods = [record["method"] for record in row["scores"]]
    assert methods == ["twap", "vwap", "ac", "twap-sync", "iac"]
    low, high = row["scores"][-1]["eg_over_twap_bp"]
    assert low < high


def test_a_worse_model_does_not_replace_the_shipped_one(models) -> None:
    folder, _ = models
    before = (folder / "manifest.json").read_bytes()
    worse = run("-m", "training.train", *TINY, *folders(folder), "--seed", "2", "--slope-lr", "9")
    if "not shipped" in worse:  # a broken step size seldom wins, but it may
        assert (folder / "manifest.json").read_bytes() == before
    else:
        assert "shipped iac.onnx" in worse


def test_evaluate_scores_what_is_shipped(models, tmp_path: Path) -> None:
    folder, _ = models
    out = tmp_path / "scores.json"
    run("-m", "training.evaluate", "--days", "20", "--models", str(folder), "--out", str(out))
    records = {record["method"]: record for record in json.loads(out.read_text())}
    assert set(records) == {"twap", "vwap", "ac", "twap-sync", "iac"}
    shipped = json.loads((folder / "manifest.json").read_text())["models"][0]
    (trained,) = [r for r in shipped["scores"] if r["method"] == "twap"]
    assert records["twap"]["eg_bp"] == trained["eg_bp"]
