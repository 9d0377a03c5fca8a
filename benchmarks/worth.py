"""What a model is worth on products that it never saw, read out as the program reads it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from benchmarks.training_pictures import Pictures, quiet
from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors.memory import batches
from stream_ad.detectors.patchcore import PatchCore
from stream_ad.detectors.text import pair
from stream_ad.detectors.zero_shot import ZeroShot
from stream_ad.domain.bank import BankEntry
from stream_ad.domain.images import ImageSet, Picture
from stream_ad.domain.task import Task, TaskId
from stream_ad.evaluation.metrics import image_auroc, mask_to_map_size, pixel_ap
from stream_ad.training.lines import Line

TOP = 3  # patches that name a defect


class Worth(NamedTuple):
    """Of one product."""

    noun: str
    #: image AUROC of "damaged or flawless", no picture of the product known
    zero_shot: float
    #: share of damaged pictures whose defect is named right, among all words
    named: float
    #: of plain nearest-patch scoring
    image_auroc: float
    pixel_ap: float


def worth(backbone: Backbone, line: Line, learned: int, defects: Sequence[str]) -> Worth:
    """A product learned from its first `learned` good photographs and judged on the others."""
    task = Task(id=TaskId("product"), class_name=line.noun)
    shots = line.shots[learned:]
    views = [*batches(backbone, images([shot.picture for shot in shots]))]
    defective = np.array([shot.defect is not None for shot in shots])
    masks = np.stack([mask_to_map_size(shot.mask, backbone.spec.image_size) for shot in shots])
    normals = images([shot.picture for shot in line.shots[:learned]])
    asked, _ = predicted(ZeroShot(backbone), task, images([]), views)
    scores, maps = predicted(PatchCore(backbone), task, normals, views)
    right = [
        guess == defects.index(shot.defect)
        for guess, shot in zip(named(backbone, line.noun, defects, views), shots, strict=True)
        if shot.defect is not None
    ]
    return Worth(
        line.noun,
        image_auroc(asked, defective),
        float(np.mean(right)),
        image_auroc(scores, defective),
        pixel_ap(maps, masks),
    )


def named(backbone: Backbone, noun: str, defects: Sequence[str], views: Sequence[Views]) -> list[int]:
    """Of each picture the defect whose words are nearest, read at its most damaged patches."""
    words = backbone.encode_text([f"a photo of a {noun} with a {defect}" for defect in defects])
    flawless, damaged = backbone.encode_text(pair(noun))
    found = []
    for one in views:
        for dense in one.dense:
            top = dense[(dense @ (damaged - flawless)).topk(TOP).indices].mean(0)
            found.append(int((words @ top).argmax()))
    return found


def images(pictures: Sequence[Picture]) -> Pictures:
    """Numbered, for reading each to know it takes time."""
    return Pictures(pictures, [str(number) for number in range(len(pictures))])


def predicted(
    detector: ZeroShot | PatchCore, task: Task, normals: ImageSet, views: Sequence[Views], *, seed: int = 0
) -> tuple[Float[np.ndarray, " images"], Float[np.ndarray, "images size size"]]:
    """Raw scores and maps of pictures, by what a detector of one branch learned from the normals."""
    arrays = detector.adapt(task, normals, roi=None, seed=seed, progress=quiet)
    entry = BankEntry.uncalibrated(task, detector.name, arrays, detector.backbone.spec)
    raw = [detector.predict(one, [entry] * len(one)) for one in views]
    (branch,) = detector.branches
    scores = torch.cat([one.scores[branch] for one in raw])
    maps = torch.cat([one.maps[branch] for one in raw])
    return scores.double().cpu().numpy(), maps.float().cpu().numpy()
