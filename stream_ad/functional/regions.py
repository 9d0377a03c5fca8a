"""Regions of a picture, as one label per patch: what the structure loss (CMPMB Eq. 11-13) pulls together.

# paper: SAM draws the regions. Its weights are a large download, so superpixels are the default.
"""

import cv2
import numpy as np
from jaxtyping import Int, UInt8
from skimage.segmentation import slic

WORKING_SIZE = 224  # px; finer borders than this do not change the label of a patch


def superpixels(
    picture: UInt8[np.ndarray, "height width 3"], grid: int, count: int
) -> Int[np.ndarray, "{grid} {grid}"]:
    """Region of each patch, numbered from 0; about `count` regions (SLIC: even in size, along edges).

    The picture is squashed to a square first, as the backbone sees it. Equal pictures give equal labels.

    Raises:
        ValueError: `grid` or `count` is below 1.
    """
    if grid < 1 or count < 1:
        raise ValueError(f"needs a grid and a count of at least 1, got {grid} and {count}")
    side = grid * max(WORKING_SIZE // grid, 1)
    square = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    labels = slic(square, n_segments=count, compactness=10, sigma=1, start_label=0)
    return majority_labels(labels, grid)


def majority_labels(labels: Int[np.ndarray, "height width"], grid: int) -> Int[np.ndarray, "{grid} {grid}"]:
    """The most frequent label in each cell of a grid over the picture; of equally frequent ones the smallest.

    Never an interpolation: between labels 3 and 7 there is no label 5.

    Raises:
        ValueError: the picture has fewer pixels than cells along a side, or a label is negative.
    """
    height, width = labels.shape
    if min(height, width) < grid or labels.min() < 0:
        raise ValueError(f"needs labels >= 0 on at least {grid} x {grid} pixels, got {height} x {width}")
    cell = (np.arange(height) * grid // height)[:, None] * grid + (np.arange(width) * grid // width)[None, :]
    label_count = int(labels.max()) + 1
    votes = np.bincount((cell * label_count + labels).ravel(), minlength=grid * grid * label_count)
    return votes.reshape(grid, grid, label_count).argmax(axis=-1)
