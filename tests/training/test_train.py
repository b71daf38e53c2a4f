"""The programs, run for real and small; and the statistics that they report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from service.core.contract import fingerprint
from training.evaluate import interval_bp, score
from training.simulator import play

from .small import by_hand

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--iterations", "2", "--days", "8", "--orders", "4", "6", "--held-out-days", "20")


def folders(models: Path) -> tuple[str, ...]:
    return ("--models", str(models), "--checkpoints", str(models.parent / "runs"))


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
    assert row["method"] == "iac-mean"
    assert row["training"]["command"].startswith("python training/train.py --iterations 2")
    assert row["training"]["config"]["days"] == 8
    assert row["training"]["agent_steps"] > 0
    assert [record["method"] for record in row["scores"]] == ["twap", "vwap", "ac", "iac"]
    low, high = row["scores"][-1]["eg_over_twap_bp"]
    assert low < high


def test_a_worse_model_does_not_replace_the_shipped_one(models) -> None:
    folder, _ = models
    before = (folder / "manifest.json").read_bytes()
    worse = run("-m", "training.train", *TINY, *folders(folder), "--seed", "2", "--lr", "9")
    if "not shipped" in worse:  # a broken step size seldom wins, but it may
        assert (folder / "manifest.json").read_bytes() == before
    else:
        assert "shipped iac.onnx" in worse


def test_evaluate_scores_what_is_shipped(models, tmp_path: Path) -> None:
    folder, _ = models
    out = tmp_path / "scores.json"
    run("-m", "training.evaluate", "--days", "20", "--models", str(folder), "--out", str(out))
    records = {record["method"]: record for record in json.loads(out.read_text())}
    assert set(records) == {"twap", "vwap", "ac", "iac"}
    shipped = json.loads((folder / "manifest.json").read_text())["models"][0]
    (trained,) = [r for r in shipped["scores"] if r["method"] == "twap"]
    assert records["twap"]["eg_bp"] == trained["eg_bp"]


def test_an_interval_holds_the_mean_it_is_of() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(40):
        low, high = interval_bp(rng.normal(3.0, 10.0, 200), seed=trial)
        inside += low < 3.0 < high
        assert 1.0 < high - low < 5.0
    assert inside >= 34


def test_a_score_is_the_core_metrics() -> None:
    from service.core.policy import Intent

    actions = np.array([[[8, 8, 0]], [[8, 8, 4]], [[0, 0, 0]], [[0, 0, 0]]])
    found = score([play(by_hand(), lambda day, _: Intent(actions[day.step]))])
    assert found.eg_bp == pytest.approx(0.75 / 10.75 * 1e4)
    assert found.toc_pct == 50.0
    assert (found.pos, found.filled_pct) == (1.0, 100.0)
    assert found.objective_bp(sigma=1e-3) == pytest.approx(found.eg_bp - 20.0)
    assert found.arr_pct == pytest.approx(100 * ((1 + 0.1 * found.eg_bp / 1e4) ** 250 - 1))
