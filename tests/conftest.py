"""Fixtures of more than one file. Nothing heavy is imported before it is used: every test waits for this file."""

import os
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import settings

# no law is a matter of time: machines under load would break it now and then
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# one thread per test process: parallel workers, and the processes that tests start, would fight for the cores
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_xdist_auto_num_workers() -> int:
    """More than cores: half of the time a test waits for a broker, a database or a process of its own."""
    cores = len(os.sched_getaffinity(0))
    return max(cores, min(2 * cores, 8))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test first: begun as the last one it would be waited for alone."""
    items.sort(key=lambda item: item.get_closest_marker("needs_ray") is None)


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


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a PostgreSQL server that all processes of the test run share."""
    from tests.postgres import postgres

    mine = tmp_path_factory.getbasetemp()
    with postgres((mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine) / "postgres") as address:
        yield address


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    """A database of ours with nothing in it; a copy is made five times as fast as another one."""
    from stream_ad.adapters.database import open_database
    from tests.postgres import database_of

    with database_of(postgres_server) as url:
        open_database(url, create=True).dispose()
        yield url


@pytest.fixture
def empty_postgres(postgres_server: str) -> Iterator[str]:
    """Address of a database without tables."""
    from tests.postgres import database_of

    with database_of(postgres_server) as url:
        yield url


@pytest.fixture
def ready_postgres(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """Address of a database of ours with nothing in it."""
    from tests.postgres import database_of

    with database_of(postgres_server, postgres_template) as url:
        yield url
