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
from stream_ad.evaluation.continual.parts import digest
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
                metric: difference(sampled[first.name][metric], sampled[other.name][metric])
                for metric in ("image_auroc", "pixel_ap")
            }
            for other in others
        },
    }


def difference(first: Sequence[Sampled], second: Sequence[Sampled]) -> dict[str, float] | None:
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
        each = [_of_part(bench, bench.key(arrivals, variant, place), place) for arrivals in bench.sequences]
        for metric, values in found.items():
            values.append(mean([sampled[metric] for sampled in each]))
    return found


def _of_part(bench: Bench, key: str, place: int) -> dict[str, Sampled]:
    """Of one method on one task with one seed; kept on disk, since it takes longer than all other figures."""
    parts = bench.kit.parts
    own = digest(key, SEED, place, IMAGE_REPEATS, PIXEL_REPEATS)
    known = parts.get("sampled", own)
    if known is None:
        part, arrays = parts.get("measured", key), parts.arrays("measured", key)
        assert part is not None
        scores = np.array(part["scores"]["routed"])
        defective = np.array(part["images"]["defective"], bool)
        auroc = sampled_auroc(scores, defective, draws(defective, IMAGE_REPEATS, place))
        ap = sampled_pixel_ap(arrays["maps"], arrays["masks"], draws(defective, PIXEL_REPEATS, place))
        repeats = {"image_auroc": auroc.repeats, "pixel_ap": ap.repeats}
        known = {"image_auroc": _plain(auroc.value), "pixel_ap": _plain(ap.value)}
        parts.put("sampled", own, known, repeats)
    else:
        repeats = parts.arrays("sampled", own)
    return {
        metric: Sampled(float("nan") if value is None else float(value), repeats[metric])
        for metric, value in known.items()
    }


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else value


def mean(sampled: Sequence[Sampled]) -> Sampled:
    """Of one method on one task with several seeds."""
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
    values, truth = flat[order], np.flatnonzero(masks.ravel()[order])
    image = np.repeat(np.arange(len(maps)), maps[0].size)[order]
    # equal values are taken together: what counts for a pixel is the last place of its value
    last = np.flatnonzero(np.r_[values[1:] != values[:-1], True])
    ends = last[np.searchsorted(last, truth)]
    found_at = np.searchsorted(truth, ends, side="right") - 1
    owner = image[truth]

    def precision(weights: np.ndarray) -> float:
        seen = np.cumsum(weights[image])[ends]
        own = weights[owner]
        found = np.cumsum(own)
        if not found[-1]:  # defective pictures whose defects all vanish on the grid
            return float("nan")
        drawn = own > 0
        return float((own[drawn] * found[found_at][drawn] / seen[drawn]).sum() / found[-1])

    return Sampled(precision(np.ones(len(maps), np.int64)), np.array([precision(row) for row in counts]))
