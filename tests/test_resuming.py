"""What an attempt had finished is not done again, and a job that hangs is let go."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream_ad.adapters.clock import SystemClock
from stream_ad.adapters.storage import Database
from stream_ad.domain.job import JobState
from stream_ad.services.worker import Worker
from tests import adaptation_kit as kit


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with kit.open_storage(tmp_path) as opened:
        yield opened


class Learning:
    """Learns, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, *arguments: Any) -> Any:
        self.times += 1
        return kit.learned(*arguments)


def attempt(database: Database, learning: Learning, *, dies: bool, **changes: Any) -> None:
    """One attempt at the queue's job, which dies while it is judged, or does not."""

    def evaluated(*arguments: Any) -> Any:
        if dies:
            raise RuntimeError("died, because a test says so")
        return kit.perfect(*arguments)

    work = kit.work(learn=learning, evaluate=evaluated, **changes)
    worker = Worker(kit.storage(database), work, kit.HandClock(), name="w")
    job = database.jobs.claim("w", "cpu", 60.0, kit.NOON)
    assert job is not None
    worker.do(job)


PROGRAM = {"code": "0", "features": "tiny", "configuration": "abc", "device": "cpu", "threads": 1}


@pytest.mark.parametrize(
    ("then", "times"),
    [
        (PROGRAM, 1),
        (PROGRAM | {"device": "cuda:1", "threads": 8}, 1),
        (PROGRAM | {"code": "1"}, 2),
        (PROGRAM | {"configuration": "other"}, 2),
        (PROGRAM | {"features": "ViT-B-16"}, 2),
    ],
    ids=["the same", "another machine", "another version", "other settings", "another backbone"],
)
def test_what_was_learned_is_taken_over_when_the_same_would_be_learned(database, then, times):
    job, learning = kit.queue(database, "screw"), Learning()
    attempt(database, learning, dies=True, provenance=PROGRAM)
    attempt(database, learning, dies=False, provenance=then)
    assert database.jobs.get(job.id).state is JobState.PUBLISHED
    assert learning.times == times


def test_what_was_learned_from_other_pictures_is_not_taken_over(database):
    """Somebody put pictures into the folder between two attempts."""
    job, learning = kit.queue(database, "screw"), Learning()
    attempt(database, learning, dies=True)

    def more(task: Any, payload: Any) -> Any:
        return kit.pictures(task, {**payload, "images": "screw with more"})

    attempt(database, learning, dies=False, read=more)
    assert database.jobs.get(job.id).state is JobState.PUBLISHED
    assert learning.times == 2


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"not an entry")], ids=["gone", "torn"])
def test_a_stored_entry_that_is_not_to_be_had_is_learned_again(database, tmp_path, damage):
    job, learning = kit.queue(database, "screw"), Learning()
    attempt(database, learning, dies=True)
    (file,) = (path for path in (tmp_path / "entries").rglob("*") if path.is_file())
    damage(file)
    attempt(database, learning, dies=False)
    assert database.jobs.get(job.id).state is JobState.PUBLISHED
    assert learning.times == 2


def test_a_job_that_is_asked_for_again_takes_over_what_was_learned_and_keeps_its_log(database):
    job, learning = kit.queue(database, "screw"), Learning()
    for _ in range(job.max_attempts):
        attempt(database, learning, dies=True)
    assert database.jobs.get(job.id).state is JobState.FAILED
    database.jobs.requeue(job.id, kit.NOON)
    attempt(database, learning, dies=False)
    ended = database.jobs.get(job.id)
    assert (ended.state, learning.times) == (JobState.PUBLISHED, 1)
    assert (ended.log_tail or "").count("died, because a test says so") >= job.max_attempts


def test_a_job_without_progress_is_let_go_and_counts_as_an_attempt(database):
    job = kit.queue(database, "screw")

    def hangs(task: Any, images: Any, payload: Any, progress: Any) -> Any:
        while "told no progress" not in (database.jobs.get(job.id).log_tail or ""):
            time.sleep(0.01)
        return kit.learned(task, images, payload, progress)

    worker = Worker(kit.storage(database), kit.work(learn=hangs), SystemClock(), name="w", lease_s=1.0, silent_s=0.001)
    assert worker.run_one(job.id) is None
    now = database.jobs.get(job.id)
    assert (now.state, now.attempts) == (JobState.QUEUED, 1)
    assert now.message == "attempt 1: it made no progress for too long"
