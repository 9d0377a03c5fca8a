"""The nearest tasks by their landmarks: FAISS where it is installed, torch otherwise, with the same results.

A task is as near as the nearest of its landmarks. Small banks are searched whole. From 8,192 landmarks on, about a
thousand tasks, FAISS keeps them in inverted lists and reads the nearest lists only, which may rarely miss one; torch
always searches all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64

try:
    import faiss
except ImportError:  # an optional extra: torch does the same search
    faiss = None

LISTS_FROM = 8192  # landmarks
PROBED = 1 / 16  # share of the lists that a search reads


class NearTasks(NamedTuple):
    """The tasks nearest to one query, the nearest first, ties by position."""

    tasks: Int64[np.ndarray, " k"]
    #: cosine distance to the task's nearest landmark
    distances: Float32[np.ndarray, " k"]


class TaskIndex:
    """An index of tasks by unit vectors. One query at a time, so that no result depends on a batch."""

    def __init__(self, landmarks: Sequence[Float32[np.ndarray, "_ d"]], *, use_faiss: bool | None = None) -> None:
        self.count = len(landmarks)
        sizes = [len(each) for each in landmarks]
        self._owner = np.repeat(np.arange(self.count), sizes)  # task of each landmark
        self._starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64) if sizes else np.zeros(0, np.int64)
        vectors = np.ascontiguousarray(np.concatenate(landmarks) if sizes else np.zeros((0, 1)), dtype=np.float32)
        self.width = vectors.shape[1]
        self._vectors: torch.Tensor | None = None
        self._faiss = None
        if faiss is None or use_faiss is False or not sizes:
            self._vectors = torch.from_numpy(vectors)
        else:
            self._faiss = _faiss_index(vectors)

    def __len__(self) -> int:
        return len(self._owner)

    @property
    def nbytes(self) -> int:
        """Of the vectors; the lists' numbers come to 8 more a landmark."""
        return len(self) * self.width * 4

    def search(self, query: Float32[np.ndarray, " d"], count: int) -> NearTasks:
        """The `count` tasks (or all, when there are fewer) nearest to the query."""
        count = min(count, self.count)
        if self._vectors is not None:
            return self._search_all(query, count)
        wanted = 4 * count
        while True:
            wanted = min(wanted, len(self))
            similarity, index = self._faiss.search(np.ascontiguousarray(query[None]), wanted)  # pyright: ignore
            found = index[0] >= 0  # fewer than wanted were in the lists that were read
            tasks, first = np.unique(self._owner[index[0][found]], return_index=True)
            if len(tasks) >= count or wanted == len(self):
                return _nearest(tasks, 1 - similarity[0][found][first], count)
            wanted *= 4

    def _search_all(self, query: Float32[np.ndarray, " d"], count: int) -> NearTasks:
        assert self._vectors is not None
        similarity = (self._vectors @ torch.from_numpy(np.ascontiguousarray(query))).numpy()
        best = np.maximum.reduceat(similarity, self._starts) if self.count else similarity
        return _nearest(np.arange(self.count), 1 - best, count)


def _nearest(tasks: np.ndarray, distances: np.ndarray, count: int) -> NearTasks:
    order = np.lexsort((tasks, distances))[:count]
    return NearTasks(tasks[order].astype(np.int64), distances[order].astype(np.float32))


def _faiss_index(vectors: Float32[np.ndarray, "n d"]):
    width = vectors.shape[1]
    flat = faiss.IndexFlatIP(width)  # pyright: ignore
    if len(vectors) < LISTS_FROM:
        flat.add(vectors)
        return flat
    lists = round(4 * len(vectors) ** 0.5)
    index = faiss.IndexIVFFlat(flat, width, lists, faiss.METRIC_INNER_PRODUCT)  # pyright: ignore
    index.cp.seed, index.cp.niter, index.cp.min_points_per_centroid = 0, 10, 1
    index.own_fields = False
    index.train(vectors)
    index.add(vectors)
    index.nprobe = max(8, round(PROBED * lists))
    return index
