"""What each detector costs beside the bare backbone, in one run: pictures a second, and how many forwards a picture.

    python -m benchmarks.detector_cost --output FILE.json [--backbone ID] [--weights mpa=DIR ...] [--detectors A,B]

Every detector of the registry learns the same rendered pictures, then scores others one by one, as in the papers'
tables, and in batches; the bare forward (a picture's embedding) is measured between them, so that a busy machine slows
both. In processor seconds of one thread, from decoded pictures to maps. Detectors that score by shared weights are
given some with --weights, several times for MPA and MPAMA; without, they are left out and named.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from stream_ad.adapters.datasets import find_products
from stream_ad.backbones.registry import load_backbone
from stream_ad.backbones.views import Views
from stream_ad.backbones.vit import VitBackbone
from stream_ad.demo import PRODUCTS, write_product
from stream_ad.detectors import shared_weights
from stream_ad.detectors.base import Detector, uncalibrated
from stream_ad.detectors.registry import DETECTORS, make_detector
from stream_ad.domain.images import ImageSet, Picture
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import NoSharedWeights
from stream_ad.presets import detector_options

TASK = Task(id=TaskId("gasket"), class_name="gasket")
LEARNED, BATCHES = 16, (1, 16)
#: as printed: other backbones, input sizes and machines
PUBLISHED = (
    ("AnomalyCLIP", "8.04", "A100, ViT-L/14@336 at 518 px, one by one (MPA's Table 7)"),
    ("MPA", "7.29", "as above"),
    ("MPAMA", "6.56", "as above"),
    ("AnoPLe", "about 28", "its own text"),
)
Scored = Callable[[Sequence[Picture]], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--backbone", default="auto")
    parser.add_argument("--weights-dir", type=Path, default=Path("stream-ad-data/weights"))
    parser.add_argument("--weights", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--detectors", default=",".join(DETECTORS))
    parser.add_argument("--pictures", type=int, default=32, help="scored in a turn")
    parser.add_argument("--turns", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    backbone = load_backbone(chosen.backbone, image_size=224, weights_dir=chosen.weights_dir)
    with tempfile.TemporaryDirectory() as scratch:
        write_product(Path(scratch), PRODUCTS["gasket"], train=LEARNED, good=chosen.pictures, per_defect=1, seed=1)
        (product,) = find_products(Path(scratch))
        pictures = [product.test[row].pixels for row in range(chosen.pictures)]
        given = [tuple(one.split("=", 1)) for one in chosen.weights]
        ways: dict[str, Scored] = {"bare forward": lambda some: bare(backbone, some)}
        left_out = [name for name in DETECTORS if name not in chosen.detectors.split(",")]
        for name in chosen.detectors.split(","):
            try:
                ways |= dict(
                    _scored(name, [Path(folder) for own, folder in given if own == name], backbone, product.train)
                )
            except NoSharedWeights:
                left_out.append(name)
    spent = measured(ways, pictures, chosen.turns)
    report = {
        "features": str(backbone.spec),
        "pictures": chosen.pictures,
        "turns": chosen.turns,
        "threads": 1,
        "left_out": left_out,
        "seconds": {way: {str(batch): times for batch, times in own.items()} for way, own in spent.items()},
    }
    chosen.output.write_text(json.dumps(report, indent=1) + "\n")
    markdown = to_markdown(report)
    chosen.output.with_suffix(".md").write_text(markdown)
    print(markdown)


def bare(backbone: VitBackbone, pictures: Sequence[Picture]) -> object:
    """Nothing but the pictures' embeddings."""
    return Views(backbone, pictures).embedding


def _scored(
    name: str, folders: Sequence[Path], backbone: VitBackbone, normals: ImageSet
) -> Iterator[tuple[str, Scored]]:
    """A detector, or one for each folder of shared weights."""
    options = dict(detector_options("fast", depth=backbone.depth).get(name, {}))
    for folder in folders or [None]:
        about = {} if folder is None else shared_weights.load(folder).about
        detector = make_detector(name, backbone, options | ({} if folder is None else {"weights": folder}))
        yield str(about.get("method", name)), learned(detector, normals, backbone)


def learned(detector: Detector, normals: ImageSet, backbone: VitBackbone) -> Scored:
    """What scores pictures by what the detector adapted."""
    arrays = detector.adapt(TASK, normals, roi=None, seed=0, progress=lambda stage, done, total: None)
    entry = uncalibrated(detector, TASK, arrays, backbone.spec)
    return lambda some: detector.predict(Views(backbone, some), [entry] * len(some))


def measured(ways: dict[str, Scored], pictures: Sequence[Picture], turns: int) -> dict[str, dict[int, list[float]]]:
    """Processor seconds a picture, by way and batch, of each turn; in a turn every way has its go."""
    spent: dict[str, dict[int, list[float]]] = {way: {batch: [] for batch in BATCHES} for way in ways}
    for turn in range(turns + 1):
        for way, scored in ways.items():
            for batch in BATCHES:
                started = time.process_time()
                for start in range(0, len(pictures), batch):
                    scored(pictures[start : start + batch])
                if turn:  # the first warms up
                    spent[way][batch].append((time.process_time() - started) / len(pictures))
    return spent


def to_markdown(report: dict[str, Any]) -> str:
    """A row a way: pictures a processor second, and how many bare forwards a picture takes (median of the turns)."""
    seconds = report["seconds"]
    lines = [
        "# What detectors cost",
        f"{report['features']}; {report['pictures']} rendered pictures in each of {report['turns']} turns, one thread;"
        " processor seconds from decoded pictures to maps. Ratio: pictures a second against the bare forward of the"
        " same turn, median.",
        "| | one by one, pictures/s | ratio | in batches of 16, pictures/s | ratio |\n|---|---|---|---|---|",
    ]
    for way, own in seconds.items():
        cells = []
        for batch in map(str, BATCHES):
            pairs = zip(seconds["bare forward"][batch], own[batch], strict=True)
            cells += [f"{1 / statistics.median(own[batch]):.1f}", f"{statistics.median(b / o for b, o in pairs):.2f}"]
        lines[-1] += f"\n| {way} | {' | '.join(cells)} |"
    if report["left_out"]:
        lines.append(f"Left out, without shared weights or not asked for: {', '.join(report['left_out'])}.")
    lines.append("As printed, *another backbone, another machine*:")
    lines.append("| | pictures/s | |\n|---|---|---|")
    lines[-1] += "".join(f"\n| {name} | {rate} | {where} |" for name, rate, where in PUBLISHED)
    return "\n\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
