"""What jobs need to change what is learned already, from settings. The part of `app.py` that knows its classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stream_ad.config import Settings
from stream_ad.domain.bank import PATCHES, BankEntry, MemoryBank
from stream_ad.domain.images import ImageSet, Picture
from stream_ad.domain.result import Inspection
from stream_ad.errors import DataError

if TYPE_CHECKING:
    from stream_ad.adapters.feedback_pictures import FeedbackPictures
    from stream_ad.backbones.base import Backbone
    from stream_ad.detectors.base import Detector
    from stream_ad.services.scoring import Scorer

BATCH = 16


def patched(detectors: Mapping[str, "Detector"], entry: BankEntry, pictures: ImageSet) -> BankEntry:
    """The entry with what it lacks of pictures of good parts, not yet stored.

    Raises:
        DataError: its detector has no memory, or the pictures differ too much.
    """
    from stream_ad.detectors.base import Patchable
    from stream_ad.detectors.registry import detector_of

    detector = detector_of(entry.detector, detectors)
    if not isinstance(detector, Patchable):
        raise DataError(
            f"needed a detector with a memory of patches to take pictures in; task {entry.task.id!r} was learned by"
            f" {entry.detector}: teach it with `stream-ad tasks add-images {entry.task.id} --images DIR`"
        )
    arrays = detector.patched(entry, [pictures[place] for place in range(len(pictures))])
    known = sorted({*entry.patches, *pictures.ids})
    return replace(entry, arrays=arrays, splits={**entry.splits, PATCHES: " ".join(known)}, sha256="")


def shrunk(
    detectors: Mapping[str, "Detector"], backbone: "Backbone", entry: BankEntry, rows: int, normals: ImageSet
) -> BankEntry:
    """The entry with so many rows, not yet stored; its scales move as those of pictures that it was learned from do."""
    import numpy as np

    from stream_ad.backbones.views import Views
    from stream_ad.detectors.registry import detector_of
    from stream_ad.evaluation.continual import budget
    from stream_ad.evaluation.continual.ladder import PICTURES, carried_over, measure_scales

    smaller = budget.shrunk(entry, rows)
    if smaller is entry:
        return entry
    chosen = np.linspace(0, len(normals) - 1, min(PICTURES, len(normals))).round().astype(int).tolist()
    batches = (Views(backbone, [normals[i] for i in chosen[at : at + BATCH]]) for at in range(0, len(chosen), BATCH))
    scales = measure_scales([entry, smaller], detector_of(entry.detector, detectors), batches)
    return replace(carried_over(smaller, scales), sha256="")


def judged(
    make_scorer: Callable[[MemoryBank], "Scorer"], bank: MemoryBank, pictures: Sequence[Picture]
) -> list[Inspection]:
    """What a bank says of pictures, each routed and with nothing declared."""
    scorer = make_scorer(bank)
    found: list[Inspection] = []
    for start in range(0, len(pictures), BATCH):
        batch = pictures[start : start + BATCH]
        nothing = [None] * len(batch)
        found += scorer.inspect(batch, declared=nothing, cameras=nothing)
    return found


def feedback_pictures(settings: Settings) -> "FeedbackPictures":
    """Where the pictures are that people spoke of."""
    from stream_ad.adapters.feedback_pictures import FeedbackPictures

    return FeedbackPictures(settings.feedback_dir)


def marked(settings: Settings, decoding: Mapping[str, Any], name: str) -> Picture:
    """A picture that feedback is about. Raises: DataError: it is gone or damaged."""
    from stream_ad.adapters.decode import decode

    return decode(feedback_pictures(settings).get(name), **decoding)
