"""Where the time of one step goes: the same functions, one after the other, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from service import parse, plans, render, wire
from service.core import laws
from service.core.allocate import allocate
from service.core.day import Trading, mark, settle
from service.core.decide import decide
from service.core.fills import paper_fills
from service.core.limits import protection
from service.core.observe import observe
from service.live import pack_state
from service.rack import Folder
from service.reading import read
from tests.bench.traffic import bench_day

REPEATS = 400


def stages_us(n: int) -> dict[str, float]:
    """Median microseconds of each stage of a step in the middle of a day of ``n`` orders."""
    policy = Folder(Path("models")).load({}).current["iac"]
    day = bench_day(np.random.default_rng(1), "stages", n)
    opened = plans.open_day("d", read(wire.OpenDay, day.opening), policy.model, Trading.ACTIVE)
    live = opened.live
    for k, raw in enumerate(day.steps[:4], start=1):
        body = read(wire.Step, raw)
        before = live
        live = plans.step("d", live, k, body, {}, Trading.ACTIVE, policy.policy).live
    raw = day.steps[3]
    body = read(wire.Step, raw)
    snapshot = parse.snapshot(before, body.snapshot)
    fills = paper_fills(before.day, snapshot)
    settled = settle(before.day, fills)
    seen = mark(settled, snapshot)
    observation = observe(seen)
    intent = policy.policy(seen, observation)
    decided = decide(settled, snapshot, policy.policy)
    after = plans._sent(before.after(settled), decided, 0)
    measured: dict[str, Callable[[], Any]] = {
        "validate": lambda: read(wire.Step, raw),
        "parse": lambda: parse.snapshot(before, body.snapshot),
        "fills_and_settle": lambda: settle(before.day, paper_fills(before.day, snapshot)),
        "mark_and_observe": lambda: observe(mark(settled, snapshot)),
        "policy": lambda: policy.policy(seen, observation),
        "allocate": lambda: allocate(seen, intent.wish, protection(seen)),
        "laws": lambda: (
            laws.broken_by_settlement(before.day, fills, settled),
            laws.broken_by_decision(decided),
        ),
        "render": lambda: render.dump(render.decision("d", before, after, decided, ())),
        "pack": lambda: (pack_state(after), plans.pack_rounds(intent.rounds)),
    }
    return {name: _median_us(stage) for name, stage in measured.items()}


def _median_us(stage: Callable[[], Any]) -> float:
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        stage()
        times.append(time.perf_counter() - started)
    return round(float(np.median(times)) * 1e6, 1)
