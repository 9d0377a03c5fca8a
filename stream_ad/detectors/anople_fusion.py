"""AnoPLe's two opinions of a patch as one: how far it lies from memory, and what the decoder says of it.

    remembered   log(distance / even)                     even: how far apart the memory's own rows lie
    decoded      (said - usual) / temperature + margin    usual: the decoder's mean on good places
    score        log-odds of the harmonic mean of the two probabilities

A harmonic mean is an "and": what one of the two does not see is lost. `margin` is how far below its usual the decoder
must be before it takes away what memory sees, and is learned with the decoder, against memories of a few pictures of
the product that is shown (`Memories`). paper: the mean alone, in units that are not said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors.anople_pictures import Auxiliary, Drawn, turned
from stream_ad.detectors.memory import MemoryOptions, build_memory, frozen, patch_distances
from stream_ad.domain.bank import BankEntry
from stream_ad.domain.task import Task, TaskId
from stream_ad.functional.harmonic import harmonic_log_odds

COUNTS = (1, 2, 4)  # pictures of the memories that training has, by turns
DRAWS = 6  # memories of each product


@dataclass(frozen=True, slots=True, kw_only=True)
class AnopleMemoryOptions(MemoryOptions):
    top_k: int = 3  # patches whose mean is the image score


@dataclass(frozen=True, slots=True)
class Few:
    """An `ImageSet`: some pictures, turned round if the one that they are compared with is."""

    product: Auxiliary
    rows: Sequence[int]
    turned: bool

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        picture = self.product.normals[self.rows[index]]
        return turned(picture) if self.turned else picture

    @property
    def ids(self) -> Sequence[str]:
        return [self.product.normals.ids[row] for row in self.rows]


class Memories:
    """Of each product to learn from, memories of one, two and four of its good pictures; made when first asked for."""

    def __init__(
        self, backbone: Backbone, products: Mapping[str, Auxiliary], options: MemoryOptions, seed: int
    ) -> None:
        self._backbone, self._products, self._options, self._seed = backbone, products, options, seed
        self._made: dict[tuple[str, int, bool], BankEntry] = {}

    @torch.no_grad()
    def remembered(
        self, names: Sequence[str], pictures: Sequence[Drawn], rng: np.random.Generator
    ) -> Float[Tensor, "batch fine fine"]:
        """What a memory that is drawn for each picture says of its patches."""
        views = Views(self._backbone, [one.picture for one in pictures])
        for scale in self._options.scales:
            frozen(views, scale, self._options.blocks)  # all pictures at once
        found = []
        for row, (name, one) in enumerate(zip(names, pictures, strict=True)):
            entry = self._entry(name, int(rng.integers(DRAWS)), one.turned)
            [distance] = patch_distances(frozen, views.select([row]), entry)
            found.append(remembered(distance, float(entry.arrays["even"])))
        return torch.stack(found)

    def _entry(self, name: str, draw: int, turned: bool) -> BankEntry:
        key = name, draw, turned
        if key not in self._made:
            product = self._products[name]
            task = Task(id=TaskId(name), class_name=product.class_name)
            rng = np.random.default_rng([self._seed, task.seed, draw])
            rows = rng.permutation(len(product.normals))[: COUNTS[draw % len(COUNTS)]].tolist()
            few, nobody = Few(product, rows, turned), lambda stage, done, total: None
            memory = build_memory(
                frozen, self._backbone, few, self._options, roi=None, seed=task.seed + draw, progress=nobody
            )
            memory["even"] = np.array(even_distance(memory), np.float32)
            self._made[key] = BankEntry.uncalibrated(task, "memory", memory, self._backbone.spec)
        return self._made[key]


def even_distance(memory: Mapping[str, np.ndarray]) -> float:
    """The distance at which memory says neither: how far its own rows lie apart, on the scale of `patch_distances`.

    Of one picture every patch is a row, and lies nowhere but where it lies: no distance of a good patch is at hand.
    """
    apart = []
    for level, unit in enumerate(memory["units"]):
        rows = torch.from_numpy(memory["coreset"][:, level]).float()
        squared = rows.square().sum(1)
        distance = (squared[:, None] + squared - 2 * rows @ rows.T).clamp_min(0).sqrt()
        distance.fill_diagonal_(torch.inf)
        nearest = distance.min(1).values
        apart.append(float(nearest[nearest.isfinite()].mean()) / float(unit) if len(rows) > 1 else 1.0)
    scales = memory["levels"][:, 0].astype(float)
    return max(float(np.dot(scales, apart) / scales.sum()), 1e-6)


def remembered(distance: Float[Tensor, "*grid"], even: float) -> Float[Tensor, "*grid"]:
    """Memory's log-odds."""
    return torch.log(distance.clamp_min(1e-9) / even)


def fused(
    remembered: Float[Tensor, "batch fine fine"], decoded: Float[Tensor, "batch grid grid"]
) -> Float[Tensor, "batch fine fine"]:
    """Log-odds of the harmonic mean, on the memory's grid."""
    if remembered.shape != decoded.shape:
        decoded = F.interpolate(decoded[:, None], remembered.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    return harmonic_log_odds(remembered, decoded)
