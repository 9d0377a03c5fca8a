"""When an image is of no known product: decided from calibration alone, by the patches and the whole image together."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from stream_ad.domain.bank import BankEntry
from stream_ad.routing.index import TaskIndex
from stream_ad.routing.keys import KeyDistance, landmarks

HIGH = 0.99
LOW = 0.1
LEAST = 1.1  # of the limit, however near to each other a bank's products are
ALONE = 1.3  # the limit with one task: there is no other to tell from
SAMPLE = 64  # tasks that the limit of a large bank is taken from
NEIGHBOURS = 5
EPSILON = 1e-3  # parts that all look alike have no spread


class Refusal:
    """Tells known products from unknown ones in one bank.

    *Strangeness* measures an image against what parts of its task with a defect painted on reached (99 % quantiles of
    calibration): its cosine distance against the geometric mean of the task's own quantile and that of all tasks
    together, times its key distance against the task's own. The cosine distance alone fails: a bound per task refuses
    defects of products that all look alike, and one bound for all accepts whatever is as near as the most varied
    product is to itself. Defects are local, so they hardly move the key distance.

    The limit is half way, as a ratio, between 1 and how strange the bank's own products are to each other.
    """

    def __init__(self, entries: Sequence[BankEntry], index: TaskIndex) -> None:
        self._all = _high(np.concatenate([entry.calibration.embedding_distances for entry in entries]))
        self.limit = max(LEAST, self._apart(entries, index) ** 0.5) if len(entries) > 1 else ALONE

    def strangeness(self, entry: BankEntry, distance: KeyDistance) -> float:
        """How far an image is from its task, where 1 is far for its parts; refused above `limit`."""
        patches = distance.keys / max(_high(entry.calibration.key_distances), EPSILON)
        return self._whole(entry, distance.embedding) * patches

    def _whole(self, entry: BankEntry, distance: float) -> float:
        spread = np.sqrt(_high(entry.calibration.embedding_distances) * self._all)
        return float((distance + EPSILON) / (spread + EPSILON))

    def _apart(self, entries: Sequence[BankEntry], index: TaskIndex) -> float:
        """How strange the landmarks of a task are to the other tasks: the nearest ones of the nearest tasks."""
        found = []
        for task in np.unique(np.linspace(0, len(entries) - 1, SAMPLE).astype(int)):
            strange = []
            for landmark in landmarks(entries[task].arrays):
                near = index.search(landmark, 1 + NEIGHBOURS)
                others = zip(near.tasks.tolist(), near.distances.tolist(), strict=True)
                strange.append(min((self._whole(entries[t], d) for t, d in others if t != task), default=np.inf))
            found.append(np.quantile(strange, LOW))
        return float(np.quantile(found, LOW))


def _high(distances: Float[np.ndarray, " n"]) -> float:
    return max(float(np.quantile(distances, HIGH)), 0.0)  # a cosine distance of nothing may round below zero
