"""PatchCore (Roth et al. 2022, arXiv 2106.08265) on the frozen backbone: the baseline.

Ours: a fixed number of rows instead of a share, plain nearest-neighbour distance without the re-weighting of the
image score, no local aggregation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors.base import RawPrediction
from stream_ad.detectors.memory import (
    MemoryOptions,
    build_memory,
    by_entry,
    frozen,
    patch_distances,
    score_patches,
)
from stream_ad.detectors.patching import add_pictures
from stream_ad.domain.bank import BankEntry
from stream_ad.domain.images import ImageSet, Mask, Picture
from stream_ad.domain.ports import Progress
from stream_ad.domain.task import Task
from stream_ad.errors import TooFewImages


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchCoreOptions(MemoryOptions):
    top_k: int = 3  # patches whose mean is the image score


class PatchCore:
    name = "patchcore/2"
    min_images = 1
    branches: Mapping[str, float] = {"visual": 1.0}

    def __init__(self, backbone: Backbone, options: PatchCoreOptions = PatchCoreOptions()) -> None:
        self.backbone = backbone
        self.options = options

    def adapt(
        self, task: Task, normals: ImageSet, *, roi: Mask | None, seed: int, progress: Progress
    ) -> Mapping[str, np.ndarray]:
        if len(normals) < self.min_images:
            raise TooFewImages(task.id, self.min_images, len(normals))
        memory = build_memory(frozen, self.backbone, normals, self.options, roi=roi, seed=seed, progress=progress)
        return memory | {"top_k": np.array(self.options.top_k)}

    def predict(self, views: Views, entries: Sequence[BankEntry]) -> RawPrediction:
        grids = by_entry(lambda views, entry: patch_distances(frozen, views, entry), views, entries)
        return score_patches({"visual": grids}, entries, self.backbone.spec.image_size)

    def patched(self, entry: BankEntry, pictures: Sequence[Picture]) -> Mapping[str, np.ndarray]:
        return add_pictures(frozen, self.backbone, entry, pictures)
