"""Per image: the task it belongs to, or none of them.

paper: "the highest similarity between k' and k" leaves metric, aggregation and unknown products open. Here, for
task t, `s_t = d_keys * (d_embedding + 0.001)`: the mean distance of the image's patches to the task's keys times the
cosine distance of its final embedding to the task's nearest one. The smallest wins. A product needs no scale, and
standardising per task hurts the ranking.

Of 10,000 tasks it finds the one that comparing with all of them would find, at a few comparisons (docs/routing.md):
the tasks with the nearest landmarks, of these the nearest by a quarter of the patches, and those exactly.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from stream_ad.backbones.views import Views
from stream_ad.domain.bank import BankEntry, MemoryBank
from stream_ad.functional.arrays import as_tensor
from stream_ad.functional.neighbors import nearest_distance
from stream_ad.routing.index import TaskIndex
from stream_ad.routing.keys import KeyDistance, landmarks
from stream_ad.routing.refusal import Refusal

EPSILON = 1e-3  # so that an image that is in the bank does not decide by its embedding alone
SCREEN = 7  # patches along each side that screen the shortlist
SLACK = 1.2  # how much farther than the nearest a task may look on these and still be compared exactly


class Route(NamedTuple):
    """Where one image belongs."""

    #: the nearest task, also when it is refused
    entry: BankEntry
    #: too far from every task: an unknown product
    refused: bool
    #: how much farther the second-nearest task is, relative to the nearest; None: there is one task
    margin: float | None
    #: how far from the task, where 1 is far for its own parts; refused above `Refusal.limit`
    strangeness: float


class Router:
    """Routes images among the entries of one bank. Pure: the same bank and image, the same route."""

    def __init__(self, bank: MemoryBank, *, block: int, shortlist: int = 10, refuse: bool = True) -> None:
        self.entries: list[BankEntry] = list(bank)
        self.block = block
        self.shortlist = shortlist
        self.index = TaskIndex([landmarks(entry.arrays) for entry in self.entries])
        self.refuse = refuse
        self.refusal = Refusal(self.entries, self.index) if self.entries else None

    def route(self, views: Views) -> list[Route]:
        """One route per image. The bank must hold at least one entry."""
        views.compute([self.block], embedding=True)
        queries = views.embedding.cpu().numpy()
        return [
            self._route(patches, embedding, query)
            for patches, embedding, query in zip(views.block(self.block), views.embedding, queries, strict=True)
        ]

    def _route(
        self, patches: Float[Tensor, "patches width"], embedding: Float[Tensor, " joint"], query: np.ndarray
    ) -> Route:
        tasks = np.sort(self.index.search(query, self.shortlist).tasks)  # sorted: ties go to the first name
        arrays = [self.entries[task].arrays for task in tasks]
        cosines = [float(1 - (as_tensor(a["embeddings"], embedding.device).float() @ embedding).amax()) for a in arrays]
        keys = [as_tensor(a["keys"], patches.device).float() for a in arrays]
        patch_means = np.full(len(tasks), np.inf)
        for place in _screened(patches, keys, cosines):
            patch_means[place] = float(nearest_distance(patches, keys[place]).mean())
        products = patch_means * (np.asarray(cosines) + EPSILON)
        order = np.argsort(products, kind="stable")
        best = int(order[0])
        margin = float(products[order[1]] / products[best] - 1) if len(tasks) > 1 else None
        entry = self.entries[tasks[best]]
        assert self.refusal is not None
        strangeness = self.refusal.strangeness(entry, KeyDistance(float(patch_means[best]), cosines[best]))
        return Route(entry, self.refuse and strangeness > self.refusal.limit, margin, strangeness)


def _screened(
    patches: Float[Tensor, "patches width"], keys: Sequence[Float[Tensor, "_ width"]], cosines: Sequence[float]
) -> list[int]:
    """Places of the tasks that may be the nearest, by some of the patches; at least two, if there are two.

    One product of matrices for all of them: a quarter of the work of comparing all patches.
    """
    if len(keys) <= 2:
        return list(range(len(keys)))
    some = patches[_spread(len(patches))]
    rows = torch.cat(list(keys))
    squared = torch.addmm(rows.square().sum(dim=1), some, rows.T, alpha=-2)  # (some, keys of all), less |x|^2
    norms = some.square().sum(dim=1)
    parts = squared.split([len(each) for each in keys], dim=1)
    nearest = torch.stack([part.amin(dim=1) for part in parts])  # (tasks, some)
    means = (nearest + norms).clamp_(min=0).sqrt().mean(dim=1).cpu().numpy()
    estimates = means * (np.asarray(cosines) + EPSILON)
    order = np.argsort(estimates, kind="stable")
    within = int((estimates <= SLACK * estimates[order[0]]).sum())
    return order[: max(within, 2)].tolist()


def _spread(count: int) -> slice | list[int]:
    """About 49 of the patches of a square grid, evenly over the image."""
    side = round(count**0.5)
    step = -(-side // SCREEN)
    if step == 1 or side * side != count:
        return slice(None)
    return [row * side + column for row in range(step // 2, side, step) for column in range(step // 2, side, step)]
