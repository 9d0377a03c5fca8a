"""Are there as many false alarms as were asked for, or more or fewer than chance explains?

A task's threshold is the k-th smallest of the scores of n good images, k = ceil((n + 1)(1 - alpha)) (split conformal).
A good image never seen lies above it with a probability that itself is random, Beta(n + 1 - k, k), because the n images
were drawn by chance. So the number of false alarms among m of them is beta-binomial, wider than a binomial: with 100
calibration images and 40 new ones at 5 %, up to 6 alarms are chance. Over several tasks the numbers add up, and the
distribution of the sum is the convolution of theirs, computed exactly.

That holds where calibration and new images are exchangeable and no scores are equal (equal ones make alarms rarer).
Scores out of fold come from memories that are a fifth smaller than the one in use: then it is approximate, on the
careful side.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.stats import betabinom

from stream_ad.domain.bank import conformal_rank


class CountInterval(NamedTuple):
    """From `low` to `high` false alarms, both included."""

    low: int
    high: int


class TaskAlarms(NamedTuple):
    """What one task's threshold did on good images that neither its memory nor its calibration saw."""

    task: str
    #: good images that the threshold was taken from
    calibrated_on: int
    #: good images scored, and those above the threshold
    images: int
    alarms: int


class PooledAlarms(NamedTuple):
    """The false alarms of all tasks for which the rate can be promised, against what chance allows."""

    alpha: float
    images: int
    alarms: int
    expected: float
    interval: CountInterval
    #: tasks with fewer than 1 / alpha - 1 calibration images: nothing can be promised, so nothing is judged
    left_out: tuple[str, ...]

    @property
    def as_promised(self) -> bool | None:
        """Whether the count lies inside the interval; None: no image was judged."""
        return self.interval.low <= self.alarms <= self.interval.high if self.images else None

    @property
    def too_many(self) -> bool:
        """More alarms than chance explains."""
        return self.images > 0 and self.alarms > self.interval.high

    def __str__(self) -> str:
        """
        >>> print(pooled_alarms([TaskAlarms("nut", 100, 40, 3), TaskAlarms("tile", 12, 40, 9)], 0.05))
        3 of 40 good images above thresholds for 5 %; chance allows 0 to 6. Cannot be promised for tile
        """
        left_out = f"Cannot be promised for {', '.join(self.left_out)}" if self.left_out else ""
        if not self.images:
            return left_out or "no good image was scored"
        counted = (
            f"{self.alarms} of {self.images} good images above thresholds for {100 * self.alpha:g} %;"
            f" chance allows {self.interval.low} to {self.interval.high}"
        )
        return f"{counted}. {left_out}" if left_out else counted


def false_alarm_interval(
    calibration_sizes: Sequence[int], test_sizes: Sequence[int], alpha: float, confidence: float = 0.95
) -> CountInterval:
    """How many false alarms over all tasks chance explains, with a probability of at least `confidence`.

    Neither tail beyond it is likelier than half of the rest. Tasks for which `alpha` cannot be promised are left out
    (`promisable` tells which), so leave their alarms out of the count too.

    Args:
        calibration_sizes: n, good images behind each task's threshold.
        test_sizes: m, good images of each task that were scored.

    Raises:
        ValueError: a share is not in (0, 1), a size is negative, or there are not as many of one as of the other.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    below = np.cumsum(_count_distribution(calibration_sizes, test_sizes, alpha))  # P(alarms <= count)
    tail = (1 - confidence) / 2
    # half a billionth for the rounding of a sum of thousands of terms
    low = int(np.searchsorted(below, tail + 5e-10, side="right"))
    high = int(np.searchsorted(below, 1 - tail - 5e-10, side="left"))
    return CountInterval(low, high)


def pooled_alarms(tasks: Sequence[TaskAlarms], alpha: float, confidence: float = 0.95) -> PooledAlarms:
    """The false alarms of all tasks together, judged.

    Raises:
        ValueError: as `false_alarm_interval`.
    """
    judged = [task for task in tasks if promisable(task.calibrated_on, alpha)]
    sizes, images = [task.calibrated_on for task in judged], [task.images for task in judged]
    return PooledAlarms(
        alpha=alpha,
        images=sum(images),
        alarms=sum(task.alarms for task in judged),
        expected=sum(m * (n + 1 - conformal_rank(n, alpha)) / (n + 1) for n, m in zip(sizes, images, strict=True)),
        interval=false_alarm_interval(sizes, images, alpha, confidence),
        left_out=tuple(task.task for task in tasks if not promisable(task.calibrated_on, alpha)),
    )


def promisable(calibration_size: int, alpha: float) -> bool:
    """Whether so many calibration images can promise a rate of `alpha`: n >= 1 / alpha - 1."""
    return conformal_rank(calibration_size, alpha) <= calibration_size


def _count_distribution(
    calibration_sizes: Sequence[int], test_sizes: Sequence[int], alpha: float
) -> Float64[np.ndarray, " counts"]:
    """Probability of 0, 1, 2, ... false alarms over all tasks."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}")
    if len(calibration_sizes) != len(test_sizes):
        raise ValueError(
            f"needed as many test sizes as calibration sizes, got {len(test_sizes)} for {len(calibration_sizes)}"
        )
    if min([*calibration_sizes, *test_sizes], default=0) < 0:
        raise ValueError("sizes must not be negative")
    chances = np.ones(1)
    for n, m in zip(calibration_sizes, test_sizes, strict=True):
        if promisable(n, alpha):
            rank = conformal_rank(n, alpha)
            chances = np.convolve(chances, betabinom.pmf(np.arange(m + 1), m, n + 1 - rank, rank))
    return chances
