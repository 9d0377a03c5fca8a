"""What a forgetting report found, as values: every renderer shows these and computes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, TypedDict

import numpy as np
from jaxtyping import Float64

from stream_ad.domain.bank import BankEntry
from stream_ad.domain.decision import Override
from stream_ad.domain.evaluation import Half, TaskEvaluation
from stream_ad.domain.task import TaskId
from stream_ad.evaluation.allowance import LetThrough, in_words
from stream_ad.evaluation.calibration import PooledAlarms, TaskAlarms, pooled_alarms
from stream_ad.evaluation.events import Event
from stream_ad.evaluation.forgetting import Confusion, Flips, ScoreMatrix, Step
from stream_ad.evaluation.metrics import rate_interval
from stream_ad.evaluation.refusals import Refusal
from stream_ad.evaluation.remeasured import Remeasured


class Outcome(StrEnum):
    """The report in a word."""

    KEPT = "nothing lost"
    SLIGHT = "slight loss, within the limit"
    LOST = "something was lost"
    FIRST = "nothing to forget yet"
    UNMEASURED = "not measured"


class Standing(StrEnum):
    """One product against the best it ever was, in a word."""

    NEW = "new"
    SAME = "as before"
    BETTER = "better"
    SLIGHT = "slightly worse"
    WORSE = "worse"
    UNMEASURED = "not measured"
    UNCOMPARED = "not comparable"  # its held-out pictures are others than before


class Overlay(NamedTuple):
    """An example picture with its anomaly map."""

    caption: str
    jpeg: bytes


class Comparison(NamedTuple):
    """One picture as two banks judge it."""

    task: TaskId
    #: what the picture shows: "good", or the kind of defect
    truth: str
    worse: bool
    before: Overlay
    #: None: the other bank is not to be had
    after: Overlay | None
    #: where there is no `after`: what the other bank had said
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Pictures about one refused candidate."""

    #: some of those that it was taught with
    taught: tuple[Overlay, ...] = ()
    #: what it would have done to others
    harm: tuple[Comparison, ...] = ()


@dataclass(frozen=True, slots=True)
class Rate:
    """A share that was counted, with its exact 95 % interval. NaN without trials."""

    events: int
    trials: int

    @classmethod
    def of(cls, share: float, trials: int) -> "Rate":
        """From a share of `trials`; NaN is no trials."""
        return cls(0, 0) if np.isnan(share) else cls(round(share * trials), trials)

    @property
    def value(self) -> float:
        return self.events / self.trials if self.trials else float("nan")

    @property
    def low(self) -> float:
        return rate_interval(self.events, self.trials).low

    @property
    def high(self) -> float:
        return rate_interval(self.events, self.trials).high

    def __add__(self, other: "Rate") -> "Rate":
        return Rate(self.events + other.events, self.trials + other.trials)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What a bank entry promises of its false alarms."""

    #: share of good parts that may be called NG
    rate: float
    #: the image score above which a part is NG
    threshold: float
    #: good images that the threshold was taken from
    images: int
    #: whether that many images can promise that rate at all
    can_promise: bool
    #: scores came from five memories, each without a fifth of the normals: the promise is approximate
    approximate: bool
    #: training pictures that looked defective and were not learned
    suspects: int = 0

    @classmethod
    def of(cls, entry: BankEntry) -> "Promise":
        rate = entry.task.false_alarm_rate
        return cls(
            rate=rate,
            threshold=entry.threshold,
            images=len(entry.calibration.scores),
            can_promise=entry.calibration.can_promise(rate),
            approximate=entry.calibration.out_of_fold,
            suspects=len(entry.suspects),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFinding:
    """One product with the bank that the report is about."""

    task: TaskId
    learned_in: int  # version
    adapted_again_in: tuple[int, ...]
    n_normal: int
    n_defective: int
    synthetic: bool  # defects were painted by us
    routed: Mapping[str, float]  # METRICS; NaN: not measured
    oracle: Mapping[str, float]
    #: best earlier routed score minus this one, for old tasks with a score; negative: it gained
    loss: Mapping[str, float]
    routing: Rate
    refused: Rate  # known products called unknown
    false_alarms: Rate
    detections: Rate
    promise: Promise | None
    notes: tuple[str, ...]
    standing: Standing
    #: verdicts since it was learned, on pictures judged then and now
    compared: int = 0
    newly_missed: int = 0
    newly_alarmed: int = 0
    put_right: int = 0
    #: pictures recognised as this product when it was learned and not now, less those the other way round
    astray: int = 0

    @property
    def harmed(self) -> int:
        """Verdicts that were right when it was learned and are wrong now."""
        return self.newly_missed + self.newly_alarmed

    @property
    def got_worse(self) -> tuple[str, ...]:
        """What got worse since it was learned, in words."""
        auroc = self.loss.get("image_auroc", float("nan"))
        return in_words(self.newly_missed, self.newly_alarmed, self.astray, auroc)

    @property
    def regret(self) -> Mapping[str, float]:
        return {metric: self.oracle[metric] - value for metric, value in self.routed.items()}

    @property
    def alarms_too_often(self) -> bool:
        """More false alarms than chance explains."""
        if self.promise is None:
            return False
        # with too few images for the rate, the threshold is the largest of their scores
        rate = max(self.promise.rate, 1 / (self.promise.images + 1))
        return pooled_alarms([self.alarms(self.promise)], rate).too_many

    def alarms(self, promise: Promise) -> TaskAlarms:
        """The counts by which its promise is judged."""
        return TaskAlarms(self.task, promise.images, self.false_alarms.trials, self.false_alarms.events)


class Rates(TypedDict):
    """How one product fares in the stream."""

    routing: Rate
    refused: Rate
    false_alarms: Rate
    detections: Rate


def rates_of(one: TaskEvaluation) -> Rates:
    """Recognised and refused among all its pictures, alarmed among the good, found among the defective ones."""
    images = one.n_normal + one.n_defective
    return {
        "routing": Rate.of(one.routing_accuracy, images),
        "refused": Rate.of(one.refused_rate, images),
        "false_alarms": Rate.of(one.false_alarm_rate, one.n_normal),
        "detections": Rate.of(one.detection_rate, one.n_defective),
    }


class Measured(NamedTuple):
    """One product with one bank or candidate: a row of the CSV."""

    step: Step
    at: datetime
    task: TaskId
    n_normal: int
    n_defective: int
    synthetic: bool
    routed: Mapping[str, float]
    oracle: Mapping[str, float]
    #: routed image AUROC minus the best earlier published one; NaN: there is none on the same pictures
    change: float
    routing: Rate
    refused: Rate
    false_alarms: Rate
    detections: Rate

    @classmethod
    def of(cls, step: Step, at: datetime, one: TaskEvaluation, change: float) -> "Measured":
        return cls(
            step=step,
            at=at,
            task=one.task,
            n_normal=one.n_normal,
            n_defective=one.n_defective,
            synthetic=one.synthetic,
            routed=one.routed,
            oracle=one.oracle,
            change=change,
            **rates_of(one),
        )


class Summary(NamedTuple):
    """One row of R in four numbers."""

    average: float  # ACC
    backward_transfer: float  # BWT
    forgetting: float  # FM
    regret: float  # mean over tasks; NaN for the oracle itself


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MetricFinding:
    """One metric over all versions."""

    metric: str
    #: row of the bank that the report is about, in `routed` and `oracle`
    current: int
    #: published versions
    routed: ScoreMatrix
    oracle: ScoreMatrix
    regret: Float64[np.ndarray, "steps tasks"]
    #: one per step
    routed_summary: tuple[Summary, ...]
    oracle_summary: tuple[Summary, ...]
    #: `routed`, with the candidates that the gate refused between the versions
    tried: ScoreMatrix
    #: score minus best earlier published score of the same task, in the shape of `tried`
    change: Float64[np.ndarray, "tried tried_tasks"]
    unmeasured: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the gate did with one candidate."""

    step: Step
    at: datetime
    half: Half  # on which the numbers below were taken
    reason: str | None
    #: FM of routed image AUROC, had it been published
    forgetting: float
    worst_task: TaskId | None
    worst_loss: float
    flips: Flips | None  # against the version before
    #: of a refused one: the bank version by which a person let it in after all
    overridden_in: int | None = None
    #: a person has asked for it, and it is not published yet
    asked_for: Override | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForgettingReport:
    """Everything that the report says. `report.to_html` and its siblings render it."""

    outcome: Outcome
    #: did anything get worse? In one sentence
    answer: str = ""
    #: plain words: what was learned, kept, lost and refused
    found: tuple[str, ...] = ()
    #: plain words: on what pictures, at what price
    basis: tuple[str, ...] = ()
    made_at: datetime
    half: Half
    max_forgetting: float
    #: share of a product's verdicts that may get worse before it counts as lost
    max_flips: float
    #: published versions, oldest first
    versions: tuple[Step, ...]
    #: the version that the numbers of products are about; None: nothing was evaluated
    version: int | None
    #: the version in use, when known and another one
    active_version: int | None
    tasks: tuple[TaskFinding, ...]
    #: tasks of an earlier version that this one does not have, and that nobody retired
    gone: tuple[TaskId, ...]
    #: tasks of an earlier version that a person took out
    retired: tuple[TaskId, ...]
    #: old tasks whose held-out pictures are others than in every version before: no loss can be told
    moved: tuple[TaskId, ...]
    metrics: Mapping[str, MetricFinding]
    #: everything that was measured, in the order of the matrices
    measured: tuple[Measured, ...]
    flips: tuple[Flips, ...]  # consecutive published versions
    #: of every old task, from the version that learned it to this one
    since_learned: tuple[Flips, ...]
    decisions: tuple[Decision, ...]
    refusals: tuple[Refusal, ...]
    #: jobs that the gate refused and a person let in
    overridden: tuple[int, ...]
    #: losses that the gate let through because one picture is always allowed, and that the test half shows as well
    let_through: tuple[LetThrough, ...] = ()
    #: versions measured again, oldest first
    again: tuple[Remeasured, ...]
    #: what jobs did and people decided, oldest first
    events: tuple[Event, ...]
    confusion: Confusion | None  # None: no outcomes of single images
    overlays: Mapping[str, Sequence[Overlay]] = field(default_factory=dict)
    #: verdicts that changed between published versions, before and after
    comparisons: tuple[Comparison, ...] = ()
    #: pictures about refused candidates, by job
    evidence: Mapping[int, Evidence] = field(default_factory=dict)
    #: of the version that the numbers are about
    provenance: Mapping[str, str]
    #: keys of provenance in which the compared versions differ, so that their scores may differ for that reason
    mixed: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def paragraph(self) -> str:
        return " ".join((*self.found, *self.basis))

    @property
    def rejected(self) -> tuple[Decision, ...]:
        """Candidates that the gate refused and nobody let through afterwards."""
        return tuple(d for d in self.decisions if not d.step.published and d.overridden_in is None)

    @property
    def by_people(self) -> tuple[Event, ...]:
        """Decisions of people: banks used again, the gate overridden."""
        return tuple(event for event in self.events if event.who is not None)

    @property
    def worse(self) -> tuple[TaskFinding, ...]:
        """Products that fell by more than the gate allows: in score or in single verdicts."""
        return tuple(task for task in self.tasks if task.standing is Standing.WORSE)

    @property
    def painted(self) -> tuple[TaskId, ...]:
        """Products whose defects are synthetic."""
        return tuple(task.task for task in self.tasks if task.synthetic)

    @property
    def losses(self) -> Mapping[TaskId, float]:
        """Routed image AUROC that each old product lost, where it was measured; negative: it gained."""
        return {task.task: task.loss["image_auroc"] for task in self.tasks if "image_auroc" in task.loss}

    @property
    def routing(self) -> Rate:
        return sum((task.routing for task in self.tasks), Rate(0, 0))

    @property
    def refused(self) -> Rate:
        return sum((task.refused for task in self.tasks), Rate(0, 0))

    @property
    def false_alarms(self) -> Rate:
        return sum((task.false_alarms for task in self.tasks), Rate(0, 0))

    def pooled_alarms(self, rate: float) -> PooledAlarms:
        """False alarms of the products that promise `rate`, against what chance allows."""
        return pooled_alarms([t.alarms(t.promise) for t in self.tasks if t.promise and t.promise.rate == rate], rate)

    @property
    def detections(self) -> Rate:
        return sum((task.detections for task in self.tasks), Rate(0, 0))
