"""Entries and images made of numbers: routing needs no pictures, and thousands of tasks take a second."""

from typing import Any

import numpy as np
import torch

from stream_ad.backbones.views import Views
from stream_ad.domain.bank import BankEntry, BranchScale, Calibration, FeatureSpec, MemoryBank
from stream_ad.domain.task import Task, TaskId
from stream_ad.routing.keys import MAX_LANDMARKS

WIDTH, JOINT, PATCHES = 16, 24, 36


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


class Product:
    """Patches around a few places, embeddings around one."""

    def __init__(self, seed: int, *, kinds: int = 50) -> None:
        family = np.random.default_rng([1, seed % kinds])  # products of a family are alike
        own = np.random.default_rng([2, seed])
        self.places = family.normal(size=(6, WIDTH)) + 0.3 * own.normal(size=(6, WIDTH))
        self.center = family.normal(size=JOINT) + 0.5 * own.normal(size=JOINT)

    def patches(self, rng: np.random.Generator, count: int = PATCHES) -> np.ndarray:
        chosen = self.places[rng.integers(len(self.places), size=count)]
        return (chosen + 0.15 * rng.normal(size=(count, WIDTH))).astype(np.float32)

    def embeddings(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return unit(self.center + 0.1 * rng.normal(size=(count, JOINT)))


def entry_of(name: str, seed: int, *, embeddings: int = 12, keys: int = 24, **arrays: np.ndarray) -> BankEntry:
    product, rng = Product(seed), np.random.default_rng([3, seed])
    embedded = product.embeddings(rng, embeddings).astype(np.float16)
    distances = np.sort(rng.uniform(0.01, 0.05, 20))
    return BankEntry(
        task=Task(id=TaskId(name), class_name="part"),
        detector="patchcore/1",
        arrays={
            "keys": product.patches(rng, keys).astype(np.float16),
            "embeddings": embedded,
            "landmarks": embedded[:MAX_LANDMARKS],
            **arrays,
        },
        calibration=Calibration(
            score_scales={"visual": BranchScale(0.0, 1.0, 1.0)},
            map_scales={"visual": BranchScale(0.0, 1.0, 1.0)},
            scores=distances,
            map_peaks=distances,
            key_distances=20 * distances,
            embedding_distances=distances,
            out_of_fold=True,
        ),
        features=FeatureSpec(backbone="numbers", weights_sha256="ab" * 32, image_size=96),
        shared_weights=None,
        splits={},
        sha256=f"{seed:064x}",
    )


def bank_of(entries: list[BankEntry]) -> MemoryBank:
    return MemoryBank(1, {entry.task.id: entry for entry in sorted(entries, key=lambda entry: entry.task.id)})


class Known(Views):
    """Images whose features are known."""

    def __init__(self, patches: np.ndarray, embeddings: np.ndarray) -> None:
        self._blocks = {5: torch.from_numpy(patches)}
        self._embedding = torch.from_numpy(embeddings)
        self._dense = None
        self.pixels = torch.zeros(len(patches), 3, 1, 1)


def images_of(seeds: Any, *, number: int = 0) -> Known:
    """One image of each product."""
    drawn = [(Product(int(seed)), np.random.default_rng([4, number, int(seed)])) for seed in seeds]
    return Known(
        np.stack([product.patches(rng) for product, rng in drawn]),
        np.concatenate([product.embeddings(rng, 1) for product, rng in drawn]),
    )


def exact(views: Known, entries: list[BankEntry]) -> np.ndarray:
    """(images, tasks): the product that routing minimises, by its definition."""
    patches = views.block(5).numpy().astype(np.float64)
    rows, squares = patches.reshape(-1, WIDTH), (patches**2).sum(axis=2).ravel()[:, None]
    table = np.zeros((len(views), len(entries)))
    for column, entry in enumerate(entries):
        keys, known = (entry.arrays[name].astype(np.float64) for name in ("keys", "embeddings"))
        squared = squares + (keys**2).sum(axis=1) - 2 * rows @ keys.T
        d_keys = np.sqrt(np.clip(squared.min(axis=1), 0, None)).reshape(patches.shape[:2]).mean(axis=1)
        table[:, column] = d_keys * (1 - (views.embedding.numpy() @ known.T).max(axis=1) + 1e-3)
    return table
