"""What gets installed is written down: every version, and every file of the image by its hash."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^([a-z0-9-]+)==([^ \\\n]+)", re.MULTILINE)
NAME = re.compile(r"^[A-Za-z0-9-]+")
# Fifteen direct ones, the calendars, and what they bring.
SERVE_PACKAGES_MAX = 45


def _lock(name: str) -> str:
    return (ROOT / "requirements" / name).read_text(encoding="utf-8")


def _pins(name: str) -> dict[str, set[str]]:
    """Package -> its versions; more than one where Python versions need different ones."""
    pins: dict[str, set[str]] = {}
    for package, version in PIN.findall(_lock(name)):
        pins.setdefault(package, set()).add(version)
    return pins


def _asked(*extras: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    names = {match[0].lower() for match in map(NAME.match, wanted) if match}
    return names - {"concord-execution"}


def test_every_dependency_is_pinned() -> None:
    assert _asked("calendars", "otel", "play", "train", "dev") <= set(_pins("dev.lock"))
    assert _asked("calendars") <= set(_pins("serve.lock"))
    assert _asked("calendars", "otel") <= set(_pins("serve-otel.lock"))


@pytest.mark.parametrize("name", ["serve.lock", "serve-otel.lock"])
def test_the_image_holds_what_was_tested(name: str) -> None:
    tested, served = _pins("dev.lock"), _pins(name)
    assert {name: served[name] for name in served} == {name: tested[name] for name in served}
    assert len(_pins("serve.lock")) <= SERVE_PACKAGES_MAX
    assert set(_pins("serve.lock")) <= set(served)


@pytest.mark.parametrize("name", ["serve.lock", "serve-otel.lock"])
def test_the_image_is_locked_by_hash_and_has_no_torch(name: str) -> None:
    lock = _lock(name)
    blocks = re.split(r"\n(?=[a-z])", re.sub(r"^#.*\n", "", lock, flags=re.MULTILINE).strip())
    assert len(blocks) == len(PIN.findall(lock))
    assert all("--hash=sha256:" in block for block in blocks)
    assert not set(_pins(name)) & {"torch", "onnx", "pytest", "setuptools"}


def test_any_build_of_torch_will_do() -> None:
    """A local suffix or a pinned CUDA package would refuse the CPU build."""
    pins = _pins("dev.lock")
    assert pins["torch"] == {"2.13.0"}
    assert not [name for name in pins if name.startswith(("nvidia", "cuda", "triton"))]
    assert not [v for versions in pins.values() for v in versions if "+" in v]
