"""Pixel AUROC and PRO of resampled pictures: each pixel counts as often as its picture was drawn.

As in `continual.differences`, which has image AUROC and pixel AP.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from stream_ad.evaluation.continual.differences import Sampled
from stream_ad.evaluation.metrics import region_weights

MAX_FPR = 0.3
ROOM = 0.15  # of the good pixels, that resampling may need beyond MAX_FPR


def sampled_pixel_auroc(
    maps: Float[np.ndarray, "images height width"],
    masks: Bool[np.ndarray, "images height width"],
    counts: Int[np.ndarray, "repeats images"],
) -> Sampled:
    """The mean over pairs of a damaged and a good pixel; pairs are counted once for each pair of pictures."""
    bad, good = masks.sum((1, 2)), (~masks).sum((1, 2))
    if not bad.any() or not good.any():
        return Sampled(float("nan"), np.full(len(counts), np.nan))
    order = np.argsort(maps[masks])  # what is looked up in order is found faster
    owner, damaged = np.repeat(np.arange(len(maps)), bad)[order], maps[masks][order]
    wins = np.zeros((len(maps), len(maps)))  # of damaged pixels of a row's picture over good ones of a column's
    for column, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        below = np.sort(values[~mask])
        beaten = (np.searchsorted(below, damaged, "left") + np.searchsorted(below, damaged, "right")) / 2
        wins[:, column] = np.bincount(owner, beaten, len(maps))

    def of(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # nothing damaged was drawn: NaN
            return np.einsum("rb,bg,rg->r", weights, wins, weights, optimize=True) / (weights @ bad) / (weights @ good)

    return Sampled(float(of(np.ones((1, len(maps))))[0]), of(counts.astype(np.float64)))


def sampled_pro(
    maps: Float[np.ndarray, "images height width"],
    masks: Bool[np.ndarray, "images height width"],
    counts: Int[np.ndarray, "repeats images"],
    max_fpr: float = MAX_FPR,
) -> Sampled:
    """As `metrics.pixel_pro`, exact, of pictures as often as they were drawn."""
    if not masks.any() or masks.all():
        return Sampled(float("nan"), np.full(len(counts), np.nan))
    picture = np.broadcast_to(np.arange(len(maps))[:, None, None], maps.shape)
    order = np.argsort(-maps[~masks], kind="stable")
    good, good_of = maps[~masks][order], picture[~masks][order]
    per_picture = (~masks).sum((1, 2))
    starts = np.flatnonzero(np.r_[True, good[1:] != good[:-1]])  # of runs of equal values, falling
    order = np.argsort(maps[masks], kind="stable")
    bad, bad_of, share = maps[masks][order], picture[masks][order], region_weights(maps, masks)[order]
    above = np.searchsorted(bad, good[starts], "right")  # first damaged pixel that a threshold at the value leaves in
    level = np.searchsorted(bad, good[starts], "left")
    few = min(len(starts), 1 + int(np.searchsorted(starts, (max_fpr + ROOM) * len(good))))  # mostly enough of them

    def pro(weights: np.ndarray, runs: int = few) -> float:
        below = np.r_[0.0, np.cumsum(share * weights[bad_of])]
        budget = max_fpr * float(weights @ per_picture)
        if not below[-1]:
            return float("nan")
        end = len(good) if runs == len(starts) else starts[runs]
        tied = np.add.reduceat(weights[good_of[:end]], starts[:runs]).astype(np.float64)
        reached = np.cumsum(tied)
        if reached[-1] < budget and runs < len(starts):
            return pro(weights, len(starts))
        taken = np.clip(budget - (reached - tied), 0, tied)
        before, after = below[-1] - below[above[:runs]], below[-1] - below[level[:runs]]
        part = np.divide(taken, tied, out=np.zeros_like(taken), where=tied > 0)
        return float(np.dot(taken, before + part * (after - before) / 2) / (below[-1] * budget))

    whole = np.ones(len(maps), np.int64)
    return Sampled(pro(whole), np.array([pro(row) for row in counts]))
