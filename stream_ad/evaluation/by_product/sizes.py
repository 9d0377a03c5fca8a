"""Damage in four parts by its size, each product's own: tiny, small, medium and large.

MPA, Fig. 4: pictures are sorted by how many of their pixels are damaged, and cut at the quartiles. paper: over a whole
data set. Here within each product, since what is large on one is small on another: every product is in every part.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

from stream_ad.evaluation.metrics import image_auroc, pixel_auroc, pixel_pro

SIZES = ("tiny", "small", "medium", "large")
METRICS_BY_SIZE = ("image_auroc", "pixel_auroc", "pixel_pro")


def by_size(
    scores: Float64[np.ndarray, " images"],
    maps: Float32[np.ndarray, "images size size"],
    masks: Bool[np.ndarray, "images size size"],
    defective: Bool[np.ndarray, " images"],
) -> dict[str, dict[str, Any]]:
    """Of each part its metrics, with all good pictures beside its damaged ones; empty with fewer than four damaged."""
    if defective.sum() < len(SIZES):
        return {}
    areas = masks.reshape(len(masks), -1).mean(1)
    found = {}
    for name, rows in zip(SIZES, quarters(areas, defective), strict=True):
        chosen = np.sort(np.concatenate([rows, np.flatnonzero(~defective)]))
        found[name] = {
            "images": len(rows),
            "largest": float(areas[rows].max()),  # share of the picture
            "image_auroc": image_auroc(scores[chosen], defective[chosen]),
            "pixel_auroc": pixel_auroc(maps[chosen], masks[chosen]),
            "pixel_pro": pixel_pro(maps[chosen], masks[chosen]),
        }
    return found


def quarters(areas: Float64[np.ndarray, " images"], defective: Bool[np.ndarray, " images"]) -> Sequence[np.ndarray]:
    """Damaged pictures in four parts as equal as can be, the smallest damage first; equal ones in their order."""
    rows = np.flatnonzero(defective)
    return np.array_split(rows[np.argsort(areas[rows], kind="stable")], len(SIZES))
