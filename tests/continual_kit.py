"""A benchmark small enough for tests: three painted products, a tiny backbone, few rows and steps."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from stream_ad.adapters.arrays import FileEntryStore
from stream_ad.domain.images import HeldoutImage, Picture
from stream_ad.domain.product import Product
from stream_ad.evaluation.continual.parts import Parts
from stream_ad.evaluation.continual.run import Bench, Kit, Plan
from stream_ad.evaluation.continual.variants import Variant, chosen
from stream_ad.services.learning import learn
from tests.models import cached
from tests.pictures import Pictures, checks, disc, stripes

ROWS = 24
SMALL = {"coreset_rows": ROWS, "candidates": 600, "prompt_steps": 1, "text_steps": 1, "regions": 4}
PAINTERS = {"disc": disc, "checks": checks, "stripes": stripes}


class Labelled:
    """A `LabelledSet` in memory."""

    def __init__(self, pictures: Sequence[Picture], masks: Sequence[np.ndarray | None]) -> None:
        self._set, self._masks = Pictures(pictures), list(masks)

    def __len__(self) -> int:
        return len(self._set)

    def __getitem__(self, index: int) -> HeldoutImage:
        mask = self._masks[index]
        return HeldoutImage(self.ids[index], self._set[index], mask is not None, mask, self.kinds[index])

    @property
    def ids(self) -> Sequence[str]:
        return self._set.ids

    @property
    def defective(self) -> Sequence[bool]:
        return [mask is not None for mask in self._masks]

    @property
    def kinds(self) -> Sequence[str]:
        return ["good" if mask is None else "blot" for mask in self._masks]


def product(name: str, *, train: int = 6, good: int = 3, bad: int = 3, first: int = 0) -> Product:
    """Pictures of one painter; the bad ones have a dark or bright blot."""
    painter = PAINTERS[name]
    pictures = [painter(first + 100 + seed) for seed in range(good + bad)]
    masks: list[np.ndarray | None] = [None] * good
    for number, picture in enumerate(pictures[good:]):
        mask = np.zeros(picture.shape[:2], bool)
        top, left = 12 + 9 * number, 40 - 6 * number
        mask[top : top + 14, left : left + 16] = True
        picture[mask] = (250, 240, 30) if number % 2 else (5, 10, 5)
        masks.append(mask)
    return Product(
        id=name,
        class_name=name,
        layout="mvtec",
        dataset=None,
        train=Pictures([painter(first + seed) for seed in range(train)]),
        test=Labelled(pictures, masks),
        complete=False,
    )


def small(names: Sequence[str]) -> list[Variant]:
    """The methods with few rows and steps."""
    return [
        replace(
            variant, options={key: SMALL.get(key, value) if value else value for key, value in variant.options.items()}
        )
        for variant in chosen(names, "fast", depth=12)
    ]


class Counted:
    """Learns, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.count += 1
        return learn(*arguments, **options)


class Interrupted(Exception):
    """Stands for a kill: what is not on disk by then is gone."""


def bench(
    state: Path,
    names: Sequence[str],
    *,
    learn: Any = None,
    stop_at: int | None = None,
    draw: Any = None,
    products: Sequence[Product] | None = None,
    **plan: Any,
) -> Bench:
    """A benchmark on painted products; `stop_at`: it is interrupted when so many units of work are done."""

    def progress(stage: str, done: int, total: int) -> None:
        if stop_at is not None and "reading" not in stage and done >= stop_at:
            raise Interrupted(stage)

    kit = Kit(
        backbone=lambda size: cached(),
        learn=learn or Counted(),
        entries=FileEntryStore(state / "entries"),
        parts=Parts(state),
        now=lambda: datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        progress=progress,
        code="test",
        draw=draw,
        folds=2,
    )
    chosen_products = products or [product(name) for name in PAINTERS]
    return Bench(
        Plan(products=chosen_products, variants=small(names), preset="fast", map_size=48, **plan),
        kit,
    )
