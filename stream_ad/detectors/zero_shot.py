"""The simplest zero-shot detector: each patch against "flawless" and "damaged", nothing learned.

As WinCLIP (Jeong et al. 2023, arXiv 2303.14814) with one prompt pair and no windows. On a backbone whose text side
knows no word for defects its scores mean little; it is here because a product needs no training image for it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors.base import RawPrediction
from stream_ad.detectors.memory import score_patches
from stream_ad.detectors.text import damaged_logit, pair
from stream_ad.domain.bank import BankEntry
from stream_ad.domain.images import ImageSet, Mask
from stream_ad.domain.ports import Progress
from stream_ad.domain.task import Task
from stream_ad.functional.arrays import as_tensor


class ZeroShot:
    name = "zero-shot/2"
    min_images = 0
    branches: Mapping[str, float] = {"text": 1.0}

    def __init__(self, backbone: Backbone, top_k: int = 3) -> None:
        self.backbone = backbone
        self.top_k = top_k

    def adapt(
        self, task: Task, normals: ImageSet, *, roi: Mask | None, seed: int, progress: Progress
    ) -> Mapping[str, np.ndarray]:
        """The pair's embeddings; no image is looked at."""
        texts = self.backbone.encode_text(pair(task.class_name))
        return {"texts": texts.detach().cpu().numpy(), "top_k": np.array(self.top_k)}

    def predict(self, views: Views, entries: Sequence[BankEntry]) -> RawPrediction:
        grid = self.backbone.grid
        grids = []
        for dense, entry in zip(views.dense, entries, strict=True):
            texts = as_tensor(entry.arrays["texts"], dense.device)
            grids.append(damaged_logit(dense, texts).unflatten(0, (grid, grid)))
        return score_patches({"text": grids}, entries, self.backbone.spec.image_size)
