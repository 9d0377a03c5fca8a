"""What a stream did since it began."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from stream_ad.domain.result import Verdict


@dataclass(slots=True)
class Counters:
    """Written by the stream's threads, each key by one of them; read by anybody."""

    #: records that got their row, as a result or a dead letter
    received: int = 0
    scored: int = 0
    batches: int = 0
    relayed: int = 0
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    #: by stage
    dead_letters: Counter[str] = field(default_factory=Counter)
    #: records that came again though they had their row; nothing was said twice
    repeated: int = 0
    #: verdicts that came after their camera's deadline
    late: int = 0
    #: waits for what was away, by "source", "reference", "database", "commit", "bank", "disk"
    retries: Counter[str] = field(default_factory=Counter)
    #: times that the source was silent while records waited, and was opened anew
    stalls: int = 0
    #: messages that a sink will never get, by sink
    left_out: Counter[str] = field(default_factory=Counter)
    overlays_failed: int = 0
    bank_swaps: int = 0
    last_commit_at: datetime | None = None
    #: whether a stop left work behind that did not end in time; its threads still run
    abandoned: bool = False
