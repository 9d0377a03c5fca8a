"""A job's work: from the pictures of one product line to a published bank, or to reasons why not.

read -> adapt -> calibrate -> evaluate -> gate -> test -> publish

Scorers see nothing of it before the last step, which is one transaction. Whatever dies earlier leaves the published
bank as it was, plus at most an entry file that nothing refers to. Everything is deterministic, so that a second worker
that takes the job up again makes the very same entry.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, NamedTuple

from stream_ad.domain.bank import BankEntry, MemoryBank
from stream_ad.domain.evaluation import Evaluation, Half, TaskEvaluation
from stream_ad.domain.images import HeldoutSet, ImageSet, Mask, Subset, split_hash
from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.domain.ports import (
    BankRepository,
    Clock,
    EntryStore,
    EvaluationRepository,
    JobRepository,
    Progress,
    TaskRepository,
)
from stream_ad.domain.product import Named
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import BankError, DataError, JobStopped, OverlappingSplits, StreamAdError
from stream_ad.services.gate import GateBudgets, GateDecision, decide

log = logging.getLogger(__name__)

MAX_RACES = 5
SHOWN = 10  # pictures that a message names


class Heldout(NamedTuple):
    """The two halves of a task's held-out pictures."""

    regression: HeldoutSet
    test: HeldoutSet


@dataclass(frozen=True, slots=True, eq=False)
class TaskImages:
    """What the payload of a job names, opened."""

    #: pictures that a detector may learn from; the reserved ones are not among them
    normals: ImageSet
    heldout: Heldout
    roi: Mask | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a job needs that is not storage. Bound to folders, detectors and a backbone by `app`."""

    #: all pictures that a payload names
    read: Callable[[Task, Mapping[str, Any]], TaskImages]
    #: an entry, not yet stored
    learn: Callable[[Task, TaskImages, Mapping[str, Any], Progress], BankEntry]
    #: every given task of a bank through its router
    evaluate: Callable[[MemoryBank, Mapping[TaskId, HeldoutSet], Progress], Mapping[TaskId, TaskEvaluation]]
    budgets: GateBudgets
    #: what every number of an evaluation carries: code version, weights, configuration, device ...
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """What a job reads and writes."""

    tasks: TaskRepository
    jobs: JobRepository
    banks: BankRepository
    evaluations: EvaluationRepository
    entries: EntryStore


class Outcome(NamedTuple):
    """How a job ended."""

    state: JobState
    message: str


def adapt_and_publish(job: Job, worker: str, storage: Storage, work: Work, clock: Clock, progress: Progress) -> Outcome:
    """Do a claimed job to its end: published, or rejected by the gate. Either way its row says so.

    Raises:
        JobStopped: by `progress`, or because the lease was lost at the very end.
        StreamAdError: the input is not usable; the message is for the person who asked.
    """
    task = storage.tasks.get(job.task)
    progress("read", 0, 1)
    images = work.read(task, job.payload)
    check_disjoint(task.id, images)
    progress("read", 1, 1)
    entry = work.learn(task, images, job.payload, progress)
    progress("calibrate", 1, 1)
    if remark := suspects_remark(entry, images.normals):
        log.warning("job %s, task %r: %s", job.id, task.id, remark)
    halves = {Half.REGRESSION: images.heldout.regression, Half.TEST: images.heldout.test}
    splits = {half.value: split_hash(pictures.ids) for half, pictures in halves.items()}
    entry = storage.entries.put(replace(entry, splits={**entry.splits, **splits}))
    heldout = {task.id: images.heldout}
    for _ in range(MAX_RACES):
        try:
            return _evaluate_and_publish(job, worker, storage, work, clock, progress, entry, images.normals, heldout)
        except _LostRace as race:
            log.info("job %s: %s; evaluating once more", job.id, race)
    raise BankError(
        f"other jobs or rollbacks changed the active bank {MAX_RACES} times while {task.id!r} was evaluated;"
        f" run it again with `stream-ad jobs retry {job.id}`"
    )


class _LostRace(Exception):
    """The active bank changed while a candidate made from it was evaluated."""


def _evaluate_and_publish(
    job: Job,
    worker: str,
    storage: Storage,
    work: Work,
    clock: Clock,
    progress: Progress,
    entry: BankEntry,
    learned: ImageSet,
    heldout: dict[TaskId, Heldout],
) -> Outcome:
    active = storage.banks.load()
    candidate = active.with_entry(entry, storage.banks.next_version())
    for task in candidate.entries:
        if task not in heldout:
            heldout[task] = _heldout_of(task, storage, work)
            _check_unmoved(active.entries[task], heldout[task])
            check_apart(job.task, learned, task, heldout[task])
    halves = {task: heldout[task].regression for task in candidate.entries}
    provenance = {**work.provenance, "heldout": {task: split_hash(half.ids) for task, half in halves.items()}}
    history = _Comparable(storage.evaluations.all(Half.REGRESSION), provenance)
    old = {task: half for task, half in halves.items() if task in active.entries and task != job.task}
    before = history.of_version(active.version, old)
    if before is None:
        before = work.evaluate(active, old, progress)
    after = work.evaluate(candidate, halves, progress)
    progress("gate", 0, 1)
    decision = decide(before, after, job.task, work.budgets, best_auroc=history.best_auroc(old))
    progress("gate", 1, 1)
    test = work.evaluate(
        candidate, {task: heldout[task].test for task in candidate.entries}, _as_stage("test", progress)
    )
    tests = {task: split_hash(heldout[task].test.ids) for task in candidate.entries}

    def measured(half: Half, tasks: Mapping[TaskId, TaskEvaluation]) -> Evaluation:
        return Evaluation(
            half=half,
            bank_version=candidate.version,
            published=decision.passed,
            job_id=job.id,
            learned_task=job.task,
            tasks=tasks,
            provenance=provenance if half is Half.REGRESSION else {**provenance, "heldout": tests},
            at=clock.now(),
        )

    evaluations = [measured(Half.REGRESSION, after), measured(Half.TEST, test)]
    if not decision.passed:
        return _reject(job, worker, storage, clock, active.version, evaluations, decision, entry, learned)
    message = _published_message(candidate, entry, after[job.task], decision, learned)
    progress("publish", 0, 1)
    try:
        storage.banks.publish(
            candidate,
            parent=active.version,
            job=job,
            worker=worker,
            evaluations=evaluations,
            message=message,
            at=clock.now(),
        )
    except BankError as error:
        if (storage.banks.active_version(), storage.banks.next_version()) != (active.version, candidate.version):
            raise _LostRace(str(error)) from error
        raise
    return Outcome(JobState.PUBLISHED, message)


def _reject(
    job: Job,
    worker: str,
    storage: Storage,
    clock: Clock,
    version: int,
    evaluations: Sequence[Evaluation],
    decision: GateDecision,
    entry: BankEntry,
    learned: ImageSet,
) -> Outcome:
    # first the scores, then the end: who finds a rejected job also finds what was measured
    for evaluation in evaluations:
        storage.evaluations.save(evaluation)
    remarks = [suspects_remark(entry, learned)] if entry.suspects else []
    message = f"rejected, bank {version} stays in use: " + "; ".join((*decision.reasons, *remarks))
    if not storage.jobs.finish(job.id, worker, JobState.REJECTED, message, clock.now()):
        raise JobStopped(f"job {job.id} is another worker's by now; its rejection was not written")
    return Outcome(JobState.REJECTED, message)


def _published_message(
    candidate: MemoryBank, entry: BankEntry, new: TaskEvaluation, decision: GateDecision, learned: ImageSet
) -> str:
    auroc = new.routed.get("image_auroc", math.nan)
    measured = "not measured" if math.isnan(auroc) else f"{auroc:.3f}{' (synthetic defects)' if new.synthetic else ''}"
    parts = [f"bank {candidate.version} published with {entry.task.id!r}: image AUROC {measured}"]
    if not entry.calibration.can_promise(entry.task.false_alarm_rate):
        n, rate = len(entry.calibration.scores), entry.task.false_alarm_rate
        parts.append(
            f"a false-alarm rate of {rate:g} cannot be promised with {n} pictures, it takes {1 / rate - 1:.0f}"
        )
    if remark := suspects_remark(entry, learned):
        parts.append(remark)
    return "; ".join((*parts, *decision.notes))


def suspects_remark(entry: BankEntry, normals: ImageSet) -> str:
    """Which training pictures were left out because they look defective, for the person who can look at them."""
    if not entry.suspects:
        return ""
    while isinstance(normals, Subset):
        normals = normals.images
    files = {id: PurePath(file).name for file, id in normals.named_ids.items()} if isinstance(normals, Named) else {}
    names = [files.get(id, id[:12]) for id in entry.suspects]
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    count = f"{len(names)} training picture{'' if len(names) == 1 else 's'}"
    return f"{count} looked defective and {'was' if len(names) == 1 else 'were'} not learned: {shown}"


def _heldout_of(task: TaskId, storage: Storage, work: Work) -> Heldout:
    """The held-out pictures of a task of the bank, from where its own job read them.

    Raises:
        DataError: they cannot be read any more.
    """
    job = published_job(task, storage.jobs)
    try:
        heldout = work.read(storage.tasks.get(task), job.payload).heldout
        if len(heldout.regression.ids) == 0:
            raise DataError("no picture is left of them")
    except StreamAdError as error:
        raise DataError(
            f"the held-out pictures of task {task!r} are needed to show that it is not forgotten, and cannot be read:"
            f" {error}. Bring them back, then `stream-ad jobs retry`"
        ) from error
    return heldout


def published_job(task: TaskId, jobs: JobRepository) -> Job:
    """The newest job that put this task into a bank; its payload names the task's pictures.

    Raises:
        DataError: there is none.
    """
    for job in jobs.all():  # newest first
        if job.task == task and job.kind is JobKind.ADAPT and job.state is JobState.PUBLISHED:
            return job
    raise DataError(f"the bank has task {task!r}, but no published job says where its held-out pictures are")


def check_disjoint(task: TaskId, images: TaskImages) -> None:
    """Nothing learned is also held out, and no picture is in both halves.

    Raises:
        OverlappingSplits: a picture (its decoded pixels) is in two sets.
    """
    regression, test = set(images.heldout.regression.ids), set(images.heldout.test.ids)
    held = regression | test
    if both := [index for index, id in enumerate(images.normals.ids) if id in held]:
        raise OverlappingSplits(
            f"task {task!r}: {len(both)} of {len(images.normals)} training pictures are held-out pictures too (the"
            f" first is number {both[0] + 1}); figures on pictures that were learned mean nothing, so take them out of"
            " one of the two folders"
        )
    if regression & test:
        raise OverlappingSplits(f"task {task!r}: {len(regression & test)} held-out pictures are in both halves")


def check_apart(task: TaskId, learned: ImageSet, other: TaskId, heldout: Heldout) -> None:
    """Nothing that a new task learns is held out for an old one.

    Raises:
        OverlappingSplits: a picture (its decoded pixels) is in both.
    """
    if shared := set(learned.ids) & {*heldout.regression.ids, *heldout.test.ids}:
        raise OverlappingSplits(
            f"{len(shared)} of the {len(learned)} training pictures of {task!r} are held-out pictures of {other!r};"
            " take them out of the training folder: they are another product, or that product's figures would flatter"
        )


def _check_unmoved(entry: BankEntry, heldout: Heldout) -> None:
    """The held-out pictures of an old task are still those of its own job.

    They are divided and, without --heldout, set apart by rank: one picture more or less in the folder moves others,
    and a picture that was learned could become one that judges.

    Raises:
        DataError: they are others.
    """
    for half, pictures in ((Half.REGRESSION, heldout.regression), (Half.TEST, heldout.test)):
        if entry.splits.get(half.value) != split_hash(pictures.ids):
            raise DataError(
                f"the held-out pictures of task {entry.task.id!r} are not those that it was judged by when it was "
                "learned: its folders have changed. Put back what was removed, take out what was added, then "
                "`stream-ad jobs retry`"
            )


class _Comparable:
    """Earlier evaluations of published banks, as far as they can be compared with one made now.

    A figure counts only if it was measured by the same program and settings on the same pictures.
    """

    def __init__(self, evaluations: Sequence[Evaluation], provenance: Mapping[str, Any]) -> None:
        self._heldout: Mapping[str, str] = provenance["heldout"]
        same = {key: str(value) for key, value in provenance.items() if key != "heldout"}
        self._evaluations = [
            evaluation
            for evaluation in evaluations
            if evaluation.published
            and same == {key: str(value) for key, value in evaluation.provenance.items() if key != "heldout"}
        ]

    def of_version(self, version: int, tasks: Mapping[TaskId, HeldoutSet]) -> Mapping[TaskId, TaskEvaluation] | None:
        """What was measured of these tasks when that bank was published; None: not all of it."""
        if not tasks:
            return {}
        for evaluation in reversed(self._evaluations):
            if evaluation.bank_version == version and all(self._same_pictures(evaluation, task) for task in tasks):
                return {task: evaluation.tasks[task] for task in tasks}
        return None

    def best_auroc(self, tasks: Mapping[TaskId, HeldoutSet]) -> Mapping[TaskId, float]:
        """Each task's best routed image AUROC; a task without any is not there."""
        best: dict[TaskId, float] = {}
        for evaluation in self._evaluations:
            for task in tasks:
                if self._same_pictures(evaluation, task):
                    auroc = evaluation.tasks[task].routed.get("image_auroc", math.nan)
                    if not math.isnan(auroc):
                        best[task] = max(auroc, best.get(task, -math.inf))
        return best

    def _same_pictures(self, evaluation: Evaluation, task: TaskId) -> bool:
        there = evaluation.provenance.get("heldout") or {}
        return task in evaluation.tasks and there.get(task) == self._heldout[task]


def _as_stage(stage: str, progress: Progress) -> Progress:
    fixed = stage

    def told(stage: str, done: int, total: int) -> None:
        progress(fixed, done, total)

    return told
