"""How much better one method is than others: paired bootstrap over pictures, mean over products and seeds.

As `continual.differences`, with pixel AUROC and PRO beside image AUROC and pixel AP.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stream_ad.evaluation.by_product.folds import Fold
from stream_ad.evaluation.by_product.methods import Method
from stream_ad.evaluation.by_product.resampled import sampled_pixel_auroc, sampled_pro
from stream_ad.evaluation.by_product.run import ByProduct
from stream_ad.evaluation.continual.differences import (
    IMAGE_REPEATS,
    PIXEL_REPEATS,
    SEED,
    Sampled,
    difference,
    draws,
    mean,
    sampled_auroc,
    sampled_pixel_ap,
)
from stream_ad.evaluation.continual.measure import STRIDE
from stream_ad.evaluation.continual.parts import digest
from stream_ad.evaluation.continual.results import plain

COMPARED = ("image_auroc", "pixel_auroc", "pixel_ap", "pixel_pro")


def differences(run: ByProduct, firsts: Sequence[str] | None = None) -> dict[str, Any]:
    """Each of `firsts` (None: the first method) minus all methods behind it in the plan."""
    sampled = {method.name: _sampled(run, method) for method in run.plan.methods}
    names = list(sampled)
    found = [
        {
            "of": first,
            "minus": {
                other: {metric: difference(sampled[first][metric], sampled[other][metric]) for metric in COMPARED}
                for other in names[names.index(first) + 1 :]
            },
        }
        for first in firsts or names[:1]
    ]
    return {
        **found[0],
        "more": found[1:],
        "intervals": "95 %, percentiles of a paired bootstrap over pictures within each product; mean over products,"
        " seeds",
        "repeats": {metric: IMAGE_REPEATS if metric == "image_auroc" else PIXEL_REPEATS for metric in COMPARED},
        "pixel_metrics_are_of": f"every {STRIDE}th pixel each way, so they differ a little from the full maps' values",
        "seeds": list(run.plan.seeds),
    }


def _sampled(run: ByProduct, method: Method) -> dict[str, list[Sampled]]:
    """Of every fold in the order of the plan, averaged over the seeds."""
    found: dict[str, list[Sampled]] = {metric: [] for metric in COMPARED}
    for place, fold in enumerate(run.plan.folds):
        each = [_of_part(run, method, fold, seed, place) for seed in run.plan.seeds]
        for metric, values in found.items():
            values.append(mean([one[metric] for one in each]))
    return found


def _of_part(run: ByProduct, method: Method, fold: Fold, seed: int, place: int) -> dict[str, Sampled]:
    """Of one method on one fold with one seed; kept on disk."""
    parts, key = run.kit.parts, run.key(method, fold, seed)
    own = digest(key, SEED, place, IMAGE_REPEATS, PIXEL_REPEATS)
    known = parts.get("resampled", own)
    if known is None:
        part, arrays = parts.get("judged", key), parts.arrays("judged", key)
        assert part is not None
        defective = np.array(part["images"]["defective"], bool)
        maps, masks = arrays["maps"], arrays["masks"]
        pixels = draws(defective, PIXEL_REPEATS, place)
        found = {
            "image_auroc": sampled_auroc(np.array(part["scores"]), defective, draws(defective, IMAGE_REPEATS, place)),
            "pixel_auroc": sampled_pixel_auroc(maps, masks, pixels),
            "pixel_ap": sampled_pixel_ap(maps, masks, pixels),
            "pixel_pro": sampled_pro(maps, masks, pixels),
        }
        known = {metric: plain(one.value) for metric, one in found.items()}
        parts.put("resampled", own, known, {metric: one.repeats for metric, one in found.items()})
    repeats = parts.arrays("resampled", own)
    return {
        metric: Sampled(float("nan") if value is None else float(value), repeats[metric])
        for metric, value in known.items()
    }
