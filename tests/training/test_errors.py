"""How programs end: in a sentence where the caller can change something, else with a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.play.bars import BarsError
from training import evaluate, report, sweep, train
from training.config import TrainConfig
from training.errors import Diverged, ExportFailed, Interrupted, OtherData, Refused
from training.places import Budget
from training.studies import STUDIES

PROGRAMS: dict[str, tuple[Callable[[Any], Any], Any, str]] = {
    "train": (train.main, TrainConfig(), "training.train.arena"),
    "evaluate": (evaluate.main, evaluate.EvaluateConfig(), "training.evaluate._asked"),
    "sweep": (sweep.main, sweep.SweepConfig(), "training.sweep.sweep"),
    "report": (report.main, report.ReportConfig(), "training.report.collected"),
}
"""A program, its options, and what of it fails."""
each_program = pytest.mark.parametrize("program", list(PROGRAMS))


def ended(program: str, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> SystemExit:
    def fails(*_: object) -> None:
        raise error

    main, config, inner = PROGRAMS[program]
    monkeypatch.setattr(inner, fails)
    with pytest.raises(SystemExit) as ending:
        main(config)
    return ending.value


@each_program
@pytest.mark.parametrize("kind", [Refused, OtherData, Diverged, ExportFailed, BarsError, OSError])
def test_an_operating_error_is_one_sentence(program: str, kind: Any, monkeypatch) -> None:
    assert ended(program, kind("give less"), monkeypatch).code == f"{program}: give less"


@each_program
@pytest.mark.parametrize(
    ("error", "said"),
    [(Interrupted("saved in runs"), "saved in runs"), (KeyboardInterrupt(), "stopped")],
)
def test_who_was_stopped_says_so(program: str, error: Any, said: str, monkeypatch, capsys) -> None:
    assert ended(program, error, monkeypatch).code == 130
    assert capsys.readouterr().err == f"{program}: {said}; the same command takes it up again\n"


@each_program
def test_a_defect_keeps_its_traceback(program: str, monkeypatch) -> None:
    with pytest.raises(ValueError, match="a defect"):
        ended(program, ValueError("a defect"), monkeypatch)


def test_a_cell_says_what_to_change_or_where_it_broke(monkeypatch, tmp_path: Path) -> None:
    cell = STUDIES["table"].cells(Budget(), tmp_path)[0]

    def outcome(error: Exception) -> str | None:
        def fails(*_: object) -> None:
            raise error

        monkeypatch.setattr("training.sweep.run_cell", fails)
        return sweep.attempt(cell, Budget(), tmp_path).error

    assert outcome(Refused("give less")) == "give less"
    assert outcome(OSError("disk full")) == "disk full"
    assert "Traceback" in str(outcome(ValueError("a defect")))
    with pytest.raises(Interrupted):
        outcome(Interrupted("saved"))
