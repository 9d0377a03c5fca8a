"""How scores bear what a line does to pictures, and what an attacker does: curves over severity and over bounds.

Every picture with its product told; thresholds are those that would be deployed, set by undisturbed good pictures. So
the curves say what an operator meets when a lamp ages or a lens fogs and nobody teaches the product again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stream_ad.domain.bank import BankEntry
from stream_ad.domain.images import HeldoutSet, Mask, Picture
from stream_ad.domain.ports import Progress
from stream_ad.evaluation.attack import attacked, noisy
from stream_ad.evaluation.metrics import image_auroc, mask_to_map_size, pixel_ap
from stream_ad.functional.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from stream_ad.inspection import BankModel

BATCH = 16
NOISE, ATTACK = "uniform noise", "attack"


class Sample(NamedTuple):
    """A test picture, as it is or disturbed."""

    id: str
    picture: Picture
    defective: bool
    mask: Mask | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One product's pictures at one severity, 0 undisturbed."""

    severity: int
    image_auroc: float
    pixel_ap: float  # NaN: a defective picture has no mask
    good: int
    false_alarms: int  # of the good ones, at the deployed threshold
    defective: int
    detected: int
    #: median of the good pictures' scores, and of the defective ones'
    good_score: float
    defective_score: float


Curves = Mapping[str, Sequence[Level]]


def samples(pictures: HeldoutSet) -> list[Sample]:
    """The pictures in memory."""
    found = [pictures[place] for place in range(len(pictures))]
    return [Sample(image.id, image.pixels, image.defective, image.mask) for image in found]


def corruption_curves(
    model: BankModel, entry: BankEntry, clean: Sequence[Sample], *, seed: int, progress: Progress
) -> Curves:
    """Per kind of corruption a level for severity 0 to 5; noise and direction follow from a picture's id and `seed`."""
    undisturbed = level(model, entry, clean, 0)
    curves = {}
    for done, kind in enumerate(CORRUPTIONS):
        levels = [undisturbed]
        for severity in SEVERITIES:
            levels.append(level(model, entry, [_corrupted(one, kind, severity, seed) for one in clean], severity))
        curves[kind] = levels
        progress(kind, done + 1, len(CORRUPTIONS))
    return curves


def attack_curves(
    model: BankModel, entry: BankEntry, clean: Sequence[Sample], bounds: Sequence[int], steps: int, *, seed: int
) -> Curves:
    """Levels over the bound in grey levels, 0 first, under PGD and under uniform noise of the same size.

    Good pictures are driven up and defective ones down, all pictures at the input size. A mask stays where it was, in
    shares of the picture.
    """
    detector = next(one for one in model.detectors.values() if one.name == entry.detector)
    pictures = [one.picture for one in clean]
    squashed = noisy(model.backbone, pictures, 0, seed=seed)
    raised = np.array([not one.defective for one in clean])
    found = attacked(model.backbone, detector, entry, pictures, raised, bounds=bounds, steps=steps)
    by_noise = {bound: noisy(model.backbone, pictures, bound, seed=seed + bound) for bound in bounds}

    def levels(disturbed: Mapping[int, list[Picture]]) -> list[Level]:
        return [
            level(model, entry, [one._replace(picture=new) for one, new in zip(clean, news, strict=True)], bound)
            for bound, news in ({0: squashed} | dict(disturbed)).items()
        ]

    return {NOISE: levels(by_noise), ATTACK: levels(found)}


def level(model: BankModel, entry: BankEntry, pictures: Sequence[Sample], severity: int) -> Level:
    """What pictures at one severity give."""
    defective = np.array([one.defective for one in pictures], bool)
    scores, maps, masks = [], [], []
    for start in range(0, len(pictures), BATCH):
        batch = pictures[start : start + BATCH]
        views = model.views([one.picture for one in batch])
        for one, found in zip(batch, model.find(views, [entry] * len(batch)), strict=True):
            size = found.map.shape[0]
            scores.append(found.score)
            maps.append(found.map)
            marked = one.mask is not None and one.mask.any()
            masks.append(
                mask_to_map_size(one.mask, size) if marked and one.mask is not None else np.zeros_like(found.map, bool)
            )
    values = np.array(scores)
    unmarked = any(one.defective and one.mask is None for one in pictures)
    alarms = values > entry.threshold
    return Level(
        severity=severity,
        image_auroc=image_auroc(values, defective),
        pixel_ap=math.nan if unmarked or not defective.any() else pixel_ap(np.stack(maps), np.stack(masks)),
        good=int((~defective).sum()),
        false_alarms=int(alarms[~defective].sum()),
        defective=int(defective.sum()),
        detected=int(alarms[defective].sum()),
        good_score=_median(values[~defective]),
        defective_score=_median(values[defective]),
    )


def _corrupted(one: Sample, kind: str, severity: int, seed: int) -> Sample:
    picture, mask = corrupt(one.picture, kind, severity, seed=seed ^ int(one.id[:12], 16), mask=one.mask)
    return one._replace(picture=picture, mask=mask)


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else math.nan
