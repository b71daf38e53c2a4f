"""A day's log carried out again: ``python -m service.replay LOG``.

Imports desk, commits and the policies that are installed. Every command of the log is given to a
service of its own, byte for byte, under the trading state of its time; its answer must be the one
that was given then, byte for byte. The first one that is not is named, with the place.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.commits import STATES, MemoryStore, day_key
from service.desk import Desk
from service.errors import Problem
from service.manifest import ModelRefused, Version
from service.rack import Folder, Installed, Models, Rack, Source
from service.records import Answer
from service.tables import log_rows

DAYS_CACHED = 1
_COMMAND = re.compile(r"(open|close|step:\d+|exec:[0-9a-f]+|instruct:.+)", re.ASCII)


class LogRefused(Exception):
    """The file is no log; the message says what it is."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One command as it was carried out."""

    seq: int
    client: str
    day_id: str
    command: str
    state: str
    request: bytes
    reply: bytes


@dataclass(frozen=True, slots=True)
class Difference:
    """Where an answer is another one: ``where`` in it, what was and what is there."""

    entry: Entry
    where: str
    then: str
    now: str

    def __str__(self) -> str:
        name = f"command {self.entry.seq} ({self.entry.command})"
        return f"{name} differs at {self.where}: {self.then} then, {self.now} now"


def entries(path: Path) -> list[Entry]:
    """The commands of a log file, JSON or Parquet; raises LogRefused."""
    try:
        rows = _parquet(path) if path.suffix == ".parquet" else log_rows(path.read_bytes())
        whole = {row.pop("of") for row in rows}
        found = [Entry(**_typed(row)) for row in rows]
        _check(found, whole)
        return found
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise LogRefused(f"{path} is no whole log of a day: {error}") from error


def _check(found: Sequence[Entry], whole: set[int]) -> None:
    if [entry.seq for entry in found] != list(range(len(found))) or whole != {len(found)}:
        raise ValueError("commands are missing, or out of their order")
    for entry in found:
        day_key(entry.client, entry.day_id)
        if entry.state not in STATES or not _COMMAND.fullmatch(entry.command):
            raise ValueError(f"command {entry.seq} is of no known kind")


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return rows


def _typed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "request": row["request"].encode(), "reply": row["reply"].encode()}


class _Then:
    """``source`` with those versions current that a day was opened with, where it has them."""

    def __init__(self, source: Source, opening: Entry) -> None:
        self._source = source
        try:
            asked, told = json.loads(opening.request), json.loads(opening.reply)
            policies = (asked.get("policy", "iac"), *asked.get("shadows", ()))
            models = [each["model"] for each in (told, *told.get("shadows", ()))]
            versions = [(model["name"], model["version"]) for model in models]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LogRefused(f"the first command opens no day: {error!r}") from error
        self._then = dict(zip(policies, versions, strict=False))

    def stamp(self) -> object:
        """What is another value after a change."""
        return self._source.stamp()

    def load(self, held: Mapping[Version, Installed]) -> Rack:
        """All of them, and what was current then."""
        rack = self._source.load(held)
        then = {n: rack.held[version] for n, version in self._then.items() if version in rack.held}
        return Rack({**rack.current, **then}, rack.held)


async def replayed(log: Sequence[Entry], source: Source) -> Difference | None:
    """Carry out ``log`` again; the first difference, None where there is none."""
    store = MemoryStore()
    models = Models(_Then(source, log[0]), store.pins)
    desk = Desk(store, models, DAYS_CACHED, lambda *_: None)
    for entry in log:
        await store.set_state(entry.client, entry.state)
        try:
            answer = await _carried_out(desk, entry)
        except Problem as problem:
            return Difference(entry, "the status", "200", str(problem))
        if answer.body != entry.reply:
            return Difference(entry, *_first(json.loads(entry.reply), json.loads(answer.body)))
    return None


def _carried_out(desk: Desk, entry: Entry) -> Awaitable[Answer]:
    kind, _, rest = entry.command.partition(":")
    by_kind: dict[str, Callable[..., Awaitable[Answer]]] = {
        "open": desk.open,
        "exec": desk.executions,
        "instruct": desk.instruct,
        "close": desk.close,
    }
    if kind == "step":
        return desk.step(entry.client, entry.day_id, int(rest), entry.request)
    return by_kind[kind](entry.client, entry.day_id, entry.request)


def _first(then: Any, now: Any, where: str = "$") -> tuple[str, str, str]:
    """The first place at which two JSON values differ, and both values there."""
    if isinstance(then, dict) and isinstance(now, dict):
        if then.keys() != now.keys():
            only = [_shown(sorted(a.keys() - b.keys())) for a, b in ((then, now), (now, then))]
            return f"the fields of {where}", only[0], only[1]
        pairs = [(f"{where}.{name}", then[name], now[name]) for name in then]
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = [(f"{where}[{i}]", a, b) for i, (a, b) in enumerate(zip(then, now, strict=True))]
    else:
        return where, _shown(then), _shown(now)
    return next((_first(a, b, at) for at, a, b in pairs if a != b), (where, "other bytes", "these"))


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def main(argv: Sequence[str] | None = None) -> int:
    """Replay a file: 0 when every answer is the same, 1 when one is not, 2 for no log."""
    parser = argparse.ArgumentParser(prog="python -m service.replay", description=__doc__)
    parser.add_argument("log", type=Path, help="what GET /v1/days/{day_id}/log answered")
    parser.add_argument("--models", type=Path, default=Path("models"), help="%(default)s")
    options = parser.parse_args(argv)
    try:
        log = entries(options.log)
        found = asyncio.run(replayed(log, Folder(options.models)))
    except (LogRefused, ModelRefused, OSError) as refused:
        sys.stderr.write(f"service.replay: {refused}\n")
        return 2
    told = f"{len(log)} commands, every answer the same" if found is None else str(found)
    sys.stdout.write(f"{told}\n")
    return 0 if found is None else 1


if __name__ == "__main__":
    sys.exit(main())
