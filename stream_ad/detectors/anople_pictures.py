"""What AnoPLe's training shows: pictures of *auxiliary* products, whole and as a crop, and where their damage is.

Half of the pictures of a step are damaged. Damage is painted by us on a good picture, as in the paper; or it is real,
in labelled pictures of other products (`Auxiliary.defects`). paper: painted alone. Painted is not real: docs/anople.md
has what each is worth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stream_ad.backbones.base import Backbone
from stream_ad.detectors.anople_network import CROPS, FINE, WHOLE
from stream_ad.detectors.mpa_training import shrunk
from stream_ad.domain.images import ImageSet, LabelledSet, Picture
from stream_ad.functional.perturbation import perturb

TRIES = 8  # at a labelled picture whose damage is marked, before one is painted


@dataclass(frozen=True, slots=True, eq=False)
class Auxiliary:
    """A product to learn from."""

    class_name: str
    normals: ImageSet
    #: labelled pictures; only those with a marked defect are shown
    defects: LabelledSet | None = None

    @property
    def ids(self) -> Sequence[str]:
        """Of the pictures that may be shown."""
        if self.defects is None:
            return self.normals.ids
        of_defects = self.defects.ids
        return [*self.normals.ids, *(of_defects[row] for row in self.damaged)]

    @property
    def damaged(self) -> Sequence[int]:
        """Rows of `defects`."""
        return [] if self.defects is None else [row for row, bad in enumerate(self.defects.defective) if bad]


class Batch(NamedTuple):
    """What is shown in a step at one scale."""

    pixels: Float[Tensor, "batch 3 size size"]
    #: where it is damaged, `FINE` cells along a patch's side
    truth: Bool[Tensor, "batch side side"]


class Drawn(NamedTuple):
    picture: Picture
    #: where it is damaged
    mask: Bool[np.ndarray, "height width"]


def drawn(product: Auxiliary, rng: np.random.Generator, *, damaged: bool, real: float, crops: Sequence[int]) -> Drawn:
    """A picture of a product, turned round half of the time: few of one view are seen often.

    `real`: the probability that a damaged one is a labelled picture, where the product has some. Else damage is
    painted, in one of the crops.
    """
    if damaged and product.damaged and rng.random() < real and (labelled := _labelled(product, rng)) is not None:
        shown = labelled
    else:
        picture = product.normals[int(rng.integers(len(product.normals)))]
        shown = Drawn(picture, np.zeros(picture.shape[:2], bool))
        if damaged:
            within = np.zeros((CROPS, CROPS), bool)
            within.flat[list(crops) or slice(None)] = True
            shown = Drawn(*perturb(picture, rng, roi=within))
    if rng.random() < 0.5:
        shown = Drawn(np.ascontiguousarray(shown.picture[:, ::-1]), np.ascontiguousarray(shown.mask[:, ::-1]))
    return shown


def _labelled(product: Auxiliary, rng: np.random.Generator) -> Drawn | None:
    """One whose damage is marked; None where a few tries found none."""
    assert product.defects is not None
    for _ in range(TRIES):
        image = product.defects[int(rng.choice(product.damaged))]
        if image.mask is not None and image.mask.any():
            return Drawn(image.pixels, image.mask)
    return None


def shown(backbone: Backbone, pictures: Sequence[Drawn], crops: Sequence[int]) -> dict[int, Batch]:
    """The pictures whole (scale 0), and their crops (1 + crop); each with its truth."""
    size, side = backbone.spec.image_size, FINE * backbone.grid
    whole = backbone.preprocess([one.picture for one in pictures])
    truth = torch.stack([shrunk(one.mask, side) for one in pictures])
    found = {WHOLE: Batch(whole, truth.to(whole.device))}
    if not crops:
        return found
    fine = backbone.preprocess([one.picture for one in pictures], scale=CROPS)
    truth = torch.stack([shrunk(one.mask, CROPS * side) for one in pictures])
    for crop in crops:
        row, column = divmod(crop, CROPS)
        found[1 + crop] = Batch(
            fine[:, :, row * size : (row + 1) * size, column * size : (column + 1) * size],
            truth[:, row * side : (row + 1) * side, column * side : (column + 1) * side].to(whole.device),
        )
    return found
