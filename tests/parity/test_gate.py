"""A model that is not exactly what was exported is refused, with a sentence that says why."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from service.core.contract import FEATURES
from service.core.policy import PolicyFailed
from service.manifest import read
from service.model_gate import MODEL_BYTES_MAX, admit
from service.onnx_policy import ModelRefused, load


@pytest.fixture
def folder(exported, tmp_path: Path) -> Path:
    """A copy of the exported models to spoil."""
    return Path(shutil.copytree(exported[1], tmp_path / "models"))


def file(folder: Path) -> Path:
    """The file of the only model."""
    return next(folder.glob("*.onnx"))


def manifest(folder: Path, **changes: Any) -> None:
    """Change the model's row; a ``data`` change rewrites the file and its digest."""
    path = folder / "manifest.json"
    held = json.loads(path.read_text())
    if (data := changes.pop("data", None)) is not None:
        (file(folder)).write_bytes(data)
        changes["sha256"] = hashlib.sha256(data).hexdigest()
    if "sha256" in changes:
        changes["version"] = str(changes["sha256"])[:12]
    held["models"][0] |= changes
    held["current"] = {"iac": held["models"][0]["version"]}
    path.write_text(json.dumps(held))


def changed_graph(folder: Path, change: Any) -> bytes:
    model = onnx.load(file(folder))
    change(model)
    return bytes(model.SerializeToString())


def test_what_was_exported_is_admitted(folder: Path) -> None:
    policy = load(folder)
    assert (policy.name, policy.K) == ("iac", 3)
    assert policy.fingerprint == admit(folder, read(folder).row("iac")).entry["sha256"][:16]
    assert "iac" in repr(policy)


@pytest.mark.parametrize("at", [0, 100, 5_000, -1])
def test_a_flipped_byte(folder: Path, at: int) -> None:
    data = bytearray((file(folder)).read_bytes())
    data[at] ^= 1
    (file(folder)).write_bytes(data)
    with pytest.raises(ModelRefused, match="SHA-256"):
        load(folder)


def test_a_wrong_digest(folder: Path) -> None:
    manifest(folder, sha256="0" * 64)
    with pytest.raises(ModelRefused, match="the manifest says 000000000000"):
        load(folder)


def test_another_contract_in_manifest_or_file(folder: Path) -> None:
    def restamp(model: Any) -> None:
        onnx.helper.set_model_props(model, {"contract": "f" * 64})

    other = changed_graph(folder, restamp)
    manifest(folder, contract="f" * 64)
    with pytest.raises(ModelRefused, match="the manifest was made for contract ffffffffffff"):
        load(folder)
    manifest(folder, contract=admit_contract(), data=other)
    with pytest.raises(ModelRefused, match="the file was made for contract ffffffffffff"):
        load(folder)


def admit_contract() -> str:
    from service.core.contract import fingerprint

    return fingerprint()


@pytest.mark.parametrize("port", ["features", "actions", "probabilities"])
def test_another_name_of_an_input_or_output(folder: Path, port: str) -> None:
    def rename(model: Any) -> None:
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = ["renamed" if name == port else name for name in names]
        for value in (*model.graph.input, *model.graph.output):
            value.name = "renamed" if value.name == port else value.name

    manifest(folder, data=changed_graph(folder, rename))
    with pytest.raises(ModelRefused, match=r"signature.*renamed"):
        load(folder)


def test_another_number_of_rounds(folder: Path) -> None:
    manifest(folder, K=2)
    with pytest.raises(ModelRefused, match="signature"):
        load(folder)
    manifest(folder, K=10_000)
    with pytest.raises(ModelRefused, match="K of model"):
        load(folder)


def test_other_weights_do_not_reproduce_the_golden_batch(folder: Path) -> None:
    def disturb(model: Any) -> None:
        weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        array = onnx.numpy_helper.to_array(weights) + np.float32(0.01)
        weights.CopyFrom(onnx.numpy_helper.from_array(array, weights.name))

    manifest(folder, data=changed_graph(folder, disturb))
    with pytest.raises(ModelRefused, match="golden batch"):
        load(folder)


@pytest.mark.parametrize("golden", [{}, {"features": [[1.0]], "probabilities": []}, {"a": None}])
def test_no_golden_batch(folder: Path, golden: Any) -> None:
    manifest(folder, golden=golden)
    with pytest.raises(ModelRefused, match="golden batch"):
        load(folder)


def test_weights_in_another_file(folder: Path) -> None:
    def send_out(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/passwd")

    manifest(folder, data=changed_graph(folder, send_out))
    with pytest.raises(ModelRefused, match="weights in another file"):
        load(folder)


def test_operators_outside_the_standard(folder: Path) -> None:
    def foreign(model: Any) -> None:
        model.graph.node[0].domain = "com.example"

    manifest(folder, data=changed_graph(folder, foreign))
    with pytest.raises(ModelRefused, match="outside the ONNX standard"):
        load(folder)


@pytest.mark.parametrize("data", [b"", b"not a model", b"\xff" * 100, b"\x3a\xff\xff\x03abc"])
def test_something_else(folder: Path, data: bytes) -> None:
    manifest(folder, data=data)
    with pytest.raises(ModelRefused):
        load(folder)


def test_a_file_that_is_too_large(folder: Path) -> None:
    (file(folder)).write_bytes(bytes(MODEL_BYTES_MAX + 1))
    with pytest.raises(ModelRefused, match="larger than"):
        load(folder)


def test_a_missing_file_or_model(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="lists no model 'other'"):
        load(folder, "other")
    (file(folder)).unlink()
    with pytest.raises(ModelRefused, match="cannot be read"):
        load(folder)
    with pytest.raises(ModelRefused, match=r"training/train\.py"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("file", ["../iac.onnx", "/etc/passwd", "a/b.onnx", ".onnx", ""])
def test_a_path_that_leaves_the_folder(folder: Path, file: str) -> None:
    manifest(folder, file=file)
    with pytest.raises(ModelRefused, match="file name"):
        load(folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"models": 3}', '{"models": [{}]}', '{"models": [null]}', "\udcff"]
)
def test_something_that_is_no_manifest(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ModelRefused):
        load(folder)


@pytest.mark.parametrize("field", ["file", "sha256", "version", "contract", "K", "golden"])
def test_a_missing_field(folder: Path, field: str) -> None:
    manifest(folder, **{field: None})
    with pytest.raises(ModelRefused, match=field):
        load(folder)


def test_numbers_that_are_not_finite_fail_the_policy_and_not_the_service(folder: Path) -> None:
    policy = load(folder)
    bad = np.full((3, len(FEATURES)), np.nan, dtype=np.float32)
    with pytest.raises(PolicyFailed, match="not finite"):
        policy.exchange(bad)
    with pytest.raises(PolicyFailed, match="no orders"):
        policy.exchange(bad[:0])
    with pytest.raises(PolicyFailed, match="raised"):
        policy.exchange(bad[:, :3])
