"""Takes jobs from the queue, one after the other, and brings each to an end."""

import logging
import os
import socket
import threading
from collections.abc import Callable
from datetime import datetime

from stream_ad.domain.job import Job, JobState
from stream_ad.domain.ports import Clock, Progress
from stream_ad.domain.wording import how_it_ended
from stream_ad.errors import JobError, JobStopped, StreamAdError, Unavailable
from stream_ad.services.heartbeat import Heartbeat, Why, why_stopped
from stream_ad.services.job_log import JobLog, logging_of
from stream_ad.services.running import run_job
from stream_ad.services.work import Desk, Outcome, Storage, Work

log = logging.getLogger(__name__)


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
        silent_s: float = 3600.0,
        poll_s: float = 2.0,
        watch: Callable[[Job], Progress] | None = None,
        ended: Callable[[Job, Outcome], None] | None = None,
    ) -> None:
        self.name = name or worker_name()
        self.device = device
        self._storage, self._work, self._clock = storage, work, clock
        self._lease_s, self._silent_s, self._poll_s = lease_s, silent_s, poll_s
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

    def run_one(self, job_id: int) -> Outcome | None:
        """Claim that job and bring it to an end; None: it is queued again, or another worker's.

        Raises:
            JobError: it cannot be had: it ended, or another worker has it or is on its way.
            Unavailable: the database is away; the job will run again.
        """
        jobs = self._storage.jobs
        job = jobs.claim(self.name, self.device, self._lease_s, self._clock.now(), job_id=job_id)
        if job is None:
            now = jobs.get(job_id)
            whose = f" by {now.worker}" if now.worker and now.state.open else ""
            taken = "about to be taken" if now.state is JobState.QUEUED else str(now.state)
            raise JobError(f"job {job_id} needs to be queued and free to run, it is {taken}{whose}")
        return self.do(job)

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
        with logging_of(job) as kept:
            kept.add(f"attempt {job.attempts} of {job.max_attempts}, by {self.name} on {self.device}")
            heartbeat = self._heartbeat(job, kept)
            try:
                outcome = self._outcome(job, heartbeat, kept)
                if outcome is not None:
                    log.info("job %s: %s", job.id, how_it_ended(outcome.state, outcome.message))
            finally:
                heartbeat.write_log()
        if outcome is not None and self._ended is not None:
            self._ended(job, outcome)
        return outcome

    def _heartbeat(self, job: Job, kept: JobLog) -> Heartbeat:
        return Heartbeat(
            job,
            self.name,
            self._storage.jobs,
            self._clock,
            lease_s=self._lease_s,
            silent_s=self._silent_s,
            stopping=self._stopping,
            listener=self._watch(job) if self._watch else None,
            kept=kept,
        )

    def _outcome(self, job: Job, heartbeat: Heartbeat, kept: JobLog) -> Outcome | None:
        try:
            with heartbeat:
                return run_job(
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
            return self._stopped(job, heartbeat.why, stopped, kept)
        except Unavailable as error:
            # not the job's fault. If the database stays away, the lease runs out by itself
            log.warning("job %s is queued again: %s", job.id, error)
            self._storage.jobs.give_back(
                job.id, self.name, job.attempts, self._clock.now(), counted=False, log_tail=kept.text
            )
            raise
        except StreamAdError as error:
            return self._refused(job, error, kept)
        except Exception as error:  # the process boundary of a job: a bug in one must not end the worker
            log.exception("job %s: unexpected error", job.id)
            return self._crashed(job, error, kept)

    def _stopped(self, job: Job, why: Why | None, stopped: JobStopped, kept: JobLog) -> Outcome | None:
        log.info("%s", stopped)
        match why or why_stopped(job, self.name, self._storage.jobs):
            case Why.CANCELLED:
                return self._finish(job, Outcome(JobState.CANCELLED, "cancelled on request"))
            case Why.STOPPING:
                self._storage.jobs.give_back(
                    job.id, self.name, job.attempts, self._clock.now(), counted=False, log_tail=kept.text
                )
            case Why.HUNG as hung:
                self._storage.jobs.release(job.id, self.name, self._clock.now(), how=str(hung), attempt=job.attempts)
        return None

    def _refused(self, job: Job, error: StreamAdError, kept: JobLog) -> Outcome | None:
        # publishing fails for a lost or cancelled lease too, and then the input is not at fault
        why = why_stopped(job, self.name, self._storage.jobs)
        if why is not None:
            return self._stopped(job, why, JobStopped(str(error)), kept)
        return self._finish(job, Outcome(JobState.FAILED, str(error)))

    def _crashed(self, job: Job, error: Exception, kept: JobLog) -> Outcome | None:
        if job.attempts < job.max_attempts:
            self._storage.jobs.give_back(
                job.id, self.name, job.attempts, self._clock.now(), counted=True, log_tail=kept.text
            )
            return None
        message = (
            f"unexpected {type(error).__name__}: {error}; failed in {job.attempts} attempts,"
            f" see `stream-ad jobs logs {job.id}`"
        )
        return self._finish(job, Outcome(JobState.FAILED, message))

    def _finish(self, job: Job, outcome: Outcome) -> Outcome | None:
        now = self._clock.now()
        held = self._storage.jobs.finish(job.id, self.name, job.attempts, outcome.state, outcome.message, now)
        if not held:
            log.warning("job %s is another worker's by now; not written: %s", job.id, outcome.message)
        return outcome if held else None
