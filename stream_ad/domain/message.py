"""What comes in: records of a source, and the images in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

MAX_SUBJECT = 512

Place = tuple[str, int, int]
"""(topic, partition, offset): the key of everything that is kept about a record."""


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
    def place(self) -> Place:
        return self.topic, self.partition, self.offset

    @property
    def shown(self) -> str:
        """What people call it: the sender's name for it, and its place in the stream."""
        return f"{self.subject} ({self.default_id})" if self.subject else self.default_id

    @property
    def subject(self) -> str | None:
        """What the sender calls it, for people: any bytes do, so nothing depends on it, and none moves a terminal."""
        text = self.headers.get("ce_subject", b"").decode(errors="replace")[:MAX_SUBJECT]
        return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text) or None

    @property
    def default_id(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


def message_id(record: Record) -> str:
    """What the sender calls the record (`ce_id`), else its own place. Bytes that are no UTF-8 are escaped."""
    given = record.headers.get("ce_id")
    return given.decode(errors="backslashreplace") if given else record.default_id


def captured_at(record: Record) -> datetime | None:
    """When the picture was taken, in UTC: `ce_time`, else the record's own time.

    A `ce_time` that is no time, or has no time zone, counts as absent.
    """
    try:
        given = datetime.fromisoformat(record.headers.get("ce_time", b"").decode())
        if given.tzinfo is not None:
            return given.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    return record.timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMessage:
    """A record whose picture's bytes are at hand and whose headers were understood."""

    record: Record
    message_id: str  # ce_id, or the record's own place
    camera: str | None
    declared_product: str | None
    data: bytes  # the encoded picture
    #: what the sender calls the picture
    subject: str | None = None
    #: when the picture was taken: `ce_time`, else the record's own time
    captured_at: datetime | None = None
    #: W3C trace context of the sender, passed on as it came
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record that will never be scored, with the reason and its bytes: nothing is lost."""

    record: Record
    stage: str  # "source", "message", "reference", "decode", "score", "store", "crash"
    error_class: str
    reason: str
    at: datetime
    #: where in the program it failed, for whoever maintains it
    trace: str | None = None
    #: how often it was tried before it came to this end
    attempts: int = 1
    #: when a person sent the record again; None: the letter is open
    retried_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a record before it is worked on."""

    #: this very record has a result or a dead letter already
    done: bool
    #: earlier tries that began and never ended: the process died, or it still works on it elsewhere
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxMessage:
    """Something to publish after the transaction that it was written in. Its `id` is stable over repeats."""

    id: str
    channel: str  # "results" or "dead-letters"
    key: bytes | None
    value: bytes
    headers: Mapping[str, bytes] = field(default_factory=dict)
    #: the record that it speaks of: not written when that record had its verdict before. Not kept in the outbox
    place: Place | None = field(default=None, compare=False)
    #: names of the sinks that have it while others lack it
    has: frozenset[str] = field(default=frozenset(), compare=False)
