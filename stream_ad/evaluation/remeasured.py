"""Banks that were measured more than once: the latest figures count, and what differs from the earlier ones is told."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from stream_ad.domain.evaluation import Evaluation
from stream_ad.domain.task import TaskId
from stream_ad.evaluation import forgetting
from stream_ad.evaluation.forgetting import HELDOUT, Flips

#: differences of scores below this are rounding
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Remeasured:
    """One measurement of a bank that had been measured before, against the one just before it."""

    version: int
    at: datetime
    job_id: int | None
    #: products measured
    tasks: int
    #: routed image AUROC (before, now) of products whose score differs
    scores: dict[TaskId, tuple[float, float]]
    #: verdicts that differ; None: the single pictures of the earlier measurement are not kept
    flips: Flips | None
    #: products of the bank that this measurement lacks: their pictures were not to be had
    missing: tuple[TaskId, ...]
    #: products measured on other pictures than before: not compared
    moved: tuple[TaskId, ...]
    #: what was otherwise: code, threads, device ...
    differing: tuple[str, ...]

    @property
    def same(self) -> bool:
        return not (self.scores or self.missing or self.moved or (self.flips and self.flips.flips))


def merged(evaluations: Sequence[Evaluation]) -> tuple[list[Evaluation], tuple[Remeasured, ...]]:
    """One evaluation per published version, refused candidates before the version that took their number; and repeats.

    Of a version measured more than once the latest figures count, product by product; which job made it and which task
    it learned are those of the first.
    """
    versions: dict[int, list[Evaluation]] = {}
    for evaluation in evaluations:
        if evaluation.published:
            versions.setdefault(evaluation.bank_version, []).append(evaluation)
    again = [
        _compared(repeats[index - 1], repeats[index])
        for repeats in versions.values()
        for index in range(1, len(repeats))
    ]
    chosen = [e for e in evaluations if not e.published] + [_latest(repeats) for repeats in versions.values()]
    chosen.sort(key=lambda e: (e.bank_version, e.published))
    return chosen, tuple(sorted(again, key=lambda repeat: repeat.at))


def _latest(repeats: Sequence[Evaluation]) -> Evaluation:
    first, last = repeats[0], repeats[-1]
    if first is last:
        return first
    tasks = {task: e.tasks[task] for e in repeats for task in e.tasks}
    heldout = {task: hash for e in repeats for task, hash in (e.provenance.get(HELDOUT) or {}).items()}
    provenance = {**last.provenance, HELDOUT: heldout} if heldout else last.provenance
    return replace(
        last,
        job_id=first.job_id,
        learned_task=first.learned_task,
        tasks={task: tasks[task] for task in dict.fromkeys((*first.tasks, *tasks))},
        provenance=provenance,
    )


def _compared(before: Evaluation, now: Evaluation) -> Remeasured:
    then, here = (e.provenance.get(HELDOUT) or {} for e in (before, now))
    both = [task for task in before.tasks if task in now.tasks]
    moved = tuple(task for task in both if then.get(task) != here.get(task))
    scores = {}
    for task in both:
        was, new = (float(e.tasks[task].routed.get("image_auroc", math.nan)) for e in (before, now))
        if task not in moved and (math.isnan(was) != math.isnan(new) or abs(was - new) > ROUNDING):
            scores[task] = (was, new)
    kept = all(before.tasks[task].outcomes and now.tasks[task].outcomes for task in both)
    same = [task for task in both if task not in moved]
    keys = (before.provenance.keys() | now.provenance.keys()) - {HELDOUT}
    return Remeasured(
        version=now.bank_version,
        at=now.at,
        job_id=now.job_id,
        tasks=len(now.tasks),
        scores=scores,
        flips=forgetting.flips(before, now, tasks=same) if kept and both else None,
        missing=tuple(task for task in before.tasks if task not in now.tasks),
        moved=moved,
        differing=tuple(sorted(k for k in keys if str(before.provenance.get(k)) != str(now.provenance.get(k)))),
    )
