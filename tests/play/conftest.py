"""Bar files written by the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.play.played import Columns, bar_columns


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write columns as a Parquet file and answer its path."""

    def writer(columns: Columns | None = None, **changed: Any) -> Path:
        path = tmp_path / "bars.parquet"
        pq.write_table(pa.table({**(columns or bar_columns()), **changed}), path)
        return path

    return writer
