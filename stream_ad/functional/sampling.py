"""Choosing a few points that stand for many."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def farthest_point_sampling(
    points: Float[Tensor, "n d"], count: int, *, generator: torch.Generator
) -> Int[Tensor, " count"]:
    """Indices of `count` points, each the farthest from those chosen before it (greedy k-center).

    CMPMB Eq. 2 and Eq. 6. The first point is drawn by `generator`; ties go to the lowest index.

    Raises:
        ValueError: `count` is not in [1, n].
    """
    n = len(points)
    if not 1 <= count <= n:
        raise ValueError(f"count must be in [1, {n}], got {count}")
    chosen = torch.empty(count, dtype=torch.long, device=points.device)
    squared = points.square().sum(dim=1)
    nearest = points.new_full((n,), torch.inf)  # squared distance to the nearest chosen point
    index = int(torch.randint(n, (), generator=generator))
    for i in range(count):
        chosen[i] = index
        # a product of matrix and vector is three times faster than row-wise norms; its rounding may leave a point
        # at a distance > 0 from itself, so chosen points are put below every distance and cannot come again
        distance = (squared + squared[index]).sub_(points @ points[index], alpha=2)
        nearest = torch.minimum(nearest, distance.clamp_(min=0))
        nearest[index] = -1
        index = int(nearest.argmax())
    return chosen


def trim_isolated(points: Float[Tensor, "n d"], share: float) -> Int[Tensor, " kept"]:
    """Indices of all points but the `share` farthest from the mean of their set, in order.

    Farthest point sampling keeps outliers first of all; a few of them (dust, a reflection) would become keys.
    """
    drop = int(len(points) * share)
    isolation = (points - points.mean(dim=0)).norm(dim=1)
    kept = isolation.argsort(stable=True)[: len(points) - drop]
    return kept.sort().values
