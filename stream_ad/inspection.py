"""A bank made ready to score: its router, its detectors and the frozen backbone they share."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.spread import unsplit
from stream_ad.backbones.views import Views
from stream_ad.detectors.base import Detector, RawPrediction
from stream_ad.detectors.by_weights import ByWeights
from stream_ad.detectors.calibrated import apply
from stream_ad.detectors.registry import detector_of
from stream_ad.domain.bank import BankEntry, MemoryBank
from stream_ad.errors import BankError
from stream_ad.routing.router import Route, Router


class Finding(NamedTuple):
    """One image scored against one entry."""

    entry: BankEntry
    score: float
    map: Float32[np.ndarray, "size size"]  # -inf outside the region of interest


class BankModel:
    """Scores pictures against one bank. Pure: the same bank and pictures, the same findings.

    Raises:
        BankError: an entry was made with other features, by a detector that is not here, or with shared weights that
            are not at hand.
        WeightsError: these are damaged.
    """

    def __init__(
        self,
        backbone: Backbone,
        detectors: Mapping[str, Detector],
        bank: MemoryBank,
        *,
        feature_block: int = 5,
        shortlist: int = 10,
        refuse: bool = True,
    ) -> None:
        for entry in bank:
            if entry.features != backbone.spec:
                raise BankError(
                    f"task {entry.task.id!r} was learned with features {entry.features}, this program is set to "
                    f"{backbone.spec}: set backbone.id, image_size and grey_bits to the former, or adapt the task again"
                )
            detector = detector_of(entry.detector, detectors)
            if isinstance(detector, ByWeights):
                detector.require(entry)
            made = int(entry.arrays.get("key_block", -1))
            if made != feature_block:
                raise BankError(
                    f"task {entry.task.id!r} was learned with keys of block {made}, this program reads "
                    f"detector.feature_block = {feature_block}: its routing would mean nothing. Set it back, or adapt "
                    "the task again"
                )
        self.backbone = backbone
        self.detectors = detectors
        self.bank = bank
        self.router = Router(bank, block=feature_block, shortlist=shortlist, refuse=refuse)

    def at_work(self) -> AbstractContextManager[None]:
        """Around the inspection of a batch: less work on a CPU, the same results."""
        return unsplit()

    def views(self, pictures: Sequence[np.ndarray]) -> Views:
        return Views(self.backbone, pictures)

    def route(self, views: Views) -> list[Route]:
        """Where each image belongs; the bank must not be empty."""
        with unsplit():
            return self.router.route(views)

    def find(self, views: Views, entries: Sequence[BankEntry]) -> list[Finding]:
        """Each image against its entry; a batch of mixed products and detectors is one call."""
        findings: list[Finding | None] = [None] * len(entries)
        for name in sorted({entry.detector for entry in entries}):
            rows = [row for row, entry in enumerate(entries) if entry.detector == name]
            own = [entries[row] for row in rows]
            with unsplit():
                raw: RawPrediction = detector_of(name, self.detectors).predict(views.select(rows), own)
                calibrated = apply(raw, own)
            for place, row in enumerate(rows):
                findings[row] = Finding(own[place], float(calibrated.scores[place]), calibrated.maps[place])
        return [finding for finding in findings if finding is not None]
