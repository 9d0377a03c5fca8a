"""Whenever a worker dies, scorers keep a published bank, and the next worker finishes the job."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stream_ad.adapters.storage import Database
from stream_ad.domain.evaluation import Half
from stream_ad.domain.job import JobState
from stream_ad.services.heartbeat import STAGES
from stream_ad.services.worker import Worker
from tests import adaptation_kit as kit

ROOT = Path(__file__).parents[1]


def die_at(directory: Path, point: str) -> int:
    """Run a worker that dies there; its exit status."""
    command = [sys.executable, "-m", "tests.worker_to_kill", str(directory), point]
    return subprocess.run(command, cwd=ROOT, timeout=120, check=False).returncode


def _fall_silent(database: Database, clock: kit.HandClock) -> None:
    """Until every lease is over, and the last call too."""
    clock.sleep(3600)
    database.jobs.sweep(clock.now())
    clock.sleep(60)


def expected_hash(directory: Path) -> str:
    """The bank that workers make of screw and tile when none dies."""
    directory.mkdir()
    with kit.open_storage(directory) as database:
        kit.queue(database, "screw")
        kit.queue(database, "tile")
        Worker(kit.storage(database), kit.work(), kit.HandClock()).run(drain=True)
        return database.banks.load().sha256


@pytest.mark.parametrize("point", [*STAGES, "publishing", "published"])
def test_a_worker_killed_there_leaves_a_published_bank_and_the_next_one_finishes(tmp_path, point):
    with kit.open_storage(tmp_path) as database:
        kit.queue(database, "screw")
        Worker(kit.storage(database), kit.work(), kit.HandClock()).run(drain=True)
        job = kit.queue(database, "tile")
    assert die_at(tmp_path, point) == -9
    with kit.open_storage(tmp_path) as database:
        left = database.jobs.get(job.id)
        bank = database.banks.load()
        if point == "published":
            assert left.state is JobState.PUBLISHED
            assert list(bank.entries) == ["screw", "tile"]
        else:
            assert (left.state, left.worker, left.attempts) == (JobState.RUNNING, "victim", 1)
            assert (bank.version, list(bank.entries)) == (1, ["screw"])

        lease_is_over = kit.HandClock(datetime.now(UTC))
        _fall_silent(database, lease_is_over)
        Worker(kit.storage(database), kit.work(), lease_is_over, name="heir").run(drain=True)

        ended = database.jobs.get(job.id)
        assert (ended.state, ended.bank_version) == (JobState.PUBLISHED, 2)
        assert database.banks.load().sha256 == expected_hash(tmp_path / "undisturbed")
        for half in Half:
            assert [e.bank_version for e in database.evaluations.all(half)] == [1, 2]


def test_a_job_that_kills_every_worker_fails_after_its_attempts(tmp_path):
    with kit.open_storage(tmp_path) as database:
        job = kit.queue(database, "screw")
        clock = kit.HandClock(datetime.now(UTC))
        for _ in range(job.max_attempts - 1):
            _fall_silent(database, clock)
            assert database.jobs.claim("died too", "cpu", 60.0, clock.now()) is not None
    with kit.open_storage(tmp_path) as database:
        _fall_silent(database, clock)
        assert database.jobs.claim("last", "cpu", 60.0, clock.now()) is not None
        _fall_silent(database, clock)
        Worker(kit.storage(database), kit.work(), clock).run(drain=True)
        assert database.jobs.get(job.id).state is JobState.FAILED
        assert database.banks.active_version() == 0
