"""What comes in: records of a source, and the images in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record of a source, as it came. (topic, partition, offset) names it forever."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes] = field(default_factory=dict)
    timestamp: datetime | None = None

    @property
    def default_id(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMessage:
    """A record whose picture's bytes are at hand and whose headers were understood."""

    record: Record
    message_id: str  # ce_id, or the record's own place
    camera: str | None
    declared_product: str | None
    data: bytes  # the encoded picture


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record that will never be scored, with the reason and its bytes: nothing is lost."""

    record: Record
    stage: str  # "message", "reference", "decode"
    error_class: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxMessage:
    """Something to publish after the transaction that it was written in. Its `id` is stable over repeats."""

    id: str
    channel: str  # "results" or "dead-letters"
    key: bytes | None
    value: bytes
    headers: Mapping[str, bytes] = field(default_factory=dict)
