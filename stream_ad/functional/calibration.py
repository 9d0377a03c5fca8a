"""Adaptive normalisation and fusion of branches (CMPMB's DSG-AFM), with centres from normal images alone."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

STEEPNESS = 1.5  # k of CMPMB Eq. 15


def center_and_scale(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Centre `b` and scale of one branch from what it gives on unseen normal images.

    paper: Eq. 14 searches b on labelled validation data, which an unsupervised task does not have. Here b is the
    99 % quantile and the scale a standard deviation read off the upper half, so that both branches are measured in
    the same unit: how rare a value is on good parts.
    """
    middle, high = np.quantile(values, [0.5, 0.99])
    scale = (high - middle) / 2.326  # 99 % of a normal distribution lies below 2.326 standard deviations
    return float(high), float(max(scale, 1e-6 * max(1.0, abs(high))))


def fuse(
    branches: Sequence[Float[np.ndarray, "*shape"]],
    centers: Sequence[float],
    scales: Sequence[float],
    weights: Sequence[float],
) -> Float[np.ndarray, "*shape"]:
    """Log-odds of the fused anomaly probability: rising in every branch, unbounded, float64.

    `p = sum_i w_i sigmoid(k (s_i - b_i) / scale_i)` (CMPMB Eq. 15 and 16), and what is returned is `log p / (1 - p)`:
    the same order as p, without its ties at 0 and 1. With one branch it is linear in the raw score.
    """
    inside = [i for i, weight in enumerate(weights) if weight > 0]
    logits = [STEEPNESS * (branches[i].astype(np.float64) - centers[i]) / scales[i] for i in inside]
    if len(logits) == 1:
        return logits[0]
    log_weights = [np.log(weights[i]) for i in inside]
    # log sigmoid(z) = -log(1 + exp(-z)), stable for any z, -inf included
    log_p = np.logaddexp.reduce([w - np.logaddexp(0, -z) for w, z in zip(log_weights, logits, strict=True)])
    log_q = np.logaddexp.reduce([w - np.logaddexp(0, z) for w, z in zip(log_weights, logits, strict=True)])
    return log_p - log_q
