"""The container stack as written: closed by default, and durable. Read as text: no engine."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES = COMPOSE.split("\nservices:\n")[1].split("\nnetworks:\n")[0]
PARTS = dict(re.findall(r"^  ([a-z-]+):\n((?:(?:    .*| *#.*|)\n)+)", SERVICES, re.MULTILINE))


OBSERVE = {"prometheus", "grafana"}


def test_the_parts_are_known() -> None:
    assert set(PARTS) == {"service", "store"} | OBSERVE
    assert {part for part, text in PARTS.items() if "profiles:" in text} == OBSERVE
    assert all("profiles: [observe]\n" in PARTS[part] for part in OBSERVE)


@pytest.mark.parametrize("part", sorted(OBSERVE))
def test_images_of_others_are_pinned_by_version_and_digest(part: str) -> None:
    assert re.search(r"image: \w+/\w+:v?\d+\.\d+\.\d+@sha256:[0-9a-f]{64}\n", PARTS[part])


def test_nothing_waits_for_who_watches() -> None:
    """The service comes up without Prometheus, and Prometheus without the service."""
    waits = {part: text.partition("depends_on:")[2] for part, text in PARTS.items()}
    assert not any(waits[part] for part in OBSERVE)
    assert not [part for part in OBSERVE if part in waits["service"] + waits["store"]]


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_closed(part: str) -> None:
    text = PARTS[part]
    assert "read_only: true" in text
    assert "cap_drop: [ALL]" in text
    assert "no-new-privileges:true" in text
    assert "privileged:" not in text


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_no_root_and_has_limits(part: str) -> None:
    text = PARTS[part]
    assert re.search(r'user: "(?!0)\d+:(?!0)\d+"', text)
    assert "cap_add" not in text
    for key in ("healthcheck:", "mem_limit:", "cpus:", "pids_limit:", "restart: unless-stopped"):
        assert key in text


def test_what_is_published_is_on_loopback_only() -> None:
    published = {
        part: re.findall(r'^    ports:\n      - "(.*)"$', text, re.MULTILINE)
        for part, text in PARTS.items()
    }
    assert published == {
        "service": ["127.0.0.1:${CONCORD_PUBLISH_PORT:-8000}:8000"],
        "store": [],
        "prometheus": ["127.0.0.1:${CONCORD_PROMETHEUS_PORT:-9090}:9090"],
        "grafana": ["127.0.0.1:${CONCORD_GRAFANA_PORT:-3000}:3000"],
    }
    assert COMPOSE.count("ports:") == 3


def test_only_the_service_reaches_the_store() -> None:
    assert "networks: [store]" in PARTS["store"]
    assert not [part for part in OBSERVE if re.search(r"networks:.*store", PARTS[part])]
    assert "  store:\n    internal: true" in COMPOSE


def test_the_store_is_durable() -> None:
    words = re.findall(r"^      - (.*)$", PARTS["store"].split("volumes:")[0], re.MULTILINE)
    options = dict(zip(words[1::2], words[2::2], strict=False))
    assert options["--appendonly"] == '"yes"'
    assert options["--appendfsync"] == "always"
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--save"] == '""'
    assert "store-data:/store" in PARTS["store"]


def test_no_secret_is_written_down() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert not re.search(r"(?i)(password|secret|token)\w*\s*[:=]", COMPOSE + dockerfile)
