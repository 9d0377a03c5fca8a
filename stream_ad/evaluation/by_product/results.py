"""From the parts of a run to the figures, as the JSON file has them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stream_ad.domain.evaluation import METRICS
from stream_ad.domain.images import split_hash
from stream_ad.evaluation.by_product.methods import Method
from stream_ad.evaluation.by_product.run import ByProduct
from stream_ad.evaluation.by_product.sizes import METRICS_BY_SIZE, SIZES

Part = Mapping[str, Any]


def figures(run: ByProduct) -> dict[str, Any]:
    """`tasks` and `detectors`. Means are over what is defined; `average_over` says over how many products."""
    return {
        "tasks": [fold.name for fold in run.plan.folds],
        "detectors": {method.name: _method(run, method) for method in run.plan.methods},
    }


def _method(run: ByProduct, method: Method) -> dict[str, Any]:
    by_seed = {seed: _parts(run, method, seed) for seed in run.plan.seeds}
    orders = [
        {"seed": seed, "tasks": list(parts), "average": _average([part["metrics"] for part in parts.values()])}
        for seed, parts in by_seed.items()
    ]
    per_task = {fold.name: _task([parts[fold.name] for parts in by_seed.values()]) for fold in run.plan.folds}
    return {
        "about": method.about,
        "average": _average([one["oracle"] for one in per_task.values()]),
        "average_over": {
            metric: sum(one["oracle"][metric] is not None for one in per_task.values()) for metric in METRICS
        },
        "per_task": per_task,
        "sizes": {size: _average_size([one["sizes"].get(size) for one in per_task.values()]) for size in SIZES},
        "image_size": method.backbone.spec.image_size,
        "features": str(method.backbone.spec),
        "options": dict(method.options),
        "seconds": sum(part["seconds"] for parts in _distinct(method, by_seed) for part in parts.values()),
        "learning_seconds": sum(
            part["learning_seconds"] for parts in _distinct(method, by_seed) for part in parts.values()
        ),
        "orders": orders,
    }


def _parts(run: ByProduct, method: Method, seed: int) -> dict[str, dict[str, Any]]:
    found = {fold.name: run.part(method, fold, seed) for fold in run.plan.folds}
    return {name: part for name, part in found.items() if part is not None}


def _distinct(method: Method, by_seed: Mapping[int, Mapping[str, Part]]) -> list[Mapping[str, Part]]:
    """A method that draws nothing ran once, whatever the number of seeds."""
    return list(by_seed.values())[: None if method.seeded else 1]


def _task(parts: Sequence[Part]) -> dict[str, Any]:
    """One fold, mean over seeds. The product is told, so its figures stand where `bench continual` has those."""
    first = parts[0]
    defective = sum(first["images"]["defective"])
    return {
        "oracle": _average([part["metrics"] for part in parts]),
        "sizes": {
            size: _average_size([part["sizes"][size] for part in parts]) | {"images": one["images"]}
            for size, one in first["sizes"].items()
        },
        "good": len(first["images"]["ids"]) - defective,
        "defective": defective,
        "unmarked": first["unmarked"],
        "synthetic": first["synthetic"],
        "said": [part["said"] for part in parts if part["said"]],
    }


def _average(found: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    return {metric: _mean([one[metric] for one in found]) for metric in METRICS}


def _average_size(found: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    known = [one for one in found if one]
    return {metric: _mean([one[metric] for one in known]) for metric in METRICS_BY_SIZE} | {
        "images": int(sum(one["images"] for one in known)),
        "largest": _mean([one["largest"] for one in known]),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """Over those that are defined; null where none is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def test_reads(run: ByProduct) -> list[dict[str, Any]]:
    """Every time that a method looked at the pictures that it is judged by, in the order of time."""
    reads = {
        run.key(method, fold, seed): {"method": method.name, "seed": seed, "task": fold.name, **read}
        for fold in run.plan.folds
        for method in run.plan.methods
        for seed in reversed(run.plan.seeds)  # one part of several seeds is named by the first
        for read in (run.part(method, fold, seed) or {"reads": []})["reads"]
    }
    return sorted(reads.values(), key=lambda read: read["at"])


def data(run: ByProduct) -> dict[str, Any]:
    """Which pictures, by hashes that anybody with the same data set can compare."""
    found = {}
    for fold in run.plan.folds:
        product, flags = fold.product, list(fold.test.defective)
        found[fold.name] = {
            "class_name": product.class_name,
            "layout": product.layout,
            "dataset": product.dataset,
            "category": product.category,
            "complete": product.complete and fold.test is product.test,
            "note": product.note,
            "train": len(fold.normals),
            "train_sha256": split_hash(fold.normals.ids),
            "left_out_because_in_test": len(product.train) - len(fold.normals),
            "test_good": flags.count(False),
            "test_defective": flags.count(True),
            "test_sha256": split_hash(fold.test.ids),
            "auxiliary": [one.id for one in fold.auxiliary],
        }
    return found
