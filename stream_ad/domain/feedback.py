"""What people say of verdicts."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from stream_ad.domain.message import Place
from stream_ad.domain.task import TaskId


class FeedbackKind(StrEnum):
    FALSE_ALARM = "false alarm"  # called NG, and the part is good
    MISSED = "missed"  # called OK, and the part is defective
    WRONG_PRODUCT = "wrong product"  # judged as a product that it is not


class FeedbackState(StrEnum):
    QUARANTINED = "quarantined"  # said, and nothing follows it yet
    APPLIED = "applied"  # a published bank has taken it in
    REFUSED = "refused"  # taking it in would have hurt: the job's report says what


class Became(NamedTuple):
    """What comes of feedback when the job that looked at it ends."""

    state: FeedbackState
    #: in a sentence
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """One person's word on one result, with the picture that it is about."""

    id: int
    place: Place
    kind: FeedbackKind
    who: str
    reason: str
    at: datetime
    state: FeedbackState = FeedbackState.QUARANTINED
    #: the task that had judged the picture
    task: TaskId | None = None
    #: the picture's file within the folder of feedback, and the hash of its decoded pixels
    path: str
    sha256: str
    #: the job that takes it in, or took it in or refused it
    job_id: int | None = None
    #: what became of it, in a sentence
    outcome: str | None = None
