"""What an inspection says of one picture."""

from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum

import numpy as np
from jaxtyping import Float32

from stream_ad.domain.task import TaskId


class Verdict(StrEnum):
    OK = "OK"
    NG = "NG"
    UNKNOWN = "unknown product"  # too far from every task, or declared as one we do not have
    LATE = "late"  # scored after its camera's deadline


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inspection:
    """What the scorer says of one picture, with its map; not yet tied to a message."""

    #: the nearest task, also when the verdict is "unknown product"; None: the bank is empty, or it was late
    task: TaskId | None
    detector: str | None
    #: unbounded, higher is more anomalous, comparable within a task only
    score: float | None
    #: share of good parts that score at least this
    p_value: float | None
    threshold: float | None
    verdict: Verdict
    bank_version: int
    features: str
    #: how much farther the second-nearest task is, relative to the nearest; None: fewer than two tasks, or
    #: the picture was not routed (`routing.sticky_checks`)
    margin: float | None
    #: set when declared product and picture disagree, and when it was late
    alarm: str | None = None
    #: fused map on its own unbounded scale, at the model's input size; -inf outside the region of interest
    map: Float32[np.ndarray, "size size"] | None = None
    #: map value above which a pixel is anomalous: the end of the overlay's colour scale
    map_threshold: float | None = None
    #: final embedding of the frozen backbone, of length 1; set when the picture is of no known product
    embedding: Float32[np.ndarray, " joint"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionResult:
    """One picture's verdict and all that is needed to replay it. Its key is (topic, partition, offset)."""

    message_id: str
    topic: str
    partition: int
    offset: int
    camera: str | None
    declared_product: str | None
    #: the nearest task, also when the verdict is "unknown product"; None: the bank is empty, or it was late
    task: TaskId | None
    detector: str | None
    #: raw score: unbounded, higher is more anomalous, comparable within a task only
    score: float | None
    #: share of good parts that score at least this
    p_value: float | None
    threshold: float | None
    verdict: Verdict
    bank_version: int
    features: str
    #: how much farther the second-nearest task is, relative to the nearest; None: fewer than two tasks, or
    #: the picture was not routed (`routing.sticky_checks`)
    margin: float | None
    #: set when declared product and picture disagree, and when it was late
    alarm: str | None
    latency_ms: float
    scored_at: datetime
    #: file of the overlay, when one was drawn
    overlay: str | None = None
    #: what the sender calls the picture
    subject: str | None = None
    #: when the picture was taken, as far as the message tells
    captured_at: datetime | None = None
    #: W3C trace context of the sender
    traceparent: str | None = None


RESULT_FIELDS = tuple(field.name for field in fields(InspectionResult))
"""Names of all fields, for those who write results down: `asdict` would copy every value deeply."""
