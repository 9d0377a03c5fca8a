"""Numbers of the evaluation: arrays in, floats out, exact, on raw scores.

Nothing is clamped, folded, thinned out or normalised: an AUROC of 0.2 stays 0.2, and any increasing change of the
scores changes nothing. A number that does not exist because one class is missing is NaN, never 0.

Maps may hold -inf: those pixels lie outside of the region of interest and are left out. A defect wholly outside of it
cannot be found and does not count; of one partly outside, the inner part counts. Maps of defective images that nobody
marked must not be passed at all: their defects would count as good pixels.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from scipy.stats import beta

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


class Interval(NamedTuple):
    low: float
    high: float


class Difference(NamedTuple):
    """How much the second of two scorings is better, with a bootstrap interval."""

    value: float
    low: float
    high: float


# --- per image ------------------------------------------------------------------------------------


def image_auroc(scores: Float[np.ndarray, " images"], defective: Bool[np.ndarray, " images"]) -> float:
    """Chance that a defective image scores higher than a good one, ties counting half. NaN: one class is missing."""
    _refuse_nan(scores)
    return _area_under_curve(scores[defective], None, scores[~defective], max_fpr=1.0)


def image_ap(scores: Float[np.ndarray, " images"], defective: Bool[np.ndarray, " images"]) -> float:
    """Average precision: precision summed over the steps of recall, tied scores taken together. NaN as above."""
    _refuse_nan(scores)
    return _average_precision(scores[defective], scores[~defective])


# --- per pixel ------------------------------------------------------------------------------------


def pixel_auroc(
    maps: Float[np.ndarray, "images height width"], masks: Bool[np.ndarray, "images height width"]
) -> float:
    """AUROC over the pixels of all images together. NaN: no defect inside the region of interest, or nothing else."""
    positive, negative = _pixels(maps, masks)
    return _area_under_curve(positive, None, negative, max_fpr=1.0)


def pixel_ap(maps: Float[np.ndarray, "images height width"], masks: Bool[np.ndarray, "images height width"]) -> float:
    """Average precision over the pixels of all images together. NaN as for `pixel_auroc`."""
    positive, negative = _pixels(maps, masks)
    return _average_precision(positive, negative)


def pixel_pro(
    maps: Float[np.ndarray, "images height width"],
    masks: Bool[np.ndarray, "images height width"],
    max_fpr: float = 0.3,
) -> float:
    """Per-region overlap, averaged over defects and over false-positive rates up to `max_fpr`. NaN as above.

    MVTec AD's definition (Bergmann et al. 2021, section 6.1) on the exact curve: every distinct map value is a
    threshold, a region is a connected component of an image's mask (8 neighbours), the curve is linear between
    thresholds and at `max_fpr`, and the area is divided by `max_fpr`.

    Raises:
        ValueError: `max_fpr` is not in (0, 1].
    """
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr must be above 0 and at most 1, got {max_fpr}")
    positive, negative = _pixels(maps, masks)
    return _area_under_curve(positive, region_weights(maps, masks), negative, max_fpr)


def mask_to_map_size(mask: Bool[np.ndarray, "height width"], size: int) -> Bool[np.ndarray, "size size"]:
    """The mask at the size of a map, by area: a pixel is defect when at least half of it is.

    A defect (connected component) too thin for any pixel to reach one half marks every pixel that it touches, so that
    none vanishes. Counted in whole numbers: one half is one half.
    """
    whole_pixel = mask.shape[0] * mask.shape[1]
    result = 2 * _cell_areas(mask, (0, 0), mask.shape, size, slice(0, size), slice(0, size)) >= whole_pixel
    labels, _ = _components(mask)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = (_cells(side, length, size) for side, length in zip(box, mask.shape, strict=True))
        origin = (box[0].start, box[1].start)
        touched = _cell_areas(labels[box] == label, origin, mask.shape, size, rows, columns) > 0
        if not (result[rows, columns] & touched).any():
            result[rows, columns] |= touched
    return result


# --- how sure -------------------------------------------------------------------------------------


def rate_interval(events: int, trials: int, confidence: float = 0.95) -> Interval:
    """The exact (Clopper-Pearson) interval of a rate of which `events` were seen in `trials`. [0, 1] without trials.

    Raises:
        ValueError: `events` is not in [0, trials].
    """
    if not 0 <= events <= trials:
        raise ValueError(f"events must be between 0 and trials ({trials}), got {events}")
    tail = (1 - confidence) / 2
    low = 0.0 if events == 0 else float(beta.ppf(tail, events, trials - events + 1))
    high = 1.0 if events == trials else float(beta.ppf(1 - tail, events + 1, trials - events))
    return Interval(low, high)


def paired_bootstrap(
    first: Float[np.ndarray, " images"],
    second: Float[np.ndarray, " images"],
    defective: Bool[np.ndarray, " images"],
    *,
    metric: Callable[[np.ndarray, np.ndarray], float] = image_auroc,
    seed: int,
    repeats: int = 2000,
    confidence: float = 0.95,
) -> Difference:
    """metric(second) - metric(first) on the same images, with its percentile interval over resampled images.

    Both scorings see the same resampled images; good and defective ones are resampled apart, so no sample lacks a
    class. NaN throughout where the metric is undefined.
    """
    value = metric(second, defective) - metric(first, defective)
    if np.isnan(value):
        return Difference(float("nan"), float("nan"), float("nan"))
    generator = np.random.default_rng(seed)
    classes = [np.flatnonzero(defective), np.flatnonzero(~defective)]
    differences = np.empty(repeats)
    for repeat in range(repeats):
        drawn = np.concatenate([generator.choice(members, len(members)) for members in classes])
        differences[repeat] = metric(second[drawn], defective[drawn]) - metric(first[drawn], defective[drawn])
    tail = (1 - confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return Difference(float(value), float(low), float(high))


# --- the exact curves -----------------------------------------------------------------------------


def _area_under_curve(
    positive: Float[np.ndarray, " p"],
    weights: Float[np.ndarray, " p"] | None,
    negative: Float[np.ndarray, " n"],
    max_fpr: float,
) -> float:
    """Mean height of the curve (false-positive rate, weighted share of positives found) up to `max_fpr`.

    Both AUROC (no weights) and PRO (each region's pixels share one weight). Only distinct negative values are visited:
    between two of them the curve rises straight up, which adds no area.
    """
    if len(positive) == 0 or len(negative) == 0:
        return float("nan")
    budget = max_fpr * len(negative)  # negatives above the threshold, at the right end of the curve
    kept = min(len(negative), int(np.ceil(budget)))
    cut = len(negative) - kept
    top = np.sort(np.partition(negative, cut)[cut:] if cut else negative)[::-1]
    starts = np.flatnonzero(np.r_[True, top[1:] != top[:-1]])
    values = top[starts]  # distinct, falling
    counts = np.diff(np.r_[starts, kept]).astype(np.float64)
    # ties with the last value were cut off; the curve is straight along the whole of its tie
    tied = float(np.count_nonzero(negative == values[-1]))
    last = budget - counts[:-1].sum()
    counts[-1] = last

    if weights is None:
        ascending = np.sort(positive)
        below = np.arange(len(positive) + 1, dtype=np.float64)
    else:
        order = np.argsort(positive)
        ascending = positive[order]
        below = np.r_[0.0, np.cumsum(weights[order])]
    total = below[-1]
    before = total - below[np.searchsorted(ascending, values, side="right")]  # found by a threshold above the value
    after = total - below[np.searchsorted(ascending, values, side="left")]  # found by the value itself
    after[-1] = before[-1] + (after[-1] - before[-1]) * (last / tied)
    return float(np.dot(counts, before + after) / 2 / (total * budget))


def _average_precision(positive: Float[np.ndarray, " p"], negative: Float[np.ndarray, " n"]) -> float:
    if len(positive) == 0 or len(negative) == 0:
        return float("nan")
    thresholds, found = np.unique(positive, return_counts=True)
    true_positives = np.cumsum(found[::-1])[::-1]
    false_positives = len(negative) - np.searchsorted(np.sort(negative), thresholds, side="left")
    return float(np.dot(found, true_positives / (true_positives + false_positives)) / len(positive))


def _pixels(
    maps: Float[np.ndarray, "images height width"], masks: Bool[np.ndarray, "images height width"]
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " n"]]:
    """Map values on defects and beside them, in order, inside the region of interest."""
    _refuse_nan(maps)
    inside = maps != -np.inf
    return maps[masks & inside], maps[~masks & inside]


def region_weights(
    maps: Float[np.ndarray, "images height width"], masks: Bool[np.ndarray, "images height width"]
) -> Float[np.ndarray, " p"]:
    """For each defect pixel inside the region of interest, in order, one divided by its region's inner area.

    Labelled before the region of interest cuts: a defect that it cuts in two is still one.
    """
    weights = [np.zeros(0)]
    for scores, mask in zip(maps, masks, strict=True):
        if mask.any():
            labels, _ = _components(mask)
            regions = labels[mask & (scores != -np.inf)]
            weights.append(1.0 / np.bincount(regions)[regions])
    return np.concatenate(weights)


def _components(mask: Bool[np.ndarray, "height width"]) -> tuple[np.ndarray, int]:
    labels, count = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)  # pyright: ignore[reportGeneralTypeIssues]
    return labels, count


def _refuse_nan(scores: np.ndarray) -> None:
    if np.isnan(scores).any():
        raise ValueError(f"scores must be numbers, got NaN in {int(np.isnan(scores).sum())} of {scores.size} places")


# --- areas in whole numbers -----------------------------------------------------------------------


def _cells(side: slice, length: int, size: int) -> slice:
    """Map cells that the pixels of one side touch, when `length` pixels become `size` cells."""
    return slice(side.start * size // length, -(-side.stop * size // length))


def _cell_areas(
    part: Bool[np.ndarray, "h w"],
    origin: tuple[int, int],
    full: tuple[int, ...],
    size: int,
    rows: slice,
    columns: slice,
) -> Int[np.ndarray, "rows columns"]:
    """How much of each map cell is set in `part` of a mask; a whole cell is full[0] * full[1]."""
    down = _band_sums(part.astype(np.int64), origin[0], full[0], size, rows)
    return _band_sums(down.T, origin[1], full[1], size, columns).T


def _band_sums(values: np.ndarray, start: int, length: int, size: int, cells: slice) -> np.ndarray:
    """Sums along the first axis between the edges of `cells`, in units of 1 / size of a pixel."""
    edges = np.arange(cells.start, cells.stop + 1) * length - start * size
    whole, rest = np.divmod(np.clip(edges, 0, len(values) * size), size)
    nothing = np.zeros((1, values.shape[1]), dtype=np.int64)
    cumulated = np.concatenate([nothing, np.cumsum(values, axis=0)])
    partial = np.concatenate([values, nothing])[whole] * rest[:, None]
    return np.diff(size * cumulated[whole] + partial, axis=0)
