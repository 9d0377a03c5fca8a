"""How a running stream is, for liveness, readiness and metrics. One thread writes it, others read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(slots=True)
class Health:
    #: when the loop last went round; it does so several times a second, also while everything else is away
    ticked_at: datetime
    #: since when the model works on its present batch; None: it has none
    batch_since: datetime | None = None
    #: what is away and waited for: "source", "database", "disk" or "reference"
    waiting_for: str | None = None
    #: whether the source has given us anything to read
    assigned: bool = False
    #: the bank that judges
    bank_version: int = 0
    #: records taken from the source and not yet with the model, and their encoded bytes
    buffered: int = 0
    buffered_bytes: int = 0
    #: records that the model or the writer has
    in_flight: int = 0
    #: records waiting in the source, by (topic, partition), as far as known
    lag: Mapping[tuple[str, int], int] = field(default_factory=dict)
    #: sinks that take nothing now, and since when; they hold up nobody
    sinks_away: Mapping[str, datetime] = field(default_factory=dict)
    #: whether the stream was asked to stop and finishes what it has in hand
    draining: bool = False
