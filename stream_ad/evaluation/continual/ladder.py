"""What an entry's scores become when it loses rows, noted while its pictures are still there.

With fewer rows every picture is farther from its nearest row. A threshold and a fusion with the text branch that were
set for the whole entry then mean nothing: the visual branch saturates, and its ranking is lost to the text's. So centre
and scale of each branch (Eq. 15) are measured at a ladder of sizes when the task arrives, and a shrunk entry takes
those between its two rungs.

They are measured on the training pictures, as differences to the whole entry: a coreset holds about one patch in a
hundred, so that what a picture loses by a smaller one is nearly the same whether it was learned or not. What the entry
itself was calibrated by stays its base.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stream_ad.backbones.views import Views
from stream_ad.detectors.base import Detector
from stream_ad.domain.bank import BankEntry, BranchScale
from stream_ad.evaluation.continual.budget import rows_of, shrunk
from stream_ad.functional.calibration import center_and_scale

#: pictures that a ladder is measured on
PICTURES = 40
#: each rung has so many times the rows of the next lower one
STEP = 2**0.5
SMALLEST = 8  # rows
STRIDE = 4  # of map pixels that a quantile is taken of


@dataclass(frozen=True, slots=True, eq=False)
class Ladder:
    """Centre and scale of each branch's scores and maps in entries of falling size."""

    #: rows, falling; the first are all of the entry
    sizes: Sequence[int]
    #: by "scores" or "maps", then by branch: (centre, scale) at each size
    scales: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]

    def to_json(self) -> dict[str, Any]:
        return {"sizes": list(self.sizes), "scales": self.scales}

    def at(self, rows: int, of: str, branch: str, whole: BranchScale) -> BranchScale:
        """The scale of a branch with so many rows; `whole`: that of the whole entry, from its calibration."""
        places = np.log(np.array(self.sizes[::-1], float))
        centers, scales = np.array(self.scales[of][branch][::-1], float).T
        where = np.log(float(rows))
        center, scale = (float(np.interp(where, places, values)) for values in (centers, scales))
        return replace(
            whole, center=whole.center + center - float(centers[-1]), scale=whole.scale * scale / float(scales[-1])
        )


def measure_ladder(entry: BankEntry, detector: Detector, batches: Iterable[Views]) -> Ladder:
    """The ladder of an entry on some of its training pictures."""
    sizes = rungs(rows_of(entry))
    entries = [shrunk(entry, size) for size in sizes]
    found: dict[str, dict[str, list[list[np.ndarray]]]] = {"scores": {}, "maps": {}}
    for views in batches:
        for rung, smaller in enumerate(entries):
            raw = detector.predict(views, [smaller] * len(views))
            for branch in raw.scores:
                pixels = raw.maps[branch][:, ::STRIDE, ::STRIDE].numpy().ravel()
                for of, values in (("scores", raw.scores[branch].numpy()), ("maps", pixels[np.isfinite(pixels)])):
                    found[of].setdefault(branch, [[] for _ in sizes])[rung].append(values.astype(np.float64))
    return Ladder(
        sizes,
        {
            of: {
                branch: [center_and_scale(np.concatenate(parts)) for parts in rung] for branch, rung in branches.items()
            }
            for of, branches in found.items()
        },
    )


def rungs(rows: int) -> list[int]:
    """Sizes from `rows` down.

    >>> rungs(40)
    [40, 28, 20, 14, 10, 8]
    """
    sizes = [rows]
    while sizes[-1] > SMALLEST:
        sizes.append(max(SMALLEST, min(sizes[-1] - 1, int(sizes[-1] / STEP))))
    return sizes


def climbed_down(whole: BankEntry, rows: int, ladder: Ladder) -> BankEntry:
    """The entry with its first `rows` rows, and what it then says brought back to its own scale."""
    smaller = shrunk(whole, rows)
    if smaller is whole:
        return whole
    calibration = whole.calibration

    def rescaled(of: str, scales: Mapping[str, BranchScale]) -> dict[str, BranchScale]:
        return {branch: ladder.at(rows, of, branch, scale) for branch, scale in scales.items()}

    return replace(
        smaller,
        calibration=replace(
            calibration,
            score_scales=rescaled("scores", calibration.score_scales),
            map_scales=rescaled("maps", calibration.map_scales),
        ),
    )
