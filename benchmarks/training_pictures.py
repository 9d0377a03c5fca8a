"""Pictures for choices and checks that no test picture may decide: training pictures alone, and rendered products.

A defective picture is, of a rendered product, the same photograph of a damaged part; of a real one, the training
picture with a defect painted on it.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stream_ad.adapters.datasets import find_products
from stream_ad.adapters.decode import pixel_sha256
from stream_ad.backbones.cached import CachedBackbone
from stream_ad.backbones.registry import load_backbone
from stream_ad.demo import PRODUCTS
from stream_ad.demo.folders import photograph_number
from stream_ad.domain.images import Picture
from stream_ad.functional.perturbation import perturb

RENDERED = 100


class Pictures:
    """An `ImageSet` in memory; ids are those of the pixels when none are given."""

    def __init__(self, pictures: Sequence[Picture], ids: Sequence[str] | None = None) -> None:
        self.pictures = list(pictures)
        self.ids = [pixel_sha256(picture) for picture in self.pictures] if ids is None else ids

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Picture:
        return self.pictures[index]


@dataclass(frozen=True, slots=True)
class Line:
    """One product."""

    id: str
    class_name: str
    good: Sequence[Picture]
    #: the picture of that number, of a damaged part
    damaged: Callable[[int], Picture]


def lines(data: Path | None, names: Sequence[str] | None = None) -> Iterator[Line]:
    """The training pictures of the data sets in a folder; without one, 100 photographs of each rendered product."""
    if data is None:
        for product in PRODUCTS.values():
            if names is None or product.name in names:
                numbers = [photograph_number(3, "train/good", index) for index in range(RENDERED)]

                def damaged(index: int, product=product, numbers=numbers) -> Picture:
                    kind = product.defects[index % len(product.defects)]
                    return product.render(numbers[index], defect=kind).picture

                yield Line(product.name, product.class_name, [product.render(n).picture for n in numbers], damaged)
        return
    for product in find_products(data, names):
        good = [product.train[index] for index in range(len(product.train))]

        def painted(index: int, good=good) -> Picture:
            return perturb(good[index], np.random.default_rng([7, index]))[0]

        yield Line(product.id, product.class_name, good, painted)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Options of a benchmark on these pictures: which products, what learns them, and from how many."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tasks")
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--weights", type=Path, default=Path("stream-ad-data/weights"))
    parser.add_argument("--detector", default="patchcore")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--fit", type=int, default=60)
    parser.add_argument("--output", type=Path)
    return parser


def backbone_at(id: str, weights_dir: Path) -> CachedBackbone:
    """A backbone at 224 px with room for the features of one product."""
    if id.startswith("local-dir:"):
        id = f"local-dir:{Path(id.removeprefix('local-dir:')).absolute()}"
    return CachedBackbone(load_backbone(id, image_size=224, weights_dir=weights_dir), max_bytes=2 << 30)


def quiet(stage: str, done: int, total: int) -> None:
    """Progress is told per product."""
