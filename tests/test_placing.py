"""A worker starts a process for each job, and whatever becomes of that process, the job comes to its right end."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stream_ad.adapters.clock import SystemClock
from stream_ad.adapters.local_executor import LocalExecutor
from stream_ad.adapters.storage import Database
from stream_ad.domain.job import Ended, Job, JobState
from stream_ad.errors import JobError, Unavailable
from stream_ad.services import placing
from stream_ad.services.placing import Placing
from stream_ad.services.worker import Worker
from tests import adaptation_kit as kit

LIMIT_S = 120.0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with kit.open_storage(tmp_path) as opened:
        yield opened


class HandExecutor:
    """Processes that do what a test says."""

    def __init__(self, slots: int = 1) -> None:
        self.slots = slots
        self.running: dict[str, Job] = {}
        self.placed: list[tuple[int, str]] = []
        self.killed: list[str] = []
        self.away = self.closed = self.stopped = False
        self._gone: list[Ended] = []

    def free(self) -> int:
        return self.slots - len(self.running)

    def place(self, job: Job, worker: str) -> None:
        if self.away:
            raise Unavailable("no process can be started, because a test says so")
        self.running[worker] = job
        self.placed.append((job.id, worker))

    def end(self, worker: str, how: str | None = None) -> None:
        self._gone.append(Ended(self.running.pop(worker).id, worker, how))

    def ended(self) -> list[Ended]:
        gone, self._gone = self._gone, []
        return gone

    def stop(self) -> None:
        self.stopped = True
        for worker in list(self.running):
            self.end(worker)

    def kill(self, worker: str) -> None:
        self.killed.append(worker)
        if worker in self.running:
            self.end(worker, "killed")

    def close(self) -> None:
        self.closed = True


class Steps:
    """A worker whose rounds a test takes one by one."""

    def __init__(self, database: Database, executor: HandExecutor) -> None:
        self.clock, self.executor, self.done = kit.HandClock(), executor, list[Job]()
        self.jobs = database.jobs
        self.placing = Placing(database.jobs, executor, self.clock, name="w", ended=self.done.append)

    def round(self, after_s: float = 0.0) -> None:
        self.clock.sleep(after_s)
        self.placing._bury()
        self.placing._look_after()
        self.placing._place()

    def claim(self, worker: str) -> Job:
        job_id = self.executor.running[worker].id
        job = self.jobs.claim(worker, "cpu", 60.0, self.clock.now(), job_id=job_id)
        assert job is not None
        return job

    @property
    def worker(self) -> str:
        """The latest that was placed."""
        return self.executor.placed[-1][1]


@pytest.fixture
def steps(database: Database) -> Steps:
    return Steps(database, HandExecutor())


def test_a_job_is_placed_once_and_its_process_alone_may_take_it(steps, database):
    job = kit.queue(database, "screw")
    steps.round()
    steps.round()
    assert [number for number, _ in steps.executor.placed] == [job.id]
    assert database.jobs.claim("another", "cpu", 60.0, steps.clock.now()) is None
    assert steps.claim(steps.worker).state is JobState.RUNNING


def test_as_many_jobs_run_at_a_time_as_there_are_slots(database):
    for name in ("screw", "tile", "nut"):
        kit.queue(database, name)
    steps = Steps(database, HandExecutor(slots=2))
    steps.round()
    assert [number for number, _ in steps.executor.placed] == [1, 2]
    steps.claim(steps.worker)
    database.jobs.finish(2, steps.worker, 1, JobState.FAILED, "no pictures", steps.clock.now())
    steps.executor.end(steps.worker)
    steps.round()
    assert [number for number, _ in steps.executor.placed] == [1, 2, 3]
    assert [job.id for job in steps.done] == [2]


def test_no_name_is_given_twice_whatever_the_number_of_the_process(steps, database):
    kit.queue(database, "screw")
    other = Steps(database, HandExecutor())
    steps.round()
    steps.executor.end(steps.worker, "died")
    steps.round()
    other.round(after_s=0.0)
    steps.round(after_s=3600.0)
    names = [name for _, name in steps.executor.placed + other.executor.placed]
    assert len(set(names)) == len(names)


def test_a_placed_job_is_kept_for_its_process_however_slowly_it_starts(steps, database):
    kit.queue(database, "screw")
    steps.round()
    for _ in range(10):
        steps.round(after_s=50.0)
    assert database.jobs.claim("another", "cpu", 60.0, steps.clock.now()) is None
    assert len(steps.executor.placed) == 1


def test_a_process_that_never_takes_its_job_is_ended(steps, database):
    job = kit.queue(database, "screw")
    steps.round()
    first = steps.worker
    steps.round(after_s=3700.0)
    assert steps.executor.killed == [first]
    steps.round()
    assert database.jobs.get(job.id).attempts == 0
    steps.round(after_s=60.0)
    assert len(steps.executor.placed) == 2


def test_a_job_whose_process_died_is_done_at_once_by_another_and_the_log_tells_how(steps, database):
    job = kit.queue(database, "screw")
    steps.round()
    steps.claim(steps.worker)
    steps.executor.end(steps.worker, "killed by SIGSEGV\nFatal Python error: Segmentation fault")
    steps.round()
    now = database.jobs.get(job.id)
    assert (now.state, now.attempts, now.message) == (JobState.QUEUED, 1, "attempt 1: killed by SIGSEGV")
    assert "Fatal Python error" in (now.log_tail or "")
    assert len(steps.executor.placed) == 2
    assert steps.claim(steps.worker).attempts == 2


def test_a_job_that_kills_every_process_fails_after_its_attempts_and_the_next_one_runs(steps, database):
    job, next_job = kit.queue(database, "screw"), kit.queue(database, "tile")
    for _ in range(job.max_attempts):
        steps.round()
        steps.claim(steps.worker)
        steps.executor.end(steps.worker, "killed by SIGKILL")
    steps.round()
    ended = database.jobs.get(job.id)
    assert ended.state is JobState.FAILED
    assert "killed by SIGKILL" in (ended.message or "")
    assert [each.id for each in steps.done] == [job.id]
    assert steps.executor.placed[-1][0] == next_job.id


def test_a_job_that_was_given_back_is_placed_again_without_counting(steps, database):
    job = kit.queue(database, "screw")
    steps.round()
    steps.claim(steps.worker)
    database.jobs.give_back(job.id, steps.worker, 1, steps.clock.now(), counted=False)
    steps.executor.end(steps.worker)
    steps.round()
    assert len(steps.executor.placed) == 1  # what is away may still be away
    steps.round(after_s=1)
    assert len(steps.executor.placed) == 2
    assert database.jobs.get(job.id).attempts == 0
    assert steps.done == []


def test_a_process_that_could_not_write_that_it_gave_its_job_back_costs_no_attempt(steps, database):
    """The database was away to the end."""
    job = kit.queue(database, "screw")
    steps.round()
    steps.claim(steps.worker)
    steps.executor.end(steps.worker)
    steps.round()
    now = database.jobs.get(job.id)
    assert (now.state, now.attempts, now.message) == (JobState.QUEUED, 0, None)


def test_a_cancelled_job_that_does_not_stop_is_ended_by_force(steps, database):
    job = kit.queue(database, "screw")
    steps.round()
    steps.claim(steps.worker)
    database.jobs.cancel(job.id, steps.clock.now())
    steps.round()
    steps.round(after_s=placing.GRACE_S - 1)
    assert steps.executor.killed == []
    steps.round(after_s=2)
    steps.round()
    assert steps.executor.killed == [steps.worker]
    assert database.jobs.get(job.id).state is JobState.CANCELLED
    assert [each.state for each in steps.done] == [JobState.CANCELLED]


def test_a_process_whose_lease_ran_out_is_ended_and_its_job_done_again(steps, database):
    job = kit.queue(database, "screw")
    steps.round()
    steps.claim(steps.worker)
    steps.round(after_s=61)
    steps.round(after_s=placing.GRACE_S)
    steps.round()
    assert len(steps.executor.killed) == 1
    assert database.jobs.get(job.id).attempts == 1
    assert len(steps.executor.placed) == 2


def test_a_process_whose_job_was_swept_while_it_was_killed_is_not_told_as_one_that_did_not_start(
    steps, database, caplog
):
    job = kit.queue(database, "screw")
    steps.round()
    steps.claim(steps.worker)
    for after_s in (61, 20):  # the scheduler is faster than the worker
        steps.clock.sleep(after_s)
        database.jobs.sweep(steps.clock.now())
    steps.executor.end(steps.worker, "killed by SIGKILL")
    steps.round()
    assert "job 1 is queued, for its process had fallen silent; it died: killed by SIGKILL" in caplog.text
    assert "did not start" not in caplog.text
    assert len(steps.executor.placed) == 2  # at once: nothing is amiss with starting
    assert database.jobs.get(job.id).attempts == 1


def test_a_process_that_lost_its_job_and_goes_on_is_ended_and_harms_nothing(steps, database):
    job = kit.queue(database, "screw")
    steps.round()
    steps.claim(steps.worker)
    steps.clock.sleep(61)
    database.jobs.sweep(steps.clock.now())
    steps.clock.sleep(20)
    assert database.jobs.claim("thief", "cpu", 600.0, steps.clock.now()) is not None
    steps.round()
    steps.round(after_s=placing.GRACE_S)
    steps.round()
    assert len(steps.executor.killed) == 1
    now = database.jobs.get(job.id)
    assert (now.state, now.worker) == (JobState.RUNNING, "thief")


def test_a_job_that_was_cancelled_while_its_process_started_is_left_alone(steps, database):
    job = kit.queue(database, "screw")
    steps.round()
    database.jobs.cancel(job.id, steps.clock.now())
    assert database.jobs.claim(steps.worker, "cpu", 60.0, steps.clock.now(), job_id=job.id) is None
    steps.executor.end(steps.worker, "ended with exit code 2: job 1 is cancelled")
    steps.round()
    assert database.jobs.get(job.id).state is JobState.CANCELLED
    assert len(steps.executor.placed) == 1


def test_processes_that_cannot_start_are_tried_more_and_more_seldom(steps, database):
    job = kit.queue(database, "screw")
    for _ in range(200):
        steps.round(after_s=1)
        if steps.executor.running:
            steps.executor.end(steps.worker, "ended with exit code 2: no weights")
    assert 5 < len(steps.executor.placed) < 12
    assert database.jobs.get(job.id).attempts == 0


def test_where_no_process_can_be_started_the_job_stays_free_for_others(steps, database):
    job = kit.queue(database, "screw")
    steps.executor.away = True
    with pytest.raises(Unavailable):
        steps.round()
    assert database.jobs.claim("another", "cpu", 60.0, steps.clock.now()).id == job.id


def test_a_drained_queue_ends_with_an_error_when_no_process_can_start(database):
    kit.queue(database, "screw")
    with pytest.raises(JobError, match="needed weights, got none"):
        local(database, "cannot start").run(drain=True)


def test_a_worker_that_stops_leaves_no_job_placed_and_no_process(database):
    job = kit.queue(database, "screw")
    executor = HandExecutor()
    running = Placing(database.jobs, executor, SystemClock(), poll_s=0.01)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not executor.placed:
        thread.join(0.01)
    running.stop()
    thread.join(LIMIT_S)
    assert (executor.stopped, executor.closed, executor.running) == (True, True, {})
    now = database.jobs.get(job.id)
    assert (now.state, now.worker, now.placed_until) == (JobState.QUEUED, None, None)


# --- real processes ---------------------------------------------------------------------------------


def directory_of(database: Database) -> Path:
    return Path(database.engine.url.database or "").parent


def local(database: Database, behaviour: str, slots: int = 1, **options: Any) -> Placing:
    command = [sys.executable, "-m", "tests.job_to_kill", str(directory_of(database)), behaviour]
    return Placing(database.jobs, LocalExecutor(command, ["cpu"] * slots), SystemClock(), poll_s=0.05, **options)


@contextmanager
def working(running: Placing) -> Iterator[Placing]:
    """At work in a thread until the end of the block."""
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        yield running
    finally:
        running.stop()
        thread.join(LIMIT_S)
    assert not thread.is_alive()


def until(condition) -> None:
    clock = SystemClock()
    limit = clock.elapsed() + LIMIT_S
    while not condition():
        assert clock.elapsed() < limit, "it did not happen"
        clock.sleep(0.02)


def test_jobs_are_done_by_processes_and_a_drained_queue_ends(database):
    jobs = [kit.queue(database, name) for name in ("screw", "tile")]
    assert local(database, "is good").run(drain=True) == 2
    assert [database.jobs.get(job.id).state for job in jobs] == [JobState.PUBLISHED] * 2
    log = database.jobs.get(jobs[0].id).log_tail or ""
    assert "attempt 1 of 3" in log
    assert "evaluate" in log
    assert "published" in log


def test_a_process_that_is_killed_is_noticed_at_once_and_counts_an_attempt(database):
    job = kit.queue(database, "screw")
    assert local(database, "dies").run(drain=True) == 1
    ended = database.jobs.get(job.id)
    assert (ended.state, ended.attempts) == (JobState.FAILED, 3)
    assert "killed by SIGKILL" in (ended.message or "")
    assert "memory ran out" in (ended.log_tail or "")
    assert database.banks.active_version() == 0


def test_the_last_words_of_a_crash_in_native_code_are_kept(database):
    job = kit.queue(database, "screw")
    local(database, "crashes").run(drain=True)
    log = database.jobs.get(job.id).log_tail or ""
    assert log.count("killed by SIGSEGV") == 3
    assert "Segmentation fault" in log
    assert "job_to_kill.py" in log


def test_what_was_learned_before_a_death_is_not_learned_again(database):
    job = kit.queue(database, "screw")
    local(database, "dies once while it is judged").run(drain=True)
    ended = database.jobs.get(job.id)
    assert (ended.state, ended.attempts) == (JobState.PUBLISHED, 2)
    assert (directory_of(database) / "learned").read_text() == f"{job.id}\n"
    assert "learned task 'screw' already" in (ended.log_tail or "")


def test_a_job_is_cancelled_while_its_process_works(database):
    job = kit.queue(database, "screw")
    with working(local(database, "waits")):
        until((directory_of(database) / f"reached-{job.id}").exists)
        database.jobs.cancel(job.id, SystemClock().now())
        until(lambda: database.jobs.get(job.id).state is JobState.CANCELLED)


def test_a_worker_that_is_asked_to_stop_gives_its_jobs_back(database):
    job = kit.queue(database, "screw")
    with working(local(database, "waits")):
        until((directory_of(database) / f"reached-{job.id}").exists)
    now = database.jobs.get(job.id)
    assert (now.state, now.attempts, now.worker) == (JobState.QUEUED, 0, None)


def test_a_process_that_hangs_does_not_keep_a_worker_from_ending(database, monkeypatch):
    monkeypatch.setattr(placing, "FAREWELL_S", 0.5)
    job = kit.queue(database, "screw")
    with working(local(database, "hangs")):
        until((directory_of(database) / f"reached-{job.id}").exists)
    now = database.jobs.get(job.id)
    assert (now.state, now.attempts) == (JobState.QUEUED, 1)


def test_a_process_whose_worker_was_killed_gives_its_job_back_and_ends(database):
    """The worker is a process too: kill -9 leaves nobody who could tell the other one."""
    job = kit.queue(database, "screw")
    script = (
        "import sys, tests.test_placing as t, tests.adaptation_kit as kit; from pathlib import Path\n"
        "with kit.open_storage(Path(sys.argv[1])) as database: t.local(database, 'waits').run()"
    )
    directory = directory_of(database)
    worker = subprocess.Popen([sys.executable, "-c", script, str(directory)], cwd=Path(__file__).parents[1])
    until((directory / f"reached-{job.id}").exists)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    until(lambda: database.jobs.get(job.id).state is JobState.QUEUED)
    assert database.jobs.get(job.id).attempts == 0


def test_two_workers_share_a_queue_and_each_job_is_done_once(database):
    jobs = [kit.queue(database, name) for name in ("screw", "tile", "nut", "cap", "pill")]
    with working(local(database, "is good", slots=2)), working(local(database, "is good")):
        until(lambda: not any(job.state.open for job in database.jobs.all()))
    assert [database.jobs.get(job.id).attempts for job in jobs] == [1] * 5
    assert sorted((directory_of(database) / "learned").read_text().split()) == [str(job.id) for job in jobs]
    assert [row["version"] for row in database.banks.versions()] == [1, 2, 3, 4, 5]


def test_the_progress_of_a_job_elsewhere_is_shown(database):
    told = []

    def watch(job: Job):
        return lambda stage, done, total: told.append((job.id, stage))

    job = kit.queue(database, "screw")
    with working(local(database, "waits", watch=watch)):
        until((directory_of(database) / f"reached-{job.id}").exists)
        until(lambda: told)
    assert told[0][0] == job.id


def test_a_job_that_cannot_be_had_is_refused_with_the_reason(database):
    job = kit.queue(database, "screw")
    worker = Worker(kit.storage(database), kit.work(), kit.HandClock(), name="mine")
    database.jobs.place("other", kit.NOON.replace(hour=13), kit.NOON)
    with pytest.raises(JobError, match="it is about to be taken by other"):
        worker.run_one(job.id)
    database.jobs.cancel(job.id, kit.NOON)
    with pytest.raises(JobError, match="it is cancelled"):
        worker.run_one(job.id)
