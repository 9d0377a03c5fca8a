"""A region of interest on another grid than the one it was drawn on."""

import cv2
import numpy as np
from jaxtyping import Bool


def covered(
    roi: Bool[np.ndarray, "roi_height roi_width"], height: int, width: int
) -> Bool[np.ndarray, "{height} {width}"]:
    """Which cells of a grid stretched over the region count: those at least half inside, by area.

    A region too thin for any cell to be half inside keeps every cell that it touches, so that none vanishes.
    """
    share = cv2.resize(roi.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    inside = share >= 0.5
    return inside if inside.any() else share > 0
