"""Coresets of several tasks as one.

Each entry's rows are whitened by its own task. To be compared they are brought back, put together, whitened by what
all of them have in common, and thinned out by greedy k-center, level by level.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from stream_ad.domain.bank import BankEntry
from stream_ad.evaluation.continual.budget import CORESET, with_arrays
from stream_ad.functional.sampling import farthest_point_sampling
from stream_ad.functional.whitening import Whitening, fit_whitening

#: a direction that was shrunk more than this cannot be brought back out of 16 bits
LEAST_GAIN = 1e-3


class Merged(NamedTuple):
    """One memory of all tasks so far."""

    entry: BankEntry
    #: its rows as they were before any whitening
    raw: Float[Tensor, "rows levels channels"]


def merge(old: Float[Tensor, "rows levels channels"] | None, new: BankEntry, rows: int, *, seed: int) -> Merged:
    """The old rows and the new task's in at most `rows` rows; threshold and routing keys stay the new task's."""
    arrays = new.arrays
    own = torch.from_numpy(np.array(arrays[CORESET])).float()  # (rows, levels, channels)
    raws, coresets, directions, gains, units = [], [], [], [], []
    for level in range(own.shape[1]):
        whitening = _whitening(new, level)
        back = _inverse(whitening)(own[:, level])
        both = back if old is None else torch.cat([old[:, level], back])
        common = fit_whitening(both, len(whitening.gains))
        points = common(both)
        if len(points) > rows:
            generator = torch.Generator().manual_seed(seed)
            kept = farthest_point_sampling(points, rows, generator=generator)
            both, points = both[kept], points[kept]
        raws.append(both)
        coresets.append(points.half())
        directions.append(common.directions)
        gains.append(common.gains)
        # what a level is measured in goes with how far apart its rows lie
        units.append(float(arrays["units"][level]) * _spacing(points) / _spacing(own[:, level]))
    changed = {
        CORESET: torch.stack(coresets, dim=1).numpy(),
        "directions": torch.stack(directions).numpy(),
        "gains": torch.stack(gains).numpy(),
        "units": np.array(units, dtype=np.float32),
    }
    return Merged(with_arrays(new, changed), torch.stack(raws, dim=1))


def _whitening(entry: BankEntry, level: int) -> Whitening:
    directions, gains = (torch.from_numpy(np.array(entry.arrays[name][level])) for name in ("directions", "gains"))
    return Whitening(directions.float(), gains.float())


def _inverse(whitening: Whitening) -> Whitening:
    kept = (1 + whitening.gains).clamp_min(LEAST_GAIN)
    return Whitening(whitening.directions, 1 / kept - 1)


def _spacing(points: Float[Tensor, "n channels"]) -> float:
    """Mean distance of a point to its nearest other one; 1 where there is none."""
    if len(points) < 2:
        return 1.0
    squared = points.square().sum(dim=1)
    distances = torch.addmm(squared[:, None] + squared, points, points.T, alpha=-2).clamp_(min=0)
    distances.fill_diagonal_(torch.inf)
    return max(float(distances.amin(dim=1).sqrt().mean()), 1e-6)
