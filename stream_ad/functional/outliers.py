"""Pictures that do not belong among the others: what to do when a few "good" parts were not good."""

import numpy as np
from jaxtyping import Float, Int

#: robust standard deviations above the others; chosen on painted defects among the training pictures of nine real sets
#: and on rendered products, where half a per cent of good pictures is suspected (docs/calibration.md)
CLEAR = 5.0
#: enough where another picture is clear: bad parts seldom come alone
ALIKE = 4.0
#: fewer pictures give no spread that means anything
MIN_PICTURES = 16


def robust_z(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """How many standard deviations above the middle; both are read off the inner half and bear a tenth of bad ones.

    The spread is the larger of two that agree on a normal distribution: the median absolute deviation, and the
    distance from the median to the upper quartile, because scores of good pictures lean to the right.

    >>> robust_z(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 100.0])).round(1)
    array([-1.1, -0.7, -0.2,  0.2,  0.7, 43.4])
    """
    middle = np.median(values)
    spread = max(
        1.4826 * float(np.median(np.abs(values - middle))),
        (float(np.quantile(values, 0.75)) - float(middle)) / 0.6745,
    )
    return (values - middle) / max(spread, 1e-9 * max(1.0, abs(float(middle))))


def outlying(
    scores: Float[np.ndarray, " n"], backgrounds: Float[np.ndarray, " n"], max_share: float
) -> Int[np.ndarray, " suspects"]:
    """Indices of pictures that look defective among the others, the clearest first; at most `max_share` of all.

    A defect is far from all other pictures *in a place*: the score is far out, and so is its distance to what the
    picture scores elsewhere (`backgrounds`, in the same unit). A picture that is another shade all over is a rare good
    one more often than not, and fails the second. Of one picture both must lie 5 robust deviations above the others;
    then 4 are enough for more of them. Fewer than 16 pictures are never judged.
    """
    if len(scores) < MIN_PICTURES:
        return np.zeros(0, np.int64)
    far = np.minimum(robust_z(scores), robust_z(scores - backgrounds))
    order = np.argsort(-far, kind="stable")[: int(max_share * len(scores) + 1e-9)]
    return order[far[order] > (ALIKE if far.max() > CLEAR else CLEAR)]
