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
# what is passed over, and how much farther than the nearest it is at least; measured in docs/routing.md
REACH = 2.0  # by the embedding alone
SLACK = 1.15  # by some of the patches, too
SCREEN = 7  # patches along each side that are compared first


class Route(NamedTuple):
    """Where one image belongs."""

    #: the nearest task, also when it is refused
    entry: BankEntry
    #: too far from every task: an unknown product
    refused: bool
    #: how much farther the second-nearest task is, relative to the nearest, by some of its patches if that is clear
    #: enough; None: there is one task
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
        found = np.sort(self.index.search(query, self.shortlist).tasks)  # sorted: ties go to the first name
        entries = [self.entries[task] for task in found]
        cosines = np.array([_cosine(entry, embedding) for entry in entries])
        ranked = np.sort(cosines + EPSILON)[:2]
        near = np.flatnonzero(cosines + EPSILON <= max(REACH * ranked[0], ranked[-1]))  # two at least, for the margin
        factors = cosines[near] + EPSILON
        keys = [as_tensor(entries[place].arrays["keys"], patches.device).float() for place in near]
        products = factors * _screen(patches, keys)
        compared = np.flatnonzero(products <= SLACK * products.min())
        for i in compared:
            products[i] = factors[i] * float(nearest_distance(patches, keys[i]).mean())
        best = int(compared[products[compared].argmin()])
        margin = float(np.delete(products, best).min() / products[best] - 1) if len(products) > 1 else None
        distance = KeyDistance(float(products[best] / factors[best]), float(cosines[near[best]]))
        assert self.refusal is not None
        strangeness = self.refusal.strangeness(entries[near[best]], distance)
        refused = self.refuse and strangeness > self.refusal.limit
        return Route(entries[near[best]], refused, margin, strangeness)


def _cosine(entry: BankEntry, embedding: Float[Tensor, " joint"]) -> float:
    """Cosine distance to the task's nearest embedding."""
    return 1 - float((as_tensor(entry.arrays["embeddings"], embedding.device).float() @ embedding).amax())


def _screen(
    patches: Float[Tensor, "patches width"], keys: Sequence[Float[Tensor, "_ width"]]
) -> Float[np.ndarray, " tasks"]:
    """Mean distance of some of the patches to each task's nearest keys: one product of matrices for all of them."""
    some = patches[_spread(len(patches))]
    rows = torch.cat(list(keys))
    norms = torch.linalg.vector_norm(rows, dim=1).square()
    squared = torch.addmm(norms, some, rows.T, alpha=-2)  # (some, keys of all), less |x|^2
    parts = squared.split([len(each) for each in keys], dim=1)
    nearest = torch.stack([part.amin(dim=1) for part in parts]) + some.square().sum(dim=1)  # (tasks, some)
    return nearest.clamp_(min=0).sqrt().mean(dim=1).cpu().numpy().astype(np.float64)


def _spread(count: int) -> slice | list[int]:
    """About 49 of the patches of a square grid, evenly over the image."""
    side = round(count**0.5)
    step = -(-side // SCREEN)
    if step == 1 or side * side != count:
        return slice(None)
    return [row * side + column for row in range(step // 2, side, step) for column in range(step // 2, side, step)]
