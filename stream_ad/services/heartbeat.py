"""Keeps the lease of a running job alive, and stops the work when the job is no longer ours.

The lease is prolonged by a thread of its own, because one step of learning may be silent for longer than a lease. The
work itself hears of it when it next tells its progress. One that tells nothing for very long is taken for hung: its
lease is let go, so that the job can be done elsewhere. The same thread writes the job's log to its row.
"""

import logging
import threading
from enum import StrEnum
from types import TracebackType

from stream_ad.domain.job import Job, JobState
from stream_ad.domain.ports import Clock, JobRepository, Progress
from stream_ad.errors import JobStopped, StreamAdError
from stream_ad.services.job_log import JobLog

log = logging.getLogger(__name__)

#: where in the whole job each stage begins and ends; learning and evaluating are what takes long
STAGES = {
    "read": (0.0, 0.05),
    "adapt": (0.05, 0.5),
    "calibrate": (0.5, 0.55),
    "evaluate": (0.55, 0.8),
    "gate": (0.8, 0.8),
    "test": (0.8, 0.98),
    "publish": (0.98, 1.0),
}

#: how often the thread looks for new lines of the log, seconds
TICK_S = 1.0
#: longest time between two heartbeats, so that `jobs show` follows the work
BEAT_S = 5.0


class Why(StrEnum):
    """Why a job must not go on."""

    CANCELLED = "somebody asked to cancel it"
    LOST = "another worker has it by now"
    STOPPING = "its worker is stopping"
    HUNG = "it made no progress for too long"


class Heartbeat:
    """The `Progress` of a running job, and a thread that prolongs its lease. Use as a context manager.

    Raises, when called:
        JobStopped: the job must not go on; `why` tells why.
    """

    def __init__(
        self,
        job: Job,
        worker: str,
        jobs: JobRepository,
        clock: Clock,
        *,
        lease_s: float = 60.0,
        silent_s: float = 3600.0,
        stopping: threading.Event | None = None,
        listener: Progress | None = None,
        kept: JobLog | None = None,
    ) -> None:
        """`silent_s`: a job that tells no progress for so long is taken for hung."""
        self.job, self.worker = job, worker
        self.why: Why | None = None
        self._jobs, self._clock, self._lease_s = jobs, clock, lease_s
        self._stopping = stopping or threading.Event()
        self._listener, self._kept = listener, kept
        self._silent_s, self._told_at = silent_s, clock.elapsed()
        self._stage, self._share = "", 0.0
        self._failure: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat of job {job.id}", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Remember how far the work is; the thread writes it down.

        Raises:
            JobStopped: the job must not go on.
        """
        self._told_at = self._clock.elapsed()
        if stage != self._stage:
            log.info("job %s: %s", self.job.id, stage)
        start, end = STAGES.get(stage, (self._share, self._share))
        self._stage = stage
        # never backwards: a stage that runs once more, after a lost race to publish, does not shrink the bar
        self._share = max(self._share, start + (end - start) * done / max(total, 1))
        self.check()
        if self._listener is not None:
            self._listener(stage, round(1000 * self._share), 1000)

    def check(self) -> None:
        """Raises: JobStopped: the job must not go on."""
        if self._failure is not None:
            raise self._failure
        if self.why is None and self._stopping.is_set():
            self.why = Why.STOPPING
        if self.why is not None:
            raise JobStopped(f"job {self.job.id} of {self.job.about} stopped: {self.why}")

    def _beat(self) -> None:
        # often enough that two misses lose nothing
        every_s, waited_s = min(self._lease_s / 4, BEAT_S), 0.0
        step_s = min(every_s, TICK_S)
        try:
            while not self._ended.wait(step_s):
                waited_s += step_s
                self.write_log()
                if waited_s < every_s:
                    continue
                waited_s = 0.0
                silent_s = self._clock.elapsed() - self._told_at
                if silent_s > self._silent_s:
                    self.why = Why.HUNG
                    log.error("job %s told no progress for %.0f s; its lease is let go", self.job.id, silent_s)
                    self.write_log()
                    return
                if not self._prolonged():
                    return
        except BaseException as error:  # handed to the work, which is stopped by it
            self._failure = error

    def write_log(self) -> None:
        """Write the job's log to its row, if there is something new; a failure is no harm."""
        if self._kept is None:
            return
        try:
            self._kept.flush_to(lambda text: self._jobs.write_log(self.job.id, self.worker, self.job.attempts, text))
        except StreamAdError as error:
            log.debug("job %s: its log was not written: %s", self.job.id, error)

    def _prolonged(self) -> bool:
        try:
            held = self._jobs.heartbeat(
                self.job.id,
                self.worker,
                self.job.attempts,
                stage=self._stage,
                progress=self._share,
                lease_s=self._lease_s,
                at=self._clock.now(),
            )
            if not held:
                self.why = why_stopped(self.job, self.worker, self._jobs)
        except StreamAdError as error:
            # the lease stays ours until another worker claims it, so working on is right: publishing checks it again
            log.warning("job %s: the lease could not be prolonged: %s", self.job.id, error)
            return True
        return held


def why_stopped(job: Job, worker: str, jobs: JobRepository) -> Why | None:
    """Why `worker` may not go on with `job`; None: it may."""
    now = jobs.get(job.id)
    if now.state is not JobState.RUNNING or now.worker != worker or now.attempts != job.attempts:
        return Why.LOST
    return Why.CANCELLED if now.cancel_requested else None
