"""The container stack as written: closed by default, and durable. Read as text: no engine."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES = COMPOSE.split("\nservices:\n")[1].split("\nnetworks:\n")[0]
PARTS = dict(re.findall(r"^  ([a-z-]+):\n((?:(?:    .*| *#.*|)\n)+)", SERVICES, re.MULTILINE))


def test_the_parts_are_known() -> None:
    assert set(PARTS) == {"service", "store"}


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


def test_only_the_service_is_published_and_on_loopback_only() -> None:
    assert COMPOSE.count("ports:") == 1
    assert '- "127.0.0.1:${CONCORD_PUBLISH_PORT:-8000}:8000"' in PARTS["service"]
    assert "networks: [store]" in PARTS["store"]
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
