"""The forgetting report: from stored evaluations to one value, and from it to JSON, Markdown and HTML.

Nothing is measured here: scores come from `evaluation.protocol`, on the test half, one evaluation per bank version and
one per candidate that the gate refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np

from stream_ad.domain.decision import Judgement, Override
from stream_ad.domain.evaluation import METRICS, Evaluation, Half, Mode, TaskEvaluation
from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.domain.task import TaskId
from stream_ad.evaluation import forgetting
from stream_ad.evaluation.allowance import let_through
from stream_ad.evaluation.events import events
from stream_ad.evaluation.findings import (
    Decision,
    ForgettingReport,
    Measured,
    MetricFinding,
    Outcome,
    Overlay,
    Promise,
    Standing,
    Summary,
    TaskFinding,
    rates_of,
)
from stream_ad.evaluation.forgetting import HELDOUT, Flips, ScoreMatrix, score_matrix
from stream_ad.evaluation.refusals import Refusal, refusals, refused_before
from stream_ad.evaluation.remeasured import merged
from stream_ad.evaluation.renderings import to_csv, to_html, to_json, to_markdown
from stream_ad.evaluation.sentences import plain_words

__all__ = [
    "ForgettingReport",
    "Outcome",
    "Overlay",
    "Promise",
    "forgetting_report",
    "to_csv",
    "to_html",
    "to_json",
    "to_markdown",
]

#: losses below this are rounding, not forgetting
ROUNDING = 1e-9


def forgetting_report(
    evaluations: Sequence[Evaluation],
    regression: Sequence[Evaluation] = (),
    *,
    made_at: datetime,
    overlays: Mapping[str, Sequence[tuple[str, bytes]]] | None = None,
    promises: Mapping[TaskId, Promise] | None = None,
    reasons: Mapping[int, str] | None = None,
    jobs: Sequence[Job] = (),
    judgements: Mapping[tuple[int, int], Judgement] | None = None,
    audit: Sequence[Mapping[str, Any]] = (),
    active_version: int | None = None,
    max_forgetting: float = 0.01,
    max_flips: float = 0.02,
    metrics: Sequence[str] = ("image_auroc", "pixel_ap"),
    notes: Sequence[str] = (),
) -> ForgettingReport:
    """What the evaluations of the test half say about forgetting, refused candidates included.

    The report is about the active version, or the newest one when that was not evaluated or is not given.

    Args:
        evaluations: of the test half. Of a version evaluated twice the later one counts.
        regression: of the half on which the gate decides: what it saw of each candidate. When the test half was
            never evaluated, the whole report is about this half and says so.
        overlays: example pictures as (caption, JPEG) by task.
        promises: what each entry promises of its false alarms: `Promise.of(entry)`.
        reasons: by job, why the gate refused, where what it said was not kept as a value.
        jobs: what was done to the bank, and how it ended.
        judgements: what the gate said, by job and number of the candidate.
        audit: what people decided: at, who, action, subject, reason, details.
        max_forgetting: the gate's limit, in routed image AUROC.
        max_flips: the gate's limit, as a share of a product's pictures, here of those whose verdict got worse.
        metrics: of the matrices; image_auroc is always there.
        notes: anything else that a reader must know.
    """
    half = Half.REGRESSION if regression and not evaluations else Half.TEST
    tried, again = merged(evaluations or regression)
    seen_by_gate, _ = merged(regression or evaluations)
    published = [e for e in tried if e.published]
    current = _current(published, active_version)
    matrices = {metric: _metric(metric, tried, current) for metric in dict.fromkeys(("image_auroc", *metrics))}
    now = published[current] if published else None
    notes = [*notes, *_missing_versions(published, [e for e in seen_by_gate if e.published])]
    # which pictures were held out differs with every new task; it is for comparing, not for reading
    provenance = {key: str(value) for key, value in now.provenance.items() if key != HELDOUT} if now else {}
    refused = refusals(seen_by_gate, {job.id: job for job in jobs}, judgements or {})
    since_learned = _since_learned(published, current)
    routed = matrices["image_auroc"].routed
    gone, retired = _gone(published, current, jobs)
    report = ForgettingReport(
        outcome=_outcome(routed, current, max_forgetting),
        made_at=made_at,
        half=half,
        max_forgetting=max_forgetting,
        max_flips=max_flips,
        versions=routed.steps,
        version=now.bank_version if now else None,
        active_version=active_version if now and active_version != now.bank_version else None,
        tasks=_tasks(published, current, promises or {}, since_learned, max_forgetting, max_flips),
        gone=gone,
        retired=retired,
        moved=routed.moved(current) if published else (),
        metrics=matrices,
        measured=_measured(tried, matrices["image_auroc"]),
        flips=tuple(forgetting.flips(before, after) for before, after in pairwise(published)),
        since_learned=tuple(since_learned.values()),
        decisions=_decisions(seen_by_gate, reasons or {}, refused),
        refusals=refused,
        overridden=tuple(
            job.id
            for job in jobs
            if job.state is JobState.PUBLISHED and Override.of_checkpoint(job.checkpoint) is not None
        ),
        again=again,
        events=events(
            jobs, audit, [refused_before(r) for r in refused if r.asked_for is not None or r.overridden_in is not None]
        ),
        confusion=forgetting.routing_confusion(now) if now and any(t.outcomes for t in now.tasks.values()) else None,
        overlays={task: tuple(Overlay(*example) for example in shown) for task, shown in (overlays or {}).items()},
        provenance=provenance,
        mixed=tuple(key for key in provenance if len({str(e.provenance.get(key)) for e in published}) > 1),
        notes=tuple(notes),
    )
    if half is Half.TEST:
        said = {(step.job_id, step.version): step.version for step in report.versions}
        passed = [(said[key], judged) for key, judged in (judgements or {}).items() if key in said]
        report = replace(report, let_through=let_through(passed, {task.task: task.got_worse for task in report.tasks}))
    if report.gone or report.worse:
        report = replace(report, outcome=Outcome.LOST)
    elif report.outcome == Outcome.KEPT and any(f.new_false_alarms or f.newly_missed for f in report.since_learned):
        report = replace(report, outcome=Outcome.SLIGHT)
    words = plain_words(report)
    return replace(report, answer=words.answer, found=words.found, basis=words.basis)


def _current(published: Sequence[Evaluation], active_version: int | None) -> int:
    rows = {e.bank_version: row for row, e in enumerate(published)}
    return rows.get(active_version, len(published) - 1) if active_version is not None else len(published) - 1


def _metric(metric: str, tried: Sequence[Evaluation], current: int) -> MetricFinding:
    published = [e for e in tried if e.published]
    routed, oracle = (score_matrix(published, metric, mode) for mode in (Mode.ROUTED, Mode.ORACLE))
    cost = forgetting.regret(routed.scores, oracle.scores)
    everything = score_matrix(tried, metric, Mode.ROUTED)
    change = np.full(everything.scores.shape, np.nan)
    for row in range(len(tried)):
        for task, loss in _against_published(tried, row, metric).losses().items():
            change[row, everything.tasks.index(task)] = 0.0 - loss
    return MetricFinding(
        metric=metric,
        current=current,
        routed=routed,
        oracle=oracle,
        regret=cost,
        routed_summary=tuple(_summary(routed, step, cost[step]) for step in range(len(published))),
        oracle_summary=tuple(_summary(oracle, step, None) for step in range(len(published))),
        tried=everything,
        change=change,
        unmeasured=routed.unmeasured(current) if published else (),
    )


def _measured(tried: Sequence[Evaluation], finding: MetricFinding) -> tuple[Measured, ...]:
    tasks = finding.tried.tasks
    return tuple(
        Measured.of(step, e.at, e.tasks[task], float(finding.change[row, tasks.index(task)]))
        for row, (step, e) in enumerate(zip(finding.tried.steps, tried, strict=True))
        for task in tasks
        if task in e.tasks
    )


def _against_published(tried: Sequence[Evaluation], row: int, metric: str) -> ScoreMatrix:
    """Routed R of the versions published before a candidate, and then the candidate."""
    return score_matrix([*(e for e in tried[:row] if e.published), tried[row]], metric, Mode.ROUTED)


def _summary(matrix: ScoreMatrix, step: int, cost: np.ndarray | None) -> Summary:
    measured = cost[~np.isnan(cost)] if cost is not None else np.empty(0)
    scores = matrix.comparable(step)
    return Summary(
        average=forgetting.average(scores, step, matrix.first),
        backward_transfer=forgetting.backward_transfer(scores, step, matrix.first),
        forgetting=forgetting.forgetting_measure(scores, step, matrix.first),
        regret=float(measured.mean()) if len(measured) else float("nan"),
    )


def _outcome(routed: ScoreMatrix, current: int, max_forgetting: float) -> Outcome:
    if current < 0:
        return Outcome.UNMEASURED
    if not (routed.first < current).any():
        return Outcome.FIRST
    losses = routed.losses(current)
    if not losses:
        return Outcome.UNMEASURED
    worst = max(losses.values())
    if worst > max_forgetting + ROUNDING:
        return Outcome.LOST
    return Outcome.SLIGHT if worst > ROUNDING else Outcome.KEPT


def _tasks(
    published: Sequence[Evaluation],
    current: int,
    promises: Mapping[TaskId, Promise],
    since_learned: Mapping[TaskId, Flips],
    max_forgetting: float,
    max_flips: float,
) -> tuple[TaskFinding, ...]:
    if not published:
        return ()
    losses = {metric: score_matrix(published, metric, Mode.ROUTED).losses(current) for metric in METRICS}
    matrix = score_matrix(published, "image_auroc", Mode.ROUTED)
    moved = matrix.moved(current)
    now = published[current].tasks
    found = []
    for task in matrix.tasks:
        if task not in now:
            continue
        lost = {metric: by_task[task] for metric, by_task in losses.items() if task in by_task}
        changed = since_learned.get(task)
        astray = _astray(task, published, current)
        made = _task(now[task], published[: current + 1], lost, promises)
        found.append(
            replace(
                made,
                standing=_standing(
                    made, moved, changed, astray, published[current].bank_version, max_forgetting, max_flips
                ),
                compared=changed.compared if changed else 0,
                newly_missed=changed.newly_missed if changed else 0,
                newly_alarmed=changed.new_false_alarms if changed else 0,
                put_right=changed.corrected if changed else 0,
                astray=astray,
            )
        )
    return tuple(found)


def _astray(task: TaskId, published: Sequence[Evaluation], current: int) -> int:
    """How many pictures fewer are recognised as this product than when it was learned, of those judged both times."""
    first = next(e for e in published if task in e.tasks)
    return forgetting.astray(first.tasks[task].outcomes, published[current].tasks[task].outcomes)


def _standing(
    task: TaskFinding,
    moved: Sequence[TaskId],
    changed: Flips | None,
    astray: int,
    version: int,
    max_forgetting: float,
    max_flips: float,
) -> Standing:
    loss = task.loss.get("image_auroc")
    harmed = changed.new_false_alarms + changed.newly_missed if changed else 0
    if task.learned_in == version:
        return Standing.NEW
    # one picture never decides, as in the gate
    if changed and max(harmed, astray) > max(1, max_flips * changed.compared + ROUNDING):
        return Standing.WORSE
    if task.task in moved:
        return Standing.UNCOMPARED
    if loss is not None and loss > max_forgetting + ROUNDING:
        return Standing.WORSE
    if harmed or astray > 0 or (loss is not None and loss > ROUNDING):
        return Standing.SLIGHT
    if loss is None:
        return Standing.UNMEASURED
    return Standing.BETTER if loss < -ROUNDING or (changed and changed.corrected) else Standing.SAME


def _task(
    measured: TaskEvaluation,
    published: Sequence[Evaluation],
    loss: Mapping[str, float],
    promises: Mapping[TaskId, Promise],
) -> TaskFinding:
    task = measured.task
    first = next(e for e in published if task in e.tasks)
    return TaskFinding(
        task=task,
        learned_in=first.bank_version,
        adapted_again_in=tuple(e.bank_version for e in published if e.learned_task == task and e is not first),
        n_normal=measured.n_normal,
        n_defective=measured.n_defective,
        synthetic=measured.synthetic,
        routed=measured.routed,
        oracle=measured.oracle,
        loss=loss,
        **rates_of(measured),
        promise=promises.get(task),
        notes=measured.notes,
        standing=Standing.UNMEASURED,
    )


def _gone(
    published: Sequence[Evaluation], current: int, jobs: Sequence[Job]
) -> tuple[tuple[TaskId, ...], tuple[TaskId, ...]]:
    """Tasks of earlier versions that the current one lacks: for no reason that a person gave, and retired."""
    known = {task: None for e in published[: current + 1] for task in e.tasks}
    lacking = [task for task in known if task not in published[current].tasks]
    by_hand = {job.task for job in jobs if job.kind is JobKind.RETIRE and job.state is JobState.PUBLISHED}
    return tuple(t for t in lacking if t not in by_hand), tuple(t for t in lacking if t in by_hand)


def _since_learned(published: Sequence[Evaluation], current: int) -> Mapping[TaskId, Flips]:
    """Of every task that an earlier version had, what changed from the first one to the current one."""
    if not published:
        return {}
    firsts: dict[TaskId, Evaluation] = {}
    for e in published[:current]:
        for task in e.tasks:
            firsts.setdefault(task, e)
    return {task: forgetting.flips(first, published[current], tasks=[task]) for task, first in firsts.items()}


def _decisions(
    tried: Sequence[Evaluation], reasons: Mapping[int, str], refused: Sequence[Refusal]
) -> tuple[Decision, ...]:
    decisions = []
    by_step = {refusal.step: refusal for refusal in refused}
    for row, candidate in enumerate(tried):
        matrix = _against_published(tried, row, "image_auroc")
        losses = matrix.losses()
        worst = max(losses, key=lambda task, losses=losses: losses[task], default=None)
        before = next((e for e in reversed(tried[:row]) if e.published), None)
        refusal = by_step.get(matrix.steps[-1])
        reason = reasons.get(candidate.job_id) if candidate.job_id is not None else None
        decisions.append(
            Decision(
                step=matrix.steps[-1],
                at=candidate.at,
                half=candidate.half,
                reason="; ".join(refusal.reasons) if refusal and refusal.reasons else reason,
                forgetting=forgetting.forgetting_measure(matrix.comparable(), first=matrix.first),
                worst_task=worst,
                worst_loss=losses[worst] if worst is not None else float("nan"),
                flips=forgetting.flips(before, candidate) if before else None,
                overridden_in=refusal.overridden_in if refusal else None,
                asked_for=refusal.asked_for if refusal else None,
            )
        )
    return tuple(decisions)


def _missing_versions(published: Sequence[Evaluation], judged: Sequence[Evaluation]) -> list[str]:
    """Versions that the gate saw but the other half did not."""
    missing = sorted({e.bank_version for e in judged} - {e.bank_version for e in published})
    if not missing:
        return []
    return [f"not evaluated on the test half: version {', '.join(map(str, missing))}"]
