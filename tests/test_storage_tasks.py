"""What the database promises of tasks: whose name is taken, which jobs they have, when they are retired."""

# ruff: noqa: F811 (a fixture is imported, then named as an argument)

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from storage_kit import NOON, after, claim, database, publish, queue, task, url  # noqa: F401

from stream_ad.adapters.storage import Database
from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.domain.task import TaskId
from stream_ad.errors import JobError, TaskExists, UnknownTask

NUT = TaskId("nut")


def retire(database: Database, name: str = "nut") -> int:
    database.tasks.queue(TaskId(name), JobKind.RETIRE, {}, NOON)
    job = claim(database)
    active = database.banks.load()
    version = database.banks.next_version()
    left = MemoryBank(version=version, entries={k: v for k, v in active.entries.items() if k != name})
    database.banks.publish(
        left, parent=active.version, job=job, worker="w1", evaluations=[], message="retired", at=NOON
    )
    return version


def test_a_task_of_the_active_bank_keeps_its_name(database: Database) -> None:
    publish(database)
    with pytest.raises(TaskExists, match="add-images nut"):
        queue(database)


def test_a_name_whose_job_failed_can_be_added_again_with_other_folders(database: Database) -> None:
    job = queue(database)
    claim(database)
    database.jobs.finish(job.id, "w1", 1, JobState.FAILED, "no pictures", NOON)
    again = database.tasks.add(
        replace(task(), class_name="hex nut", false_alarm_rate=0.01), JobKind.ADAPT, {"images": "/other"}, after(5)
    )
    assert again.payload == {"images": "/other"}
    assert (database.tasks.get("nut").class_name, database.tasks.get("nut").false_alarm_rate) == ("hex nut", 0.01)
    assert [job.state for job in database.jobs.all()] == [JobState.QUEUED, JobState.FAILED]


def test_a_name_with_an_open_job_is_taken(database: Database) -> None:
    queue(database)
    with pytest.raises(TaskExists, match="open job"):
        queue(database)
    assert database.tasks.get("nut").class_name == "metal nut"
    assert len(database.jobs.all()) == 1


def test_of_two_who_add_one_name_at_once_one_succeeds(database: Database) -> None:
    job = queue(database)
    claim(database)
    database.jobs.finish(job.id, "w1", 1, JobState.REJECTED, "", NOON)

    def add(_: int) -> Job | TaskExists:
        try:
            return queue(database)
        except TaskExists as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        came = list(pool.map(add, range(4)))
    assert sum(isinstance(one, Job) for one in came) == 1
    assert sum(job.state.open for job in database.jobs.all()) == 1


def test_a_retired_task_is_marked_and_its_name_comes_back(database: Database) -> None:
    publish(database)
    publish(database, "tile", seed=1)
    retire(database)
    assert database.tasks.retired() == {NUT}
    assert list(database.banks.load().entries) == ["tile"]
    queue(database)
    assert database.tasks.retired() == frozenset()


def test_a_rollback_to_a_bank_with_the_task_revives_it(database: Database) -> None:
    version = publish(database)
    retire(database)
    database.banks.use(version, who="me", reason="needed again", at=NOON)
    assert database.tasks.retired() == frozenset()
    with pytest.raises(TaskExists):
        queue(database)


def test_a_job_that_does_not_publish_retires_nothing(database: Database) -> None:
    publish(database)
    database.tasks.queue(NUT, JobKind.RETIRE, {}, NOON)
    job = claim(database)
    database.jobs.finish(job.id, "w1", 1, JobState.REJECTED, "", NOON)
    assert database.tasks.retired() == frozenset()


def test_a_known_task_has_one_open_job_at_a_time(database: Database) -> None:
    publish(database)
    first = database.tasks.queue(NUT, JobKind.READAPT, {"images": "/more"}, NOON)
    assert (first.kind, first.state, first.max_attempts) == (JobKind.READAPT, JobState.QUEUED, 3)
    with pytest.raises(JobError, match="task 'nut' has an open job already"):
        database.tasks.queue(NUT, JobKind.PATCH, {}, NOON)


def test_of_jobs_about_all_tasks_one_of_each_kind_is_open(database: Database) -> None:
    database.tasks.queue(None, JobKind.SQUEEZE, {"rows": 100}, NOON)
    database.tasks.queue(None, JobKind.EVALUATE, {}, NOON)
    with pytest.raises(JobError, match="a squeeze job is open already"):
        database.tasks.queue(None, JobKind.SQUEEZE, {"rows": 50}, NOON)


def test_a_job_of_no_known_task_is_not_queued(database: Database) -> None:
    with pytest.raises(UnknownTask):
        database.tasks.queue(TaskId("bolt"), JobKind.RETIRE, {}, NOON)
    assert database.jobs.all() == []
