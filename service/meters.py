"""Everything that /metrics tells. The only module that imports prometheus_client.

Names end in their unit, and docs/observability.md has every one of them. Labels take values from
sets that this service or its operator made, never what a caller chose: /metrics answers without a
key, and every new value would be one more series for ever. Known values are there from the start,
at zero, so that the first event of a kind is an increase and not a series that was always at one.
"""

from __future__ import annotations

import shutil
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import TypeVar

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from service.commits import STATES
from service.core.alarms import AlarmCode
from service.core.reasons import Reason
from service.durability import KINDS
from service.errors import Code

METRICS_TYPE = CONTENT_TYPE_LATEST
BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
CALLS = ("load", "commit", "set_state", "state", "pins", "ping", "durability_problems", "figures")
OUTCOMES = ("committed", "replayed", "conflict", "stale", "state_moved")
SCOPES = ("day", "client", "service")
COMMANDS = ("open", "step", "exec", "instruct", "close")
DAY_FORGOTTEN_S = 86_400
"""A day without a command for so long is not counted as open: nobody will close it."""
DAYS_COUNTED_MAX = 65_536

Labels = Mapping[str, Iterable[str]]
Metric = TypeVar("Metric", Counter, Gauge, Histogram)


def _known(made: Metric, labels: Labels) -> Metric:
    """``made`` with a series for every combination of its known label values."""
    for values in product(*labels.values()) if labels else ():
        made.labels(*values)
    return made


class _Maker:
    """Metrics of one registry; each label is given with the values that are known."""

    def __init__(self) -> None:
        # a time of birth beside every series would double them, and nothing reads it
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()

    def counter(self, name: str, text: str, /, **labels: Iterable[str]) -> Counter:
        made = Counter(f"concord_{name}", text, tuple(labels), registry=self.registry)
        return _known(made, labels)

    def gauge(self, name: str, text: str, /, **labels: Iterable[str]) -> Gauge:
        made = Gauge(f"concord_{name}", text, tuple(labels), registry=self.registry)
        return _known(made, labels)

    def seconds(self, name: str, text: str, /, **labels: Iterable[str]) -> Histogram:
        whole, names = f"concord_{name}_seconds", tuple(labels)
        made = Histogram(whole, text, names, registry=self.registry, buckets=BUCKETS_S)
        return _known(made, labels)


class RequestMeters:
    """What callers asked and how it was answered."""

    def __init__(self, make: _Maker) -> None:
        self.answered = make.counter("requests", "Requests answered", route=(), status=())
        self.seconds = make.seconds("request", "Time to answer", route=())
        self.serving = make.gauge("serving_requests", "Requests being served")
        self.problems = make.counter("problems", "Problems answered", code=Code)


class DecisionMeters:
    """What was decided, what changed it, and where the time went."""

    def __init__(self, make: _Maker) -> None:
        self.commands = make.counter("commands", "Commands made durable", command=COMMANDS)
        self.steps = make.counter(
            "decisions", "Steps decided", policy=(), fallback=("false", "true")
        )
        self.seconds = make.seconds(
            "decision", "Time from a step's arrival until it is durable", policy=()
        )
        self.part_seconds = make.seconds(
            "decision_part", "What that time was spent on", policy=(), part=("policy", "commit")
        )
        self.cash_cuts = make.counter("cash_cuts", "Steps in which cash cut a buy", policy=())
        self.children = make.counter("children", "Children sent", policy=())
        self.changed = make.counter(
            "children_changed", "Children whose volume a rule changed", reason=Reason
        )
        self.alarms = make.counter("alarms", "Facts to look at", code=AlarmCode)
        self.shadow_stops = make.counter("shadow_stops", "Shadows that could not go on", code=Code)

    def expect(self, policies: Iterable[str]) -> None:
        """Series for policies that decide from now on: an alert needs the zero before the one."""
        for name in policies:
            for fallback in ("false", "true"):
                self.steps.labels(name, fallback)
            for part in ("policy", "commit"):
                self.part_seconds.labels(name, part)
            for made in (self.seconds, self.cash_cuts, self.children):
                made.labels(name)


class StoreMeters:
    """How the store answers, and what it said of itself."""

    def __init__(self, make: _Maker) -> None:
        self.seconds = make.seconds("store", "Time of a call to the store", call=CALLS)
        self.errors = make.counter(
            "store_errors", "Calls that failed", call=CALLS, kind=("refused", "unavailable")
        )
        self.outcomes = make.counter("store_commits", "Commits answered", outcome=OUTCOMES)
        self.state_changes = make.counter(
            "state_changes", "Trading states set", scope=SCOPES, state=STATES
        )
        self.problems = make.gauge(
            "store_problems", "Reasons why the store may forget", problem=KINDS
        )
        self.memory = make.gauge("store_memory_bytes", "Memory that the store uses")
        self.memory_max = make.gauge("store_memory_max_bytes", "Memory it may use, 0: any")
        self.log = make.gauge("store_log_bytes", "Size of its append-only file")


class StateMeters:
    """What the service is and how it stands."""

    def __init__(self, make: _Maker) -> None:
        self.ready = make.gauge("ready", "1 when the service may decide")
        self.clients = make.gauge("clients", "Trading clients by their state", state=STATES)
        self.open_days = make.gauge("open_days", "Days in use that are not closed")
        self.data_free = make.gauge("data_free_bytes", "Free space under the data folder")
        self.build = make.gauge("build_info", "This version", version=())


class ModelMeters:
    """Which models decide, and what came of loading them."""

    def __init__(self, make: _Maker) -> None:
        self.info = make.gauge(
            "model_info", "What decides", policy=(), name=(), version=(), fingerprint=()
        )
        self.held = make.gauge("held_models", "Versions of models and rules that are loaded")
        self.loads = make.counter(
            "model_loads", "Looks at the models folder", outcome=("loaded", "refused")
        )

    def decide_now(self, current: Mapping[str, Mapping[str, str]], held: int) -> None:
        """The model of each policy as replies describe it, and how many are loaded."""
        self.loads.labels("loaded").inc()
        self.held.set(held)
        self.info.clear()
        for policy, model in current.items():
            self.info.labels(policy=policy, **model).set(1)


class Meters:
    """The metrics of one application."""

    def __init__(self) -> None:
        make = _Maker()
        self._registry = make.registry
        self.requests = RequestMeters(make)
        self.decisions = DecisionMeters(make)
        self.models = ModelMeters(make)
        self.store = StoreMeters(make)
        self.state = StateMeters(make)
        self.open_days = OpenDays()
        self.state.open_days.set_function(self.open_days.count)
        ProcessCollector(registry=make.registry)

    def expose(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def identify(self, version: str) -> None:
        """Name the version that runs."""
        self.state.build.labels(version).set(1)

    def watch_disk(self, folder: Path) -> None:
        """Tell the free bytes of the file system that ``folder`` is, or will be, on."""
        self.state.data_free.set_function(lambda: float(_free_bytes(folder)))


def _free_bytes(folder: Path) -> int:
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


class OpenDays:
    """Days that this process had a command for and that are not closed, those in use.

    ``now`` is a clock in seconds. After a restart a day counts again from its next command.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()

    def note(self, client: str, day_id: str, *, is_open: bool) -> None:
        """A command of a day is durable."""
        key = (client, day_id)
        self._seen.pop(key, None)
        if is_open:
            self._seen[key] = self._now()
        while len(self._seen) > DAYS_COUNTED_MAX:
            self._seen.popitem(last=False)

    def count(self) -> float:
        """How many there are now."""
        earliest = self._now() - DAY_FORGOTTEN_S
        while self._seen and next(iter(self._seen.values())) < earliest:
            self._seen.popitem(last=False)
        return float(len(self._seen))
