"""What candidates that the gate refused would have done: to which product, how much, against what is allowed."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from stream_ad.domain.decision import Breach, Judgement, Override, Rule, TaskChange
from stream_ad.domain.evaluation import Evaluation, Half, ImageOutcome, TaskEvaluation
from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.domain.result import Verdict
from stream_ad.domain.task import TaskId
from stream_ad.evaluation.events import Event, what
from stream_ad.evaluation.forgetting import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """What a candidate says of its own new product, for which there is no before. NaN: not measured."""

    auroc: float
    #: defects called OK, and good parts that raise an alarm
    missed: int
    false_alarms: int
    #: to which product its pictures go instead
    taken_by: Mapping[str, int]
    #: pictures refused as of no known product
    refused: int
    n_images: int
    n_normal: int

    @classmethod
    def of(cls, measured: TaskEvaluation) -> "Alone":
        judged = measured.outcomes
        elsewhere = Counter(str(o.routed_task) for o in judged if o.routed_task != measured.task and not o.refused)
        return cls(
            auroc=float(measured.routed.get("image_auroc", math.nan)),
            missed=sum(o.defective and not _alarm(o) for o in judged),
            false_alarms=sum(_alarm(o) and not o.defective for o in judged),
            taken_by=dict(elsewhere.most_common()),
            refused=sum(o.refused for o in judged),
            n_images=len(judged),
            n_normal=sum(not o.defective for o in judged),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hurt:
    """What a candidate would have done to one product."""

    task: TaskId
    #: None: the product was new to this candidate
    change: TaskChange | None
    breaches: tuple[Breach, ...]
    #: of a product that was new, where it was measured
    alone: Alone | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One refused candidate. It never judged a part, unless a person overrode the gate afterwards."""

    step: Step
    at: datetime
    half: Half
    kind: JobKind | None  # None: its job is not known any more
    what: str
    #: the bank in use, against which it was compared
    against: int | None
    #: every product that it would have touched, the worst first; those that it leaves as they are last
    hurts: tuple[Hurt, ...]
    #: what the gate said, as a person reads it
    reasons: tuple[str, ...]
    #: the bank version by which it is in use after all
    overridden_in: int | None
    #: a person has asked for it all the same, and its job has not ended since
    asked_for: Override | None = None

    @property
    def harmed(self) -> tuple[Hurt, ...]:
        """Products by which it was refused."""
        return tuple(hurt for hurt in self.hurts if hurt.breaches)


def refusals(
    tried: Sequence[Evaluation], jobs: Mapping[int, Job], judgements: Mapping[tuple[int, int], Judgement]
) -> tuple[Refusal, ...]:
    """Every refused candidate among evaluations of one half, in their order.

    Args:
        jobs: by number.
        judgements: what the gate said, by job and number of the candidate, where it was kept; of others it is told from
            the evaluations.
    """
    return tuple(
        _refusal(candidate, tried, row, jobs, judgements)
        for row, candidate in enumerate(tried)
        if not candidate.published
    )


def _refusal(
    candidate: Evaluation,
    tried: Sequence[Evaluation],
    row: int,
    jobs: Mapping[int, Job],
    judgements: Mapping[tuple[int, int], Judgement],
) -> Refusal:
    job = jobs.get(candidate.job_id) if candidate.job_id is not None else None
    before = next((e for e in reversed(tried[:row]) if e.published), None)
    judged = judgements.get((job.id, candidate.bank_version)) if job else None
    overridden = job is not None and job.state is JobState.PUBLISHED
    return Refusal(
        step=Step(candidate.bank_version, False, candidate.learned_task, candidate.job_id),
        at=candidate.at,
        half=candidate.half,
        kind=job.kind if job else None,
        what=what(job) if job else f"learn {candidate.learned_task}" if candidate.learned_task else "a change",
        against=judged.made_from if judged else before.bank_version if before else None,
        hurts=hurts_of(judged, before, candidate),
        reasons=judged.decision.reasons if judged else (),
        overridden_in=job.bank_version if job and overridden else None,
        asked_for=asked_for(job) if job else None,
    )


def refused_before(refusal: Refusal) -> Event:
    """The refusal of a job that was queued again since: its row says nothing of it any more."""
    return Event(
        at=refusal.at,
        what=refusal.what,
        outcome="refused",
        detail=f"bank {refusal.against} stayed in use" if refusal.against is not None else "",
        job_id=refusal.step.job_id,
        harmless=False,
    )


def asked_for(job: Job) -> Override | None:
    """The override of a job that has not ended since: nothing of it is published yet."""
    return Override.of_checkpoint(job.checkpoint) if job.state.open else None


def asked_in_words(override: Override) -> str:
    """An override that is still to be carried out.

    The same words in every report, so that nobody takes it for a publication.
    """
    return f"override asked for by {override.who} ({override.reason.strip().rstrip('.')}); not yet published"


def hurts_of(judged: Judgement | None, before: Evaluation | None, candidate: Evaluation | None) -> tuple[Hurt, ...]:
    """What a candidate does to each product, the worst first; told from the evaluations where nothing was kept."""
    changes = judged.decision.changes if judged else changes_between(before, candidate) if candidate else {}
    breaches = judged.decision.breaches if judged else ()
    tasks = dict.fromkeys((*(candidate.tasks if candidate else ()), *changes, *(breach.task for breach in breaches)))
    own = {task: Alone.of(one) for task, one in candidate.tasks.items() if task not in changes} if candidate else {}
    found = [
        Hurt(task=t, change=changes.get(t), breaches=tuple(b for b in breaches if b.task == t), alone=own.get(t))
        for t in tasks
    ]
    return tuple(sorted(found, key=_harm, reverse=True))


def _harm(hurt: Hurt) -> tuple[int, int, float]:
    change = hurt.change
    if change is None:
        return len(hurt.breaches), 0, 0.0
    loss = 0.0 if math.isnan(change.auroc_loss) else change.auroc_loss
    return len(hurt.breaches), change.harmful_flips + max(0, change.routing_loss), loss


def changes_between(before: Evaluation | None, after: Evaluation) -> Mapping[TaskId, TaskChange]:
    """What changed for every product that both know, told from the pictures that both judged."""
    if before is None:
        return {}
    return {
        task: _change(old, after.tasks[task])
        for task, old in before.tasks.items()
        if task in after.tasks and task != after.learned_task
    }


def _change(old: TaskEvaluation, new: TaskEvaluation) -> TaskChange:
    now = {outcome.image_id: outcome for outcome in new.outcomes}
    pairs = [(then, now[then.image_id]) for then in old.outcomes if then.image_id in now]
    changed = [(then, here) for then, here in pairs if then.routed_verdict != here.routed_verdict]
    was, left = (float(e.routed.get("image_auroc", math.nan)) for e in (old, new))
    return TaskChange(
        auroc_before=was,
        auroc_after=left,
        auroc_best=was,
        flips=len(changed),
        harmful_flips=sum(_alarm(then) == then.defective for then, _ in changed),
        hidden_defects=sum(then.defective and _alarm(then) and not _alarm(here) for then, here in changed),
        routing_loss=sum((h.routed_task != h.task) - (t.routed_task != t.task) for t, h in pairs),
        taken_by=dict(
            Counter(
                str(here.routed_task)
                for then, here in pairs
                if then.routed_task == then.task and here.routed_task != here.task
            ).most_common()
        ),
        new_false_alarms=sum(_alarm(here) - _alarm(then) for then, here in pairs if not then.defective),
        n_images=len(pairs),
        n_normal=sum(not then.defective for then, _ in pairs),
    )


def _alarm(outcome: ImageOutcome) -> bool:
    return outcome.routed_verdict != Verdict.OK


# --- in plain words -------------------------------------------------------------------------------


def pairs_in_words(loss: float) -> str:
    """A loss of AUROC as a person can picture it.

    >>> pairs_in_words(0.017)
    'of 100 pairs of a good and a defective part, 2 more in the wrong order'
    """
    more = f"{100 * loss:.0f}" if loss >= 0.005 else "less than one"
    return f"of 100 pairs of a good and a defective part, {more} more in the wrong order"


def in_plain_words(breach: Breach, change: TaskChange | None) -> str:
    """One exceeded budget for somebody who knows the parts, not the method."""
    task, count = breach.task, "–" if math.isnan(breach.amount) else f"{breach.amount:.0f}"
    images = change.n_images if change else None
    match breach.rule:
        case Rule.AUROC:
            return f"good and defective parts of {task} would be told apart less well: {pairs_in_words(breach.amount)}"
        case Rule.FLIPS if images:
            return f"{count} of {images} verdicts on {task} would change"
        case Rule.ROUTING if change and change.taken_by:
            by = " and ".join(list(change.taken_by)[:3])
            return f"{sum(change.taken_by.values())} of {images} pictures of {task} would be taken for {by}"
        case Rule.FALSE_ALARMS if change:
            return f"{count} more of {change.n_normal} good parts of {task} would raise an alarm"
        case Rule.HIDDEN if change:
            return f"{count} defects of {task} that are found today would be called OK"
        case _:
            return breach.sentence


def why(refusal: Refusal, at_most: int | None = None) -> str:
    """Why it was refused, in plain words; "" when that was not kept."""
    said = [in_plain_words(breach, hurt.change) for hurt in refusal.hurts for breach in hurt.breaches]
    shown = said if at_most is None else said[:at_most]
    more = f", and {len(said) - len(shown)} more" if len(said) > len(shown) else ""
    return "; ".join(shown) + more
