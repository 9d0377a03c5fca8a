"""Fixtures of more than one file. Nothing heavy is imported before it is used: every test waits for this file."""

import os
import uuid
from collections.abc import Iterator

import pytest

# one thread per test process: parallel workers, and the processes that tests start, would fight for the cores
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def bootstrap() -> Iterator[str]:
    """Address of a broker that lives as long as the test run."""
    from tests.broker import broker

    with broker() as address:
        yield address


@pytest.fixture
def topic(bootstrap: str) -> str:
    """A new topic of one partition."""
    from tests.broker import create_topic

    name = f"images-{uuid.uuid4().hex[:12]}"
    create_topic(bootstrap, name)
    return name
