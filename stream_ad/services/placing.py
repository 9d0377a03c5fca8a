"""Starts a process for each waiting job, as many as there is room for, and looks after it until it is gone.

The process claims its job itself and holds the lease itself. This side knows more than a lease can tell: that the
process died, and how. It releases the job at once then, and ends a process that no longer has its job.
"""

import itertools
import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from stream_ad.domain.job import Ended, Job, JobState
from stream_ad.domain.ports import Clock, Executor, JobRepository, Progress
from stream_ad.errors import JobError, Unavailable
from stream_ad.services.backoff import Backoff, BackoffOptions
from stream_ad.services.worker import worker_name

log = logging.getLogger(__name__)

#: how often processes are asked whether they live, seconds
STEP_S = 0.1
#: how long a process may go on that has to end: cancelled, or its job is another's
GRACE_S = 30.0
#: how long all may take to give their jobs back, when this side ends
FAREWELL_S = 20.0


@dataclass(slots=True)
class _Process:
    job: Job
    told: Progress | None
    #: `Clock.elapsed` when it was started, and since when it should be gone
    started_s: float
    since: datetime
    condemned_s: float | None = None


class Placing:
    """One machine's worker, or a plant's. Any number may share a queue: a job is placed for one at a time."""

    def __init__(
        self,
        jobs: JobRepository,
        executor: Executor,
        clock: Clock,
        *,
        name: str | None = None,
        lease_s: float = 60.0,
        poll_s: float = 1.0,
        silent_s: float = 3600.0,
        watch: Callable[[Job], Progress] | None = None,
        ended: Callable[[Job], None] | None = None,
    ) -> None:
        """`watch` shows a job's progress, `ended` is told of every job that came to an end here."""
        self.name = name or worker_name()
        self._jobs, self._executor, self._clock = jobs, executor, clock
        self._lease_s, self._poll_s, self._silent_s = lease_s, poll_s, silent_s
        self._watch, self._ended = watch, ended
        self._numbers = itertools.count(1)
        # another process of this number, before or after us, gives no name twice: in a container it is always 7
        self._own = uuid.uuid4().hex[:6]
        self._running: dict[str, _Process] = {}
        self._gone: list[Ended] = []
        # a process that cannot even start, for want of weights or memory, is not started again in a circle
        self._backoff = Backoff(BackoffOptions(backoff_s=1.0, backoff_max_s=60.0))
        self._done = 0
        self._stopping = threading.Event()
        #: when the loop last went round: for probes
        self.ticked_at = clock.now()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopping.is_set()

    @property
    def busy_since(self) -> datetime | None:
        """Since when the oldest of its processes works; None: there is none."""
        return min((process.since for process in self._running.values()), default=None)

    def stop(self) -> None:
        """Place nothing more, and let every job be given back. May be called by a signal."""
        self._stopping.set()

    def run(self, *, drain: bool = False) -> int:
        """Place until stopped; with `drain` until nothing waits. How many jobs came to an end.

        Raises:
            JobError: with `drain`, a process could not even start, or gave its job back.
            Unavailable: with `drain`, the database or the place of the processes is away; otherwise it is waited for.
        """
        try:
            while not self._stopping.is_set():
                self.ticked_at = self._clock.now()
                try:
                    self._bury(drain=drain)
                    self._look_after()
                    self._place()
                except Unavailable as error:
                    if drain:
                        raise
                    log.warning("%s; waiting", error)
                if drain and not self._running:
                    break
                self._wait()
        finally:
            self._farewell()
        return self._done

    def _place(self) -> None:
        if not self._backoff.is_over(self._clock.elapsed()):
            return
        while self._executor.free() > 0 and not self._stopping.is_set():
            now = self._clock.now()
            worker = f"{self.name}/{self._own}-{next(self._numbers)}"
            job = self._jobs.place(worker, now + timedelta(seconds=self._lease_s), now)
            if job is None:
                return
            try:
                self._executor.place(job, worker)
            except Unavailable:
                self._backoff.begin(self._clock.elapsed())
                self._jobs.release(job.id, worker, now, how=None)
                raise
            told = self._watch(job) if self._watch else None
            self._running[worker] = _Process(job, told, self._clock.elapsed(), now)

    def _bury(self, *, drain: bool = False) -> None:
        """See to the jobs of processes that ended. One that cannot be seen to now is kept for the next time."""
        self._gone += self._executor.ended()
        while self._gone:
            ended = self._gone[0]
            self._see_to(ended, drain=drain)
            self._gone.pop(0)
            self._running.pop(ended.worker, None)

    def _see_to(self, ended: Ended, *, drain: bool) -> None:
        process = self._running.get(ended.worker)
        before = process.job.attempts if process else 0
        job = self._jobs.release(ended.job_id, ended.worker, self._clock.now(), how=ended.how)
        if job is None:  # it had ended its job, or given it back
            job = self._jobs.get(ended.job_id)
            if job.worker == ended.worker:
                self._came_to_an_end(job)
                return
            if process is not None and ended.how is not None and job.attempts > before:
                # its lease had run out, and somebody else saw to its job before it was dead: that counted
                log.error("job %s is %s, for its process had fallen silent; it died: %s", job.id, job.state, ended.how)
                return
        elif ended.how is not None and job.attempts > before:
            log.error("job %s is %s, for its process died: %s", job.id, job.state, ended.how)
            self._backoff.reset()
            if not job.state.open:
                self._came_to_an_end(job)
            return
        if job.state is not JobState.QUEUED or self._stopping.is_set():
            return
        # it did not even begin, or gave the job back because something is away: not at once again
        why = f"its process did not start: {ended.how}" if ended.how else "its process gave it back"
        if drain:
            self._gone.pop(0)
            self._running.pop(ended.worker, None)
            raise JobError(f"job {job.id} was not done, {why}")
        log.error("job %s waits for %g s: %s", job.id, self._backoff.begin(self._clock.elapsed()), why)

    def _came_to_an_end(self, job: Job) -> None:
        self._backoff.reset()
        self._done += 1
        if self._ended is not None:
            self._ended(job)

    def _look_after(self) -> None:
        now, elapsed_s = self._clock.now(), self._clock.elapsed()
        for worker, process in self._running.items():
            job = self._jobs.get(process.job.id)
            patience_s = GRACE_S
            if job.state is JobState.QUEUED and job.worker == worker:
                self._jobs.keep_placed(job.id, worker, now + timedelta(seconds=self._lease_s))
                # reading weights may take long, but not for ever
                condemned, patience_s = elapsed_s - process.started_s > self._silent_s, 0.0
            elif job.state is JobState.RUNNING and job.worker == worker:
                if process.told:
                    process.told(job.stage or "", round(1000 * job.progress), 1000)
                condemned = job.cancel_requested or (job.lease_until or now) <= now
            else:  # it ended its job and has to write a report, or lost it and does not know yet
                condemned, patience_s = True, GRACE_S if job.state.open else self._silent_s
            if not condemned:
                process.condemned_s = None
            elif process.condemned_s is None:
                process.condemned_s = elapsed_s
            if process.condemned_s is not None and elapsed_s - process.condemned_s >= patience_s:
                log.warning("the process of job %s does not end; it is killed", job.id)
                self._executor.kill(worker)

    def _wait(self) -> None:
        """Until it is time to look again, or a process ended."""
        waited_s = 0.0
        while waited_s < self._poll_s and not self._stopping.wait(min(STEP_S, self._poll_s)):
            waited_s += STEP_S
            self._gone += self._executor.ended()
            if self._gone:
                return

    def _farewell(self) -> None:
        """End every process, politely first; what they could not give back is released here."""
        self._executor.stop()
        until_s = self._clock.elapsed() + FAREWELL_S
        killed = False
        while self._running:
            try:
                self._bury()
            except Unavailable as error:
                log.warning("%s; jobs that ran here go to others when their leases run out", error)
                break
            if self._running and self._clock.elapsed() > until_s:
                if killed:
                    log.error("processes of %d jobs do not even end when killed", len(self._running))
                    break
                killed, until_s = True, self._clock.elapsed() + FAREWELL_S
                for worker in self._running:
                    self._executor.kill(worker)
            if self._running:
                self._clock.sleep(STEP_S)
        self._executor.close()
