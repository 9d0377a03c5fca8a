# ruff: noqa: F811 (a fixture is imported, then named as an argument)
"""A job is placed for one worker at a time, and freed when that worker is no more; on every database."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from storage_kit import NOON, after, claim, database, queue, url  # noqa: F401

from stream_ad.adapters.storage import Database
from stream_ad.domain.job import JobState
from stream_ad.errors import JobError


def test_a_placed_job_waits_for_its_worker_alone(database: Database) -> None:
    job = queue(database)
    placed = database.jobs.place("w1", after(60), NOON)
    assert placed is not None
    assert (placed.id, placed.state, placed.worker, placed.placed_until) == (job.id, JobState.QUEUED, "w1", after(60))
    assert database.jobs.place("w2", after(60), NOON) is None
    assert database.jobs.claim("w2", "cpu", 60.0, after(59)) is None
    assert database.jobs.claim("w2", "cpu", 60.0, after(59), job_id=job.id) is None
    mine = database.jobs.claim("w1", "cpu", 60.0, after(59), job_id=job.id)
    assert mine is not None
    assert (mine.state, mine.attempts, mine.placed_until) == (JobState.RUNNING, 1, None)


def test_a_placed_job_that_nobody_took_in_time_is_free(database: Database) -> None:
    queue(database)
    database.jobs.place("w1", after(60), NOON)
    again = database.jobs.place("w2", after(120), after(60))
    assert again is not None
    assert again.worker == "w2"
    assert not database.jobs.keep_placed(again.id, "w1", after(180))
    assert database.jobs.keep_placed(again.id, "w2", after(180))
    assert database.jobs.claim("w3", "cpu", 60.0, after(179)) is None
    assert claim(database, "w3", after(180)).id == again.id


def test_a_job_is_claimed_by_its_number_or_not_at_all(database: Database) -> None:
    queue(database, "nut")
    second = queue(database, "tile", after(1))
    assert database.jobs.claim("w1", "cpu", 60.0, NOON, job_id=second.id).id == second.id  # type: ignore[union-attr]
    assert database.jobs.claim("w2", "cpu", 60.0, NOON, job_id=second.id) is None


def test_a_dead_worker_frees_at_once_what_it_had_and_the_log_tells_how_it_died(database: Database) -> None:
    queue(database)
    job = claim(database)
    database.jobs.write_log(job.id, "w1", 1, "learning")
    assert database.jobs.release(job.id, "w2", after(1), how="killed") is None
    free = database.jobs.release(job.id, "w1", after(1), how="killed by SIGKILL\nlast words")
    assert free is not None
    assert (free.state, free.attempts, free.worker, free.lease_until) == (JobState.QUEUED, 1, None, None)
    assert free.message == "attempt 1: killed by SIGKILL"
    assert free.log_tail == "learning\nattempt 1: killed by SIGKILL\nlast words"
    assert database.jobs.release(job.id, "w1", after(2), how="killed") is None
    assert claim(database, "w2", after(2)).attempts == 2


def test_a_worker_that_died_before_it_took_its_job_costs_no_attempt(database: Database) -> None:
    job = queue(database)
    database.jobs.place("w1", after(60), NOON)
    free = database.jobs.release(job.id, "w1", after(1), how="killed by SIGKILL")
    assert free is not None
    assert (free.state, free.attempts, free.placed_until) == (JobState.QUEUED, 0, None)
    assert database.jobs.place("w2", after(60), after(1)) is not None


def test_the_last_attempt_that_dies_fails_the_job_and_says_why(database: Database) -> None:
    job = queue(database)
    for attempt in range(job.max_attempts):
        claim(database, f"w{attempt}")
        database.jobs.release(job.id, f"w{attempt}", NOON, how="killed by SIGKILL: memory ran out")
    ended = database.jobs.get(job.id)
    assert (ended.state, ended.attempts, ended.finished_at) == (JobState.FAILED, 3, NOON)
    assert "memory ran out" in (ended.message or "")
    with pytest.raises(JobError, match="is failed"):
        database.jobs.cancel(job.id, NOON)


def test_a_cancelled_job_whose_worker_died_is_cancelled_at_once(database: Database) -> None:
    queue(database)
    job = claim(database)
    database.jobs.cancel(job.id, after(1))
    ended = database.jobs.release(job.id, "w1", after(2), how="killed")
    assert ended is not None
    assert (ended.state, ended.cancel_requested) == (JobState.CANCELLED, False)


def test_a_worker_that_ended_in_order_but_could_not_say_so_costs_no_attempt(database: Database) -> None:
    queue(database)
    job = claim(database)
    free = database.jobs.release(job.id, "w1", after(1), how=None)
    assert free is not None
    assert (free.state, free.attempts, free.message) == (JobState.QUEUED, 0, None)


def test_jobs_of_a_machine_that_is_gone_are_found_by_a_sweep(database: Database) -> None:
    names = ("nut", "tile", "pill")
    for name in names:
        queue(database, name)
    taken = [claim(database, f"w {name}") for name in names]
    database.jobs.cancel(taken[1].id, after(1))
    database.jobs.heartbeat(taken[2].id, "w pill", 1, stage="adapt", progress=0.5, lease_s=60.0, at=after(50))
    assert database.jobs.sweep(after(59)) == []
    assert database.jobs.sweep(after(60)) == []
    swept = database.jobs.sweep(after(80))
    assert [(job.id, job.state) for job in swept] == [(1, JobState.QUEUED), (2, JobState.CANCELLED)]
    assert "silent" in (swept[0].message or "")
    assert database.jobs.get(3).state is JobState.RUNNING
    assert not database.jobs.heartbeat(1, "w nut", 1, stage="adapt", progress=0.5, lease_s=60.0, at=after(81))


def test_the_log_is_kept_also_after_the_end_but_not_of_an_attempt_that_is_over(database: Database) -> None:
    queue(database)
    job = claim(database)
    database.jobs.finish(job.id, "w1", 1, JobState.FAILED, "no images", after(1))
    assert database.jobs.write_log(job.id, "w1", 1, "the end")
    assert database.jobs.get(job.id).log_tail == "the end"
    database.jobs.requeue(job.id, after(2))
    claim(database, "w2", after(3))
    assert not database.jobs.write_log(job.id, "w1", 1, "late")


def test_a_log_is_bounded_by_its_end(database: Database) -> None:
    queue(database)
    job = claim(database)
    database.jobs.write_log(job.id, "w1", 1, "x" * 1_000_000 + "the end")
    log = database.jobs.get(job.id).log_tail or ""
    assert len(log) <= 40_000
    assert log.endswith("the end")


def test_what_is_finished_outlives_attempts_and_is_written_by_the_holder_alone(database: Database) -> None:
    queue(database)
    job = claim(database)
    assert database.jobs.write_checkpoint(job.id, "w1", 1, {"entry": {"sha256": "00"}})
    assert database.jobs.write_checkpoint(job.id, "w1", 1, {"more": 1})
    assert not database.jobs.write_checkpoint(job.id, "w2", 1, {"entry": None})
    database.jobs.release(job.id, "w1", after(1), how="killed")
    again = claim(database, "w2", after(2))
    assert again.checkpoint == {"entry": {"sha256": "00"}, "more": 1}
    assert not database.jobs.write_checkpoint(job.id, "w1", 1, {"entry": None})


def test_threads_never_place_one_job_twice(database: Database) -> None:
    jobs = [queue(database, f"task{number}").id for number in range(20)]
    together = threading.Barrier(4)

    def place(worker: str) -> list[int]:
        together.wait()
        placed = []
        while (job := database.jobs.place(f"{worker}{len(placed)}", after(60), NOON)) is not None:
            placed.append(job.id)
        return placed

    with ThreadPoolExecutor(4) as pool:
        assert sorted(job for ids in pool.map(place, "abcd") for job in ids) == jobs


def test_a_process_and_whoever_takes_its_job_for_lost_never_both_have_it(database: Database) -> None:
    """The lease runs out in the very moment in which its holder dies: one release counts, one attempt."""
    queue(database)
    job = claim(database)
    together = threading.Barrier(3)

    def free(number: int) -> bool:
        together.wait()
        match number:
            case 0:
                return database.jobs.release(job.id, "w1", after(61), how="killed") is not None
            case 1:
                return bool(database.jobs.sweep(after(61)))
            case _:
                return database.jobs.place("w2", after(120), after(61)) is not None

    with ThreadPoolExecutor(3) as pool:
        freed = list(pool.map(free, range(3)))
    now = database.jobs.get(job.id)
    assert (now.state, now.attempts) == (JobState.QUEUED, 1)
    assert freed[:2] != [True, True]
