"""What the scheduler does again and again, beside discovery, drift and verification. Each is safe to do twice."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from stream_ad.domain.duty import Found
from stream_ad.domain.job import JobKind, JobState
from stream_ad.domain.ports import BankRepository, Clock, JobRepository, TaskRepository
from stream_ad.domain.wording import counted
from stream_ad.errors import JobError
from stream_ad.services.retention import Retention
from stream_ad.services.scheduling import Still

log = logging.getLogger(__name__)

#: pieces of one sweep of retention; what is left is for the next
PIECES = 500


def queue_evaluation(tasks: TaskRepository, banks: BankRepository, clock: Clock) -> Found:
    """Have the active bank measured again by a worker, unless one is at it."""
    version = banks.active_version()
    if version == 0:
        return Found("no product is known yet, so there is nothing to measure")
    try:
        job = tasks.queue(None, JobKind.EVALUATE, {}, clock.now())
    except JobError as error:
        return Found(f"bank {version} is not queued to be measured again: {error}")
    return Found(f"job {job.id} measures bank {version} again")


def sweep_jobs(jobs: JobRepository, clock: Clock) -> Found:
    """Jobs whose worker is gone: queued again, or ended after their last attempt."""
    swept = jobs.sweep(clock.now())
    for job in swept:
        log.warning("job %s of %s: its worker was silent; now it is %s", job.id, job.about, job.state)
    ended = [job for job in swept if not job.state.open]
    figures = {"queued again": len(swept) - len(ended), "ended": len(ended)}
    failed = sum(job.state is JobState.FAILED for job in ended)
    text = f"{counted(len(swept), 'job')} of silent workers, {len(ended)} of them ended, {failed} failed"
    return Found(text, figures, news=bool(swept))


def prune(retention: Retention, still: Still) -> Found:
    """Delete what is beyond the bounds of retention, piece by piece."""
    if not retention:
        return Found("nothing has a bound, so nothing is deleted", news=False)
    deleted: dict[str, int] = {}
    for _ in range(PIECES):
        still()
        swept = retention.sweep()
        for one in swept:
            deleted[one.name] = deleted.get(one.name, 0) + one.count
        if not any(one.more for one in swept):
            break
    told = ", ".join(f"{count} {name}" for name, count in deleted.items() if count)
    return Found(f"deleted {told or 'nothing'}", deleted, news=bool(told))


def report(write: Callable[[], Sequence[Path]]) -> Found:
    """Write what is to be read of all that was measured."""
    written = write()
    if not written:
        return Found("no report was written: nothing was measured yet, or settings say so")
    return Found(f"written: {', '.join(str(path) for path in written)}", {"files": len(written)})
