"""Replay law: a day recorded by the service, played again in the simulator's form, is the same day.

The recorded requests are the world and the recorded last round is the policy; batched torch tensors
``[1, N]`` then reproduce every child, reservation and balance of the NumPy service exactly.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service import parse, plans, wire
from service.commits import MemoryStore
from service.core.allocate import allocate
from service.core.day import Day, Trading, mark, place, settle
from service.core.fills import paper_fills
from service.core.limits import protection
from service.core.market import Snapshot
from service.core.policy import grid_wish
from service.desk import Desk
from service.rack import Folder, Models
from service.reading import read
from service.records import Records
from tests.bench.traffic import BenchDay, bench_day
from tests.laws.days import convert

torch = pytest.importorskip("torch")
MODELS = Path(__file__).parents[2] / "models"


def tensor(array: Any) -> Any:
    return torch.from_numpy(np.array(array))[None]


@pytest.fixture(params=[1, 7, 60])
def recorded(request):
    """A paper day of some orders as the service decided it: the opening and its records."""
    day = bench_day(np.random.default_rng(request.param), "replayed", request.param)
    return day.opening, asyncio.run(_play(day))


async def _play(day: BenchDay) -> list[Any]:
    store = MemoryStore()
    desk, records = (
        Desk(store, Models(Folder(MODELS), store.pins), 8, lambda *told: None),
        Records(store),
    )
    await desk.open("client", day.day_id, day.opening)
    for n, body in enumerate(day.steps, start=1):
        await desk.step("client", day.day_id, n, body)
    steps = range(1, len(day.steps) + 1)
    return [json.loads((await records.decision("client", day.day_id, n)).body) for n in steps]


def test_a_recorded_day_replays_exactly_in_the_form_of_the_simulator(recorded):
    opening, records = recorded
    live = plans.open_day("replayed", read(wire.OpenDay, opening), {}, Trading.ACTIVE).live
    day: Day = convert(live.day, tensor)
    decided_something = False
    for record in records:
        snapshot = _snapshot(live, day, record)
        if day.step:
            day = settle(day, paper_fills(day, snapshot))
        seen = mark(day, snapshot)
        actions = tensor(np.array(record["rounds"][-1]["action"]))
        choice = allocate(seen, grid_wish(seen, actions), protection(seen))
        day = place(seen, choice.child_qty, choice.protect_px, choice.reserve_minor, choice.cut)
        answered = record["decision"]["orders"]
        sent = dict(zip(answered["cl_ord_id"], answered["child_qty"], strict=True))
        replayed = dict(zip(live.terms.cl_ord_ids, choice.child_qty[0].tolist(), strict=True))
        assert {name: replayed[name] for name in sent} == sent
        assert int(day.cash_minor) == record["decision"]["cash"]["cash_minor"]
        assert int(day.free_cash_minor) == record["decision"]["cash"]["free_minor"]
        assert bool(choice.cut) == record["decision"]["cash_cut"]
        decided_something |= any(sent.values())
    assert decided_something


def _snapshot(live: Any, day: Day, record: dict[str, Any]) -> Snapshot:
    body = read(wire.Step, json.dumps(record["request"]).encode())
    # the first snapshot of a day is read as its opening
    at_step = live.after(replace(live.day, step=day.step))
    return convert(parse.snapshot(at_step, body.snapshot), tensor)
