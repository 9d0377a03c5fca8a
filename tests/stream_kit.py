"""A line in miniature: pictures of one grey each, and an inspector that calls bright ones NG."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from stream_ad.adapters.decode import decode
from stream_ad.adapters.in_memory import (
    InMemoryBanks,
    InMemoryLog,
    InMemoryResults,
    InMemorySink,
    InMemorySource,
    ManualClock,
)
from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.images import Picture
from stream_ad.domain.result import Inspection, Verdict
from stream_ad.domain.task import TaskId
from stream_ad.services.streaming import Stream, StreamOptions

THRESHOLD = 100.0
MAKES_IT_FAIL = 66


def png(grey: int, side: int = 8) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), grey, dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def inspection_of(score: float, verdict: Verdict, bank_version: int = 0, **changes: Any) -> Inspection:
    values: dict[str, Any] = {
        "task": TaskId("nut"),
        "detector": "grey/1",
        "score": score,
        "p_value": 0.5,
        "threshold": THRESHOLD,
        "verdict": verdict,
        "bank_version": bank_version,
        "features": "grey",
        "margin": None,
    }
    return Inspection(**values | changes)


class GreyInspector:
    """The score is the grey; one grey makes it fail, and it notes the size of every batch."""

    def __init__(self) -> None:
        self.bank = MemoryBank(version=0)
        self.batches: list[int] = []
        self.seen: list[int] = []
        self.broken = False

    def use(self, bank: MemoryBank) -> None:
        self.bank = bank

    def inspect(
        self, pictures: Sequence[Picture], *, declared: Sequence[str | None], cameras: Sequence[str | None]
    ) -> list[Inspection]:
        self.batches.append(len(pictures))
        greys = [int(picture[0, 0, 0]) for picture in pictures]
        self.seen += greys
        if self.broken or MAKES_IT_FAIL in greys:
            raise ZeroDivisionError("the model met a grey that it cannot bear")
        return [
            inspection_of(float(grey), Verdict.NG if grey > THRESHOLD else Verdict.OK, self.bank.version)
            for grey in greys
        ]


class Line:
    """What outlives a scorer; `stream()` starts a new one on it."""

    def __init__(self, results: InMemoryResults | None = None) -> None:
        self.clock = ManualClock()
        self.log = InMemoryLog()
        self.results = results or InMemoryResults()
        self.banks = InMemoryBanks()
        self.sink = InMemorySink()
        self.inspector = GreyInspector()
        self.source = InMemorySource(self.log, self.clock)

    def put(self, *greys: int) -> None:
        for grey in greys:
            self.log.append(png(grey))

    def stream(self, **changes: Any) -> Stream:
        self.source = InMemorySource(self.log, self.clock)
        wiring: dict[str, Any] = {
            "source": self.source,
            "inspector": self.inspector,
            "banks": self.banks,
            "results": self.results,
            "decode": decode,
            "clock": self.clock,
            "sinks": [self.sink],
            "options": StreamOptions(batch_size=4, linger_s=0.1),
        }
        return Stream(**wiring | changes)

    @property
    def scores(self) -> dict[int, float | None]:
        """Score by offset, as the database has it."""
        return {offset: result.score for (_, _, offset), result in sorted(self.results.results.items())}

    @property
    def committed(self) -> int:
        return self.log.committed.get(("images", 0), 0)
