"""The whole service through power cuts and kills: what it acknowledged, it keeps and never doubles.

Six clients play whole days over HTTP, two of them each day, while the store's power is cut and the
service is killed at random moments. Afterwards every acknowledged byte is compared with what the
service answers and with what the store holds, and every day's money and shares are recomputed.
"""

import os
import random
from pathlib import Path

import pytest

from tests.crash.campaign import OneMachine, Tally, TwoServices, strike
from tests.crash.mutants import MUTANTS
from tests.crash.nursery import Nursery

POWER_CUTS = int(os.environ.get("CONCORD_POWER_CUTS", "200"))
SERVICE_KILLS = int(os.environ.get("CONCORD_SERVICE_KILLS", "100"))
SEED = os.environ.get("CONCORD_CRASH_SEED", "concord")
# The rest strikes two services over one store.
ONE_MACHINE_CUTS, ONE_MACHINE_KILLS = POWER_CUTS // 5, SERVICE_KILLS // 3
CUTS_PER_ROUND, ROUNDS_MAX = 12, 12  # one round finds most faults, all of them every fault
STRIKES_AT_ONE_SITE_MAX = 150  # before the log becomes long enough to be rewritten
# Each fault, where it is put in, and the kinds of findings that show it.
FAULTS = [
    ("accept_everysec", TwoServices, {"lost", "wrong"}),
    ("accept_everysec", OneMachine, {"lost", "wrong"}),
    ("answer_first", TwoServices, {"lost", "wrong", "double"}),
    ("skip_seq_check", TwoServices, {"double", "unbalanced"}),
    ("skip_digest_check", TwoServices, {"unrefused", "lost"}),
    ("book_again", TwoServices, {"unbalanced"}),
    ("trust_the_cache", TwoServices, {"wrong"}),
]

pytestmark = pytest.mark.timeout(600 + 2 * (POWER_CUTS + SERVICE_KILLS))


def shuffled(cuts: int, kills: int) -> list[list[str]]:
    """Strikes in random order, in portions for one site each."""
    strikes = ["cut"] * cuts + ["kill"] * kills
    random.shuffle(strikes)
    size = STRIKES_AT_ONE_SITE_MAX
    return [strikes[first : first + size] for first in range(0, len(strikes), size)]


def test_nothing_acknowledged_is_lost_or_done_twice_and_every_day_can_be_closed(
    tmp_path: Path, nursery: Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = Tally()
    pairs = shuffled(POWER_CUTS - ONE_MACHINE_CUTS, SERVICE_KILLS - ONE_MACHINE_KILLS)
    for number, strikes in enumerate(pairs):
        folder = tmp_path / f"two-{number}"
        strike(TwoServices(nursery, folder), folder, strikes, f"{SEED}-{number}", tally)
    for number, strikes in enumerate(shuffled(ONE_MACHINE_CUTS, ONE_MACHINE_KILLS)):
        folder = tmp_path / f"one-{number}"
        strike(OneMachine(nursery, folder), folder, strikes, f"{SEED}-one-{number}", tally)
    with capsys.disabled():
        print(f"\ncrash test (seed {SEED}): {tally}")
    assert tally.findings.counts == {}, "\n".join(tally.findings.examples)
    assert (tally.cuts, tally.kills) == (POWER_CUTS, SERVICE_KILLS)
    assert tally.closed == tally.days > 0
    assert tally.replays > 0
    assert tally.refusals > 0


@pytest.mark.parametrize(("mutant", "site", "kinds"), FAULTS)
def test_the_harness_finds_a_fault(
    tmp_path: Path,
    nursery: Nursery,
    mutant: str,
    site: type[TwoServices] | type[OneMachine],
    kinds: set[str],
) -> None:
    tally = Tally()
    for number in range(ROUNDS_MAX):
        folder = tmp_path / str(number)
        strike(
            site(nursery, folder, mutant),
            folder,
            ["cut"] * CUTS_PER_ROUND,
            f"{SEED}-{number}",
            tally,
        )
        if kinds & tally.findings.counts.keys():
            return
    pytest.fail(f"{mutant} was not found: {tally}")


def test_every_fault_is_tried() -> None:
    assert {mutant for mutant, *_ in FAULTS} == MUTANTS.keys()
