"""Does a claimed job, of whatever kind, to its end."""

from collections.abc import Callable, Mapping

from stream_ad.domain.job import JobKind
from stream_ad.errors import JobError
from stream_ad.services.adaptation import learn_task
from stream_ad.services.changes.patching import patch_task
from stream_ad.services.changes.readaptation import readapt_task
from stream_ad.services.changes.retirement import retire_task
from stream_ad.services.changes.squeezing import squeeze_bank
from stream_ad.services.publishing import Change, bring_in
from stream_ad.services.reevaluation import measure_again
from stream_ad.services.work import Desk, Outcome

#: what a job of each kind wants of the bank; how it ended, where it wants nothing
CHANGES: Mapping[JobKind, Callable[[Desk], Change | Outcome]] = {
    JobKind.ADAPT: learn_task,
    JobKind.READAPT: readapt_task,
    JobKind.PATCH: patch_task,
    JobKind.RETIRE: retire_task,
    JobKind.SQUEEZE: squeeze_bank,
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
    change = make(desk)
    return change if isinstance(change, Outcome) else bring_in(change, desk)
