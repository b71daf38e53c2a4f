"""Fixtures of the client's tests: both clients on the application in process."""

from collections.abc import Iterator

import pytest

from tests.client.wires import Line, Wire
from tests.service.api import Api


@pytest.fixture
def api() -> Iterator[Api]:
    """A fresh service in process."""
    with Api() as started:
        yield started


@pytest.fixture(params=["sync", "async"])
def connect(api: Api, request: pytest.FixtureRequest) -> Line:
    """Makes clients: ``connect(*faults)``."""
    return Line(api, request.param, Wire(api, ()))
