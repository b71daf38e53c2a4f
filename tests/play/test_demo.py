"""The demo as a user runs it: a process that plays a day, says how it went, and leaves nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
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


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """Arguments that name a running service."""
    key_file = tmp_path_factory.mktemp("key") / "key"
    with hosted() as (url, key):
        key_file.write_text(key)
        yield "--url", url, "--key-file", str(key_file)
        assert not gone(url)
    assert gone(url)


def test_reported_and_paper_fills_give_the_same_day(tmp_path: Path, there: tuple[str, ...]) -> None:
    reports = {}
    for fills in ("paper", "reported"):
        out = tmp_path / fills
        summary_of(demo(*there, "--policy", "vwap", "--fills", fills, "--out", out))
        reports[fills] = json.loads((out / "report.json").read_text())
        del reports[fills]["day_id"]
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
    summary = summary_of(demo(*arguments, "--policy", "ac", "--orders", "10", "--out", tmp_path))
    assert (summary["orders"], summary["decisions"], summary["policy"]) == (10, 13, "ac")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["day_id"].startswith(days[2].date)
    assert not [qty for qty in report["orders"]["order_qty"] if qty % 100]


def test_a_day_repeated_on_the_same_service_is_a_replay(
    tmp_path: Path, there: tuple[str, ...]
) -> None:
    arguments = (*there, "--policy", "twap", "--day-id", "again")
    for out in ("first", "second"):
        assert summary_of(demo(*arguments, "--out", tmp_path / out))["filled_pct"] == 100
    first, second = (tmp_path / out / "report.json" for out in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    other = demo(*arguments, "--seed", "8", "--out", tmp_path)
    assert (other.returncode, "BODY_CHANGED" in other.stderr) == (1, True)


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


def test_an_unknown_policy_is_told(there: tuple[str, ...]) -> None:
    done = demo(*there, "--policy", "magic")
    assert (done.returncode, "UNKNOWN_POLICY" in done.stderr) == (1, True)


def test_a_service_that_cannot_start_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CONCORD_MODELS_DIR", str(tmp_path))
    done = demo("--policy", "twap")
    assert done.returncode == 1
    assert "the service ended with 2" in done.stderr
    assert "manifest.json" in done.stderr
