# ruff: noqa: F811 (a fixture is imported, then named as an argument)

import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from storage_kit import NOON, after, claim, database, entry, evaluation, publish, queue, take_over, url  # noqa: F401

from stream_ad.adapters.storage import Database
from stream_ad.domain.evaluation import Evaluation, Half
from stream_ad.domain.job import Job, JobState
from stream_ad.domain.task import TaskId
from stream_ad.errors import BankError, JobError


def test_a_new_database_has_the_empty_bank(database: Database) -> None:
    assert database.banks.active_version() == 0
    assert len(database.banks.load()) == 0
    assert database.banks.versions() == []
    assert database.banks.next_version() == 1


def test_a_published_bank_is_active_with_its_scores_and_its_job_ended(database: Database) -> None:
    publish(database)
    assert database.banks.active_version() == 1
    assert list(database.banks.load().entries) == ["nut"]
    job = database.jobs.all()[0]
    assert (job.state, job.bank_version, job.message) == (JobState.PUBLISHED, 1, "learned nut")
    assert job.lease_until is None
    [measured] = database.evaluations.all(Half.REGRESSION)
    assert measured.published
    [version] = database.banks.versions()
    assert version["parent"] == 0
    assert version["task"] == "nut"
    assert version["active"]
    assert version["created_at"] == NOON


def test_an_untouched_entry_is_the_same_in_the_next_version(database: Database) -> None:
    publish(database, "nut")
    publish(database, "tile", seed=1)
    first, second = database.banks.load(1), database.banks.load(2)
    assert list(second.entries) == ["nut", "tile"]
    assert first.entry("nut").sha256 == second.entry("nut").sha256


def attempt(database: Database, job: Job, **changes: Any) -> None:
    assert job.task is not None
    bank = database.banks.load().with_entry(database.entries.put(entry(job.task)), changes.pop("version", 1))
    arguments = {"parent": 0, "job": job, "worker": "w1", "evaluations": [], "message": "", "at": NOON} | changes
    database.banks.publish(bank, **arguments)


def assert_nothing_published(database: Database) -> None:
    assert database.banks.active_version() == 0
    assert database.banks.versions() == []
    assert database.evaluations.all(Half.REGRESSION) == []


def test_a_bank_made_from_an_old_version_is_not_published(database: Database) -> None:
    queue(database, "tile", after(1))
    publish(database, "nut")
    late = claim(database)
    with pytest.raises(BankError, match="version 1 is active"):
        attempt(database, late, version=2, parent=0)
    assert database.banks.active_version() == 1
    assert database.jobs.get(late.id).state is JobState.RUNNING


def test_a_version_number_is_given_once(database: Database) -> None:
    publish(database, "nut")
    database.banks.use(0, who="ann", reason="too many alarms", at=NOON)
    queue(database, "tile")
    with pytest.raises(BankError, match="version 1 is taken"):
        attempt(database, claim(database), version=1, parent=0)
    assert database.banks.next_version() == 2


@pytest.mark.parametrize("loss", ["claimed by another", "claimed again by the same", "cancelled", "ended"])
def test_a_lost_lease_publishes_nothing(database: Database, loss: str) -> None:
    queue(database)
    job = claim(database)
    if loss == "cancelled":
        database.jobs.cancel(job.id, NOON)
    elif loss == "ended":
        database.jobs.finish(job.id, "w1", 1, JobState.FAILED, "out of memory", NOON)
    else:
        take_over(database, "w2" if loss == "claimed by another" else "w1", after(61))
    with pytest.raises(JobError, match="nothing was published"):
        attempt(database, job, evaluations=[evaluation("nut", job_id=job.id)])
    assert_nothing_published(database)


def test_scores_that_cannot_be_saved_undo_the_publication(database: Database) -> None:
    queue(database)
    job = claim(database)

    def breaks_off() -> Any:
        yield evaluation("nut", job_id=job.id)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        attempt(database, job, evaluations=breaks_off())
    assert_nothing_published(database)
    assert database.jobs.get(job.id).state is JobState.RUNNING


def kills_itself() -> Iterator[Evaluation]:
    os.kill(os.getpid(), signal.SIGKILL)
    yield from ()


def publish_and_die(url: str, entries: Path, job: Job) -> None:
    with Database(url, entries) as opened:
        attempt(opened, job, evaluations=kills_itself())


def test_a_worker_killed_while_publishing_leaves_nothing_and_the_next_one_publishes(
    database: Database, url: str, tmp_path: Path
) -> None:
    queue(database)
    worker = multiprocessing.get_context("spawn").Process(
        target=publish_and_die, args=(url, tmp_path / "entries", claim(database))
    )
    worker.start()
    worker.join(timeout=120)
    assert worker.exitcode == -signal.SIGKILL
    assert_nothing_published(database)
    attempt(database, take_over(database, "w2", after(61)), worker="w2")
    assert list(database.banks.load().entries) == ["nut"]


def test_of_two_workers_that_publish_at_once_one_must_evaluate_again(database: Database) -> None:
    queue(database, "nut")
    queue(database, "tile")
    jobs = [claim(database, "w1"), claim(database, "w2")]
    together = threading.Barrier(2)

    def work(job: Job) -> str:
        together.wait()
        try:
            attempt(database, job, worker=job.worker)
        except BankError as error:
            return str(error)
        return "published"

    with ThreadPoolExecutor(2) as pool:
        told = sorted(pool.map(work, jobs), key="published".__ne__)
    assert told[0] == "published"
    assert "evaluate again" in told[1]
    assert len(database.banks.versions()) == 1
    assert sorted(job.state for job in database.jobs.all()) == [JobState.PUBLISHED, JobState.RUNNING]


def test_an_entry_must_be_stored_before_it_is_published(database: Database) -> None:
    queue(database)
    bank = database.banks.load().with_entry(entry(), 1)
    with pytest.raises(BankError, match="must be stored"):
        database.banks.publish(bank, parent=0, job=claim(database), worker="w1", evaluations=[], message="", at=NOON)


def test_a_rollback_is_a_number_with_a_name_and_a_reason(database: Database) -> None:
    publish(database, "nut")
    publish(database, "tile", seed=1)
    before = database.banks.generation()
    database.banks.use(1, who="ann", reason="false alarms", at=after(5))
    assert database.banks.active_version() == 1
    assert database.banks.generation() == before + 1
    assert database.banks.next_version() == 3
    row = database.audit.recent(1)[0]
    assert (row["who"], row["action"], row["subject"], row["reason"]) == ("ann", "use", "bank 1", "false alarms")
    assert row["details"]["before"] == 2
    assert row["at"] == after(5)
    publish(database, "cloth", seed=2)
    assert list(database.banks.load().entries) == ["cloth", "nut"]
    assert database.banks.versions()[-1]["parent"] == 1


def test_a_version_that_was_never_published_cannot_be_loaded_or_used(database: Database) -> None:
    for refused in (lambda: database.banks.load(7), lambda: database.banks.use(7, who="a", reason="b", at=NOON)):
        with pytest.raises(BankError, match="no bank version 7"):
            refused()


def test_a_bank_whose_entry_file_is_gone_says_so(database: Database) -> None:
    publish(database)
    database.entries.path(database.banks.load().entry("nut").sha256).unlink()
    with pytest.raises(BankError, match="backup"):
        database.banks.load()


def same(a: Evaluation, b: Evaluation) -> bool:
    """Equal, NaN in the same places."""
    return repr(a) == repr(b) and [repr(list(t.outcomes)) for t in a.tasks.values()] == [
        repr(list(t.outcomes)) for t in b.tasks.values()
    ]


def test_evaluations_come_back_as_they_were_with_nan_and_in_order(database: Database) -> None:
    publish(database, "tile")
    publish(database, "nut")
    saved = evaluation("tile", "nut", version=2, half=Half.TEST)
    database.evaluations.save(saved)
    [loaded] = database.evaluations.all(Half.TEST)
    assert same(loaded, saved)
    assert math.isnan(loaded.tasks[TaskId("nut")].oracle["pixel_pro"])
    assert list(loaded.tasks) == ["tile", "nut"]


def test_a_job_that_runs_again_replaces_what_it_measured(database: Database) -> None:
    queue(database)
    job = claim(database)
    database.evaluations.save(evaluation("nut", job_id=job.id, published=False))
    database.evaluations.save(replace(evaluation("nut", job_id=job.id, published=False), at=after(9)))
    [kept] = database.evaluations.all(Half.REGRESSION)
    assert kept.at == after(9)
    assert not kept.published
    database.evaluations.save(evaluation("nut", version=2, job_id=job.id))  # another job published meanwhile
    [kept] = database.evaluations.all(Half.REGRESSION)
    assert kept.bank_version == 2
    database.evaluations.save(evaluation("nut"))
    database.evaluations.save(evaluation("nut"))
    assert len(database.evaluations.all(Half.REGRESSION)) == 3
