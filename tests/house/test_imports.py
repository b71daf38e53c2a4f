"""What an import may cause: nothing. And which libraries the service may know at all."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = """
import importlib, sys
importlib.import_module(sys.argv[1])
print([name for name in sys.argv[2:] if name in sys.modules])
"""

# Imports every module and reports what it caused. An environment read counts when a frame of
# ours stands between it and the import machinery: libraries may read their own at their import,
# and pydantic looks for a switch of its own whenever a model class is made.
WATCH = """
import importlib, os, sys
caused = []

def ours():
    frame = sys._getframe(2)
    while frame and "importlib._bootstrap" not in frame.f_code.co_filename:
        if frame.f_code.co_filename.startswith(sys.argv[1]):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return None

class Environ(type(os.environ)):
    def __getitem__(self, key):
        if key != "PYDANTIC_DISABLE_PLUGINS" and (place := ours()):
            caused.append(f"{place} reads {key}")
        return super().__getitem__(key)
    def __iter__(self):
        if place := ours():
            caused.append(f"{place} reads the environment")
        return super().__iter__()

os.environ.__class__ = Environ

def hook(event, args):
    network = event in ("socket.bind", "socket.connect", "socket.getaddrinfo")
    if network or (event in ("socket.__new__", "open", "subprocess.Popen") and ours()):
        caused.append(f"{event} {args[:1]}")

sys.addaudithook(hook)
for name in sys.argv[2:]:
    importlib.import_module(name)
print(caused)
"""


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "module", ["service.app", "service.__main__", "service.client", "service.play"]
)
def test_nothing_heavy_is_loaded(module: str) -> None:
    heavy = ("torch", "pandas", "polars", "exchange_calendars", "onnx", "training")
    assert _python(HEAVY, module, *heavy) == "[]"


def test_onnxruntime_tells_nobody(tmp_path: Path) -> None:
    """Its releases since 1.29 report sessions to their maker, unless told not to at import."""
    quiet = {"CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS"}
    environment = {name: value for name, value in os.environ.items() if name not in quiet}
    subprocess.run(
        [sys.executable, "-c", "import service.onnx_policy"],
        cwd=ROOT,
        env={**environment, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)},
        check=True,
    )
    assert not list(tmp_path.rglob("*"))


def test_import_causes_nothing() -> None:
    modules = sorted(_module(path) for path in (ROOT / "service").rglob("*.py"))
    assert _python(WATCH, str(ROOT / "service"), *modules) == "[]"


def test_the_watch_sees_what_it_should(tmp_path: Path) -> None:
    package = tmp_path / "nosy"
    package.mkdir()
    (package / "__init__.py").write_text("import os, socket\nHOME = os.getenv('HOME')\n")
    (package / "wire.py").write_text("import socket\nsocket.socket().close()\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{WATCH}"
    seen = _python(code, str(package), "nosy", "nosy.wire")
    assert "reads HOME" in seen
    assert "socket.__new__" in seen


def _foreign(path: Path) -> set[str]:
    """Top-level names of the libraries that a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"service"}


def test_every_library_has_its_module() -> None:
    """A library that the import contract does not name has no module it may be used in."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    named = next(c for c in contracts if c["name"] == "One module per foreign library")
    known = {*named["forbidden_modules"], "numpy", "orjson"}
    assert not set().union(*map(_foreign, (ROOT / "service").rglob("*.py"))) - known
