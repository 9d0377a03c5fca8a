"""Whether results come from where they came from before: ranks alone, with a bound on being wrong for good.

Two samples are compared by the one-sided two-sample test of Kolmogorov and Smirnov, which is exact whatever the scores'
distribution, as long as good parts are alike. A share of strays in either sample (defective parts) may be anything: so
many of the sample that looks higher are left out, its highest, and of the other its lowest. What is left of the first
lies lower than any as many good parts of it, of the second higher, so strays alone never make a p-value smaller.

Whether alarms are more than promised is told by their number alone: of m good parts, so many lie above the k-th of n
calibration scores as the beta-binomial distribution says, whatever the scores' own. All ranks among calibration scores
would tell more, but where pictures were scored by memories without them, as usual, ranks of new good parts are not
even: on real bottles that had not changed, the rank test found them higher with a chance of 1e-7.

The results of a task come in windows, each compared once. The k-th window may be wrong with probability
alpha 6 / (pi^2 k^2), divided among the signals: over all windows there will ever be, at most alpha. Windows that share
a reference do not break this, because it is a sum of probabilities (Bonferroni).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.stats import betabinom, ks_2samp

Sample = Float64[np.ndarray, " n"]

#: what may be seen: alarms against what calibration promised, scores and margins against the first window
SIGNALS = (
    "alarms above promise",
    "scores rise",
    "scores fall",
    "margins rise",
    "margins fall",
)
#: above this the exact distribution takes seconds; by then the limit is as good
EXACT_UP_TO = 500
#: a sample with less says nothing
LEAST = 20


class Signal(NamedTuple):
    """How much a window differs in one way."""

    #: probability of a difference like this when nothing has changed, strays aside
    p: float
    #: of both distribution functions, strays aside, 0 to 1
    distance: float


def p_higher(
    new: Float64[np.ndarray, " n"],
    old: Float64[np.ndarray, " m"],
    *,
    strays_new: float = 0.0,
    strays_old: float = 0.0,
) -> Signal:
    """Whether `new` lies higher than `old`, when a share of each may be anything.

    Raises:
        ValueError: a share leaves nothing, or a value is NaN.
    """
    if np.isnan(new).any() or np.isnan(old).any():
        raise ValueError("needed numbers, got NaN; leave out what was not measured")
    higher = np.sort(new)[: len(new) - math.ceil(strays_new * len(new))]
    lower = np.sort(old)[math.ceil(strays_old * len(old)) :]
    if not len(higher) or not len(lower):
        raise ValueError(f"needed values in both samples, got {len(new)} and {len(old)} of which strays are left out")
    method = "exact" if len(higher) + len(lower) <= EXACT_UP_TO else "asymp"
    # "less": its distribution function lies below, so its values above
    found: Any = ks_2samp(higher, lower, alternative="less", method=method)
    return Signal(float(found.pvalue), float(found.statistic))


class Promise(NamedTuple):
    """A threshold: the `rank`-th smallest of `n` scores of good parts, from 1."""

    threshold: float
    rank: int
    n: int


def p_more_alarms(scores: Sequence[float], promise: Promise, *, strays: float = 0.0) -> Signal:
    """Whether more scores lie above a threshold than it promised, when a share of them may be anything."""
    alarms = sum(score > promise.threshold for score in scores)
    counted = alarms - math.ceil(strays * len(scores))
    above = promise.n + 1 - promise.rank
    p = betabinom.sf(counted - 1, len(scores), above, promise.rank) if counted > 0 else 1.0
    return Signal(float(p), max(0.0, counted / len(scores) - above / (promise.n + 1)))


def signals(
    window: Mapping[str, Sequence[float]],
    first: Mapping[str, Sequence[float]] | None,
    promise: Promise | None,
    *,
    strays: float,
) -> dict[str, Signal]:
    """By name of `SIGNALS` what could be compared; `scores` and `margins` of a window and of the first one."""
    found: dict[str, Signal] = {}
    if promise is not None and len(window["scores"]) >= LEAST:
        found[SIGNALS[0]] = p_more_alarms(window["scores"], promise, strays=strays)
    for name in ("scores", "margins") if first is not None else ():
        new, old = np.array(window[name], np.float64), np.array((first or {})[name], np.float64)
        if min(len(new), len(old)) >= LEAST:
            found[f"{name} rise"] = p_higher(new, old, strays_new=strays, strays_old=strays)
            found[f"{name} fall"] = p_higher(old, new, strays_new=strays, strays_old=strays)
    return found


def level(window: int, error_rate: float) -> float:
    """The p-value below which a signal of the `window`-th window (from 1) counts."""
    return error_rate * 6 / (math.pi**2 * window**2) / len(SIGNALS)
