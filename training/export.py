"""From a trained network to the file that the service runs, with proof that both decide alike.

The graph is greedy in every round, has a free number of orders and no mask (serving never pads).
It is admitted through the service's own gate before anything is written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import itertools
import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from service.core.contract import FEATURES, N_MAX, fingerprint
from service.core.observe import observe
from service.core.policy import grid_wish
from service.files import locked, write_whole
from service.manifest import MANIFEST, NAME, RETRAIN, Manifest, Row, read, write
from service.onnx_policy import INPUT, OUTPUTS, ModelRefused, OnnxPolicy, load
from service.play.sample import SampleMarket
from training.episodes import BasketConfig, draw, take_day
from training.errors import ExportFailed, Refused
from training.markets import generated
from training.policy import Network
from training.simulator import advance, begin, prepare

Features = npt.NDArray[np.float32]

OPSET = 18
EXAMPLE_ORDERS = 7  # an example of one order is exported with N fixed at 1, silently
PARITY_ORDERS = (1, 2, 3, 5, 7, 10, 20, 50, 100, 200, 500, N_MAX)
PARITY_BASKETS = 24
"""Baskets decided for each number of orders in the proof."""
PARITY_BARS, PARITY_BARS_PER_STEP = 16, 2
PARITY_TOLERANCE = 1e-5
PARITY_MARGIN = 1e-4
"""Two likeliest actions nearer than this may swap between torch and ONNX: a near-tie."""
GOLDEN_ORDERS = 5
VERSIONS_KEPT = 3
"""Versions of a model that stay listed when one is written: the new one, what was current before
it, and the latest other one."""
NOT_SHIPPED = "nothing is shipped and the run is kept: try other versions of torch and onnxruntime"


@dataclass(frozen=True, slots=True)
class Parity:
    """How far ONNX is from torch over all rounds of all draws; near-ties are counted apart."""

    max_abs_diff: float
    decisions: int
    near_ties: int
    margin: float = PARITY_MARGIN
    orders: tuple[int, ...] = PARITY_ORDERS


def to_onnx(network: Network, metadata: dict[str, str]) -> bytes:
    """The network as ONNX: opset 18, free N, weights inside, ``metadata`` stamped."""
    example = torch.zeros(EXAMPLE_ORDERS, len(FEATURES))
    with _quiet():
        program = torch.onnx.export(
            network.eval(),
            (example,),
            input_names=[INPUT],
            output_names=OUTPUTS,
            dynamic_shapes=({0: torch.export.Dim("N", min=1, max=N_MAX)},),
            opset_version=OPSET,
            external_data=False,
            dynamo=True,
        )
    if program is None:
        raise ExportFailed(f"torch returned no ONNX program; {NOT_SHIPPED}")
    model = program.model_proto
    _strip_notes(model)
    onnx.helper.set_model_props(model, metadata)
    return bytes(model.SerializeToString(deterministic=True))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress, its own deprecations and that torchvision is absent."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _strip_notes(model: Any) -> None:
    """Drop what torch notes about its own source code, which is two thirds of the file."""
    model.graph.ClearField("metadata_props")
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.graph.ClearField("value_info")


def observed(rng: np.random.Generator, orders: int) -> Iterator[Features]:
    """What ``orders`` orders see at each step of generated days under random actions; ``[N, F]``.

    Parity is proved on observations as they occur: on made-up ones, with every feature at its
    limit at once, logits are huge and the last bits of float32 weigh more.
    """
    basket = BasketConfig(orders=(orders, orders), margin_bp=(0.0, 1_000.0))
    while True:
        market = generated(rng, SampleMarket(), 1, PARITY_BARS, PARITY_BARS_PER_STEP, orders)
        batch = take_day(draw(rng, market, basket, 1), 0)
        known = prepare(batch)
        day = begin(batch, known)
        for _ in range(batch.rules.steps):
            yield np.ascontiguousarray(observe(day).features)
            day = advance(day, grid_wish(day, rng.choice([0, 0, 1, 2], orders)), known).day


def compare(network: Network, served: OnnxPolicy) -> Parity:
    """Both on observed baskets of every size; raises ExportFailed where they disagree."""
    rng = np.random.default_rng(0)
    worst, decisions, near_ties = 0.0, 0, 0
    for orders in PARITY_ORDERS:
        for features in itertools.islice(observed(rng, orders), PARITY_BASKETS):
            off, ties = _compare_one(network, served, features)
            worst, near_ties, decisions = max(worst, off), near_ties + ties, decisions + orders
    if worst > PARITY_TOLERANCE:
        raise ExportFailed(
            f"ONNX differs from torch by {worst:.1e}, over {PARITY_TOLERANCE:.0e}; {NOT_SHIPPED}"
        )
    return Parity(worst, decisions, near_ties)


@torch.no_grad()
def _compare_one(network: Network, served: OnnxPolicy, features: Features) -> tuple[float, int]:
    """Largest difference and near-ties of one basket, up to the round in which a tie swapped."""
    actions, probabilities = (out.numpy() for out in network(torch.from_numpy(features)))
    rounds = served.exchange(features)
    worst = 0.0
    for k in range(len(actions)):
        worst = max(worst, float(np.abs(probabilities[k] - rounds.probabilities[k]).max()))
        swapped = actions[k] != rounds.actions[k]
        if swapped.any():
            top = np.sort(probabilities[k][swapped], axis=-1)
            if (top[:, -1] - top[:, -2]).max() > PARITY_MARGIN:
                raise ExportFailed(
                    f"an action of round {k + 1} differs and is no near-tie; {NOT_SHIPPED}"
                )
            return worst, int(swapped.sum())  # what follows a swap heard other messages
    return worst, 0


@contextlib.contextmanager
def _admitted() -> Iterator[None]:
    """What the service's gate refuses is refused here, for its reason."""
    try:
        yield
    except ModelRefused as error:
        raise Refused(str(error)) from error


@_admitted()
def write_model(
    models_dir: Path, network: Network, name: str, method: str, record: dict[str, Any]
) -> dict[str, Any]:
    """Export, prove and write a version of ``name`` and the manifest, where it is current from now
    on; answers the manifest's row."""
    network = network.cpu().eval()
    stamp = {"contract": fingerprint(), "K": str(network.decisions), "method": method, "name": name}
    data = to_onnx(network, stamp)
    digest = hashlib.sha256(data).hexdigest()
    row = {
        "name": name,
        "file": f"{name}-{digest[:12]}.onnx",
        "version": digest[:12],
        "sha256": digest,
        "bytes": len(data),
        "method": method,
        "K": network.decisions,
        "contract": fingerprint(),
        "opset": OPSET,
        **record,
        "golden": _golden(network),
    }
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), row, data)
        row["parity"] = dataclasses.asdict(compare(network, load(Path(folder), name)))
    models_dir.mkdir(parents=True, exist_ok=True)
    _write(models_dir, row, data)
    return row


def served(models_dir: Path, name: str) -> OnnxPolicy | None:
    """The shipped model as the service runs it; None where the gate refuses it."""
    try:
        return shipped_policy(models_dir, name)
    except Refused:
        return None


@_admitted()
def shipped_policy(models_dir: Path, name: str) -> OnnxPolicy:
    """The shipped model as the service runs it; raises Refused with the gate's reason."""
    return load(models_dir, name)


def shipped_row(models_dir: Path, name: str) -> Row | None:
    """The manifest's row of the shipped model, None where there is none; raises Refused where
    no model of this name could be added to the manifest."""
    if not NAME.fullmatch(name):
        raise Refused(f"name is {name!r}; use 1 to 32 of a-z, 0-9, _ and -")
    if not (models_dir / MANIFEST).is_file():
        return None
    try:
        listed = read(models_dir)
    except ModelRefused as error:
        reason = str(error).removesuffix(f"; {RETRAIN}")
        raise Refused(
            f"{reason}; restore it from version control, or give --models another folder"
        ) from error
    return listed.row(name) if name in listed.current else None


@torch.no_grad()
def _golden(network: Network) -> dict[str, Any]:
    """A small batch and its answer, which the service repeats before it serves."""
    features = next(itertools.islice(observed(np.random.default_rng(18), GOLDEN_ORDERS), 3, None))
    _, probabilities = network(torch.from_numpy(features))
    return {"features": features.tolist(), "probabilities": probabilities.tolist()}


def _write(folder: Path, row: Row, data: bytes) -> None:
    """Model first, then the manifest that vouches for it; each appears whole or not at all."""
    with locked(folder):
        listed = read(folder) if (folder / MANIFEST).is_file() else Manifest({}, {})
        left = _latest(listed.adding(row), row["name"])
        write_whole(folder / row["file"], data)
        write(folder, left)
        files = {each["file"] for each in left.rows.values()}
        for gone in {each["file"] for each in listed.rows.values()} - files:
            (folder / gone).unlink(missing_ok=True)


def _latest(listed: Manifest, name: str) -> Manifest:
    """Without versions of ``name`` that nobody can roll back to: of another contract, or older
    than the last VERSIONS_KEPT."""
    rows = [row for (each, _), row in listed.rows.items() if each == name]
    usable = [row for row in rows if row["contract"] == fingerprint()][-VERSIONS_KEPT:]
    for row in rows:
        if row not in usable:
            listed = listed.without(name, row["version"])
    return listed
