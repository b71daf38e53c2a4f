"""What can go wrong for reasons outside of this code, and how a program says so.

    TrainingError      its message says what to change
      Refused          what is asked for cannot be
      OtherData        a file of this name is of another market, or cannot be read
      Diverged         a number of the run is not finite; what was saved before is kept
      ExportFailed     the exported file does not decide as the network does; none was written
      Interrupted      the run was asked to stop; everything is saved

Beside them stand BarsError, of the reader of bars, and OSError. All else is a defect of Concord and
keeps its traceback.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from service.play.bars import BarsError

STOPPED = 130
"""Exit status after Ctrl-C, as shells have it."""


class TrainingError(Exception):
    """Whatever keeps a program from its end; the message says what to change."""


class Refused(TrainingError, ValueError):
    """What is asked for cannot be."""


class OtherData(TrainingError):
    """A file of this name is of another market, or cannot be read."""


class Diverged(TrainingError):
    """A number of the run is not finite; what was saved before is kept."""


class ExportFailed(TrainingError):
    """The exported file does not decide as the network does; none was written."""


class Interrupted(TrainingError):
    """The run was asked to stop; everything is saved."""


OPERATING = (TrainingError, BarsError, OSError)


@contextlib.contextmanager
def told(program: str) -> Iterator[None]:
    """End ``program`` with a sentence: status 1 for an operating error, STOPPED after Ctrl-C."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as error:
        said = str(error) or "stopped"
        sys.stderr.write(f"{program}: {said}; the same command takes it up again\n")
        raise SystemExit(STOPPED) from error
    except OPERATING as error:
        raise SystemExit(f"{program}: {error}") from error
