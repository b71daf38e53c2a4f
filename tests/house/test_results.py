"""What the results say is about what is shipped: no gaps, no other model."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.fleet import rows

ROOT = Path(__file__).parents[2]


def test_no_document_has_a_gap_left_to_fill():
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert [d.name for d in documents if "@@" in d.read_text(encoding="utf-8")] == []


def test_the_days_shown_were_played_by_the_shipped_model():
    (model,) = json.loads((ROOT / "models/manifest.json").read_text())["models"]
    shown = (ROOT / "docs/results/spine.md").read_text(encoding="utf-8")
    assert shown.count(f"fingerprint {model['sha256'][:16]}") == 5


def test_how_far_one_node_goes_is_what_was_measured():
    held = json.loads((ROOT / "docs/results/fleet.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    assert len(held["git_commit"]) == 40
    for told in held["orders"].values():
        assert "\n".join(rows(told)) in page
