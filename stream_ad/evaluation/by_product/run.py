"""Every method on every fold with every seed. Each leaves a part on disk, so a run that was cut off goes on."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np

from stream_ad.domain.images import split_hash
from stream_ad.domain.ports import Progress
from stream_ad.errors import ConfigError
from stream_ad.evaluation.by_product.folds import Fold, require_disjoint
from stream_ad.evaluation.by_product.methods import Method
from stream_ad.evaluation.by_product.sizes import by_size
from stream_ad.evaluation.continual.measure import STRIDE, Scored, metrics_of, to_size
from stream_ad.evaluation.continual.parts import Parts, digest
from stream_ad.evaluation.continual.results import plain
from stream_ad.evaluation.continual.run import MAP_SIZE
from stream_ad.evaluation.continual.test_set import TestSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be measured."""

    folds: Sequence[Fold]
    #: others are compared with the first
    methods: Sequence[Method]
    seeds: Sequence[int] = (0,)
    #: px, of the maps that pixel metrics are taken on
    map_size: int = MAP_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What a run works with; the command line puts it together."""

    parts: Parts
    now: Callable[[], datetime]
    progress: Progress
    #: hash of all code that a score depends on
    code: str


class ByProduct:
    """One run. `run` leaves parts; `results.figures` and `differences.differences` read them.

    Raises:
        ConfigError: two folds or methods have one name.
    """

    def __init__(self, plan: Plan, kit: Kit) -> None:
        self.plan, self.kit = plan, kit
        for what, names in (("fold", [f.name for f in plan.folds]), ("method", [m.name for m in plan.methods])):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ConfigError(f"{what} {twice[0]!r} is there twice; give each once")

    def run(self) -> None:
        """Everything that is still to be done.

        Raises:
            DataError: a picture that is judged is among those that may be learned.
        """
        for number, fold in enumerate(self.plan.folds):
            self.kit.progress(f"reading {fold.name}", number, len(self.plan.folds))
            require_disjoint(fold)
        done, total = 0, len(self.plan.folds) * len(self.plan.methods) * len(self.plan.seeds)
        for fold in self.plan.folds:
            test: TestSet | None = None
            for seed in self.plan.seeds:
                for method in self.plan.methods:
                    if self.part(method, fold, seed) is None:
                        self.kit.progress(f"{method.name} on {fold.name}, seed {seed}", done, total)
                        test = test or TestSet(fold.test, self.plan.map_size)
                        self._measure(method, fold, seed, test)
                    done += 1

    def part(self, method: Method, fold: Fold, seed: int) -> dict[str, Any] | None:
        """What was measured; None: nothing yet."""
        return self.kit.parts.get("judged", self.key(method, fold, seed))

    def key(self, method: Method, fold: Fold, seed: int) -> str:
        """Name of the part of one method on one fold."""
        return digest(
            {
                "code": self.kit.code,
                "method": method.name,
                "options": method.options,
                "features": str(method.backbone.spec),
                "fold": self._folds[fold.name],
                "seed": seed if method.seeded else None,
                "map_size": self.plan.map_size,
            }
        )

    @cached_property
    def _folds(self) -> Mapping[str, Any]:
        """Of each fold what its figures depend on: all pictures, by hash."""
        return {
            fold.name: {
                "name": fold.name,
                "class_name": fold.product.class_name,
                "train": split_hash(fold.product.train.ids),
                "test": split_hash(fold.test.ids),
                "auxiliary": {one.id: [split_hash(one.train.ids), split_hash(one.test.ids)] for one in fold.auxiliary},
            }
            for fold in self.plan.folds
        }

    @property
    def configuration(self) -> str:
        """Hash of all that decides on the figures, the data included."""
        return digest([self.key(m, f, s) for f in self.plan.folds for m in self.plan.methods for s in self.plan.seeds])

    def _measure(self, method: Method, fold: Fold, seed: int, test: TestSet) -> None:
        started = time.monotonic()
        learned = method.learn(fold, seed, self.kit.progress)
        learning = time.monotonic() - started
        read = {"images": len(test), "at": self.kit.now().isoformat(timespec="seconds")}
        found: list[Scored] = []
        for _, views in test.batches(method.backbone):
            found += learned.score(views)
        seconds = time.monotonic() - started
        scores = np.array([one.score for one in found])
        maps = np.stack([to_size(one.map, self.plan.map_size) for one in found])
        sizes = {} if test.masks is None else by_size(scores, maps, test.masks, test.defective)
        content = {
            "method": method.name,
            "fold": fold.name,
            "seed": seed,
            "metrics": {name: plain(value) for name, value in metrics_of(scores, list(maps), test).items()},
            "sizes": {size: {name: plain(value) for name, value in one.items()} for size, one in sizes.items()},
            "images": {"ids": test.ids, "kinds": test.kinds, "defective": test.defective.tolist()},
            "scores": scores.tolist(),
            "unmarked": test.unmarked,
            "synthetic": test.synthetic,
            "said": dict(learned.said()),
            "reads": [read],
            "seconds": seconds,
            "learning_seconds": learning,
        }
        self.kit.parts.put("judged", self.key(method, fold, seed), content, _thin(maps, test))


def _thin(maps: np.ndarray, test: TestSet) -> dict[str, np.ndarray]:
    """Maps and masks, thinned out, for differences between methods."""
    if test.masks is None:
        return {"maps": np.zeros((0, 0, 0), np.float32), "masks": np.zeros((0, 0, 0), bool)}
    thin = slice(STRIDE // 2, None, STRIDE)
    return {"maps": maps[:, thin, thin], "masks": test.masks[:, thin, thin]}
