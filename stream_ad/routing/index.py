"""Nearest vectors by inner product: FAISS where it is installed, torch otherwise, with the same results."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64

try:
    import faiss
except ImportError:  # an optional extra: torch does the same search
    faiss = None


class Nearest(NamedTuple):
    similarity: Float32[np.ndarray, "queries k"]  # falling
    index: Int64[np.ndarray, "queries k"]


class InnerProductIndex:
    """An exact index over unit vectors."""

    def __init__(self, vectors: Float32[np.ndarray, "n d"], *, use_faiss: bool | None = None) -> None:
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self._faiss = None
        if faiss is not None and use_faiss is not False and len(vectors):
            self._faiss = faiss.IndexFlatIP(vectors.shape[1])
            self._faiss.add(self.vectors)

    def search(self, queries: Float32[np.ndarray, "queries d"], k: int) -> Nearest:
        """The k most similar vectors of each query, the most similar first."""
        k = min(k, len(self.vectors))
        if self._faiss is not None:
            # one query at a time: FAISS picks another kernel for 20 and more, with other rounding
            found = [self._faiss.search(np.ascontiguousarray(query[None]), k) for query in queries]
            return Nearest(np.concatenate([s for s, _ in found]), np.concatenate([i for _, i in found]))
        similarity = torch.from_numpy(np.ascontiguousarray(queries)) @ torch.from_numpy(self.vectors).T
        order = similarity.argsort(dim=1, descending=True, stable=True)[:, :k]
        return Nearest(similarity.gather(1, order).numpy(), order.numpy())
