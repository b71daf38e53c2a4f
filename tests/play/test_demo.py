"""The demo as a user runs it: a process that plays a day, says how it went, and leaves nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.play.hosted import hosted
from service.play.sample import generate_days
from service.play.summary import KEYS

ROOT = Path(__file__).resolve().parents[2]


def demo(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.play", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def summary_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stdout + done.stderr
    summary: dict[str, Any] = json.loads(Path(done.stdout.splitlines()[-1]).read_text())
    return summary


def url_of(output: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", output)
    assert found is not None, output
    return found[0]


def gone(url: str) -> bool:
    try:
        httpx.get(f"{url}/livez", timeout=2.0, trust_env=False)
    except httpx.ConnectError:
        return True
    return False


def test_a_generated_day(tmp_path: Path) -> None:
    done = demo("--policy", "twap", "--out", tmp_path)
    summary = summary_of(done)
    assert tuple(summary) == KEYS
    assert (summary["orders"], summary["decisions"], summary["policy"]) == (20, 8, "twap")
    assert summary["filled_pct"] == 100
    assert summary["toc_pct"] == summary["fallbacks"] == 0
    assert 0 <= summary["min_cash_minor"]
    assert 0 < summary["step_ms_p50"] <= summary["step_ms_p99"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["filled_pct"] == 100
    rows = [line for line in done.stdout.splitlines() if re.match(r" *\d/8 ", line)]
    assert len(rows) == 8
    assert gone(url_of(done.stdout))


def test_the_trained_policy_fills_every_order(tmp_path: Path) -> None:
    summary = summary_of(demo("--out", tmp_path))
    assert summary["policy"] == "iac"
    assert (summary["filled_pct"], summary["fallbacks"]) == (100, 0)


def test_reported_and_paper_fills_give_the_same_day(tmp_path: Path) -> None:
    reports = {}
    for fills in ("paper", "reported"):
        summary_of(demo("--policy", "vwap", "--fills", fills, "--out", tmp_path / fills))
        reports[fills] = json.loads((tmp_path / fills / "report.json").read_text())
    assert reports["paper"] == reports["reported"]


def test_bars_of_a_file(tmp_path: Path) -> None:
    days = generate_days(3, 4, symbols=25, bars=13, minutes_per_bar=30)
    tables = []
    for day in days:
        bars, symbols = day.close.shape
        starts = [f"{day.date}T{start}" for start in day.starts for _ in range(symbols)]
        columns: dict[str, Any] = {
            "symbol": list(day.symbols) * bars,
            "ts": pa.array(starts).cast(pa.timestamp("us")),
            "volume": day.volume.ravel(),
        }
        prices = {
            name: getattr(day, name).ravel() / 1e4 for name in ("open", "high", "low", "close")
        }
        tables.append(pa.table(columns | prices))
    pq.write_table(pa.concat_tables(tables), tmp_path / "bars.parquet")
    arguments = ("--bars", tmp_path / "bars.parquet", "--date", days[2].date, "--lot", "100")
    summary = summary_of(demo(*arguments, "--policy", "ac", "--orders", 10, "--out", tmp_path))
    assert (summary["orders"], summary["decisions"], summary["policy"]) == (10, 13, "ac")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["day_id"].startswith(days[2].date)
    assert not [qty for qty in report["orders"]["order_qty"] if qty % 100]


def test_on_a_service_that_runs_already(tmp_path: Path) -> None:
    with hosted() as (url, key):
        (tmp_path / "key").write_text(key)
        there = ("--url", url, "--key-file", tmp_path / "key", "--policy", "twap")
        for _ in range(2):
            assert summary_of(demo(*there, "--out", tmp_path))["filled_pct"] == 100
        assert not gone(url)
        twice = [demo(*there, "--day-id", "d", "--out", tmp_path) for _ in range(2)]
        reports = [Path(done.stdout.splitlines()[-1]).with_name("report.json") for done in twice]
        assert reports[0].read_bytes() == reports[1].read_bytes(), "a repeated day is a replay"
    assert gone(url)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_stops_what_it_started(tmp_path: Path, signum: int) -> None:
    command = [sys.executable, "-u", "-m", "service.play", "--step-minutes", "5"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as shown:
        url = url_of(shown.readline())
        assert not gone(url)
        os.kill(process.pid, signum)
        assert process.wait(30) == 130
    assert gone(url)
    assert not list(tmp_path.iterdir())


WRONG = {
    "no such file": (("--bars", "none.parquet"), "none.parquet does not exist"),
    "date without file": (("--date", "2026-01-05"), "give --bars too"),
    "no such policy": (("--policy", "magic"), "UNKNOWN_POLICY"),
    "too many orders": (("--orders", "2000"), "symbols for 1 to 1000"),
    "odd steps": (("--step-minutes", "7"), "choose a multiple"),
    "no key": (("--url", "http://127.0.0.1:9"), "needs --key-file"),
    "no key file": (("--url", "http://127.0.0.1:9", "--key-file", "none"), "cannot be read"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_played_is_said(arguments: tuple[str, ...], message: str) -> None:
    done = demo(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_service_that_cannot_start_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CONCORD_MODELS_DIR", str(tmp_path))
    done = demo("--policy", "twap")
    assert done.returncode == 1
    assert "the service ended with 2" in done.stderr
    assert "manifest.json" in done.stderr
