"""Entries, learned once for all methods that use them and kept on disk."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors.base import Detector
from stream_ad.detectors.registry import make_detector
from stream_ad.domain.bank import BankEntry
from stream_ad.domain.images import ImageSet, split_hash
from stream_ad.domain.ports import EntryStore, Progress
from stream_ad.domain.task import Task
from stream_ad.evaluation.continual.ladder import PICTURES, Scales, measure_scales
from stream_ad.evaluation.continual.parts import Parts, digest
from stream_ad.evaluation.continual.test_set import BATCH, Prompted
from stream_ad.evaluation.continual.variants import Variant


@runtime_checkable
class Learn(Protocol):
    """`services.learning.learn`: from the normal pictures of a task to its entry, calibrated."""

    def __call__(
        self,
        task: Task,
        normals: ImageSet,
        detector: Detector,
        backbone: Backbone,
        *,
        feature_block: int = 5,
        folds: int = 5,
        split_from: int = 500,
        seed: int = 0,
        progress: Progress,
    ) -> BankEntry: ...


@dataclass(slots=True)
class Learner:
    """Learns entries of variants, or finds those learned before."""

    backbone: Callable[[int], Backbone]
    learn: Learn
    entries: EntryStore
    parts: Parts
    #: hash of the code that scores: another code, other entries
    code: str
    folds: int = 5
    split_from: int = 500
    #: hash of the training pictures, by the set's identity
    _hashes: dict[int, tuple[ImageSet, str]] = field(default_factory=dict)

    def entry(
        self,
        variant: Variant,
        task: Task,
        normals: ImageSet,
        *,
        seed: int,
        rows: int | None = None,
        in_folds: bool = True,
    ) -> tuple[BankEntry, float]:
        """The entry, and the seconds that it took to learn.

        `rows` instead of the variant's own; without `in_folds` a fifth of the pictures is kept for calibration
        instead of learning six times.
        """
        own = {} if rows is None else {"coreset_rows": rows}
        backbone = self.backbone(variant.image_size)
        split_from = self.split_from if in_folds else 2
        depends: Mapping[str, Any] = {
            "code": self.code,
            "detector": variant.detector,
            "options": {**variant.told, **own},
            "features": str(backbone.spec),
            "task": [task.id, task.class_name, task.false_alarm_rate],
            "pictures": self.hash(normals),
            "seed": seed,
            "folds": [self.folds, split_from],
        }
        key = digest(depends)
        known = self.parts.get("learned", key)
        if known is None:
            started = time.monotonic()
            entry = self.entries.put(
                self.learn(
                    task,
                    normals,
                    make_detector(variant.detector, backbone, {**variant.options, **own}),
                    backbone,
                    feature_block=variant.key_block,
                    folds=self.folds,
                    split_from=split_from,
                    seed=seed,
                    progress=_unseen,
                )
            )
            known = {"entry": entry.sha256, "seconds": time.monotonic() - started, "of": depends}
            self.parts.put("learned", key, known)
        entry = self.entries.get(known["entry"])
        return (variant.changed(entry) if variant.changed else entry), float(known["seconds"])

    def scales(self, variant: Variant, entries: Sequence[BankEntry], normals: ImageSet) -> Scales:
        """Centre and scale of each branch under each entry, measured on some of the pictures."""
        key = digest({"code": self.code, "entries": [e.sha256 for e in entries], "pictures": self.hash(normals)})
        known = self.parts.get("scales", key)
        if known is None:
            backbone = Prompted(self.backbone(variant.image_size))
            rows = np.linspace(0, len(normals) - 1, min(PICTURES, len(normals))).round().astype(int).tolist()
            views = (Views(backbone, [normals[row] for row in rows[i : i + BATCH]]) for i in range(0, len(rows), BATCH))
            known = dict(measure_scales(entries, make_detector(variant.detector, backbone, variant.options), views))
            self.parts.put("scales", key, known)
        return known

    def hash(self, images: ImageSet) -> str:
        """Hash of a set's pictures; decoded once."""
        if id(images) not in self._hashes:
            self._hashes[id(images)] = (images, split_hash(images.ids))  # kept alive, so that its id stays its own
        return self._hashes[id(images)][1]


def _unseen(stage: str, done: int, total: int) -> None:
    """The progress of one entry is not told."""
