"""Measuring the active bank again, as the nightly job does: pictures, programs and machines change under a bank.

Nothing is published and nothing is refused. What is found worse than when the bank was published is said in the job's
message, by the gate's own budgets.
"""

import logging
from collections.abc import Mapping, Sequence

from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.evaluation import Evaluation, Half, TaskEvaluation
from stream_ad.domain.images import split_hash
from stream_ad.domain.job import JobKind
from stream_ad.domain.task import TaskId
from stream_ad.domain.wording import counted
from stream_ad.errors import DataError
from stream_ad.services.gate import decide
from stream_ad.services.heldout import check_unmoved, heldout_of
from stream_ad.services.publishing import as_stage
from stream_ad.services.work import Desk, Heldout, Outcome, done

log = logging.getLogger(__name__)

Evaluations = Mapping[TaskId, TaskEvaluation]


def measure_again(desk: Desk) -> Outcome:
    """The active bank on both halves, kept beside what was measured of it before.

    Raises:
        DataError: the held-out pictures of a task are not to be had; the other tasks were measured and are kept.
        JobStopped: by `desk.progress`, or the lease was lost at the very end.
    """
    storage, work, job = desk.storage, desk.work, desk.job
    bank = storage.banks.load()
    if not bank.entries:
        return done(desk, "no product is known yet: nothing to measure")
    heldout, missing = _heldout(bank, desk)
    made = next((row for row in storage.banks.versions() if row["version"] == bank.version), None)
    worse: list[str] = []
    differing: set[str] = set()
    compared: set[TaskId] = set()
    for half in Half if heldout else ():
        pictures = {task: getattr(both, half.value) for task, both in heldout.items()}
        progress = desk.progress if half is Half.REGRESSION else as_stage("test", desk.progress)
        evaluation = Evaluation(
            half=half,
            bank_version=bank.version,
            published=True,
            job_id=job.id,
            learned_task=made["task"] if made else None,
            tasks=work.evaluate(bank, pictures, progress),
            provenance={
                **work.provenance,
                "heldout": {task: split_hash(images.ids) for task, images in pictures.items()},
            },
            at=desk.clock.now(),
        )
        earlier = _when_published(storage.evaluations.all(half), bank.version, made["job_id"] if made else None)
        storage.evaluations.save(evaluation)
        if earlier is None:
            continue
        before, after = _same_pictures(earlier, evaluation)
        compared |= before.keys()
        decision = decide(JobKind.EVALUATE, before, after, None, work.budgets)
        worse += [f"{sentence} ({half} half)" for sentence in decision.reasons]
        differing |= _differing(earlier, evaluation)
    # the figures of every night are kept, the single pictures of the last one only
    storage.evaluations.thin(bank.version, keep={job.id, *([made["job_id"]] if made else [])})
    message = f"bank {bank.version} measured again: " + _said(worse, sorted(compared), sorted(heldout), differing)
    if worse:
        log.warning("job %s: %s", job.id, message)
    if missing:
        raise DataError(f"{message}. NOT MEASURED: {'; '.join(missing)}")
    return done(desk, message)


def _heldout(bank: MemoryBank, desk: Desk) -> tuple[dict[TaskId, Heldout], list[str]]:
    """The pictures of every task, and why those of some are not to be had."""
    found: dict[TaskId, Heldout] = {}
    missing: list[str] = []
    for task, entry in bank.entries.items():
        try:
            heldout = heldout_of(task, desk.storage, desk.work, bank.version)
            check_unmoved(entry, heldout)
            found[task] = heldout
        except DataError as error:
            missing.append(str(error))
    return found, missing


def _when_published(evaluations: Sequence[Evaluation], version: int, job_id: int | None) -> Evaluation | None:
    of_version = [e for e in evaluations if e.published and e.bank_version == version]
    return next((e for e in of_version if e.job_id == job_id), of_version[0] if of_version else None)


def _same_pictures(earlier: Evaluation, now: Evaluation) -> tuple[Evaluations, Evaluations]:
    """Both as far as they can be compared: of tasks measured on the same pictures."""
    then, here = earlier.provenance.get("heldout") or {}, now.provenance["heldout"]
    tasks = [task for task in now.tasks if task in earlier.tasks and then.get(task) == here[task]]
    return {task: earlier.tasks[task] for task in tasks}, {task: now.tasks[task] for task in tasks}


def _differing(earlier: Evaluation, now: Evaluation) -> set[str]:
    """What was otherwise when the bank was published: threads, code ..."""
    keys = (earlier.provenance.keys() | now.provenance.keys()) - {"heldout"}
    return {key for key in keys if str(earlier.provenance.get(key)) != str(now.provenance.get(key))}


def _said(worse: Sequence[str], compared: Sequence[str], measured: Sequence[str], differing: set[str]) -> str:
    alone = [task for task in measured if task not in compared]
    parts = []
    if worse:
        parts.append("worse than when it was published: " + "; ".join(worse))
    elif compared:
        parts.append(f"nothing is worse than when it was published ({counted(len(compared), 'task')})")
    if alone:
        parts.append(f"nothing to compare with for {', '.join(alone)}")
    if differing:
        parts.append(f"measured otherwise than then, which may be why figures differ: {', '.join(sorted(differing))}")
    return "; ".join(parts) or "no task could be measured"
