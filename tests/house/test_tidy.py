"""Style as a test: sizes, docstrings and what the pure core may not touch, read from the syntax."""

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINE_MAX, FUNCTION_LINES_MAX, MODULE_LINES_MAX, CORE_MODULE_LINES_MAX = 100, 50, 300, 250
FUNCTION_LINES_MEDIAN_MAX = 10
# Path -> (lines allowed, why). It should stay empty.
LONGER_MODULES: dict[str, tuple[int, str]] = {}
# The core is a pure function of its arguments: no clock, chance, files, logs or waiting.
CORE_BANNED = {"time", "datetime", "random", "secrets", "os", "io", "logging", "asyncio", "socket"}
MARKS = ("TO" + "DO", "FIX" + "ME", "XX" + "X")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _paths(*folders: str) -> list[Path]:
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


PRODUCT = _paths("service", "training")
CORE = _paths("service/core")
EVERYTHING = _paths("service", "training", "tests")
product = pytest.mark.parametrize("path", PRODUCT, ids=_name)
core = pytest.mark.parametrize("path", CORE, ids=_name)
everything = pytest.mark.parametrize("path", EVERYTHING, ids=_name)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _at(path: Path, node: ast.AST) -> str:
    return f"{_name(path)}:{getattr(node, 'lineno', 1)}"


def _imported(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or "", node


def _public(body: list[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    """Public functions and classes of a module, and the public methods of its public classes."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            if not _is_stub(node):
                yield node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body)


def _is_stub(node: Function | ast.ClassDef) -> bool:
    """Overloads and property setters are documented at their first definition."""
    return any(ast.unparse(mark).endswith(("overload", "setter")) for mark in node.decorator_list)


@everything
def test_lines_and_marks(path: Path) -> None:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        assert len(line) <= LINE_MAX, f"{_name(path)}:{number}: {len(line)} columns"
        assert not [mark for mark in MARKS if mark in line], f"{_name(path)}:{number}: {line}"


@product
def test_module_is_short(path: Path) -> None:
    usual = CORE_MODULE_LINES_MAX if path in CORE else MODULE_LINES_MAX
    allowed, _ = LONGER_MODULES.get(_name(path), (usual, ""))
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= allowed


@everything
def test_functions_are_short(path: Path) -> None:
    long = {
        _at(path, function): _length(function)
        for function in _functions(_tree(path))
        if _length(function) > FUNCTION_LINES_MAX
    }
    assert not long


def test_the_usual_function_is_very_short() -> None:
    lengths = [_length(function) for path in PRODUCT for function in _functions(_tree(path))]
    assert statistics.median(lengths) <= FUNCTION_LINES_MEDIAN_MAX


@everything
def test_module_says_what_it_is(path: Path) -> None:
    tree = _tree(path)
    assert ast.get_docstring(tree) or not tree.body


def _methods(tree: ast.Module) -> Iterator[Function]:
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef))
    return (node for owner in classes for node in owner.body if isinstance(node, Function))


# A port is described once: its implementations need not repeat the sentence.
DESCRIBED = {m.name for path in PRODUCT for m in _methods(_tree(path)) if ast.get_docstring(m)}


@product
def test_public_names_are_documented(path: Path) -> None:
    tree = _tree(path)
    elsewhere = {id(method) for method in _methods(tree) if method.name in DESCRIBED}
    bare = [
        f"{_at(path, node)} {node.name}"
        for node in _public(tree.body)
        if not ast.get_docstring(node) and id(node) not in elsewhere
    ]
    assert not bare


@product
def test_no_bare_assert(path: Path) -> None:
    """`python -O` strips assert; the product uses checks that stay."""
    assert not [_at(path, n) for n in ast.walk(_tree(path)) if isinstance(n, ast.Assert)]


def _swallows(handler: ast.ExceptHandler) -> bool:
    broad = handler.type is None or "Exception" in ast.unparse(handler.type).replace("(", " ")
    silent = all(
        isinstance(node, ast.Pass)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in handler.body
    )
    return handler.type is None or (broad and silent)


@product
def test_no_error_is_swallowed(path: Path) -> None:
    handlers = (n for n in ast.walk(_tree(path)) if isinstance(n, ast.ExceptHandler))
    assert not [_at(path, handler) for handler in handlers if _swallows(handler)]


def _may_print(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    shell = path.name == "__main__.py" or _name(path).startswith("service/play/")
    return shell or (_name(path).startswith("training/") and "__main__" in text)


@product
def test_only_programs_print(path: Path) -> None:
    calls = (node.func for node in ast.walk(_tree(path)) if isinstance(node, ast.Call))
    prints = [_at(path, f) for f in calls if isinstance(f, ast.Name) and f.id == "print"]
    assert _may_print(path) or not prints


@core
def test_core_is_pure(path: Path) -> None:
    tree = _tree(path)
    banned = [
        f"{_at(path, node)} {name}"
        for name, node in _imported(tree)
        if name.split(".")[0] in CORE_BANNED
    ]
    chance = [
        _at(path, node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "random"
    ]
    assert not banned + chance
