"""Four workers behind a proxy without sticky sessions: one decision for each step, none lost.

Three callers send every step at once, through a proxy that gives each request to the next worker,
while fills are reported, a worker is killed and everyone is halted and let go. Afterwards every
answer is compared with the day's log, and every log is carried out again.

CONCORD_FLEET_STEPS=20000 runs the larger one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fleet.campaign import STEPS_PER_CYCLE, WORKERS, Tally, run
from tests.fleet.workers import MUTANTS

STEPS = int(os.environ.get("CONCORD_FLEET_STEPS", "1000"))
STEPS_SHARDED = STEPS * 3 // 10
ROUNDS_MAX = 4
# Each fault, the kinds of findings that show it, and how many steps a round needs.
FAULTS = [
    ("skip_seq_check", {"lost", "unlike"}, 150),
    ("commit_blindly", {"double"}, 150),
    ("skip_state_check", {"unhalted"}, 400),
]

pytestmark = pytest.mark.timeout(300 + STEPS)


@pytest.mark.parametrize(("shards", "steps"), [(1, STEPS - STEPS_SHARDED), (2, STEPS_SHARDED)])
def test_racing_callers_get_one_decision_for_each_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shards: int, steps: int
) -> None:
    tally = run(tmp_path, steps, shards)
    with capsys.disabled():
        print(f"\nfleet test: {tally}")
    assert tally.findings.counts == {}, "\n".join(tally.findings.examples)
    assert tally.steps >= steps
    _assert_it_was_a_test(tally, max(1, steps // STEPS_PER_CYCLE))


def _assert_it_was_a_test(tally: Tally, cycles: int) -> None:
    """Every worker decided, during a halt too, and there was something to race for."""
    assert (tally.kills, len(tally.halts)) == (cycles, cycles)
    assert min(tally.decided_by) > tally.steps // 20, tally.decided_by
    assert len(tally.halted_workers) == WORKERS
    assert tally.replays >= tally.steps // 3
    assert tally.refusals >= tally.steps
    assert tally.losses > 0
    assert tally.commands > 1.3 * tally.steps


@pytest.mark.parametrize(("mutant", "kinds", "steps"), FAULTS)
def test_the_test_finds_a_store_that_does_not_compare(
    tmp_path: Path, mutant: str, kinds: set[str], steps: int
) -> None:
    for number in range(ROUNDS_MAX):
        tally = run(tmp_path / str(number), steps, mutant=mutant, count=2)
        if kinds & tally.findings.counts.keys():
            return
    pytest.fail(f"{mutant} was not found: {tally}")


def test_every_fault_is_tried() -> None:
    assert {mutant for mutant, *_ in FAULTS} == MUTANTS.keys()
