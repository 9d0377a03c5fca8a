"""What an entry's scores become when its rows change, measured while its pictures are still there.

With fewer rows every picture is farther from its nearest row. A threshold and a fusion with the text branch that were
set for the whole entry then mean nothing: the visual branch saturates, and its ranking is lost to the text's. So centre
and scale of each branch (Eq. 15) are measured at a ladder of sizes when the task arrives, and a shrunk entry takes
those between its two rungs.

They are measured on training pictures, as differences to the whole entry: a coreset holds about one patch in a
hundred, so that what a picture loses by a smaller one is nearly the same whether it was learned or not. What the entry
itself was calibrated by stays its base.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stream_ad.backbones.views import Views
from stream_ad.detectors.base import Detector
from stream_ad.domain.bank import BankEntry, BranchScale
from stream_ad.evaluation.continual.budget import SMALLEST, shrunk
from stream_ad.functional.calibration import center_and_scale

#: pictures that scales are measured on
PICTURES = 40
#: each rung has so many times the rows of the next lower one
STEP = 2**0.5
STRIDE = 4  # of map pixels that a quantile is taken of

#: by "scores" or "maps", then by branch: centre and scale under each of some entries
Scales = Mapping[str, Mapping[str, Sequence[Sequence[float]]]]


def measure_scales(entries: Sequence[BankEntry], detector: Detector, batches: Iterable[Views]) -> Scales:
    """Centre and scale of each branch on the pictures, under each entry."""
    found: dict[str, dict[str, list[list[np.ndarray]]]] = {"scores": {}, "maps": {}}
    for views in batches:
        for place, entry in enumerate(entries):
            raw = detector.predict(views, [entry] * len(views))
            for branch in raw.scores:
                pixels = raw.maps[branch][:, ::STRIDE, ::STRIDE].numpy().ravel()
                for of, values in (("scores", raw.scores[branch].numpy()), ("maps", pixels[np.isfinite(pixels)])):
                    found[of].setdefault(branch, [[] for _ in entries])[place].append(values.astype(np.float64))
    return {
        of: {branch: [center_and_scale(np.concatenate(parts)) for parts in each] for branch, each in branches.items()}
        for of, branches in found.items()
    }


@dataclass(frozen=True, slots=True, eq=False)
class Ladder:
    """Centre and scale of each branch's scores and maps in an entry of falling size."""

    #: rows, falling; the first are all of the entry
    sizes: Sequence[int]
    #: at each size
    scales: Scales

    def at(self, rows: int, of: str, branch: str, whole: BranchScale) -> BranchScale:
        """The scale of a branch with so many rows; `whole`: that of the whole entry, from its calibration."""
        places = np.log(np.array(self.sizes[::-1], float))
        centers, scales = np.array(self.scales[of][branch][::-1], float).T
        now = [float(np.interp(np.log(float(rows)), places, values)) for values in (centers, scales)]
        return moved(whole, (centers[-1], scales[-1]), now)


def rungs(rows: int) -> list[int]:
    """Sizes from `rows` down.

    >>> rungs(40)
    [40, 28, 19, 13, 9, 8]
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
    return rescaled(smaller, lambda of, branch, scale: ladder.at(rows, of, branch, scale))


def carried_over(changed: BankEntry, scales: Scales) -> BankEntry:
    """An entry with other rows than it was calibrated with; `scales`: before (0) and after (1) they changed."""
    return rescaled(changed, lambda of, branch, scale: moved(scale, *scales[of][branch]))


def moved(whole: BranchScale, before: Sequence[float], now: Sequence[float]) -> BranchScale:
    """A calibrated scale, moved as the scale of some pictures moved: each (centre, scale)."""
    return replace(
        whole,
        center=whole.center + float(now[0]) - float(before[0]),
        scale=whole.scale * float(now[1]) / float(before[1]),
    )


def rescaled(entry: BankEntry, change: Callable[[str, str, BranchScale], BranchScale]) -> BankEntry:
    """The entry with other scales; `change` is given "scores" or "maps", the branch, and its scale."""
    calibration = entry.calibration

    def each(of: str, scales: Mapping[str, BranchScale]) -> dict[str, BranchScale]:
        return {branch: change(of, branch, scale) for branch, scale in scales.items()}

    return replace(
        entry,
        calibration=replace(
            calibration,
            score_scales=each("scores", calibration.score_scales),
            map_scales=each("maps", calibration.map_scales),
        ),
    )
