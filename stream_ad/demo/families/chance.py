"""Random draws that read like sentences."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of `options`."""
    return options[int(rng.integers(len(options)))]


def between(rng: np.random.Generator, low: float | int, high: float | int) -> float:
    """A number from `low` to `high`, evenly."""
    return low + (high - low) * float(rng.random())


def scaled(rng: np.random.Generator, low: float | int, high: float | int) -> float:
    """A number from `low` to `high`, evenly on the logarithmic scale."""
    return float(low * (high / low) ** rng.random())


def happens(rng: np.random.Generator, share: float) -> bool:
    """True in `share` of the draws."""
    return bool(rng.random() < share)
