"""Fixtures shared by the service tests: one real Valkey for the session, and the application."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.embedded import EmbeddedValkey
from tests.service.api import Api


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    data_dir: Path = tmp_path_factory.mktemp("valkey")
    with EmbeddedValkey(data_dir) as server:
        yield server


@pytest.fixture
def api() -> Iterator[Api]:
    """A fresh service in process."""
    with Api() as started:
        yield started
