"""Every alert fires on what it is for, and only then; judged by Prometheus' own promtool.

Skipped where promtool is not installed (it comes with Prometheus); the profile's image has it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ALERTS = Path(__file__).resolve().parents[2] / "docs/observability/alerts.yml"
RULES = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"][0]["rules"]
PROMTOOL = shutil.which("promtool")
JOB = 'job="concord",instance="service:8000"'
JUDGED_MIN = 20  # minutes of samples, one a minute
STEADY = f"0x{JUDGED_MIN}"

Series = dict[str, str]
# A day on which nothing is wrong: what each series of a rule is then.
QUIET: Series = {
    "up{%s}": f"1x{JUDGED_MIN}",
    "concord_ready{%s}": f"1x{JUDGED_MIN}",
    "process_start_time_seconds{%s}": f"1000x{JUDGED_MIN}",
    "process_resident_memory_bytes{%s}": f"200000000x{JUDGED_MIN}",
    "concord_data_free_bytes{%s}": f"50000000000x{JUDGED_MIN}",
    "concord_store_memory_bytes{%s}": f"100000000x{JUDGED_MIN}",
    "concord_store_memory_max_bytes{%s}": f"500000000x{JUDGED_MIN}",
    'concord_store_errors_total{call="commit",kind="unavailable",%s}': STEADY,
    'concord_store_problems{problem="aof_last_write_status",%s}': STEADY,
    'concord_decisions_total{policy="iac",fallback="false",%s}': f"0+100x{JUDGED_MIN}",
    'concord_decisions_total{policy="iac",fallback="true",%s}': STEADY,
    'concord_decision_seconds_bucket{policy="iac",le="0.005",%s}': f"0+100x{JUDGED_MIN}",
    'concord_decision_seconds_bucket{policy="iac",le="0.5",%s}': f"0+100x{JUDGED_MIN}",
    'concord_decision_seconds_bucket{policy="iac",le="+Inf",%s}': f"0+100x{JUDGED_MIN}",
    'concord_model_loads_total{outcome="refused",%s}': STEADY,
    'concord_clients{state="ACTIVE",%s}': f"2x{JUDGED_MIN}",
    'concord_clients{state="HALTED",%s}': STEADY,
    'concord_clients{state="REDUCING",%s}': STEADY,
    'concord_alarms_total{code="PROTECT_BREACH",%s}': STEADY,
    'concord_alarms_total{code="OVERFILL",%s}': STEADY,
    'concord_alarms_total{code="CASH_BREACH",%s}': STEADY,
    'concord_problems_total{code="LAW_BROKEN",%s}': STEADY,
    'concord_problems_total{code="INTERNAL",%s}': STEADY,
    'concord_problems_total{code="OVERLOADED",%s}': STEADY,
    'concord_problems_total{code="UNAUTHENTICATED",%s}': f"0+5x{JUDGED_MIN}",
}
ONCE = f"0x{JUDGED_MIN - 4} 1x4"
# What is different when an alert must fire: series -> values, None where the series is gone.
FIRES: dict[str, dict[str, str | None]] = {
    "ConcordDown": {"up{%s}": f"1x{JUDGED_MIN - 4} 0x4"},
    "ConcordNotReady": {"concord_ready{%s}": f"1x{JUDGED_MIN - 4} 0x4"},
    "ConcordRestarting": {"process_start_time_seconds{%s}": "1000x15 1100 1200 1300x4"},
    "ConcordStoreErrors": {'concord_store_errors_total{call="commit",kind="unavailable",%s}': ONCE},
    "ConcordStoreUnsafe": {'concord_store_problems{problem="aof_last_write_status",%s}': ONCE},
    "ConcordStoreFull": {"concord_store_memory_bytes{%s}": f"450000000x{JUDGED_MIN}"},
    "ConcordDiskLow": {"concord_data_free_bytes{%s}": f"1000000000x{JUDGED_MIN}"},
    "ConcordMemoryHigh": {"process_resident_memory_bytes{%s}": f"900000000x{JUDGED_MIN}"},
    "ConcordFallbacks": {
        'concord_decisions_total{policy="iac",fallback="true",%s}': f"0+10x{JUDGED_MIN}"
    },
    "ConcordModelsRefused": {'concord_model_loads_total{outcome="refused",%s}': ONCE},
    "ConcordSlow": {
        'concord_decision_seconds_bucket{policy="iac",le="0.005",%s}': f"0+90x{JUDGED_MIN}"
    },
    "ConcordOverloaded": {'concord_problems_total{code="OVERLOADED",%s}': ONCE},
    "ConcordHalted": {'concord_clients{state="HALTED",%s}': ONCE},
    "ConcordReducing": {'concord_clients{state="REDUCING",%s}': ONCE},
    "ConcordProtectBreach": {'concord_alarms_total{code="PROTECT_BREACH",%s}': ONCE},
    "ConcordOverfill": {'concord_alarms_total{code="OVERFILL",%s}': ONCE},
    "ConcordCashBreach": {'concord_alarms_total{code="CASH_BREACH",%s}': ONCE},
    "ConcordLawBroken": {'concord_problems_total{code="LAW_BROKEN",%s}': ONCE},
    "ConcordFailing": {'concord_problems_total{code="INTERNAL",%s}': ONCE},
    "ConcordKeysGuessed": {
        'concord_problems_total{code="UNAUTHENTICATED",%s}': f"0+120x{JUDGED_MIN}"
    },
}
# Also: a service that was never there, and a store without a limit, which is never full.
GONE: dict[str, str | None] = {"up{%s}": None}
NO_LIMIT: dict[str, str | None] = {"concord_store_memory_max_bytes{%s}": STEADY}


def _tests(alert: str, changes: dict[str, str | None]) -> list[dict[str, Any]]:
    """A promtool test: of all alerts, exactly ``alert`` fires ("" for none)."""
    values = {**QUIET, **changes}
    given = [
        {"series": name % JOB, "values": text} for name, text in values.items() if text is not None
    ]
    # ALERTS is the series that Prometheus writes of what it fires
    fired = 'count by (alertname) (ALERTS{alertstate="firing"})'
    samples = [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if alert else []
    check = {"expr": fired, "eval_time": f"{JUDGED_MIN}m", "exp_samples": samples}
    return [{"interval": "1m", "input_series": given, "promql_expr_test": [check]}]


CASES = [*FIRES.items(), ("", {}), ("", NO_LIMIT), ("ConcordDown", GONE)]


def test_every_alert_has_its_case() -> None:
    assert list(FIRES) == [rule["alert"] for rule in RULES]
    assert all(set(changes) <= set(QUIET) for _, changes in CASES)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
@pytest.mark.parametrize(("alert", "changes"), CASES, ids=lambda case: str(case)[:20])
def test_only_the_right_alert_fires(
    tmp_path: Path, alert: str, changes: dict[str, str | None]
) -> None:
    tests = {"rule_files": [str(ALERTS)], "evaluation_interval": "15s"}
    path = tmp_path / "tests.yml"
    path.write_text(yaml.safe_dump(tests | {"tests": _tests(alert, changes)}), encoding="utf-8")
    command = [str(PROMTOOL), "test", "rules", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
