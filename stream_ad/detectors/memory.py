"""What memory-based detectors share: a coreset of normal patches and the distance to it."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors.base import RawPrediction
from stream_ad.domain.bank import BankEntry
from stream_ad.domain.images import ImageSet, Mask
from stream_ad.domain.ports import Progress
from stream_ad.functional.anomaly_map import roi_patches, top_mean, upsample
from stream_ad.functional.arrays import as_tensor
from stream_ad.functional.neighbors import nearest_distance
from stream_ad.functional.sampling import farthest_point_sampling

BATCH = 16
MAX_CANDIDATES = 200_000  # patches drawn for the sampling, so that 100,000 images fit


def batches(backbone: Backbone, images: ImageSet) -> Iterator[Views]:
    for start in range(0, len(images), BATCH):
        yield Views(backbone, [images[i] for i in range(start, min(start + BATCH, len(images)))])


def build_coreset(
    read_out: Callable[[Views], Float[Tensor, "batch patches channels"]],
    backbone: Backbone,
    normals: ImageSet,
    rows: int,
    *,
    roi: Mask | None,
    seed: int,
    progress: Progress,
) -> Float[np.ndarray, "coreset_rows channels"]:
    """Up to `rows` patches of the normals that cover all of them (greedy k-center; CMPMB Eq. 3-6).

    Patches outside the region of interest are not learned. Beyond 200,000 patches an equal number per image is
    drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    inside = None if roi is None else torch.from_numpy(roi_patches(roi, backbone.grid))
    per_image = max(1, MAX_CANDIDATES // len(normals))
    candidates = []
    done = 0
    for views in batches(backbone, normals):
        for image in read_out(views).cpu():
            image = image if inside is None else image[inside]
            if len(image) > per_image:
                image = image[torch.randperm(len(image), generator=generator)[:per_image]]
            candidates.append(image)
        done += len(views)
        progress("coreset", done, len(normals))
    points = torch.cat(candidates)
    kept = farthest_point_sampling(points, min(rows, len(points)), generator=generator)
    return points[kept].numpy()


def entry_roi(entry: BankEntry) -> Mask | None:
    """The entry's region of interest, if its task has one."""
    return np.asarray(entry.arrays["roi"]) if "roi" in entry.arrays else None


def patch_distances(
    features: Float[Tensor, "patches channels"], entry: BankEntry, grid: int
) -> Float[Tensor, "grid grid"]:
    """Distance of one image's patches to the nearest row of its task's coreset."""
    coreset = as_tensor(entry.arrays["coreset"], features.device)
    return nearest_distance(features, coreset).unflatten(0, (grid, grid))


def score_patches(
    branches: Mapping[str, Sequence[Float[Tensor, "grid grid"]]],
    entries: Sequence[BankEntry],
    size: int,
    top_k: int,
) -> RawPrediction:
    """Image scores and maps of patch scores, per branch, image by image."""
    rois = [entry_roi(entry) for entry in entries]
    return RawPrediction(
        {
            name: torch.stack([top_mean(grid, top_k, roi) for grid, roi in zip(grids, rois, strict=True)]).cpu()
            for name, grids in branches.items()
        },
        {
            name: torch.stack([upsample(grid, size, roi) for grid, roi in zip(grids, rois, strict=True)])
            for name, grids in branches.items()
        },
    )
