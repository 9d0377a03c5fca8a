"""Which pictures look alike, from their embeddings alone: the groups that may be products.

HDBSCAN (Campello et al. 2013) needs no scale, and products differ in how much their parts differ: of the nine data sets
of docs/discovery.md the tightest has a median cosine distance of 0.02 between two parts, the widest one of 0.40.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

NEIGHBOURS = 8  # how many near ones a picture needs to be inside a group
FAR = 1.0  # cosine distance of what has nothing in common
SAME = 0.02
COMMON = 0.5  # median cosine distance of two pictures, above which they have little in common
NEAR_SHARE, STRAY = 0.25, 3.0
EPSILON = 1e-3  # parts that all look alike have no spread
INSIDE = 0.95
SHARE_OF_POOL = 50
DRAWS, DRAWN = 10, 0.8


class Ball(NamedTuple):
    """Where a group lies."""

    center: Float[np.ndarray, " joint"]
    #: cosine distance within which nearly all of it lies
    radius: float


def group(embeddings: Float[np.ndarray, "n joint"], *, smallest: int) -> list[Int[np.ndarray, " _"]]:
    """Rows of each group of at least `smallest`, the largest group first; rows of no group are in none.

    Embeddings have length 1. In a large pool a group needs a fiftieth of it, too: among thousands of pictures, twenty
    alike are found by chance. What has little in common is none, however evenly it is spread.
    """
    return _grouped(_distances(embeddings), smallest)


def steadiness(
    embeddings: Float[np.ndarray, "n joint"], groups: Sequence[Int[np.ndarray, " _"]], *, smallest: int, seed: int
) -> list[float]:
    """How well each group is found again in random parts of the pool: mean Jaccard index, from 0 to 1.

    Hennig 2007, "Cluster-wise assessment of cluster stability": above 0.75 a group is no accident.
    """
    rng, distances = np.random.default_rng(seed), _distances(embeddings)
    found = np.zeros((DRAWS, len(groups)))
    for draw in range(DRAWS):
        rows = np.sort(rng.permutation(len(embeddings))[: round(DRAWN * len(embeddings))])
        again = [set(rows[part].tolist()) for part in _grouped(distances[np.ix_(rows, rows)], round(DRAWN * smallest))]
        drawn = set(rows.tolist())
        for number, members in enumerate(groups):
            here = drawn & set(members.tolist())
            found[draw, number] = max((len(here & other) / len(here | other) for other in again), default=0.0)
    return found.mean(axis=0).tolist()


def ball(embeddings: Float[np.ndarray, "n joint"]) -> Ball:
    """Where these embeddings lie: their mean direction, and how far from it 95 % of them are."""
    center = embeddings.astype(np.float64).mean(axis=0)
    center /= max(float(np.linalg.norm(center)), 1e-12)
    return Ball(center, float(np.quantile(1 - embeddings @ center, INSIDE)))


def same_place(one: Ball, other: Ball) -> bool:
    """Whether two groups may be of one thing: each one's centre lies within the other.

    Both, so that a wide one, of rubbish for example, is not taken for every product inside it.
    """
    return 1 - float(one.center @ other.center) <= min(one.radius, other.radius)


def spread_over(embeddings: Float[np.ndarray, "n joint"], count: int) -> list[int]:
    """Rows that show what there is: the most typical one first, then each the farthest from those before it."""
    distances = _distances(embeddings)
    chosen = [int(distances.sum(axis=1).argmin())]
    while len(chosen) < min(count, len(embeddings)):
        nearest = distances[:, chosen].min(axis=1)
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    return chosen


def _grouped(distances: Float[np.ndarray, "n n"], smallest: int) -> list[Int[np.ndarray, " _"]]:
    from sklearn.cluster import HDBSCAN  # a second to import, and most commands need it not

    count = len(distances)
    if count < smallest:
        return []
    # HDBSCAN never finds one group alone, or finds a part of it; so one more is put in, that has nothing in common
    # with the rest. It begins where everything does, and the rest is a group like any other
    least = max(2, round(0.6 * smallest), count // SHARE_OF_POOL)
    padded = np.full((count + least, count + least), max(FAR, float(distances.max(initial=0.0))))
    padded[:count, :count] = distances
    padded[count:, count:] = SAME
    np.fill_diagonal(padded, 0.0)
    labels = HDBSCAN(
        min_cluster_size=least,
        min_samples=min(NEIGHBOURS, least),
        metric="precomputed",
        copy=True,  # pyright: ignore[reportArgumentType]
    ).fit_predict(padded)
    groups = []
    for label in set(labels[:count].tolist()) - {-1, int(labels[-1])}:
        members = np.flatnonzero(labels[:count] == label)
        members = members[_belongs(distances[np.ix_(members, members)])]
        if len(members) >= smallest and np.median(distances[np.ix_(members, members)]) <= COMMON:
            groups.append(members)
    return sorted(groups, key=lambda members: (-len(members), int(members[0])))


def _belongs(distances: Float[np.ndarray, "n n"]) -> Bool[np.ndarray, " n"]:
    """Which members are no strays: pictures too few for a group of their own hang on the nearest large one."""
    reach = np.quantile(distances, NEAR_SHARE, axis=1)
    return reach <= STRAY * max(float(np.median(reach)), EPSILON)


def _distances(embeddings: Float[np.ndarray, "n joint"]) -> Float[np.ndarray, "n n"]:
    exact = embeddings.astype(np.float64)
    distances = np.clip(1 - exact @ exact.T, 0.0, 2.0)
    np.fill_diagonal(distances, 0.0)
    return distances
