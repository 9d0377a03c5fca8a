"""From a change that a job wants to a published bank, or to reasons why not.

candidate -> evaluate -> gate -> test -> publish

Scorers see nothing of it before the last step, which is one transaction. Whatever dies earlier leaves the published
bank as it was, plus at most an entry file that nothing refers to.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.decision import GateDecision
from stream_ad.domain.evaluation import Evaluation, Half, TaskEvaluation
from stream_ad.domain.images import ImageSet, split_hash
from stream_ad.domain.job import JobState
from stream_ad.domain.ports import Progress
from stream_ad.domain.task import TaskId
from stream_ad.errors import BankError, JobStopped
from stream_ad.services.comparable import Comparable
from stream_ad.services.gate import decide
from stream_ad.services.heldout import check_apart, check_unmoved, heldout_of
from stream_ad.services.work import Desk, Heldout, Outcome

log = logging.getLogger(__name__)

MAX_RACES = 5

Evaluations = Mapping[TaskId, TaskEvaluation]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Change:
    """What a job wants of the bank, whichever bank is active when its candidate is made."""

    #: the candidate: the active bank with the change, under this number; its new entries are stored
    apply: Callable[[MemoryBank, int], MemoryBank]
    #: what to say once it is published, of the candidate's figures
    told: Callable[[Evaluations], Sequence[str]]
    #: held-out pictures that this job brings itself; those of the other tasks are found by their own jobs
    heldout: Mapping[TaskId, Heldout] = field(default_factory=dict)
    #: pictures that were learned; none of them may be held out for another task
    learned: ImageSet | None = None
    #: what the person who asked should know, whatever comes of it
    remarks: tuple[str, ...] = ()


def bring_in(change: Change, desk: Desk) -> Outcome:
    """Publish the change or reject it; the job's row says which.

    Raises:
        JobStopped: the lease was lost at the very end.
        BankError: others changed the active bank again and again meanwhile.
        StreamAdError: held-out pictures are not to be had, or were learned.
    """
    heldout = dict(change.heldout)
    for _ in range(MAX_RACES):
        try:
            return _bring_in(change, desk, heldout)
        except _LostRace as race:
            log.info("job %s: %s; evaluating once more", desk.job.id, race)
    raise BankError(
        f"other jobs or rollbacks changed the active bank {MAX_RACES} times while that for {desk.job.about} was"
        f" evaluated; run it again with `stream-ad jobs retry {desk.job.id}`"
    )


class _LostRace(Exception):
    """The active bank changed while a candidate made from it was evaluated."""


def _bring_in(change: Change, desk: Desk, heldout: dict[TaskId, Heldout]) -> Outcome:
    job, storage, work, progress = desk.job, desk.storage, desk.work, desk.progress
    active = storage.banks.load()
    candidate = change.apply(active, storage.banks.next_version())
    for task in candidate.entries:
        if task not in heldout:
            heldout[task] = heldout_of(task, storage, work, active.version)
            check_unmoved(active.entries[task], heldout[task])
        if change.learned is not None and task not in change.heldout:
            check_apart(job.about, change.learned, task, heldout[task])
    halves = {task: heldout[task].regression for task in candidate.entries}
    provenance = {**work.provenance, "heldout": {task: split_hash(half.ids) for task, half in halves.items()}}
    history = Comparable(storage.evaluations.all(Half.REGRESSION), provenance)
    old = {task: half for task, half in halves.items() if task in active.entries}
    before = history.of_version(active.version, old)
    if before is None:
        before = work.evaluate(active, old, progress)
    after = work.evaluate(candidate, halves, progress)
    progress("gate", 0, 1)
    decision = decide(job.kind, before, after, job.task, work.budgets, best_auroc=history.best_auroc(old))
    progress("gate", 1, 1)
    tests = {task: heldout[task].test for task in candidate.entries}
    tested = work.evaluate(candidate, tests, as_stage("test", progress))

    def measured(half: Half, tasks: Evaluations, hashes: Mapping[TaskId, str]) -> Evaluation:
        return Evaluation(
            half=half,
            bank_version=candidate.version,
            published=decision.passed,
            job_id=job.id,
            learned_task=job.task,
            tasks=tasks,
            provenance={**provenance, "heldout": hashes},
            at=desk.clock.now(),
        )

    evaluations = [
        measured(Half.REGRESSION, after, provenance["heldout"]),
        measured(Half.TEST, tested, {task: split_hash(half.ids) for task, half in tests.items()}),
    ]
    if not decision.passed:
        return _reject(change, desk, active.version, evaluations, decision)
    message = f"bank {candidate.version} published " + "; ".join(
        (*change.told(after), *change.remarks, *decision.notes)
    )
    progress("publish", 0, 1)
    try:
        storage.banks.publish(
            candidate,
            parent=active.version,
            job=job,
            worker=desk.worker,
            evaluations=evaluations,
            message=message,
            at=desk.clock.now(),
        )
    except BankError as error:
        if (storage.banks.active_version(), storage.banks.next_version()) != (active.version, candidate.version):
            raise _LostRace(str(error)) from error
        raise
    return Outcome(JobState.PUBLISHED, message)


def _reject(
    change: Change, desk: Desk, version: int, evaluations: Sequence[Evaluation], decision: GateDecision
) -> Outcome:
    # first the scores, then the end: who finds a rejected job also finds what was measured
    for evaluation in evaluations:
        desk.storage.evaluations.save(evaluation)
    message = f"rejected, bank {version} stays in use: " + "; ".join((*decision.reasons, *change.remarks))
    if not desk.storage.jobs.finish(desk.job.id, desk.worker, JobState.REJECTED, message, desk.clock.now()):
        raise JobStopped(f"job {desk.job.id} is another worker's by now; its rejection was not written")
    return Outcome(JobState.REJECTED, message)


def as_stage(stage: str, progress: Progress) -> Progress:
    """Progress told under one name, whatever the stage names itself."""
    fixed = stage

    def told(stage: str, done: int, total: int) -> None:
        progress(fixed, done, total)

    return told
