"""AnoPLe's two opinions of a patch as one: how far it lies from memory, and what the decoder says of it.

    remembered   log(distance / even)      even: how far apart the memory's own rows lie; there memory says neither
    decoded      said - usual + margin     usual: the decoder's mean on the k pictures
    score        log-odds of the harmonic mean of the two probabilities

A harmonic mean is an "and": what one of the two does not see is lost. `margin` is how far below its usual the decoder
must be before it takes away what memory sees. paper: no margin, in units that are not said; docs/anople.md has what
each is worth, and what else was tried.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stream_ad.detectors.memory import MemoryOptions
from stream_ad.functional.harmonic import harmonic_log_odds


@dataclass(frozen=True, slots=True, kw_only=True)
class AnopleMemoryOptions(MemoryOptions):
    top_k: int = 3  # patches whose mean is the image score
    #: log-odds. paper: 0. Chosen on rendered families that nothing was trained on; from 1 to 3 little changed there
    margin: float = 2.0


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


def fused(
    distance: Float[Tensor, "fine fine"],
    said: Float[Tensor, "grid grid"],
    *,
    even: float,
    usual: float,
    margin: float,
) -> Float[Tensor, "fine fine"]:
    """Log-odds of the harmonic mean, on the memory's grid."""
    decoded = (said - usual + margin)[None, None]
    if distance.shape != said.shape:
        decoded = F.interpolate(decoded, distance.shape, mode="bilinear", align_corners=False)
    remembered = torch.log(distance.clamp_min(1e-9) / even)
    return harmonic_log_odds(remembered, decoded[0, 0])
