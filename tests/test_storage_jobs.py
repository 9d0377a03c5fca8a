# ruff: noqa: F811 (a fixture is imported, then named as an argument)

import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from storage_kit import NOON, after, claim, database, publish, queue, take_over, task, url  # noqa: F401

from stream_ad.adapters.storage import Database
from stream_ad.domain.job import JobKind, JobState
from stream_ad.errors import JobError, TaskExists, UnknownTask


def test_a_task_comes_with_its_queued_job(database: Database) -> None:
    job = queue(database)
    assert database.tasks.all() == [task()]
    assert database.tasks.get("nut") == task()
    assert (job.state, job.kind, job.task, job.attempts) == (JobState.QUEUED, JobKind.ADAPT, "nut", 0)
    assert database.jobs.get(job.id) == job
    assert job.payload == {"images": "/data/nut"}
    assert job.created_at == NOON


def test_a_task_is_added_once_and_its_job_with_it(database: Database) -> None:
    queue(database)
    with pytest.raises(TaskExists):
        queue(database)
    assert len(database.jobs.all()) == 1


def test_an_unknown_task_is_named_beside_those_there_are(database: Database) -> None:
    queue(database)
    with pytest.raises(UnknownTask, match="nut"):
        database.tasks.get("tile")


def test_the_oldest_job_is_claimed_first_and_a_running_one_not_again(database: Database) -> None:
    first, second = queue(database, "nut"), queue(database, "tile", after(1))
    running = claim(database)
    assert (running.id, running.attempts, running.worker, running.device) == (first.id, 1, "w1", "cpu")
    assert running.lease_until == after(60)
    assert running.progress == 0.0
    assert claim(database, "w2").id == second.id
    assert database.jobs.claim("w3", "cpu", 60.0, after(59)) is None


def test_a_heartbeat_keeps_the_lease(database: Database) -> None:
    queue(database)
    job = claim(database)
    assert database.jobs.heartbeat(job.id, "w1", 1, stage="adapt", progress=0.5, lease_s=60.0, at=after(50))
    assert database.jobs.claim("w2", "cpu", 60.0, after(100)) is None
    now = database.jobs.get(job.id)
    assert (now.stage, now.progress, now.heartbeat_at, now.lease_until) == ("adapt", 0.5, after(50), after(110))


def test_who_lost_the_lease_can_neither_go_on_nor_finish(database: Database) -> None:
    queue(database)
    job = claim(database)
    again = take_over(database, "w2", after(61))
    assert (again.id, again.attempts) == (job.id, 2)
    assert not database.jobs.heartbeat(job.id, "w1", 1, stage="adapt", progress=0.5, lease_s=60.0, at=after(92))
    assert not database.jobs.finish(job.id, "w1", 1, JobState.FAILED, "late", after(92))
    assert database.jobs.get(job.id).worker == "w2"
    assert database.jobs.finish(job.id, "w2", 2, JobState.REJECTED, "nut lost 0.02", after(93), "log")
    ended = database.jobs.get(job.id)
    assert (ended.state, ended.message, ended.log_tail, ended.finished_at) == (
        JobState.REJECTED,
        "nut lost 0.02",
        "log",
        after(93),
    )


def test_a_former_process_of_the_same_name_can_neither_go_on_nor_finish(database: Database) -> None:
    """In a container every worker is number 7 of the same host."""
    queue(database)
    job = claim(database)
    again = take_over(database, "w1", after(61))
    assert not database.jobs.heartbeat(job.id, "w1", 1, stage="adapt", progress=0.5, lease_s=600.0, at=after(92))
    assert not database.jobs.write_checkpoint(job.id, "w1", 1, {"entry": "of the former one"})
    assert not database.jobs.give_back(job.id, "w1", 1, after(92), counted=False)
    assert database.jobs.release(job.id, "w1", after(92), how="hung", attempt=1) is None
    assert not database.jobs.finish(job.id, "w1", 1, JobState.FAILED, "late", after(92))
    assert database.jobs.get(job.id) == again
    assert database.jobs.heartbeat(job.id, "w1", 2, stage="adapt", progress=0.5, lease_s=60.0, at=after(93))
    assert database.jobs.write_checkpoint(job.id, "w1", 2, {"entry": "its own"})
    assert database.jobs.give_back(job.id, "w1", 2, after(94), counted=False)


def test_a_worker_that_slept_goes_on_if_nobody_took_over(database: Database) -> None:
    queue(database)
    job = claim(database)
    assert database.jobs.heartbeat(job.id, "w1", 1, stage="adapt", progress=0.5, lease_s=60.0, at=after(500))


def test_a_job_that_lives_outlasts_an_outage_of_the_database(database: Database) -> None:
    """Nobody could prolong a lease for an hour; whoever is the first to be there again takes nothing from others."""
    queue(database)
    job = claim(database)
    assert database.jobs.claim("w2", "cpu", 60.0, after(3600)) is None
    assert database.jobs.sweep(after(3605)) == []
    assert database.jobs.place("w2", after(3700), after(3610)) is None
    assert database.jobs.heartbeat(job.id, "w1", 1, stage="adapt", progress=0.5, lease_s=60.0, at=after(3615))
    assert database.jobs.sweep(after(3674)) == []
    now = database.jobs.get(job.id)
    assert (now.state, now.worker, now.attempts, now.placed_until) == (JobState.RUNNING, "w1", 1, None)


def test_a_job_whose_worker_does_not_answer_is_taken_after_its_last_call(database: Database) -> None:
    queue(database)
    claim(database)
    assert database.jobs.claim("w2", "cpu", 60.0, after(60)) is None
    assert database.jobs.claim("w2", "cpu", 60.0, after(79)) is None
    assert claim(database, "w2", after(80)).attempts == 2


def test_a_short_lease_has_a_short_last_call(database: Database) -> None:
    queue(database)
    claim(database, lease_s=4.0)
    assert database.jobs.sweep(after(4)) == []
    [swept] = database.jobs.sweep(after(6))
    assert (swept.state, swept.placed_until) == (JobState.QUEUED, None)


def test_a_job_out_of_attempts_fails_instead_of_running_again(database: Database) -> None:
    job = queue(database)
    claim(database, "w0")
    for attempt in range(1, job.max_attempts):
        take_over(database, f"w{attempt}", after(100 * attempt))
    database.jobs.sweep(after(900))
    assert database.jobs.claim("w9", "cpu", 60.0, after(1000)) is None
    ended = database.jobs.get(job.id)
    assert ended.state is JobState.FAILED
    assert ended.finished_at == after(1000)
    assert "attempt" in (ended.message or "")


def test_a_queued_job_is_cancelled_at_once(database: Database) -> None:
    job = queue(database)
    assert database.jobs.cancel(job.id, after(1)).state is JobState.CANCELLED
    assert database.jobs.claim("w1", "cpu", 60.0, after(2)) is None
    with pytest.raises(JobError, match="cancelled already"):
        database.jobs.cancel(job.id, after(3))


def test_a_running_job_hears_of_its_end_at_the_next_heartbeat(database: Database) -> None:
    queue(database)
    job = claim(database)
    assert database.jobs.cancel(job.id, after(1)).cancel_requested
    assert not database.jobs.heartbeat(job.id, "w1", 1, stage="adapt", progress=0.1, lease_s=60.0, at=after(2))
    assert database.jobs.finish(job.id, "w1", 1, JobState.CANCELLED, "cancelled", after(3))


def test_a_cancelled_job_whose_worker_died_is_not_taken_up_again(database: Database) -> None:
    queue(database)
    job = claim(database)
    database.jobs.cancel(job.id, after(1))
    database.jobs.sweep(after(61))
    assert database.jobs.claim("w2", "cpu", 60.0, after(91)) is None
    assert database.jobs.get(job.id).state is JobState.CANCELLED


def test_a_failed_job_can_run_again_from_the_start(database: Database) -> None:
    queue(database)
    job = claim(database)
    database.jobs.finish(job.id, "w1", 1, JobState.FAILED, "no images", after(1), "log")
    again = database.jobs.requeue(job.id, after(2))
    assert (again.state, again.attempts, again.message, again.worker) == (JobState.QUEUED, 0, None, None)
    assert claim(database, "w2", after(3)).id == job.id


def test_open_and_successful_jobs_are_not_queued_again(database: Database) -> None:
    publish(database)
    with pytest.raises(JobError, match="is published"):
        database.jobs.requeue(1, NOON)
    job = queue(database, "tile")
    with pytest.raises(JobError, match="is queued"):
        database.jobs.requeue(job.id, NOON)
    claim(database)
    database.jobs.finish(job.id, "w1", 1, JobState.DONE, "nothing to patch", NOON)
    with pytest.raises(JobError, match="is done; only a failed, rejected or cancelled job"):
        database.jobs.requeue(job.id, NOON)


def test_only_a_bank_ends_a_job_as_published(database: Database) -> None:
    queue(database)
    job = claim(database)
    for state in (JobState.PUBLISHED, JobState.QUEUED, JobState.RUNNING):
        with pytest.raises(JobError):
            database.jobs.finish(job.id, "w1", 1, state, "", NOON)


def test_a_job_that_is_not_there_is_an_error(database: Database) -> None:
    with pytest.raises(JobError, match="no job 7"):
        database.jobs.get(7)


def claim_all(database: Database, worker: str) -> list[int]:
    claimed = []
    while (job := database.jobs.claim(worker, "cpu", 60.0, NOON)) is not None:
        claimed.append(job.id)
    return claimed


def claim_all_in_a_process(url: str, entries: Path, worker: str) -> list[int]:
    with Database(url, entries) as opened:
        return claim_all(opened, worker)


def test_threads_never_claim_one_job_twice(database: Database) -> None:
    jobs = [queue(database, f"task{number}").id for number in range(40)]
    together = threading.Barrier(4)

    def work(worker: str) -> list[int]:
        together.wait()
        return claim_all(database, worker)

    with ThreadPoolExecutor(4) as pool:
        claimed = [job for ids in pool.map(work, "abcd") for job in ids]
    assert sorted(claimed) == jobs


def test_processes_never_claim_one_job_twice(database: Database, url: str, tmp_path: Path) -> None:
    jobs = [queue(database, f"task{number}").id for number in range(40)]
    entries = tmp_path / "entries"
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(claim_all_in_a_process, url, entries, worker) for worker in "abc"]
        claimed = [job for future in futures for job in future.result(timeout=120)]
    assert sorted(claimed) == jobs


def test_one_task_never_has_two_open_jobs(database: Database) -> None:
    """Two people press "again" at once: one wins."""
    queue(database)
    job = claim(database)
    database.jobs.finish(job.id, "w1", 1, JobState.FAILED, "", NOON)
    together = threading.Barrier(2)

    def again(_: int) -> bool:
        together.wait()
        try:
            database.jobs.requeue(job.id, NOON)
        except JobError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(again, range(2))) == [False, True]
