"""From a change that a job wants to a published bank, or to reasons why not.

candidate -> evaluate -> gate -> test -> publish

Scorers see nothing of it before the last step, which is one transaction. Whatever dies earlier leaves the published
bank as it was, plus at most an entry file that nothing refers to.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from stream_ad.domain.bank import BankEntry, MemoryBank, left_behind
from stream_ad.domain.decision import GATE, Judgement, Override
from stream_ad.domain.evaluation import Evaluation, Half, TaskEvaluation
from stream_ad.domain.feedback import Became, FeedbackState
from stream_ad.domain.images import ImageSet, split_hash
from stream_ad.domain.job import AFTER, Job, JobState
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
    #: feedback, by number: what the change takes in, if it is published, and what is settled either way
    taken: Mapping[int, str] = field(default_factory=dict)
    settled: Mapping[int, Became] = field(default_factory=dict)


def bring_in(change: Change, desk: Desk) -> Outcome:
    """Publish the change or reject it; the job's row says which.

    Raises:
        JobStopped: the lease was lost at the very end.
        BankError: others changed the active bank again and again meanwhile.
        StreamAdError: held-out pictures are not to be had, or were learned.
    """
    for _ in range(MAX_RACES):
        try:
            return _bring_in(change, desk)
        except _LostRace as race:
            log.info("job %s: %s; evaluating once more", desk.job.id, race)
    raise BankError(
        f"other jobs or rollbacks changed the active bank {MAX_RACES} times while that for {desk.job.about} was"
        f" evaluated; run it again with `stream-ad jobs retry {desk.job.id}`"
    )


class _LostRace(Exception):
    """The active bank changed while a candidate made from it was evaluated."""


def _bring_in(change: Change, desk: Desk) -> Outcome:
    job, storage, work, progress = desk.job, desk.storage, desk.work, desk.progress
    active = storage.banks.load()
    candidate = change.apply(active, storage.banks.next_version())
    heldout = _heldout(change, candidate, active, desk)
    halves = {task: heldout[task].regression for task in candidate.entries}
    provenance = {**work.provenance, "heldout": {task: split_hash(half.ids) for task, half in halves.items()}}
    history = Comparable(storage.evaluations.all(Half.REGRESSION), provenance)
    new = job.task if AFTER in job.payload else None  # what a few pictures taught is no yardstick
    old = {task: half for task, half in halves.items() if task in active.entries and task != new}
    before = history.of_version(active.version, old)
    if before is None:
        before = work.evaluate(active, old, progress)
    after = work.evaluate(candidate, halves, progress)
    progress("gate", 0, 1)
    decision = decide(job.kind, before, after, job.task, work.budgets, best_auroc=history.best_auroc(old))
    judged = Judgement(
        decision=decision,
        version=candidate.version,
        made_from=active.version,
        entries={task: entry.sha256 for task, entry in candidate.entries.items() if _new(entry, active)},
        budgets=asdict(work.budgets),
    )
    verdict = _verdict(job, judged)
    progress("gate", 1, 1)
    tests = {task: heldout[task].test for task in candidate.entries}
    tested = work.evaluate(candidate, tests, as_stage("test", progress))

    def measured(half: Half, tasks: Evaluations, hashes: Mapping[TaskId, str]) -> Evaluation:
        return Evaluation(
            half=half,
            bank_version=candidate.version,
            published=verdict.publish,
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
    if not verdict.publish:
        return _reject(change, desk, judged, evaluations, verdict)
    if not storage.jobs.write_checkpoint(job.id, desk.worker, job.attempts, {GATE: judged.as_json()}):
        raise JobStopped(f"job {job.id} is another worker's by now; what the gate said was not written")
    message = f"bank {candidate.version} published {verdict.said}" + "; ".join(
        (*change.told(after), *_behind(candidate, active, job, desk), *change.remarks, *decision.notes)
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
            feedback={
                **change.settled,
                **{number: Became(FeedbackState.APPLIED, outcome) for number, outcome in change.taken.items()},
            },
        )
    except BankError as error:
        if (storage.banks.active_version(), storage.banks.next_version()) != (active.version, candidate.version):
            raise _LostRace(str(error)) from error
        raise
    return Outcome(JobState.PUBLISHED, message)


def _heldout(change: Change, candidate: MemoryBank, active: MemoryBank, desk: Desk) -> Mapping[TaskId, Heldout]:
    """The held-out pictures of every task of the candidate.

    Raises:
        BankError: the candidate lacks a task that the job is not about.
        DataError: pictures are not to be had, others than before, or were learned.
    """
    lost = sorted(active.entries.keys() - candidate.entries.keys() - {desk.job.task})
    if lost:
        raise BankError(f"a candidate for {desk.job.about} must leave the other tasks in the bank; it lacks {lost}")
    heldout = dict(change.heldout)
    for task in candidate.entries:
        if task not in heldout:
            heldout[task] = heldout_of(task, desk.storage, desk.work, active.version)
            check_unmoved(active.entries[task], heldout[task])
        if change.learned is not None and task not in change.heldout:
            check_apart(desk.job.about, change.learned, task, heldout[task])
    return heldout


def _new(entry: BankEntry, active: MemoryBank) -> bool:
    known = active.entries.get(entry.task.id)
    return known is None or known.sha256 != entry.sha256


class _Verdict(NamedTuple):
    publish: bool
    #: how it was decided, where that is not plain: the start of what the job says
    said: str


def _verdict(job: Job, judged: Judgement) -> _Verdict:
    """The gate's, or that of the person who overrides it."""
    override = Override.of_checkpoint(job.checkpoint)
    reasons = "; ".join(judged.decision.reasons)
    if override is None:
        return _Verdict(judged.decision.passed, "" if judged.decision.passed else reasons)
    whose = f"{override.who} ({override.reason})"
    if judged.decision.passed:
        return _Verdict(True, f"by the gate, no longer against it as {whose} had asked; ")
    if why_not := override.uncovered(judged):
        return _Verdict(False, f"{why_not}; {reasons}")
    return _Verdict(True, f"against the gate by {whose}, although {reasons}; ")


def _behind(candidate: MemoryBank, active: MemoryBank, job: Job, desk: Desk) -> list[str]:
    """After a rollback: what the newest bank had and the one that is published now has not."""
    newest = desk.storage.banks.next_version() - 1
    if newest == active.version:
        return []
    has = {task: entry.sha256 for task, entry in candidate.entries.items()}
    had = {task: sha256 for task, sha256 in desk.storage.banks.contents(newest).items() if task != job.task}
    behind = left_behind(had, has)
    if not behind:
        return []
    return [
        f"made from bank {active.version}, which was in use, not from the newest, bank {newest}; against that one it"
        f" is {behind}"
    ]


def _reject(
    change: Change, desk: Desk, judged: Judgement, evaluations: Sequence[Evaluation], verdict: _Verdict
) -> Outcome:
    message = f"rejected, bank {judged.made_from} stays in use: " + "; ".join((verdict.said, *change.remarks))
    ended = desk.storage.jobs.finish(
        desk.job.id,
        desk.worker,
        desk.job.attempts,
        JobState.REJECTED,
        message,
        desk.clock.now(),
        evaluations=evaluations,
        checkpoint={GATE: judged.as_json()},
        feedback=change.settled,
    )
    if not ended:
        raise JobStopped(f"job {desk.job.id} is another worker's by now; its rejection was not written")
    return Outcome(JobState.REJECTED, message)


def as_stage(stage: str, progress: Progress) -> Progress:
    """Progress told under one name, whatever the stage names itself."""
    fixed = stage

    def told(stage: str, done: int, total: int) -> None:
        progress(fixed, done, total)

    return told
