"""What can be set and what can go wrong is documented, all of it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_setting_is_documented() -> None:
    from service.settings import Settings

    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    missing = [name for name in Settings.model_fields if f"`CONCORD_{name.upper()}`" not in page]
    assert not missing


def test_every_error_code_is_documented() -> None:
    from service import errors

    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    missing = [code for code in sorted(errors.Code) if f"`{code}`" not in page]
    assert not missing
