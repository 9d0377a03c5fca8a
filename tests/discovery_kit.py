"""A pool of kept pictures in miniature: an embedding is a direction with a little noise around it."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float32
from storage_kit import after

from stream_ad.adapters.storage import Database
from stream_ad.domain.discovery import Group, PoolBounds
from stream_ad.domain.proposal import KeptImage, Proposal

WIDTH = 16
FEATURES = "tiny@32px"
ROOMY = PoolBounds()


def around(axis: int, count: int, seed: int = 0, noise: float = 0.05) -> Float32[np.ndarray, "count joint"]:
    """Unit-length embeddings near one axis: a product's pictures."""
    points = np.random.default_rng([seed, axis]).normal(scale=noise, size=(count, WIDTH))
    points[:, axis] += 1
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def image(number: int, **changes: object) -> KeptImage:
    plain = KeptImage(
        id=0,
        place=("images", 0, number),
        camera="cam1",
        path=f"00/{number}.png",
        sha256=f"{number:064d}",
        size_bytes=1000,
        embedding=around(0, 1, seed=number)[0],
        features=FEATURES,
        at=after(number),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def fill(database: Database, count: int, *, first: int = 0, axis: int = 0, **changes: object) -> list[KeptImage]:
    """Pictures of one product in the pool; those that are there now."""
    points = around(axis, count, seed=first)
    images = [image(first + number, embedding=points[number], **changes) for number in range(count)]
    database.kept_images.keep(images, ROOMY)
    return database.kept_images.all()


def group_of(images: list[KeptImage], **changes: object) -> Group:
    plain = Group(
        images=[one.id for one in images],
        center=images[0].embedding,
        radius=0.1,
        features=FEATURES,
        reason="pictures that look alike",
        details={"cameras": {"cam1": len(images)}},
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def proposed(database: Database, count: int = 5, first: int = 0) -> Proposal:
    before = {one.id for one in database.kept_images.all()}
    new = [one for one in fill(database, count, first=first) if one.id not in before]
    made = database.proposals.propose(group_of(new), after(count))
    assert made is not None
    return made
