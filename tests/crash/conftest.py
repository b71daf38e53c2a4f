"""Fixtures of the crash tests: one warm parent for all processes of the service."""

from collections.abc import Iterator

import pytest

from tests.crash.nursery import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    with Nursery() as warm:
        yield warm
