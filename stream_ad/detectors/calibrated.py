"""From raw predictions to scores that can be compared with normal images: calibrate once, apply to each."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64

from stream_ad.detectors.base import RawPrediction
from stream_ad.domain.bank import BankEntry, BranchScale, Calibration
from stream_ad.functional.calibration import center_and_scale, fuse

MAP_STRIDE = 4  # of the blurred map, every fourth pixel each way tells all that a quantile needs


class Calibrated(NamedTuple):
    scores: Float64[np.ndarray, " batch"]
    #: on the fused scale; -inf outside the region of interest
    maps: Float32[np.ndarray, "batch size size"]


def calibrate(
    raw: Sequence[RawPrediction],
    weights: Mapping[str, float],
    *,
    key_distances: Float64[np.ndarray, " n"],
    embedding_distances: Float64[np.ndarray, " n"],
    out_of_fold: bool,
) -> Calibration:
    """The calibration of a task from what a detector says of its unseen normal images."""
    score_scales, map_scales = {}, {}
    for branch, weight in weights.items():
        scores = np.concatenate([part.scores[branch].numpy() for part in raw]).astype(np.float64)
        pixels = _inside(raw, branch, MAP_STRIDE)
        if not len(pixels):  # a region of interest that falls between the strides
            pixels = _inside(raw, branch, 1)
        score_scales[branch] = BranchScale(*center_and_scale(scores), weight)
        map_scales[branch] = BranchScale(*center_and_scale(pixels), weight)
    fused = [_fuse(part, score_scales, map_scales) for part in raw]
    return Calibration(
        score_scales=score_scales,
        map_scales=map_scales,
        scores=np.sort(np.concatenate([part.scores for part in fused])),
        map_peaks=np.sort(np.concatenate([part.maps.max(axis=(1, 2)) for part in fused]).astype(np.float64)),
        key_distances=np.sort(key_distances),
        embedding_distances=np.sort(embedding_distances),
        out_of_fold=out_of_fold,
    )


def apply(raw: RawPrediction, entries: Sequence[BankEntry]) -> Calibrated:
    """Fused scores and maps, each image by its own task's calibration."""
    scores, maps = [], []
    for row, entry in enumerate(entries):
        one = RawPrediction(
            {branch: values[row : row + 1] for branch, values in raw.scores.items()},
            {branch: values[row : row + 1] for branch, values in raw.maps.items()},
        )
        fused = _fuse(one, entry.calibration.score_scales, entry.calibration.map_scales)
        scores.append(fused.scores)
        maps.append(fused.maps)
    return Calibrated(np.concatenate(scores), np.concatenate(maps))


def _inside(raw: Sequence[RawPrediction], branch: str, stride: int) -> Float64[np.ndarray, " pixels"]:
    """Map values inside the region of interest, every `stride`-th pixel each way."""
    pixels = np.concatenate([part.maps[branch][:, ::stride, ::stride].numpy().ravel() for part in raw])
    return pixels[np.isfinite(pixels)].astype(np.float64)


def _fuse(
    raw: RawPrediction, score_scales: Mapping[str, BranchScale], map_scales: Mapping[str, BranchScale]
) -> Calibrated:
    def fused(branches: Mapping[str, np.ndarray], scales: Mapping[str, BranchScale]) -> np.ndarray:
        each = [scales[name] for name in scales]
        return fuse(
            [branches[name] for name in scales],
            [scale.center for scale in each],
            [scale.scale for scale in each],
            [scale.weight for scale in each],
        )

    return Calibrated(
        fused({name: values.numpy() for name, values in raw.scores.items()}, score_scales),
        fused({name: values.numpy() for name, values in raw.maps.items()}, map_scales).astype(np.float32),
    )
