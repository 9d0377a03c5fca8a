"""What few held-out pictures can show, and what they cannot: counts that a budget allows, harm that may go unseen."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from stream_ad.domain.evaluation import ImageOutcome

Pairs = Sequence[tuple[ImageOutcome, ImageOutcome]]


def allowed(budget: float, n: int) -> int:
    """How many of `n` pictures a budget allows: its share rounded down, but one unless the budget is 0.

    >>> allowed(0.02, 150), allowed(0.02, 5), allowed(0.0, 150)
    (3, 1, 0)
    """
    # a guard for shares like 1 - 0.95, which is a little more than 0.05
    return max(1, math.floor(budget * n + 1e-9)) if budget > 1e-9 else 0


def unseen(budget: float, n: int, certainty: float = 0.95) -> float:
    """The largest share of all pictures that may be harmed while `n` of them let it pass with 1 - `certainty`.

    Any larger harm is refused with at least `certainty` (exact binomial; the upper Clopper-Pearson bound at the number
    of pictures that the budget allows). 1 without pictures.

    >>> round(unseen(0.02, 20), 3), round(unseen(0.02, 150), 3)
    (0.216, 0.051)
    """
    most = allowed(budget, n)
    if n <= most:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        share = (low + high) / 2
        passes = sum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(most + 1))
        low, high = (share, high) if passes > 1 - certainty else (low, share)
    return high


def loss_error(pairs: Pairs) -> float:
    """Standard error of the AUROC that is lost between two banks, both measured on these pictures (DeLong, paired).

    A loss of less than twice as much may be chance: other pictures of the same task could have shown a gain. NaN with
    fewer than two good or two defective pictures, or with a score that was not measured.
    """
    defective = np.array([then.defective for then, _ in pairs], dtype=bool)
    scores = np.array([[then.routed_score, now.routed_score] for then, now in pairs], dtype=np.float64).reshape(-1, 2)
    good, bad = scores[~defective], scores[defective]
    if min(len(good), len(bad)) < 2 or np.isnan(scores).any():
        return math.nan
    # of every picture: the share of the other kind that it is in order with before, less now
    by_bad = _in_order(good[:, 0], bad[:, 0]) - _in_order(good[:, 1], bad[:, 1])
    by_good = _in_order(-bad[:, 0], -good[:, 0]) - _in_order(-bad[:, 1], -good[:, 1])
    return math.sqrt(by_bad.var(ddof=1) / len(bad) + by_good.var(ddof=1) / len(good))


def _in_order(lower: Float64[np.ndarray, " m"], upper: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Of each upper score the share of the lower ones below it; a tie is half."""
    ranked = np.sort(lower)
    return (np.searchsorted(ranked, upper, "left") + np.searchsorted(ranked, upper, "right")) / (2 * len(lower))
