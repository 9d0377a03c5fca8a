"""How much the first method is better than each other one: paired bootstrap over pictures, mean over tasks and seeds.

Both methods see the same resampled pictures, good and defective ones resampled apart within each task, so no sample
lacks a class. Seeds share the pictures too: their methods' figures are averaged within each repeat. What varies is
which pictures there happen to be; three seeds are too few to resample.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from stream_ad.evaluation.continual.measure import STRIDE
from stream_ad.evaluation.continual.run import Bench
from stream_ad.evaluation.continual.variants import Variant

IMAGE_REPEATS, PIXEL_REPEATS = 2000, 200
SEED = 0
TAIL = 0.025


class Sampled(NamedTuple):
    """A metric of one method on one task: its value, and on each resampled set of pictures."""

    value: float
    repeats: Float[np.ndarray, " repeats"]


def differences(bench: Bench) -> dict[str, Any]:
    """The first method minus each other one, of the routed figures after the last task."""
    first, *others = bench.plan.variants
    sampled = {variant.name: _sampled(bench, variant) for variant in bench.plan.variants}
    return {
        "of": first.name,
        "intervals": "95 %, percentiles of a paired bootstrap over pictures within each task; mean over tasks, seeds",
        "repeats": {"image_auroc": IMAGE_REPEATS, "pixel_ap": PIXEL_REPEATS},
        "pixel_ap_is_of": f"every {STRIDE}th pixel each way, so it differs a little from the full maps' value",
        "seeds": [arrivals.seed for arrivals in bench.sequences],
        "minus": {
            other.name: {
                metric: _difference(sampled[first.name][metric], sampled[other.name][metric])
                for metric in ("image_auroc", "pixel_ap")
            }
            for other in others
        },
    }


def _difference(first: Sequence[Sampled], second: Sequence[Sampled]) -> dict[str, float] | None:
    """Mean over tasks; null where the metric is not measured on any."""
    pairs = [(one, two) for one, two in zip(first, second, strict=True) if not np.isnan(one.value - two.value)]
    if not pairs:
        return None
    repeats = np.mean([one.repeats - two.repeats for one, two in pairs], axis=0)
    low, high = np.quantile(repeats[~np.isnan(repeats)], [TAIL, 1 - TAIL])
    value = float(np.mean([one.value - two.value for one, two in pairs]))
    return {"value": value, "low": float(low), "high": float(high), "tasks": len(pairs)}


def _sampled(bench: Bench, variant: Variant) -> dict[str, list[Sampled]]:
    """Of every task in the order of the products, averaged over the seeds."""
    found: dict[str, list[Sampled]] = {"image_auroc": [], "pixel_ap": []}
    for place in range(len(bench.tasks)):
        images, pixels = [], []
        for arrivals in bench.sequences:
            key = bench.key(arrivals, variant, place)
            part, arrays = bench.kit.parts.get("measured", key), bench.kit.parts.arrays("measured", key)
            assert part is not None
            scores = np.array(part["scores"]["routed"])
            defective = np.array(part["images"]["defective"], bool)
            images.append(sampled_auroc(scores, defective, draws(defective, IMAGE_REPEATS, place)))
            drawn = draws(defective, PIXEL_REPEATS, place)
            pixels.append(sampled_pixel_ap(arrays["maps"], arrays["masks"], drawn))
        found["image_auroc"].append(_mean(images))
        found["pixel_ap"].append(_mean(pixels))
    return found


def _mean(sampled: Sequence[Sampled]) -> Sampled:
    return Sampled(float(np.mean([s.value for s in sampled])), np.mean([s.repeats for s in sampled], axis=0))


def draws(defective: Bool[np.ndarray, " images"], repeats: int, place: int) -> Int[np.ndarray, "repeats images"]:
    """How often each picture is in each sample; the same for all methods."""
    generator = np.random.default_rng([SEED, place])
    counts = np.zeros((repeats, len(defective)), np.int64)
    for members in (np.flatnonzero(defective), np.flatnonzero(~defective)):
        if len(members):
            chances = np.full(len(members), 1 / len(members))
            counts[:, members] = generator.multinomial(len(members), chances, size=repeats)
    return counts


def sampled_auroc(
    scores: Float[np.ndarray, " images"],
    defective: Bool[np.ndarray, " images"],
    counts: Int[np.ndarray, "repeats images"],
) -> Sampled:
    """AUROC: the mean over pairs of a defective and a good picture, each pair as often as it was drawn."""
    bad, good = scores[defective][:, None], scores[~defective][None, :]
    if not bad.size or not good.size:
        return Sampled(float("nan"), np.full(len(counts), np.nan))
    wins = (bad > good) + 0.5 * (bad == good)
    drawn = np.einsum("rb,bg,rg->r", counts[:, defective], wins, counts[:, ~defective], optimize=True)
    return Sampled(float(wins.mean()), drawn / wins.size)


def sampled_pixel_ap(
    maps: Float[np.ndarray, "images height width"],
    masks: Bool[np.ndarray, "images height width"],
    counts: Int[np.ndarray, "repeats images"],
) -> Sampled:
    """Average precision of all pixels together, each as often as its picture was drawn."""
    if not masks.any():  # nothing is marked, or defects are too small for so coarse a grid
        return Sampled(float("nan"), np.full(len(counts), np.nan))
    flat = maps.ravel()
    order = np.argsort(-flat, kind="stable")
    values, truth = flat[order], masks.ravel()[order]
    image = np.repeat(np.arange(len(maps)), maps[0].size)[order]
    ends = np.flatnonzero(np.r_[values[1:] != values[:-1], True])  # equal values are taken together

    def precision(weights: np.ndarray) -> float:
        weight = weights[image].astype(np.float64)
        found, seen = np.cumsum(weight * truth)[ends], np.cumsum(weight)[ends]
        steps = np.diff(np.r_[0.0, found])
        hit = steps > 0
        return float((steps[hit] * found[hit] / seen[hit]).sum() / found[-1])

    once = np.ones(len(maps), np.int64)
    with np.errstate(divide="raise", invalid="raise"):
        # a sample of defective pictures whose defects all vanish on the grid has no precision
        drawn = [precision(row) if (row[image] * truth).any() else np.nan for row in counts]
        return Sampled(precision(once), np.array(drawn))
