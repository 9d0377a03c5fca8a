"""Does a claimed job, of whatever kind, to its end."""

from collections.abc import Callable, Mapping

from stream_ad.domain.job import JobKind
from stream_ad.errors import JobError
from stream_ad.services.adaptation import learn_task
from stream_ad.services.publishing import Change, bring_in
from stream_ad.services.reevaluation import measure_again
from stream_ad.services.work import Desk, Outcome

#: what a job of each kind wants of the bank
CHANGES: Mapping[JobKind, Callable[[Desk], Change]] = {
    JobKind.ADAPT: learn_task,
}


def run_job(desk: Desk) -> Outcome:
    """Published, rejected by the gate, or done; either way the job's row says so.

    Raises:
        JobStopped: by `desk.progress`, or because the lease was lost at the very end.
        StreamAdError: the input is not usable; the message is for the person who asked.
    """
    if desk.job.kind is JobKind.EVALUATE:
        return measure_again(desk)
    make = CHANGES.get(desk.job.kind)
    if make is None:
        raise JobError(f"job {desk.job.id} is of kind {desk.job.kind}, which this program does not know; update it")
    return bring_in(make(desk), desk)
