"""What the tasks of a bank look like, as far as stored embeddings tell; neither backbone nor torch is needed."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.task import TaskId

NEAR = 1.5
HIGH = 0.99
EPSILON = 1e-3  # parts that all look alike have no spread


class Near(NamedTuple):
    """The known task that pictures are nearest to."""

    task: TaskId
    #: how far, where 1 is far for the task's own parts
    times: float

    @property
    def is_near(self) -> bool:
        """Whether they may be that task's."""
        return self.times <= NEAR


class KnownLooks:
    """What the tasks of a bank look like, as far as embeddings of one kind tell."""

    def __init__(self, bank: MemoryBank, features: str) -> None:
        entries = [entry for entry in bank if str(entry.features) == features and "embeddings" in entry.arrays]
        self._tasks = [entry.task.id for entry in entries]
        self._embeddings = [np.asarray(entry.arrays["embeddings"], dtype=np.float64) for entry in entries]
        self._far = [float(np.quantile(entry.calibration.embedding_distances, HIGH)) for entry in entries]

    def nearest(self, points: Float32[np.ndarray, "n joint"]) -> list[Near | None]:
        """Of each picture; None: nothing is known."""
        if not self._tasks or not len(points):
            return [None] * len(points)
        times = self._times(points)
        return [
            Near(self._tasks[task], float(row[task])) for row, task in zip(times, times.argmin(axis=1), strict=True)
        ]

    def near(self, points: Float32[np.ndarray, "n joint"]) -> Near | None:
        """Of a group: the task that most of its pictures are nearest to."""
        if not self._tasks:
            return None
        middle = np.median(self._times(points), axis=0)
        return Near(self._tasks[int(middle.argmin())], float(middle.min()))

    def _times(self, points: Float32[np.ndarray, "n joint"]) -> Float[np.ndarray, "n tasks"]:
        exact = points.astype(np.float64)
        distances = [1 - (exact @ own.T).max(axis=1) for own in self._embeddings]
        scaled = [(d + EPSILON) / (max(far, 0.0) + EPSILON) for d, far in zip(distances, self._far, strict=True)]
        return np.stack(scaled, axis=1)
