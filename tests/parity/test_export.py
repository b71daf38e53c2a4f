"""The ONNX file decides as the torch network does, for every number of orders."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from service.core.contract import ACTIONS, FEATURES, fingerprint
from service.core.day import settle
from service.core.decide import decide
from service.manifest import read
from service.onnx_policy import load
from tests.training.small import episodes
from training.episodes import take_day, to_device
from training.errors import ExportFailed
from training.evaluate import combined
from training.export import (
    PARITY_MARGIN,
    PARITY_ORDERS,
    VERSIONS_KEPT,
    compare,
    observed,
    write_model,
)
from training.policy import NetworkPolicy
from training.simulator import play, prepare
from training.world import execute

from .conftest import loud


@pytest.mark.parametrize("orders", [*range(1, 34), 64, 100, 255, 500, 999, 1_000])
def test_torch_equals_onnx(exported, orders: int) -> None:
    network, folder = exported
    served = load(folder)
    features = next(observed(np.random.default_rng(orders), orders))
    with torch.no_grad():
        actions, probabilities = network(torch.from_numpy(features))
    rounds = served.exchange(features)
    assert rounds.actions.shape == (3, orders)
    assert rounds.actions.dtype == np.int64
    assert rounds.probabilities.dtype == np.float32
    assert np.abs(rounds.probabilities - probabilities.numpy()).max() <= 1e-5
    top = np.sort(probabilities.numpy(), axis=-1)
    clear = top[..., -1] - top[..., -2] > PARITY_MARGIN
    np.testing.assert_array_equal(rounds.actions[clear], actions.numpy()[clear])


@pytest.mark.parametrize(
    ("method", "rounds", "decisions"),
    [("iac-t", 0, 1), ("iac-c", 5, 5), ("is", 3, 1), ("tarmac", 3, 1)],
)
def test_every_method_exports(tmp_path, method: str, rounds: int, decisions: int) -> None:
    network = loud(rounds, method)
    row = write_model(tmp_path, network, "other", "test", {"training": {}})
    assert row["K"] == decisions
    assert load(tmp_path, "other").K == row["K"]
    assert row["parity"]["max_abs_diff"] <= 1e-5


def file_of(folder: Path) -> Path:
    """The file of its current model."""
    return folder / read(folder).row("iac")["file"]


def test_the_file_is_self_contained_and_small(exported) -> None:
    _, folder = exported
    file = file_of(folder)
    assert sorted(path.name for path in folder.iterdir()) == [file.name, "manifest.json"]
    model = onnx.load(file, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    assert not any(onnx.external_data_helper.uses_external_data(t) for t in model.graph.initializer)
    assert file.stat().st_size < 500_000
    stamped = {entry.key: entry.value for entry in model.metadata_props}
    assert stamped["contract"] == fingerprint()
    assert stamped["K"] == "3"
    (features,) = model.graph.input
    sizes = [d.dim_param or d.dim_value for d in features.type.tensor_type.shape.dim]
    assert isinstance(sizes[0], str)
    assert sizes[1] == len(FEATURES)


def test_exporting_twice_gives_the_same_bytes(exported, tmp_path) -> None:
    _, folder = exported
    write_model(tmp_path, loud(3, "iac-t"), "iac", "iac-t", {"training": {}})
    assert file_of(tmp_path).read_bytes() == file_of(folder).read_bytes()


def test_another_model_keeps_its_row(exported, tmp_path, monkeypatch) -> None:
    network, folder = exported
    data = file_of(folder).read_bytes()
    monkeypatch.setattr("training.export.to_onnx", lambda network, metadata: data)
    for name in ("iac", "second", "iac"):
        write_model(tmp_path, network, name, "test", {"training": {}})
    rows = json.loads((tmp_path / "manifest.json").read_text())["models"]
    assert sorted(row["name"] for row in rows) == ["iac", "second"]


def test_versions_that_one_can_go_back_to_stay(tmp_path) -> None:
    networks = [loud(3, "iac-t", seed) for seed in range(VERSIONS_KEPT + 1)]
    record = {"training": {}}
    versions = [write_model(tmp_path, n, "iac", "t", record)["version"] for n in networks]
    assert [version for _, version in read(tmp_path).rows] == versions[1:]
    assert read(tmp_path).row("iac")["version"] == versions[3]
    files = {f"iac-{version}.onnx" for version in versions[1:]}
    assert {path.name for path in tmp_path.iterdir()} == {*files, "manifest.json"}
    assert load(tmp_path, "iac", versions[1]).version == versions[1]
    held = json.loads((tmp_path / "manifest.json").read_text())
    held["models"][1]["contract"] = "f" * 64
    held["current"] = {"iac": versions[1]}  # gone back to: it is what must not be lost
    (tmp_path / "manifest.json").write_text(json.dumps(held))
    latest = write_model(tmp_path, loud(3, "iac-t", 4), "iac", "t", {"training": {}})["version"]
    assert [version for _, version in read(tmp_path).rows] == [versions[3], versions[1], latest]


def test_a_network_that_is_not_the_file_is_noticed(exported) -> None:
    network, folder = exported
    other = loud(3, "iac-t")
    with torch.no_grad():
        other.decide.bias[0] += 0.01
    with pytest.raises(ExportFailed):
        compare(other, load(folder))
    assert compare(network, load(folder)).orders == PARITY_ORDERS


def test_the_simulator_decides_as_the_service(exported) -> None:
    """Whole days, batched and padded in torch, against decide() with ONNX in NumPy, day by day."""
    network, folder = exported
    batch, served, policy = episodes(11, days=40), load(folder), NetworkPolicy(network.eval())
    margins: list[np.ndarray] = []

    def watched(day, observation):
        intent = policy(day, observation)
        assert intent.rounds is not None
        top = intent.rounds.probabilities.sort(dim=-1).values
        gap = (top[..., -1] - top[..., -2]).numpy()
        live = batch.orders.live[:, None]
        margins.append(np.where(live, gap, 1.0).min(axis=(1, 2)))
        return intent

    finished = play(to_device(batch), watched)
    clear = np.min(margins, axis=0) > PARITY_MARGIN
    assert clear.mean() > 0.8
    for b in np.flatnonzero(clear):
        alone = _by_decide(take_day(batch, int(b)), served)
        live = batch.orders.live[b]
        assert finished.cum_qty[b].numpy()[live].tolist() == alone.cum_qty.tolist()
        assert int(finished.cash_minor[b]) == int(alone.cash_minor)
        assert int(finished.conflicts[b]) == int(alone.conflicts)


def _by_decide(day_batch, policy):
    """One day by the service's own spine, paper fills in between."""
    market = prepare(day_batch)
    from service.core.day import open_day

    day = open_day(day_batch.orders, day_batch.rules, day_batch.cash_minor)
    for step in range(day_batch.rules.steps):
        taken = decide(day, market.snapshots[step], policy)
        assert taken.failure is None
        day = settle(taken.after, execute(taken.after, market.snapshots[step + 1]))
    return day


def test_stacked_days_keep_their_fields() -> None:
    batch = episodes(1, days=3, orders=(4, 4))
    days = [take_day(batch, b) for b in range(3)]
    orders = combined([day.orders for day in days], np.stack)
    for field in dataclasses.fields(orders):
        np.testing.assert_array_equal(
            getattr(orders, field.name), getattr(batch.orders, field.name)
        )
    assert ACTIONS == 5
