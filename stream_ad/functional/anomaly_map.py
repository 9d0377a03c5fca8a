"""From patch scores to maps and image scores."""

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stream_ad.functional.region import covered

BLUR_SIGMA = 4.0  # px at the input size, as PatchCore and its successors


def upsample(
    patch_scores: Float[Tensor, "grid grid"], size: int, roi: Bool[np.ndarray, "height width"] | None = None
) -> Float[Tensor, "size size"]:
    """Patch scores of one image as a blurred map at the input size; -inf outside the region of interest.

    Bilinear, then Gaussian blur. paper: the ANM comes first there; here the raw map is brought to size and the
    ANM follows, so that raw maps stay available.
    """
    grid = patch_scores.detach().cpu().numpy()
    resized = cv2.resize(grid, (size, size), interpolation=cv2.INTER_LINEAR)
    blurred = cv2.GaussianBlur(resized, (0, 0), BLUR_SIGMA)
    if roi is not None:
        blurred[~resize_roi(roi, size)] = -np.inf
    return torch.from_numpy(blurred)


def top_mean(
    patch_scores: Float[Tensor, "grid grid"], k: int, roi: Bool[np.ndarray, "height width"] | None = None
) -> Float[Tensor, ""]:
    """Image score: the mean of the k highest patch scores, those inside the region of interest.

    k = 1 is the classic maximum; a few more steady it against one noisy patch.
    """
    values = patch_scores.flatten()
    if roi is not None:
        values = values[torch.from_numpy(roi_patches(roi, len(patch_scores))).to(values.device)]
    return values.topk(min(k, len(values))).values.mean()


def resize_roi(roi: Bool[np.ndarray, "height width"], size: int) -> Bool[np.ndarray, "size size"]:
    """The region of interest stretched to a square, see `covered`."""
    return covered(roi, size, size)


def roi_patches(roi: Bool[np.ndarray, "height width"], grid: int) -> Bool[np.ndarray, " patches"]:
    """Which patches count, row by row over the grid, see `covered`."""
    return covered(roi, grid, grid).ravel()
