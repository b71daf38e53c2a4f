"""Two processes learn what one with the joined batch learns."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training.arenas import arena
from training.config import TrainConfig
from training.parallel import Ranks, join
from training.run import network_of, train

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys, torch
from training.arenas import arena
from training.channels import NetworkConfig
from training.config import TrainConfig
from training.parallel import joined
from training.run import train
torch.set_num_threads(1)
config = TrainConfig(lab="mild", method=sys.argv[1], days=8, iterations=3, runs=sys.argv[2],
    select_every=3, network=NetworkConfig(rounds=2, hidden=16))
from pathlib import Path
from dataclasses import replace
config = replace(config, runs=Path(sys.argv[2]))
with joined("cpu") as ranks:
    done = train(config, arena(config), ranks=ranks)
    if ranks.first:
        torch.save(done.network.state_dict(), Path(sys.argv[2]) / "weights.pt")
"""


STOPPED = """
import os, signal, sys
from pathlib import Path
from training.arenas import arena
from training.channels import NetworkConfig
from training.config import TrainConfig
from training.parallel import joined
from training.errors import Interrupted
from training.run import train
folder = Path(sys.argv[2])
config = TrainConfig(lab="mild", method=sys.argv[1], days=8, iterations=9, runs=folder,
    network=NetworkConfig(rounds=1, hidden=16))

def stop(iteration, found):
    if iteration == 2 and not ranks.first:  # twice: from the terminal, and from torchrun
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

with joined("cpu") as ranks:
    try:
        train(config, arena(config), stop, ranks)
    except Interrupted as error:
        (folder / f"said-{ranks.rank}").write_text(str(error))
"""


def trained(folder: Path, method: str, processes: int) -> torch.Tensor:
    ran(folder, PROGRAM, method, processes)
    return flat(torch.load(folder / "weights.pt"))


def flat(state: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([part.flatten() for part in state.values()])


def ran(folder: Path, text: str, method: str, processes: int) -> None:
    folder.mkdir()
    program = folder / "program.py"
    program.write_text(text)
    started([str(program), method, str(folder)], processes)


def started(command: list[str], processes: int) -> str:
    """What Python says with ``command``, in some processes of torchrun."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [sys.executable, *(torchrun if processes > 1 else []), *command],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout


@pytest.mark.parametrize("method", ["iac-t", "is-pathwise"])
def test_two_processes_learn_what_one_learns(tmp_path: Path, method: str) -> None:
    alone = trained(tmp_path / "one", method, 1)
    both = trained(tmp_path / "two", method, 2)
    torch.testing.assert_close(alone, both, atol=2e-4, rtol=1e-3)


def test_the_program_shares_a_run_and_says_logs_and_ships_once(tmp_path: Path) -> None:
    asked = ["--lab", "mild", "--method", "alone-pathwise", "--days", "8", "--iterations", "3"]
    where = ["--held-out-days", "20", "--runs", str(tmp_path), "--models", str(tmp_path / "models")]
    where += ["--tensorboard"]
    said = started(["-m", "training.train", *asked, *where], 2)
    assert said.count("20 validation days, lab-mild") == 1
    assert len(list(tmp_path.glob("*/events.out.tfevents.*"))) == 1
    config = TrainConfig(lab="mild", method="alone-pathwise", days=8, iterations=3, runs=tmp_path)
    shared = flat(network_of(config).state_dict())
    done = train(replace(config, runs=tmp_path / "alone"), arena(config))
    alone = flat(done.network.state_dict())
    torch.testing.assert_close(shared, alone, atol=2e-4, rtol=1e-3)
    assert not torch.equal(shared, alone)  # days that are summed in two parts round otherwise


def test_one_process_that_is_stopped_stops_all_after_the_same_iteration(tmp_path: Path) -> None:
    ran(tmp_path / "run", STOPPED, "alone-pathwise", 2)
    said = [(tmp_path / "run" / f"said-{rank}").read_text() for rank in range(2)]
    assert said[0].startswith("stopped after iteration 2; saved in")
    assert said[0] == said[1]
    (saved,) = (tmp_path / "run").glob("*/checkpoint.pt")
    assert torch.load(saved, weights_only=False)["progress"]["done"] == 2


def test_every_process_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr("training.parallel.dist.init_process_group", lambda backend: None)
    monkeypatch.setattr("training.parallel.dist.get_rank", lambda: 1)
    monkeypatch.setattr("training.parallel.dist.get_world_size", lambda: 2)
    assert join("cuda") == Ranks(1, 2)
    assert taken == [1]


def test_days_are_shared_evenly_or_not_at_all() -> None:
    assert [Ranks(rank, 3).own(9) for rank in range(3)] == [slice(0, 3), slice(3, 6), slice(6, 9)]
    with pytest.raises(ValueError, match="8 days cannot be shared by 3 processes"):
        Ranks(0, 3).own(8)
