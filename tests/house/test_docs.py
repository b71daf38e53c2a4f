"""What can be set, what can go wrong and why volumes change is documented: all of it, only it."""

import re
from pathlib import Path

from pydantic_core import PydanticUndefined

from service.amending import REFUSALS, Refusal
from service.core.alarms import ALARMS, AlarmCode
from service.core.book import ExecType
from service.core.reasons import COMPARED, Reason
from service.durability import SETTINGS
from service.errors import PROBLEMS, Code
from service.reading import schemas
from service.settings import Settings
from service.wire import LimitFields, OrderColumns

DOCS = Path(__file__).resolve().parents[2] / "docs"


def _page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def _rows(text: str) -> dict[str, list[str]]:
    """Rows of the tables whose first cell is one name: its other cells."""
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", text, re.MULTILINE)
    names = [name for name, _ in rows]
    assert len(set(names)) == len(names)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}


def _between(text: str, start: str, end: str = "\n## ") -> str:
    return text.partition(start)[2].partition(end)[0]


def test_every_setting_is_documented_with_its_default() -> None:
    rows = _rows(_page("configuration.md"))
    assert list(rows) == [f"CONCORD_{name.upper()}" for name in Settings.model_fields]
    for name, field in Settings.model_fields.items():
        default, _, meaning = rows[f"CONCORD_{name.upper()}"]
        assert field.default is not PydanticUndefined
        assert default == ("none" if field.default is None else f"`{field.default}`")
        assert field.description
        assert meaning


def test_ranges_of_settings_are_documented() -> None:
    rows = _rows(_page("configuration.md"))
    for name, field in Settings.model_fields.items():
        bounds = [
            getattr(bound, kind)
            for bound in field.metadata
            for kind in ("ge", "gt", "le")
            if hasattr(bound, kind)
        ]
        found = [float(number) for number in re.findall(r"\d+", rows[f"CONCORD_{name.upper()}"][1])]
        assert found == bounds


def test_settings_of_an_external_store_are_documented() -> None:
    page = _page("configuration.md")
    assert not [name for name in SETTINGS if f"`{name} " not in page]


def test_every_problem_is_documented_with_its_status() -> None:
    rows = _rows(_page("errors.md").partition("\n## ")[0])
    assert {name: int(cells[0]) for name, cells in rows.items()} == {
        code.value: status for code, (status, _) in PROBLEMS.items()
    }
    assert set(PROBLEMS) == set(Code)
    for _, meaning, what_to_do in rows.values():
        assert meaning
        assert what_to_do


def test_every_reason_is_documented_with_its_two_numbers() -> None:
    page = _page("reasons.md")
    rows = _rows(_between(page, "## Why a child", "## Alarms"))
    assert list(rows) == [reason.value for reason in Reason]
    assert set(COMPARED) == set(Reason)
    assert all(len(cells) == 3 and all(cells) for cells in rows.values())


def test_every_alarm_is_documented_with_its_two_numbers() -> None:
    rows = _rows(_between(_page("reasons.md"), "## Alarms"))
    assert list(rows) == [alarm.value for alarm in AlarmCode]
    assert set(ALARMS) == set(AlarmCode)
    assert all(len(cells) == 4 and all(cells) for cells in rows.values())


def test_every_refusal_of_an_instruction_is_documented_with_its_two_numbers() -> None:
    rows = _rows(_between(_page("errors.md"), "## Refused instructions"))
    assert list(rows) == [refusal.value for refusal in Refusal]
    assert set(REFUSALS) == set(Refusal)
    assert all(len(cells) == 3 and all(cells) for cells in rows.values())


def test_every_field_that_is_sent_has_its_fix_tag() -> None:
    rows = set(_rows(_between(_page("fix.md"), "## Fields sent")))
    sent = set()
    for schema in schemas().values():
        sent |= set(schema.get("properties", {}))  # an enumeration has none
    limits = set(LimitFields.model_fields) | {"exchange", "date", "step_minutes", "times", "end"}
    assert rows == sent - limits | set(OrderColumns.model_fields)


def test_codes_that_the_interface_names_exist() -> None:
    known = {*Code, *Reason, *AlarmCode}
    words = set(re.findall(r"`(?:\d{3} )?([A-Z]+_[A-Z_]+)`", _page("api.md")))
    others = {"PARTIAL_FILL", "DONE_FOR_DAY", "BEST_EFFORT", *ExecType}
    assert words - others <= known


def test_every_method_lab_and_basket_of_training_is_documented():
    from typing import get_args

    from training.baskets import Kind
    from training.methods import METHODS
    from training.studies import STUDIES

    page = _page("training.md")
    named = set(re.findall(r"`([a-z][a-z_-]*)`", page))
    assert set(METHODS) <= named
    assert set(get_args(Kind)) <= named
    assert set(STUDIES) <= named


def test_published_records_say_how_they_were_made():
    """Every figure of the results has its command, the hashes of options and data, and a commit."""
    import json

    for path in (DOCS / "results").glob("*.json"):
        held = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(held, dict) or "records" not in held:
            continue
        assert held["command"].startswith("python -m training.sweep --study")
        for record in held["records"]:
            assert record["command"].startswith("python -m training.sweep")
            assert len(record["data_hash"]) == 64
            assert len(record["git_commit"]) == 40
            assert record["seed"] is None or len(record["config_hash"]) == 12


def test_the_results_page_is_what_its_json_says():
    """Means of the page's main table are those of the committed summaries."""
    import json

    held = json.loads((DOCS / "results" / "methods.json").read_text(encoding="utf-8"))
    page = _page("results.md")
    assert held["summaries"]
    for row in held["summaries"]:
        if "eg_bp" in row:
            lines = [x for x in page.splitlines() if x.startswith(f"| {row['title']} |")]
            shown = f"| {row['eg_bp']['mean']:.2f}".replace("| -0.00", "| 0.00")
            assert any(shown in x for x in lines), row["title"]
