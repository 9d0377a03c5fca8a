"""What recognises a task. Made by the same code for every detector."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.domain.images import ImageSet
from stream_ad.functional.arrays import as_tensor
from stream_ad.functional.neighbors import nearest_distance
from stream_ad.functional.sampling import farthest_point_sampling, trim_isolated

MAX_KEYS = 196  # paper: N_k = 196, as many as an image has patches at 224 px
MAX_EMBEDDINGS = 64
MAX_LANDMARKS = 8
MAX_CANDIDATES = 50_000  # patches drawn for the sampling, so that any number of images fits
ISOLATED = 0.005  # share of the most isolated patches that cannot become keys
BATCH = 16


class KeyDistance(NamedTuple):
    """How far one image is from one task; see `KeyDistances`."""

    keys: float
    embedding: float


class KeyDistances(NamedTuple):
    """How far images are from one task."""

    #: mean over patches of the distance to the nearest key; raw, not standardised
    keys: Float[Tensor, " batch"]
    #: cosine distance of the final embedding to the nearest one of the task
    embedding: Float[Tensor, " batch"]


def make_keys(backbone: Backbone, normals: ImageSet, *, block: int, seed: int) -> Mapping[str, np.ndarray]:
    """Arrays `keys` (<= 196, C), `embeddings` (<= 64, D) and `landmarks` (<= 8, D) of one task (CMPMB Eq. 1-2).

    The landmarks are the first of the embeddings: what an index of all tasks holds of each. All are float16, which
    moves a distance by about 1e-4 of itself: half the memory of a task is its keys.

    paper: FPS over all patches of all images keeps outliers, so the most isolated patches are left out first, and
    beyond 50,000 patches an equal number per image is drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    per_image = max(1, MAX_CANDIDATES // max(1, len(normals)))
    tokens, embeddings = [], []
    for start in range(0, len(normals), BATCH):
        views = Views(backbone, [normals[i] for i in range(start, min(start + BATCH, len(normals)))])
        views.compute([block], embedding=True)
        for image in views.block(block).cpu():
            if len(image) > per_image:
                image = image[torch.randperm(len(image), generator=generator)[:per_image]]
            tokens.append(image)
        embeddings.append(views.embedding.cpu())
    points = torch.cat(tokens)
    points = points[trim_isolated(points, ISOLATED)]
    finals = torch.cat(embeddings)
    keys = farthest_point_sampling(points, min(MAX_KEYS, len(points)), generator=generator)
    kept = farthest_point_sampling(finals, min(MAX_EMBEDDINGS, len(finals)), generator=generator)
    embedded = _half(finals[kept].numpy())
    return {"keys": _half(points[keys].numpy()), "embeddings": embedded, "landmarks": embedded[:MAX_LANDMARKS].copy()}


def key_distances(views: Views, arrays: Mapping[str, np.ndarray], *, block: int) -> KeyDistances:
    """Distances of a batch to one task's keys and embeddings."""
    views.compute([block], embedding=True)
    device = views.pixels.device
    keys = as_tensor(arrays["keys"], device).float()
    embeddings = as_tensor(arrays["embeddings"], device).float()
    patches = torch.stack([nearest_distance(image, keys).mean() for image in views.block(block)])
    cosine = torch.stack([1 - (embeddings @ one).amax() for one in views.embedding])
    return KeyDistances(patches.cpu(), cosine.cpu())


def landmarks(arrays: Mapping[str, np.ndarray]) -> Float[np.ndarray, "n joint"]:
    """What an index holds of a task; the first embeddings of an entry that was learned without landmarks."""
    found = arrays["landmarks"] if "landmarks" in arrays else arrays["embeddings"][:MAX_LANDMARKS]
    return np.asarray(found, dtype=np.float32)


def _half(array: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """In float16, if it goes in."""
    return array.astype(np.float16) if np.abs(array).max() < np.finfo(np.float16).max else array
