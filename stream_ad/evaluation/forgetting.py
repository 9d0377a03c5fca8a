"""What was forgotten: the score matrix R and the numbers taken from it.

`R[k, j]` is the score of task j after step k. A step is a bank version: it adds a task, or adapts one again. Old tasks
at step k are those learned at an earlier step; the one that step k adds is left out of what can have been forgotten.
A task whose score was not measured (NaN) is left out and must be named: `ScoreMatrix.unmeasured` does it.

Scores are compared only when they were taken on the same pictures: a task that is adapted again may bring other
held-out ones, and what changed with them is neither lost nor gained.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from stream_ad.domain.evaluation import METRICS, Evaluation, ImageOutcome, Mode
from stream_ad.domain.result import Verdict
from stream_ad.domain.task import TaskId

#: of an evaluation's provenance: the hash of each task's held-out pictures
HELDOUT = "heldout"


@dataclass(frozen=True, slots=True)
class Step:
    """Which bank a row of R belongs to."""

    version: int
    published: bool
    learned_task: TaskId | None
    job_id: int | None

    @property
    def name(self) -> str:
        """What people call it.

        A refused candidate has no version: the number that it would have had goes to the next bank that is published.
        """
        if self.published:
            return f"version {self.version}"
        return "candidate" if self.job_id is None else f"candidate of job {self.job_id}"


@dataclass(frozen=True, slots=True, eq=False)
class ScoreMatrix:
    """R of one metric in one mode. NaN: the task was not yet learned, or not measured."""

    metric: str
    mode: Mode
    scores: Float64[np.ndarray, "steps tasks"]
    steps: tuple[Step, ...]
    #: in the order in which they were learned
    tasks: tuple[TaskId, ...]
    #: the step at which each task was first there
    first: Int[np.ndarray, " tasks"]
    #: whether the task was in the bank at that step at all
    present: Bool[np.ndarray, "steps tasks"]
    #: on which held-out pictures it was measured: in a column, equal numbers are equal pictures
    pictures: Int[np.ndarray, "steps tasks"]

    def comparable(self, step: int = -1) -> Float64[np.ndarray, "steps tasks"]:
        """The scores, without those earlier ones that were taken on other pictures than the task's at `step`."""
        row = _row(self.scores, step)
        other = self.pictures != self.pictures[row]
        other[row:] = False
        return np.where(other, np.nan, self.scores)

    def moved(self, step: int = -1) -> tuple[TaskId, ...]:
        """Old tasks at `step` without any earlier score on the same pictures."""
        row = _row(self.scores, step)
        before = self.present[:row] & (self.pictures[:row] == self.pictures[row])
        alone = self.present[row] & (self.first < row) & ~before.any(axis=0)
        return tuple(task for task, moved in zip(self.tasks, alone, strict=True) if moved)

    def unmeasured(self, step: int = -1) -> tuple[TaskId, ...]:
        """Tasks that were in the bank at `step` but have no score."""
        missing = self.present[step] & np.isnan(self.scores[step])
        return tuple(task for task, gone in zip(self.tasks, missing, strict=True) if gone)

    def losses(self, step: int = -1) -> Mapping[TaskId, float]:
        """Of every old task with a score: how far it is below its best earlier one. Negative: it gained."""
        lost = _losses(self.comparable(step), step, self.first)
        return {task: float(loss) for task, loss in zip(self.tasks, lost, strict=True) if not np.isnan(loss)}


def score_matrix(evaluations: Sequence[Evaluation], metric: str, mode: Mode) -> ScoreMatrix:
    """R with one row per evaluation, in the order given.

    Raises:
        ValueError: no metric has that name.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    tasks: dict[TaskId, int] = {}
    for row, evaluation in enumerate(evaluations):
        # the task that a version adds comes last, so that columns follow the order of learning
        for task in sorted(evaluation.tasks, key=lambda task, new=evaluation.learned_task: (task == new, task)):
            tasks.setdefault(task, row)
    scores = np.full((len(evaluations), len(tasks)), np.nan)
    present = np.zeros(scores.shape, dtype=bool)
    pictures = np.full(scores.shape, -1, dtype=np.int64)
    sets: dict[TaskId, dict[str, int]] = {task: {} for task in tasks}
    for row, evaluation in enumerate(evaluations):
        hashes = evaluation.provenance.get(HELDOUT) or {}
        for column, task in enumerate(tasks):
            measured = evaluation.tasks.get(task)
            if measured is not None:
                present[row, column] = True
                known = sets[task]
                pictures[row, column] = known.setdefault(str(hashes.get(task, "")), len(known))
                by_metric = measured.routed if mode == Mode.ROUTED else measured.oracle
                scores[row, column] = by_metric.get(metric, float("nan"))
    steps = tuple(Step(e.bank_version, e.published, e.learned_task, e.job_id) for e in evaluations)
    first = np.array(list(tasks.values()), dtype=np.int64)
    return ScoreMatrix(metric, mode, scores, steps, tuple(tasks), first, present, pictures)


def average(
    scores: Float[np.ndarray, "steps tasks"], step: int = -1, first: Int[np.ndarray, " tasks"] | None = None
) -> float:
    """ACC: mean score after `step` over the tasks learned so far. `first[j]`: when task j was learned, default j."""
    row = _row(scores, step)
    return _mean(scores[row, _first(scores, first) <= row])


def backward_transfer(
    scores: Float[np.ndarray, "steps tasks"], step: int = -1, first: Int[np.ndarray, " tasks"] | None = None
) -> float:
    """BWT: mean change of the old tasks since each was learned; negative when something was lost. NaN: none is old."""
    row = _row(scores, step)
    first = _first(scores, first)
    old = np.flatnonzero(first < row)
    return _mean(scores[row, old] - scores[first[old], old])


def forgetting_measure(
    scores: Float[np.ndarray, "steps tasks"], step: int = -1, first: Int[np.ndarray, " tasks"] | None = None
) -> float:
    """FM: mean over old tasks of (best score since it was learned, before this step) - (score now).

    CMPMB Eq. 17, after Chaudhry et al. 2018. Signed: below zero, old tasks gained. Scores of a task from before it
    was learned do not count, nor does the task that this step adds. NaN: no task is old.

    >>> forgetting_measure(np.array([[0.90, 0.50, 0.50], [0.85, 0.80, 0.55], [0.95, 0.70, 0.90]]))
    0.025
    """
    return _mean(_losses(scores, step, _first(scores, first)))


def regret(
    routed: Float[np.ndarray, "steps tasks"], oracle: Float[np.ndarray, "steps tasks"]
) -> Float[np.ndarray, "steps tasks"]:
    """What guessing the task costs against being told it."""
    return oracle - routed


# --- verdicts -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Flip:
    """One picture that two banks judge differently."""

    image_id: str
    task: TaskId
    defective: bool
    before: Verdict
    after: Verdict

    @property
    def worse(self) -> bool:
        """A good part newly alarmed, or a defect newly passed."""
        return _right(self.defective, self.before) and not _right(self.defective, self.after)

    @property
    def better(self) -> bool:
        return not _right(self.defective, self.before) and _right(self.defective, self.after)


@dataclass(frozen=True, slots=True)
class Flips:
    """Pictures of old tasks that two banks judge differently."""

    before_version: int
    after_version: int
    #: pictures that both banks judged
    compared: int
    flips: tuple[Flip, ...]

    @property
    def counts(self) -> Mapping[tuple[Verdict, Verdict], int]:
        """How often each (before, after), the most frequent first."""
        return dict(Counter((flip.before, flip.after) for flip in self.flips).most_common())

    @property
    def new_false_alarms(self) -> int:
        return sum(flip.worse and not flip.defective for flip in self.flips)

    @property
    def newly_missed(self) -> int:
        return sum(flip.worse and flip.defective for flip in self.flips)

    @property
    def corrected(self) -> int:
        return sum(flip.better for flip in self.flips)


def flips(
    before: Evaluation, after: Evaluation, mode: Mode = Mode.ROUTED, tasks: Collection[TaskId] | None = None
) -> Flips:
    """Verdicts that changed on the pictures that both evaluations judged, of the tasks that `before` knew.

    Only of `tasks`, when given.
    """
    compared, changed = 0, []
    for task, earlier in before.tasks.items():
        if tasks is not None and task not in tasks:
            continue
        later = after.tasks.get(task)
        judged = {outcome.image_id: outcome for outcome in later.outcomes} if later else {}
        for old in earlier.outcomes:
            new = judged.get(old.image_id)
            if new is None:
                continue
            compared += 1
            was, now = _verdict(old, mode), _verdict(new, mode)
            if was != now:
                changed.append(Flip(old.image_id, task, old.defective, was, now))
    return Flips(before.bank_version, after.bank_version, compared, tuple(changed))


def astray(before: Sequence[ImageOutcome], after: Sequence[ImageOutcome]) -> int:
    """How many pictures fewer are recognised as their product than before, of those judged both times."""
    then = {outcome.image_id: outcome for outcome in before}
    both = [(then[outcome.image_id], outcome) for outcome in after if outcome.image_id in then]
    return sum((now.routed_task != now.task) - (was.routed_task != was.task) for was, now in both)


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """Which product pictures were taken for."""

    tasks: tuple[TaskId, ...]
    #: rows: the true task; columns: the task found, then one for pictures refused as an unknown product
    counts: Int[np.ndarray, "tasks found"]


def routing_confusion(evaluation: Evaluation) -> Confusion:
    """Counts of (true task, task found or refused) over all pictures of an evaluation."""
    # a task without held-out pictures can still attract those of others
    found = {o.routed_task for measured in evaluation.tasks.values() for o in measured.outcomes if not o.refused}
    tasks = (*evaluation.tasks, *sorted(found - evaluation.tasks.keys()))
    column = {task: index for index, task in enumerate(tasks)}
    counts = np.zeros((len(tasks), len(tasks) + 1), dtype=np.int64)
    for task, measured in evaluation.tasks.items():
        for outcome in measured.outcomes:
            counts[column[task], -1 if outcome.refused else column[outcome.routed_task]] += 1
    return Confusion(tasks, counts)


def _losses(scores: np.ndarray, step: int, first: np.ndarray) -> np.ndarray:
    """Per task, best score since it was learned and before `step`, minus the score at it; NaN where not old."""
    row = _row(scores, step)
    learned = np.arange(row)[:, None] >= first[None, :]
    earlier = np.where(learned & ~np.isnan(scores[:row]), scores[:row], -np.inf)
    best = earlier.max(axis=0, initial=-np.inf)
    return np.where(np.isneginf(best), np.nan, best - scores[row])


def _mean(values: np.ndarray) -> float:
    measured = values[~np.isnan(values)]
    return float(measured.mean()) if len(measured) else float("nan")


def _row(scores: np.ndarray, step: int) -> int:
    return range(len(scores))[step]


def _first(scores: np.ndarray, first: np.ndarray | None) -> np.ndarray:
    return np.arange(scores.shape[1]) if first is None else first


def _verdict(outcome: ImageOutcome, mode: Mode) -> Verdict:
    return outcome.routed_verdict if mode == Mode.ROUTED else outcome.oracle_verdict


def _right(defective: bool, verdict: Verdict) -> bool:
    return (verdict != Verdict.OK) == defective
