"""Takes jobs from the queue, one after the other, and brings each to an end."""

import logging
import os
import socket
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from stream_ad.domain.job import Job, JobState
from stream_ad.domain.ports import Clock, Progress
from stream_ad.errors import JobStopped, StreamAdError, Unavailable
from stream_ad.services.heartbeat import Heartbeat, Why, why_stopped
from stream_ad.services.running import run_job
from stream_ad.services.work import Desk, Outcome, Storage, Work

log = logging.getLogger(__name__)

LOG_TAIL_LINES = 200


def worker_name() -> str:
    """This process, as the jobs table names it."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Worker:
    """One process that adapts. Any number may share a queue: a job has one lease.

    A job that cannot succeed (bad input) fails at once with a message for the person who asked. Anything unexpected is
    tried again until its attempts are used up, and its log is kept with the job.
    """

    def __init__(
        self,
        storage: Storage,
        work: Work,
        clock: Clock,
        *,
        name: str | None = None,
        device: str = "cpu",
        lease_s: float = 60.0,
        poll_s: float = 2.0,
        watch: Callable[[Job], Progress] | None = None,
        ended: Callable[[Job, Outcome], None] | None = None,
    ) -> None:
        self.name = name or worker_name()
        self.device = device
        self._storage, self._work, self._clock = storage, work, clock
        self._lease_s, self._poll_s = lease_s, poll_s
        self._watch, self._ended = watch, ended
        self._stopping = threading.Event()
        #: when the loop last went round, and since when it has its present job: for probes and metrics
        self.ticked_at = clock.now()
        self.busy_since: datetime | None = None

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Take no more jobs, and give the present one back at its next progress. May be called by a signal."""
        self._stopping.set()

    def run(self, *, drain: bool = False, until: Callable[[], bool] = lambda: False) -> int:
        """Work until stopped; with `drain` until nothing is queued, and in any case once `until` holds. How many jobs.

        Raises:
            Unavailable: with `drain`, the database is away; otherwise it is waited for.
        """
        done = 0
        while not self._stopping.is_set() and not until():
            self.ticked_at = self._clock.now()
            try:
                job = self._storage.jobs.claim(self.name, self.device, self._lease_s, self._clock.now())
                if job is not None:
                    self.do(job)
                    done += 1
                    continue
            except Unavailable as error:
                if drain:
                    raise
                log.warning("%s; waiting", error)
            if drain:
                break
            self._stopping.wait(self._poll_s)
        return done

    def do(self, job: Job) -> Outcome | None:
        """Bring a claimed job to an end; None: it is queued again, or another worker's.

        Raises:
            Unavailable: the database is away; the job will run again.
        """
        self.busy_since = self._clock.now()
        try:
            return self._do(job)
        finally:
            self.busy_since = None

    def _do(self, job: Job) -> Outcome | None:
        log.info("job %s: %s %s, attempt %s of %s", job.id, job.kind, job.about, job.attempts, job.max_attempts)
        listener = self._watch(job) if self._watch else None
        with _log_tail() as lines:
            try:
                with Heartbeat(
                    job,
                    self.name,
                    self._storage.jobs,
                    self._clock,
                    lease_s=self._lease_s,
                    stopping=self._stopping,
                    listener=listener,
                ) as heartbeat:
                    outcome = run_job(
                        Desk(
                            job=job,
                            worker=self.name,
                            storage=self._storage,
                            work=self._work,
                            clock=self._clock,
                            progress=heartbeat,
                        )
                    )
            except JobStopped as stopped:
                outcome = self._stopped(job, heartbeat.why, stopped)
            except Unavailable as error:
                # not the job's fault. If the database stays away, the lease runs out by itself
                log.warning("job %s is queued again: %s", job.id, error)
                self._storage.jobs.give_back(job.id, self.name, self._clock.now(), counted=False)
                raise
            except StreamAdError as error:
                outcome = self._refused(job, error)
            except Exception as error:  # the process boundary of a job: a bug in one must not end the worker
                log.exception("job %s: unexpected error", job.id)
                outcome = self._crashed(job, error, [*lines, traceback.format_exc()])
        if outcome is not None:
            log.info("job %s: %s: %s", job.id, outcome.state, outcome.message)
            if self._ended is not None:
                self._ended(job, outcome)
        return outcome

    def _stopped(self, job: Job, why: Why | None, stopped: JobStopped) -> Outcome | None:
        match why or why_stopped(job, self.name, self._storage.jobs):
            case Why.CANCELLED:
                return self._finish(job, Outcome(JobState.CANCELLED, "cancelled on request"))
            case Why.STOPPING:
                self._storage.jobs.give_back(job.id, self.name, self._clock.now(), counted=False)
        log.info("%s", stopped)
        return None

    def _refused(self, job: Job, error: StreamAdError) -> Outcome | None:
        # publishing fails for a lost or cancelled lease too, and then the input is not at fault
        why = why_stopped(job, self.name, self._storage.jobs)
        if why is not None:
            return self._stopped(job, why, JobStopped(str(error)))
        return self._finish(job, Outcome(JobState.FAILED, str(error)))

    def _crashed(self, job: Job, error: Exception, lines: list[str]) -> Outcome | None:
        tail = "\n".join(lines)
        if job.attempts < job.max_attempts:
            self._storage.jobs.give_back(job.id, self.name, self._clock.now(), counted=True, log_tail=tail)
            return None
        message = (
            f"unexpected {type(error).__name__}: {error}; failed in {job.attempts} attempts,"
            f" see `stream-ad jobs show {job.id}`"
        )
        return self._finish(job, Outcome(JobState.FAILED, message), tail)

    def _finish(self, job: Job, outcome: Outcome, log_tail: str | None = None) -> Outcome | None:
        held = self._storage.jobs.finish(
            job.id, self.name, outcome.state, outcome.message, self._clock.now(), log_tail=log_tail
        )
        if not held:
            log.warning("job %s is another worker's by now; not written: %s", job.id, outcome.message)
        return outcome if held else None


@contextmanager
def _log_tail() -> Iterator[deque[str]]:
    """The last lines that this package logs inside the block."""
    lines: deque[str] = deque(maxlen=LOG_TAIL_LINES)
    handler = _Keep(lines)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("stream_ad")
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


class _Keep(logging.Handler):
    def __init__(self, lines: deque[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))
