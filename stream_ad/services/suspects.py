"""Which training pictures look defective, from what memories say of them that did not see them."""

from collections.abc import Mapping, Sequence

import numpy as np

from stream_ad.detectors.base import RawPrediction
from stream_ad.functional.outliers import outlying

STRIDE = 4  # of the map, every fourth pixel each way tells its median


class Evidence:
    """Scores and backgrounds of pictures, gathered batch by batch; maps are not kept.

    Of several branches the one with the largest weight is asked.
    """

    def __init__(self, branches: Mapping[str, float]) -> None:
        self.branch = max(branches, key=lambda name: branches[name])
        self.indices: list[int] = []
        self.scores: list[float] = []
        self.backgrounds: list[float] = []

    def add(self, indices: Sequence[int], raw: RawPrediction) -> None:
        """What `raw` says of the pictures numbered `indices`."""
        self.indices += indices
        self.scores += raw.scores[self.branch].tolist()
        for one in raw.maps[self.branch].numpy():
            inside = one[::STRIDE, ::STRIDE]
            inside = inside[np.isfinite(inside)]
            if not len(inside):  # a region of interest that falls between the strides
                inside = one[np.isfinite(one)]
            self.backgrounds.append(float(np.median(inside)))

    def suspects(self, max_share: float) -> set[int]:
        """The pictures that look defective among the others, at most that share of them."""
        found = outlying(np.array(self.scores), np.array(self.backgrounds), max_share)
        return {self.indices[place] for place in found}
