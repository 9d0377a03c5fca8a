"""What frozen features are worth: plain nearest-patch scoring with several backbones on the same pictures.

    python -m benchmarks.backbones --data DIR --backbones tiny,untrained,local-dir:DIR [--block 5] [--seeds 3]

Each product is learned from its good training pictures (PatchCore, 196 rows of one block) and judged on its test
pictures; nothing is chosen here. `untrained` is the model of `train backbone` before its first step. The interval is a
bootstrap over each product's test pictures, of the first seed. Backbones of earlier runs with the same settings stay.
Writes benchmarks/results/backbones.json and .md. About 40 CPU seconds a backbone and seed on nine products.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.families import kept
from benchmarks.worth import images, predicted
from stream_ad.adapters.datasets import find_products
from stream_ad.backbones.base import Backbone
from stream_ad.backbones.registry import load_backbone
from stream_ad.detectors.memory import batches
from stream_ad.detectors.patchcore import PatchCore, PatchCoreOptions
from stream_ad.domain.product import Product
from stream_ad.domain.task import Task, TaskId
from stream_ad.evaluation.metrics import image_auroc
from stream_ad.training.model import new_model
from stream_ad.training.weights_folder import write_weights

RESULTS = Path(__file__).parent / "results"
UNTRAINED = "untrained"
RESAMPLES = 1000


def opened(name: str, scratch: Path) -> Backbone:
    if name == UNTRAINED:
        folder = write_weights(new_model(0), scratch / "untrained", "")
        name = f"local-dir:{folder}"
    return load_backbone(name, image_size=224, weights_dir=Path("stream-ad-data/weights"))


def scored(product: Product, backbone: Backbone, block: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the test pictures, and which are defective."""
    detector = PatchCore(backbone, PatchCoreOptions(blocks=(block,)))
    task = Task(id=TaskId(product.id), class_name=product.class_name)
    tested = images([product.test[index].pixels for index in range(len(product.test))])
    scores, _ = predicted(detector, task, product.train, [*batches(backbone, tested)], seed=seed)
    return scores, np.array(product.test.defective)


def interval(samples: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """95 % of the mean AUROC over products, each product's good and defective pictures drawn anew."""
    rng = np.random.default_rng(0)
    means = []
    for _ in range(RESAMPLES):
        each = []
        for scores, defective in samples:
            bad, good = scores[defective], scores[~defective]
            bad, good = rng.choice(bad, len(bad)), rng.choice(good, len(good))
            truth = np.arange(len(bad) + len(good)) < len(bad)
            each.append(image_auroc(np.concatenate([bad, good]), truth))
        means.append(np.mean(each))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def run(data: Path, names: Sequence[str], block: int, seeds: int) -> None:
    products = find_products(data)
    told = {"block": block, "seeds": seeds}
    rows = kept("backbones", told)
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            backbone = opened(name, Path(scratch))
            label = UNTRAINED if name == UNTRAINED else backbone.spec.backbone
            each = {p.id: [scored(p, backbone, block, seed) for seed in range(seeds)] for p in products}
            aurocs = {id: [image_auroc(*one) for one in runs] for id, runs in each.items()}
            rows[label] = {
                "weights_sha256": backbone.spec.weights_sha256,
                "image_auroc": {id: float(np.mean(values)) for id, values in aurocs.items()},
                "mean": float(np.mean(list(aurocs.values()))),
                "of_seeds": [float(np.mean([values[seed] for values in aurocs.values()])) for seed in range(seeds)],
                "interval": interval([runs[0] for runs in each.values()]),
            }
            print(label, rows[label]["mean"], flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "backbones.json").write_text(json.dumps(told | {"backbones": rows}, indent=1) + "\n")
    heading = ["backbone", "mean", "95 %", *(product.id for product in products)]
    lines = [heading, ["---"] * len(heading)]
    for label, row in rows.items():
        low, high = row["interval"]
        values = [f"{row['image_auroc'][product.id]:.3f}" for product in products]
        lines.append([label, f"{row['mean']:.3f}", f"{low:.3f} to {high:.3f}", *values])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    title = f"# Image AUROC of plain nearest-patch scoring (196 rows of block {block}, {seeds} seeds)\n\n"
    (RESULTS / "backbones.md").write_text(title + table + "\n")
    print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbones", required=True)
    parser.add_argument("--block", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    run(chosen.data, chosen.backbones.split(","), chosen.block, chosen.seeds)
