"""What decides now: rules and models by name and version, swapped by one pointer while days go on.

Imports onnx_policy, model_gate, manifest and the core. A reload loads and warms every version that
is new aside of those that decide; only when all of them are ready does the pointer move, and a
folder with one bad model changes nothing. A version that the manifest no longer lists stays as long
as an open day is pinned to it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from service import manifest, model_gate
from service.commits import StoreUnavailable
from service.core.baselines import BASELINES
from service.core.contract import fingerprint
from service.core.policy import Policy
from service.manifest import ModelRefused, Version
from service.onnx_policy import OnnxPolicy, load_row

WATCH_S = 1.0
"""How long after a change of the manifest it holds at the latest, loading aside."""
SWITCH_S = 0.0005
"""How long a thread that loads a model may keep the interpreter from the one that answers; Python's
own 5 ms are as long as a decision."""
RETIRE_S = 60.0
"""How long a version that is no longer listed is kept at least: a process that has not yet seen the
change may still open a day with it."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A policy by its name, with what a reply says of it."""

    policy: Policy
    model: dict[str, str]

    @property
    def version(self) -> Version:
        """Its name and version."""
        return self.model["name"], self.model["version"]


@dataclass(frozen=True, slots=True)
class Rack:
    """What is loaded: ``current`` by policy name, ``held`` every version, ``since_s`` when one of
    them was first missing from the manifest."""

    current: Mapping[str, Installed]
    held: Mapping[Version, Installed]
    since_s: Mapping[Version, float] = field(default_factory=dict)


class Source(Protocol):
    """Where policies come from."""

    def stamp(self) -> object:
        """What is another value after a change; raises OSError."""
        ...

    def load(self, held: Mapping[Version, Installed]) -> Rack:
        """All that it lists, those of ``held`` as they are; raises ModelRefused."""
        ...


class Folder:
    """The schedules, and the models of a folder."""

    def __init__(self, models_dir: Path) -> None:
        self._models_dir = models_dir

    def stamp(self) -> object:
        """Which files there are: a model may arrive after the manifest that names it."""
        return sorted(_identity(entry) for entry in os.scandir(self._models_dir))

    def load(self, held: Mapping[Version, Installed]) -> Rack:
        """Rules and models; a version that is held already is not loaded again."""
        listed = manifest.read(self._models_dir)
        if clash := BASELINES.keys() & listed.current.keys():
            raise ModelRefused(f"a model may not be called {clash.pop()!r}: a rule is")
        made = {version: held.get(version, each) for version, each in _rules().items()}
        for version, row in listed.rows.items():
            if version in held:
                model_gate.listed(self._models_dir, row)  # the next start reads it again
                made[version] = held[version]
            else:
                made[version] = _described(load_row(self._models_dir, row))
        current = {name: made[name, "1"] for name in BASELINES}
        return Rack(current | {n: made[n, v] for n, v in listed.current.items()}, made)


def _identity(entry: os.DirEntry[str]) -> tuple[str, int, int, int]:
    try:
        found = entry.stat()
    except OSError:  # a link to nothing, or a file that has just gone
        return entry.name, 0, 0, 0
    return entry.name, found.st_mtime_ns, found.st_ino, found.st_size


class Fixed:
    """Policies that never change, as ``current`` says."""

    def __init__(self, current: Mapping[str, Installed]) -> None:
        self._rack = Rack(current, {each.version: each for each in current.values()})

    def stamp(self) -> object:
        """Always the same."""
        return None

    def load(self, held: Mapping[Version, Installed]) -> Rack:
        """Always the same."""
        return self._rack


def _rules() -> dict[Version, Installed]:
    told = {"version": "1", "fingerprint": fingerprint()[:16]}
    return {(n, "1"): Installed(rule, {"name": n, **told}) for n, rule in BASELINES.items()}


def _described(model: OnnxPolicy) -> Installed:
    told = {"name": model.name, "version": model.version, "fingerprint": model.fingerprint}
    return Installed(model, told)


Pins = Callable[[], Awaitable[Mapping[str, int]]]
"""How many open days are pinned to each model (name@version)."""


class Models:
    """The rack that decides now.

    ``dress`` is put around each policy as it is loaded, ``told`` hears what came of each look: the
    rack that decides from now on, or why the folder was refused and nothing changed.
    """

    def __init__(
        self,
        source: Source,
        pins: Pins,
        dress: Callable[[str, Policy], Policy] = lambda name, policy: policy,
        told: Callable[[Rack | ModelRefused], None] = lambda outcome: None,
        retire_s: float | None = None,
    ) -> None:
        self._source, self._pins, self._dress, self._told = source, pins, dress, told
        self._retire_s = RETIRE_S if retire_s is None else retire_s
        self._loading = asyncio.Lock()
        self._stamp, self._rack = _stamp(source), Rack({}, {})
        self._rack = self._dressed(source.load({}))
        told(self._rack)

    @property
    def rack(self) -> Rack:
        """What is loaded now."""
        return self._rack

    async def open_days(self) -> Mapping[str, int]:
        """How many days are pinned to each name@version; raises StoreUnavailable."""
        return await self._pins()

    def shown(self, open_days: Mapping[str, int] | None = None) -> dict[str, object]:
        """Every version that is loaded, as callers are told; ``open_days`` by name@version."""
        rack = self._rack
        current = {each.version for each in rack.current.values()}
        rows = []
        for version, each in rack.held.items():
            row = {
                **each.model,
                "current": version in current,
                "listed": version not in rack.since_s,
            }
            if open_days is not None:
                row["open_days"] = open_days.get("@".join(version), 0)
            rows.append(row)
        return {"models": rows}

    def named(self, policy: str) -> Installed | None:
        """What ``name`` (its current version) or ``name@version`` stands for."""
        name, _, version = policy.partition("@")
        rack = self._rack
        if not version:
            return rack.current.get(name)
        # one that is not listed any more is there for the days that it has
        return None if (name, version) in rack.since_s else rack.held.get((name, version))

    def pinned(self, model: Mapping[str, str]) -> Installed | None:
        """Exactly the model that a day was opened with; None if it is not loaded."""
        held = self._rack.held.get((model["name"], model["version"]))
        return held if held is not None and held.model == model else None

    async def reload(self) -> bool:
        """Load what the source lists now; whether anything changed. Raises ModelRefused."""
        async with self._loading:
            # before reading: a change meanwhile is seen by the next look
            self._stamp = _stamp(self._source)
            try:
                fresh = await asyncio.to_thread(self._source.load, self._rack.held)
            except Exception as error:  # a defect of a file must not end the watch
                refused = _refused(error)
                self._told(refused)
                raise refused from None
            before = self._rack
            self._rack = self._with_retiring(self._dressed(fresh))
            self._told(self._rack)
            await self._retire()
            return not _are_same(before, self._rack)

    async def missing(self, models: Iterable[Mapping[str, str]]) -> None:
        """Look at once where one of ``models`` is not loaded: another process may have heard of
        it first, and opened a day with it."""
        if all(self.pinned(model) for model in models) or self._stamp == _stamp(self._source):
            return
        with suppress(ModelRefused):  # it was told; who needs the model says that it is missing
            await self.reload()

    async def watch(self) -> None:
        """Reload whenever the source changes, and let go of what nobody needs, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                if self._stamp != _stamp(self._source):
                    await self.reload()
                async with self._loading:
                    await self._retire()
            except ModelRefused:
                pass  # it was told, and the next change is the next try
            except Exception as error:  # one bad round must not be the last
                self._told(_refused(error))

    def _dressed(self, fresh: Rack) -> Rack:
        """``fresh`` with each policy dressed that was not held before."""
        before = self._rack.held
        held = {
            version: each
            if each is before.get(version)
            else replace(each, policy=self._dress(each.model["name"], each.policy))
            for version, each in fresh.held.items()
        }
        return Rack({name: held[each.version] for name, each in fresh.current.items()}, held)

    def _with_retiring(self, fresh: Rack) -> Rack:
        """``fresh`` and the versions that it does not list but that a day may still need."""
        gone = {v: each for v, each in self._rack.held.items() if v not in fresh.held}
        now_s = time.monotonic()
        since_s = {v: self._rack.since_s.get(v, now_s) for v in gone}
        return replace(fresh, held={**fresh.held, **gone}, since_s=since_s)

    async def _retire(self) -> None:
        """Let go of versions that have not been listed for long enough, and that no day needs.

        Nobody opens a day with them any more: not here since they were missing, and elsewhere
        since RETIRE_S at the latest. So what is counted now can only become less.
        """
        now_s = time.monotonic()
        due = [v for v, since_s in self._rack.since_s.items() if now_s >= since_s + self._retire_s]
        if not due:
            return
        pinned = await self._pinned(due)
        since_s = {v: s for v, s in self._rack.since_s.items() if v not in due}
        # one that is pinned is looked at again after as long
        since_s |= dict.fromkeys(pinned, now_s)
        kept = {v: e for v, e in self._rack.held.items() if v not in due or v in pinned}
        self._rack = replace(self._rack, held=kept, since_s=since_s)
        self._told(self._rack)

    async def _pinned(self, versions: Iterable[Version]) -> set[Version]:
        """Those that open days are pinned to; all where the store does not say."""
        try:
            open_days = await self._pins()
        except StoreUnavailable:
            return set(versions)
        return {version for version in versions if open_days.get("@".join(version), 0) > 0}


def _are_same(before: Rack, after: Rack) -> bool:
    def shown(rack: Rack) -> tuple[object, object]:
        return {n: each.version for n, each in rack.current.items()}, rack.held.keys()

    return shown(before) == shown(after)


def _refused(error: Exception) -> ModelRefused:
    return error if isinstance(error, ModelRefused) else ModelRefused(f"not loaded: {error!r}")


def _stamp(source: Source) -> object:
    try:
        return source.stamp()
    except OSError:
        return None  # loading it says what is wrong
