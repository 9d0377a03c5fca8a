"""Distances in which common differences count little (a Mahalanobis distance of low rank)."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Whitening(NamedTuple):
    """A linear map that shrinks the directions in which normal patches differ most; the others stay as they are."""

    directions: Float[Tensor, "rank channels"]  # orthonormal
    gains: Float[Tensor, " rank"]  # in (-1, 0]: what is added along each direction

    def __call__(self, features: Float[Tensor, "*batch channels"]) -> Float[Tensor, "*batch channels"]:
        """The features, whitened. Rank 0 changes nothing."""
        return features + ((features @ self.directions.T) * self.gains) @ self.directions


def fit_whitening(points: Float[Tensor, "n channels"], rank: int) -> Whitening:
    """The whitening of the `rank` directions of largest variance (probabilistic PCA, Tipping and Bishop 1999).

    A leading direction of variance v is scaled by sqrt(rest / v), where `rest` is the mean variance of all others, so
    that it counts as much as any of them. The rank is cut to what the points can tell: fewer than channels and points.

    >>> from math import isclose
    >>> points = torch.tensor([[9.0, 1.0], [-9.0, 1.0], [9.0, -1.0], [-9.0, -1.0]])
    >>> whitened = fit_whitening(points, 1)(points)
    >>> isclose(float(whitened[:, 0].std()), float(whitened[:, 1].std()), rel_tol=1e-5)
    True
    """
    channels = points.shape[1]
    rank = max(0, min(rank, channels - 1, len(points) - 1))
    if rank == 0:
        return Whitening(points.new_zeros(0, channels), points.new_zeros(0))
    variances, vectors = torch.linalg.eigh(torch.cov(points.double().T))  # rising
    leading = variances[-rank:].clamp_min(1e-12)
    rest = variances[:-rank].mean().clamp_min(1e-12)
    gains = (rest / leading).sqrt().clamp_max(1) - 1
    # an eigenvector's sign is arbitrary, and cancels
    return Whitening(vectors[:, -rank:].T.contiguous().to(points.dtype), gains.to(points.dtype))
