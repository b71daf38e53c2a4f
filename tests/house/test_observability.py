"""What watches the service is about this service: docs, alerts, dashboard, compose profile."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.service.api import Api, day, fill, step
from tests.service.promql import Exported, exported, wrong

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs/observability"
PAGE = (ROOT / "docs/observability.md").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
DASHBOARD = json.loads((FOLDER / "grafana/dashboards/concord.json").read_text(encoding="utf-8"))
# A metric's name ends in its unit; a count of things in the things, a fact in what it says.
UNITS = (
    "seconds",
    "bytes",
    "total",
    "info",
    "ready",
    "requests",
    "problems",
    "clients",
    "days",
    "models",
)
OTHERS_NAMES = {"process_open_fds", "process_max_fds"}


def _rows(heading: str) -> list[list[str]]:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(.+)$", section, re.MULTILINE)
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows]


@pytest.fixture(scope="module")
def metrics() -> Iterator[dict[str, Exported]]:
    """What a service answers that has decided once."""
    with Api() as api:
        api.open(day())
        api.step(1, step(1))
        api.report([fill("e", "A/1", 1)])
        yield exported(api.call("GET", "/metrics").body.decode())


def test_every_metric_is_documented(metrics: dict[str, Exported]) -> None:
    rows = {name: (kind, labels) for name, kind, labels, meaning in _rows("Metrics") if meaning}
    if sys.platform != "linux":
        rows = {name: row for name, row in rows.items() if not name.startswith("process_")}
    told = {
        name: (kind, set(filter(None, labels.split(", ")))) for name, (kind, labels) in rows.items()
    }
    assert told == {name: (metric.kind, set(metric.labels)) for name, metric in metrics.items()}


def test_names_of_metrics_end_in_their_unit(metrics: dict[str, Exported]) -> None:
    assert not [n for n in set(metrics) - OTHERS_NAMES if n.rpartition("_")[2] not in UNITS]


def test_every_alert_is_documented_with_its_runbook() -> None:
    told = [(r["alert"], r["labels"]["severity"], r["annotations"]["runbook"]) for r in RULES]
    assert [tuple(row) for row in _rows("Alerts")] == told
    assert len({name for name, _, _ in told}) == len(told)
    assert {severity for _, severity, _ in told} == {"page", "warn"}
    assert all(rule["annotations"]["summary"] for rule in RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alerts_ask_for_what_there_is(rule: dict[str, Any], metrics: dict[str, Exported]) -> None:
    assert not list(wrong(rule["expr"], metrics))
    used = re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])
    assert all(re.search(rf"\b{label}\b", rule["expr"]) or label == "problem" for label in used)


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["title"])
def test_panels_ask_for_what_there_is(panel: dict[str, Any], metrics: dict[str, Exported]) -> None:
    assert panel["targets"]
    assert panel["description"]
    for target in panel["targets"]:
        assert not list(wrong(target["expr"], metrics))
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert all(re.search(rf"by \([^)]*\b{label}\b", target["expr"]) for label in shown)


def test_the_comparison_sees_what_is_wrong(metrics: dict[str, Exported]) -> None:
    seen = {
        'sum by (code) (increase(concord_alarms_total{code="OVERFILL"}[5m])) > 8.5e8': [],
        "concord_alarm_total": ["no metric concord_alarm_total"],
        'concord_alarms_total{kind="OVERFILL"}': ["no label kind of concord_alarms_total"],
        'concord_alarms_total{code=~"OVERFILL|X"}': ["no code X of concord_alarms_total"],
        "sum by (client) (concord_ready)": ["no label client"],
        "rate(concord_request_seconds[$__rate_interval])": ["no metric concord_request_seconds"],
    }
    assert {expr: list(wrong(expr, metrics)) for expr in seen} == seen


def test_the_dashboard_can_be_loaded_and_imported() -> None:
    panels = DASHBOARD["panels"]
    assert DASHBOARD["uid"] == "concord"
    assert DASHBOARD["id"] is None
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all({"x", "y", "w", "h"} == set(panel["gridPos"]) for panel in panels)
    (variable,) = DASHBOARD["templating"]["list"]
    sources = [target["datasource"] for panel in panels for target in panel["targets"]]
    assert all(source["uid"] == f"${{{variable['name']}}}" for source in sources)
    assert variable["current"]["value"] == _provisioned("datasources")["datasources"][0]["uid"]


def _provisioned(kind: str) -> Any:
    (path,) = (FOLDER / "grafana/provisioning" / kind).glob("*.yml")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _mounts(part: str) -> dict[str, tuple[str, str]]:
    """Target -> (place in the repository, mode), of what is no named volume."""
    split = [volume.split(":") for volume in COMPOSE["services"][part]["volumes"]]
    return {row[1]: (row[0], row[2]) for row in split if row[0].startswith("./")}


@pytest.mark.parametrize("part", ["prometheus", "grafana"])
def test_what_is_mounted_is_there_and_cannot_be_written(part: str) -> None:
    mounts = _mounts(part)
    assert mounts
    for place, mode in mounts.values():
        assert (ROOT / place).exists()
        assert mode == "ro"


def test_the_parts_find_what_is_mounted() -> None:
    prometheus = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    command, mounts = COMPOSE["services"]["prometheus"]["command"], _mounts("prometheus")
    assert all(path in mounts for path in prometheus["rule_files"])
    assert any(f"--config.file={path}" in command for path in mounts)
    (job,) = prometheus["scrape_configs"]
    assert (job["job_name"], job["static_configs"]) == ("concord", [{"targets": ["service:8000"]}])
    mounts = _mounts("grafana")
    assert _provisioned("dashboards")["providers"][0]["options"]["path"] in mounts
    home = COMPOSE["services"]["grafana"]["environment"][
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
    ]
    assert (ROOT / mounts[str(Path(home).parent)][0] / Path(home).name).exists()
    assert _provisioned("datasources")["datasources"][0]["url"] == "http://prometheus:9090"


def test_grafana_shows_and_has_nobody_to_log_in_as() -> None:
    environment = COMPOSE["services"]["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert not [name for name in environment if "PASSWORD" in name or "SECRET" in name]
