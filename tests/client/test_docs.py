"""docs/client.md does what it says: everything it shows is run against a real service."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.client import AsyncConcord, Concord, commands, errors
from service.play.hosted import hosted
from tests.play.played import bar_columns
from tests.service.api import day, step

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "docs" / "example_oms.py"
LINES_MAX = 30
"""Of code; blank lines do not count."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address and key file of a service of its own."""
    key_file = tmp_path_factory.mktemp("key") / "dev.key"
    with hosted() as (url, key):
        key_file.write_text(key + "\n")
        yield url, key_file


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    arguments = [sys.executable, *map(str, command)]
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_shows_what_happens(service: tuple[str, Path], tmp_path: Path) -> None:
    *session, example = blocks("python")
    assert example == EXAMPLE.read_text(encoding="utf-8")
    (tmp_path / "orders.csv").write_text(blocks("csv")[0])
    pq.write_table(pa.table(bar_columns()), tmp_path / "bars.parquet")
    # only where the service listens and keeps its key differs from `make serve`
    script = "\n".join(session).replace("http://127.0.0.1:8000", service[0])
    script = script.replace("var/concord/dev.key", str(service[1]))
    shown = [text for text in blocks("text") if not text.startswith("ConcordError")]
    assert run("-c", script, cwd=tmp_path) == "".join(shown)


def test_the_example_plays_a_day_and_plays_it_again(service: tuple[str, Path]) -> None:
    first, again = (run(EXAMPLE, *service) for _ in range(2))
    assert first == again
    *steps, end = first.splitlines()
    assert len(steps) == 6
    assert re.fullmatch(r"100% filled, [\d,.]+ USD left", end)


def test_threads_share_a_client(service: tuple[str, Path]) -> None:
    def play(number: int) -> list[int]:
        concord.open_day(f"thread-{number}", **day())
        decision = concord.step(f"thread-{number}", 1, **step(1))
        return [child.qty for child in decision.children]

    key = service[1].read_text().strip()
    with Concord(service[0], key) as concord, ThreadPoolExecutor(8) as threads:
        assert list(threads.map(play, range(16))) == [[250, 150]] * 16


def test_the_example_stays_short() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line]) <= LINES_MAX


def test_the_tree_of_errors_is_the_one_of_the_module() -> None:
    (tree,) = (text for text in blocks("text") if text.startswith("ConcordError"))
    assert errors.__doc__ is not None
    assert tree.split() == errors.__doc__.partition("\n\n")[2].partition("\n\n")[0].split()


def test_every_method_is_on_the_page_and_both_clients_have_it() -> None:
    rows = re.findall(r"^\| (`.*?) \| `[A-Z]+ /", PAGE, re.MULTILINE)
    shown = set(re.findall(r"(\w+)\(", " ".join(rows)))
    methods = {name for name in vars(Concord) if not name.startswith("_")}
    assert shown == methods - {"send", "disconnect"}
    assert methods == {name for name in vars(AsyncConcord) if not name.startswith("_")}
    assert shown - {"health", "ready"} <= set(vars(commands))


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", PAGE)
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
