"""The trained network as a policy of the core. The only module that imports onnxruntime.

:func:`load` makes a session from the very bytes that the gate admitted, checks its signature and
that it reproduces the golden batch of its manifest, and warms it up. One thread, no spinning: a
decision takes well under a millisecond and shares its cores with the web server.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from service.core.contract import ACTIONS, FEATURES, N_MAX
from service.core.day import Day
from service.core.observe import Observation
from service.core.policy import Intent, PolicyFailed, Rounds, grid_wish
from service.manifest import RETRAIN, ModelRefused, Row, read
from service.model_gate import Admitted, admit

__all__ = ["ModelRefused", "OnnxPolicy", "load", "load_row"]

INPUT = "features"
OUTPUTS = ["actions", "probabilities"]
GOLDEN_TOLERANCE = 1e-5
WARM_UP_ORDERS = (1, 2, 10, 50, 200, N_MAX)
"""Baskets decided before the first real one: memory for each shape is then in place."""


class OnnxPolicy:
    """K rounds of intended actions, decoded greedily; ``[N]`` in NumPy, any N from 1 to N_MAX."""

    def __init__(self, session: ort.InferenceSession, admitted: Admitted) -> None:
        self._session = session
        self.name = admitted.name
        self.version: str = admitted.entry["version"]
        self.fingerprint: str = admitted.entry["sha256"][:16]
        self.K = admitted.rounds

    def __call__(self, day: Day, observation: Observation) -> Intent:
        """What every order should trade, and the rounds that led to it."""
        rounds = self.exchange(observation.features)
        return Intent(grid_wish(day, rounds.actions[-1]), rounds)

    def exchange(self, features: npt.NDArray[np.float32]) -> Rounds:
        """The K rounds for ``features`` ``[N, F]``; raises PolicyFailed."""
        if not len(features):
            raise PolicyFailed("the model was asked about no orders")
        try:
            row = np.ascontiguousarray(features, dtype=np.float32)
            actions, probabilities = self._session.run(OUTPUTS, {INPUT: row})
        except Exception as error:  # the runtime's errors share no base class of their own
            raise PolicyFailed(f"model {self.name} raised {type(error).__name__}") from error
        if not np.isfinite(probabilities).all():
            raise PolicyFailed(f"model {self.name} answered numbers that are not finite")
        return Rounds(actions, probabilities)

    def __repr__(self) -> str:
        return f"OnnxPolicy(name={self.name!r}, version={self.version!r}, K={self.K})"


def load(models_dir: Path, name: str = "iac", version: str | None = None) -> OnnxPolicy:
    """A model of ``models_dir``, the current version without ``version``; raises ModelRefused."""
    return load_row(models_dir, read(models_dir).row(name, version))


def load_row(models_dir: Path, entry: Row) -> OnnxPolicy:
    """The model of a manifest's row, ready to decide; raises ModelRefused."""
    admitted = admit(models_dir, entry)
    try:
        session = ort.InferenceSession(
            admitted.data, _options(), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # the runtime's errors share no base class of their own
        raise ModelRefused(f"{admitted.where} does not load ({error}); {RETRAIN}") from error
    _check_signature(session, admitted)
    policy = OnnxPolicy(session, admitted)
    _check_golden(policy, admitted)
    for orders in WARM_UP_ORDERS:
        policy.exchange(np.zeros((orders, len(FEATURES)), dtype=np.float32))
    return policy


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _check_signature(session: ort.InferenceSession, admitted: Admitted) -> None:
    """Exact names and types, and fixed sizes where they are fixed; only N is free."""
    rounds = admitted.rounds
    expected = {
        INPUT: ("tensor(float)", [None, len(FEATURES)]),
        OUTPUTS[0]: ("tensor(int64)", [rounds, None]),
        OUTPUTS[1]: ("tensor(float)", [rounds, None, ACTIONS]),
    }
    ports = [*session.get_inputs(), *session.get_outputs()]
    found = {port.name: (port.type, [_fixed(size) for size in port.shape]) for port in ports}
    if found != expected:
        raise ModelRefused(
            f"{admitted.where} has the signature {found}, expected is {expected}; {RETRAIN}"
        )


def _fixed(size: Any) -> int | None:
    return size if isinstance(size, int) else None


def _check_golden(policy: OnnxPolicy, admitted: Admitted) -> None:
    """The batch that was computed at export comes out the same on this machine."""
    golden = admitted.entry["golden"]
    try:
        features = np.array(golden["features"], dtype=np.float32).reshape(-1, len(FEATURES))
        expected = np.array(golden["probabilities"], dtype=np.float32)
        found = policy.exchange(features).probabilities
        off = float(np.abs(found - expected).max())
    except (KeyError, TypeError, ValueError, PolicyFailed) as error:
        raise ModelRefused(f"{admitted.where}: no usable golden batch ({error!r})") from error
    if not off <= GOLDEN_TOLERANCE:
        raise ModelRefused(
            f"{admitted.where} is {off:.1e} off its golden batch; use the onnxruntime of the lock "
            f"file, or {RETRAIN}"
        )
