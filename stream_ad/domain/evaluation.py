"""What was measured, on which half, in which mode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from stream_ad.domain.result import Verdict
from stream_ad.domain.task import TaskId


class Half(StrEnum):
    """Of a task's held-out set, divided by hash."""

    REGRESSION = "regression"  # the gate decides on it
    TEST = "test"  # reports only


class Mode(StrEnum):
    ROUTED = "routed"  # each image alone, its task guessed: the headline
    ORACLE = "oracle"  # its task given


METRICS = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pixel_pro")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOutcome:
    """One held-out image scored against one bank, in both modes."""

    image_id: str
    task: TaskId  # the truth
    defective: bool
    kind: str
    synthetic: bool
    routed_task: TaskId
    refused: bool  # the router called it an unknown product; `routed_score` is then the nearest task's
    margin: float | None
    routed_score: float  # calibrated by the routed task
    oracle_score: float
    routed_verdict: Verdict
    oracle_verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEvaluation:
    """All numbers of one task against one bank. NaN: not measured, and `notes` says why."""

    task: TaskId
    routed: Mapping[str, float]  # METRICS
    oracle: Mapping[str, float]
    routing_accuracy: float
    refused_rate: float
    false_alarm_rate: float  # routed, at the deployed threshold, refused = alarm
    detection_rate: float  # defective images called NG or unknown
    n_normal: int
    n_defective: int
    synthetic: bool  # defects were painted by us
    outcomes: Sequence[ImageOutcome] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Every task of one bank (or of a candidate that the gate refused) on one half."""

    half: Half
    #: version evaluated, or that a rejected candidate would have had
    bank_version: int
    published: bool
    job_id: int | None
    learned_task: TaskId | None  # the task that this version added or changed
    tasks: Mapping[TaskId, TaskEvaluation]
    provenance: Mapping[str, Any]
    at: datetime
