"""What the program thinks a person should decide."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
from jaxtyping import Float32

from stream_ad.domain.message import Place
from stream_ad.domain.task import TaskId


class ProposalKind(StrEnum):
    PRODUCT = "product"  # pictures of no known product that look alike
    READAPT = "readapt"  # a known product that no longer looks as it did


class ProposalState(StrEnum):
    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Proposal:
    """A new product to be named, or a known one to be adapted again."""

    id: int
    kind: ProposalKind
    state: ProposalState
    #: readapt: the task that drifted; product: what it became, once it is approved
    task: TaskId | None
    #: why, in a sentence
    reason: str
    #: cameras, cohesion, statistics ...: what a person may want to see
    details: Mapping[str, Any] = field(default_factory=dict)
    #: pictures that it stands for
    size: int
    #: product: mean direction of its pictures' embeddings, and the cosine distance within which they lie
    center: Float32[np.ndarray, " joint"] | None = None
    radius: float | None = None
    #: the features that `center` is made of
    features: str | None = None
    created_at: datetime
    updated_at: datetime
    decided_at: datetime | None = None
    decided_by: str | None = None
    #: what the person said
    remark: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeptImage:
    """A picture of no known product, kept until somebody says what it is."""

    id: int
    place: Place
    camera: str | None
    #: within the folder of kept pictures
    path: str
    #: of the decoded pixels
    sha256: str
    size_bytes: int
    #: final embedding of the frozen backbone, of length 1
    embedding: Float32[np.ndarray, " joint"]
    #: the features that it is made of; only those of one kind can be compared
    features: str
    proposal_id: int | None = None
    at: datetime
