"""The exact answer of routing over all tasks, without comparing every patch with every key of every task.

`d_embedding` is computed for all tasks. A task is then left out only when a lower bound of `d_keys` proves that it
cannot be the nearest: the distances of some of the patches, first in some of the principal directions, as a share of
all patches. Both only leave non-negative terms out. What is left after all patches was compared in full.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from stream_ad.domain.bank import BankEntry

EPSILON = 1e-3
FIRST = 8  # nearest tasks by embedding that are compared in full before all others
QUICK = (12, 48)  # patches and principal directions of a bound for all pairs
STEPS = (28, 70, 126)  # patches after which a task may be left out
BLOCK = 500  # queries at once
HAIR = 1e-4  # for the rounding of float32


class Exact(NamedTuple):
    tasks: np.ndarray  # (queries,)
    products: np.ndarray  # (queries,): the least product
    #: share of the (query, task) pairs that were compared in full
    compared: float


def exact_routes(
    patches: Float[Tensor, "queries patches width"],
    embeddings: Float[Tensor, "queries joint"],
    entries: Sequence[BankEntry],
) -> Exact:
    """The nearest of all tasks for each query."""
    cosines = torch.stack(
        [
            1 - (embeddings @ torch.from_numpy(np.asarray(entry.arrays["embeddings"], np.float32)).T).amax(dim=1)
            for entry in entries
        ],
        dim=1,
    )  # (queries, tasks)
    factor = cosines + EPSILON
    queries, tasks = factor.shape
    count = patches.shape[1]
    turned, directions = _principal(patches)  # a rotation: distances stay
    order = torch.from_numpy(np.random.default_rng(0).permutation(count))
    turned = turned[:, order].contiguous()
    parts = [turned[:, start:stop] for start, stop in zip((0, *STEPS), (*STEPS, count), strict=True)]
    quick = turned[:, : QUICK[0], : QUICK[1]].contiguous()
    best = torch.full((queries,), torch.inf)
    answer = torch.zeros(queries, dtype=torch.long)
    compared = 0

    def compare(task: int, rows: Tensor, keys: Tensor) -> None:
        """Patch by patch, as long as the task may be nearer than the best one so far."""
        nonlocal compared
        sums = torch.zeros(len(rows))
        for part in parts:
            sums += _distances(part[rows], keys).sum(dim=1)
            kept = sums / count * factor[rows, task] * (1 - HAIR) < best[rows]
            rows, sums = rows[kept], sums[kept]
            if not len(rows):
                return
        compared += len(rows)
        products = sums / count * factor[rows, task]
        closer = (products < best[rows]) | ((products == best[rows]) & (task < answer[rows]))
        best[rows[closer]], answer[rows[closer]] = products[closer], task

    first = torch.zeros(queries, tasks, dtype=torch.bool)
    first.scatter_(1, factor.topk(min(FIRST, tasks), dim=1, largest=False).indices, True)
    for task in range(tasks):
        if len(rows := first[:, task].nonzero()[:, 0]):
            compare(task, rows, _keys(entries[task]) @ directions)
    for task in range(tasks):
        keys = _keys(entries[task]) @ directions
        sums = torch.cat([_distances(block, keys[:, : QUICK[1]]).sum(dim=1) for block in quick.split(BLOCK)])
        near = (sums / count * factor[:, task] * (1 - HAIR) < best) & ~first[:, task]
        for rows in near.nonzero()[:, 0].split(BLOCK):
            compare(task, rows, keys)
    return Exact(answer.numpy(), best.numpy(), compared / (queries * tasks))


def _keys(entry: BankEntry) -> Tensor:
    return torch.from_numpy(np.asarray(entry.arrays["keys"], np.float32))


def _distances(patches: Float[Tensor, "n p d"], keys: Float[Tensor, "k d"]) -> Float[Tensor, "n p"]:
    """Of each patch to the nearest key."""
    flat = patches.flatten(0, 1)
    squared = torch.addmm(keys.square().sum(dim=1)[:, None], keys, flat.T, alpha=-2).amin(dim=0)
    return squared.add_(flat.square().sum(dim=1)).clamp_(min=0).sqrt_().unflatten(0, patches.shape[:2])


def _principal(patches: Float[Tensor, "n p d"]) -> tuple[Float[Tensor, "n p d"], Float[Tensor, "d d"]]:
    """The patches turned into their principal directions, the widest first, and the (orthogonal) rotation."""
    sample = patches[:: max(1, len(patches) // 200)].flatten(0, 1).double()
    sample = sample - sample.mean(dim=0)
    _, vectors = torch.linalg.eigh(sample.T @ sample)
    directions = vectors.flip(1).float()
    return patches @ directions, directions
