"""``python -m service.models``: which versions of the models there are, and which is current.

Imports manifest and onnx_policy. A running service sees a change within a second, loads and warms
what is new aside and then swaps; to roll back is to use an earlier version again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from service import manifest
from service.files import locked
from service.manifest import ModelRefused
from service.onnx_policy import load_row


def use(models_dir: Path, name: str, version: str) -> None:
    """Make a listed version current, if the service would take it; raises ModelRefused."""
    with locked(models_dir):
        after = manifest.read(models_dir, using={name: version})
        load_row(models_dir, after.row(name, version))
        manifest.write(models_dir, after)


def drop(models_dir: Path, name: str, version: str) -> None:
    """Take a version that is not current away, with its file; raises ModelRefused."""
    with locked(models_dir):
        listed = manifest.read(models_dir)
        file = listed.row(name, version)["file"]
        left = listed.without(name, version)
        manifest.write(models_dir, left)
        if all(row["file"] != file for row in left.rows.values()):
            with suppress(FileNotFoundError):
                (models_dir / file).unlink()


def listed(models_dir: Path) -> list[str]:
    """One line for each version, the current one of each name marked."""
    held = manifest.read(models_dir)
    return [
        f"{name}@{version}  {row['file']}{'  current' if held.current[name] == version else ''}"
        for (name, version), row in held.rows.items()
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(argv)
    try:
        if options.command == "use":
            use(options.folder, options.name, options.version)
        elif options.command == "drop":
            drop(options.folder, options.name, options.version)
        sys.stdout.writelines(f"{line}\n" for line in listed(options.folder))
    except (ModelRefused, OSError) as error:
        sys.stderr.write(f"service.models: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service.models", description=__doc__)
    default = Path(os.environ.get("CONCORD_MODELS_DIR", "models"))
    parser.add_argument("--folder", type=Path, default=default, help="models folder (%(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    for command, told in (
        ("use", "make a version current, for days that are opened from now on"),
        ("drop", "take away a version that is not current"),
    ):
        made = commands.add_parser(command, help=told)
        made.add_argument("name", help="name of the model")
        made.add_argument("version", help="its version, 12 hexadecimal digits")
    commands.add_parser("list", help="names, versions and files")
    return parser


if __name__ == "__main__":
    sys.exit(main())
