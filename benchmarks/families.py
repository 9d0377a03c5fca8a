"""What weights are worth on rendered products that training never showed: words alone, and plain nearest patches.

    python -m benchmarks.families --backbones tiny,local-dir:DIR [--families 60] [--split heldout]

Of each family 8 good photographs are learned, 12 good and 20 damaged ones (severity 0.2 to 1) are judged. "Seen kinds"
are new families of kinds that training shows, "new kinds" are of kinds that it never does. Intervals: bootstrap over
families. Backbones of earlier runs on the same families stay. Writes benchmarks/results/families.json and .md.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.worth import Worth, worth
from stream_ad.backbones.registry import load_backbone
from stream_ad.demo.families import DEFECTS, Split, caption, family, kinds
from stream_ad.demo.training_lines import FAINTEST
from stream_ad.training.lines import Line, Shot

RESULTS = Path(__file__).parent / "results"
LEARNED, GOOD, DAMAGED = 8, 12, 20
SIZE = 224


def photographed(split: Split, index: int, *, learned: int = LEARNED) -> Line:
    """A line of the size that the program sees: so many good pictures to learn from, then those that are judged."""
    chosen = family(split, index)
    rng = np.random.default_rng([11, index])
    shots = []
    for shot in range(learned + GOOD + DAMAGED):
        bad = shot - learned - GOOD
        defect = chosen.defects[bad % len(chosen.defects)] if bad >= 0 else None
        severity = float(rng.uniform(FAINTEST, 1.0))
        picture, mask = chosen.render(shot, size=SIZE, defect=defect, severity=severity)
        shots.append(Shot(picture, mask, defect, caption(chosen.noun, defect, severity, rng)))
    return Line(chosen.noun, shots)


def kept(name: str, told: Mapping[str, Any]) -> dict[str, dict]:
    """The backbones that an earlier run measured in the same way."""
    path = RESULTS / f"{name}.json"
    earlier = json.loads(path.read_text()) if path.is_file() else {}
    backbones = earlier.pop("backbones", {})
    return backbones if earlier == told else {}


def shown(rows: Sequence[Worth]) -> dict[str, list[float]]:
    """Mean and 95 % interval of each figure."""
    values = np.array([row[1:] for row in rows])
    rng = np.random.default_rng(0)
    means = [values[rng.integers(len(values), size=len(values))].mean(0) for _ in range(2000)]
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    columns = zip(Worth._fields[1:], values.mean(0), low, high, strict=True)
    return {name: [round(float(x), 4) for x in (mean, a, b)] for name, mean, a, b in columns}


def run(names: Sequence[str], count: int, split: Split) -> None:
    cv2.setNumThreads(1)
    lines = [photographed(split, index) for index in range(count)]
    seen = [family(split, index).kind in kinds(Split.TRAIN) for index in range(count)]
    told = {"split": str(split), "families": count, "learned": LEARNED, "judged": [GOOD, DAMAGED]}
    found = kept("families", told)
    for name in names:
        backbone = load_backbone(name, image_size=SIZE, weights_dir=Path("stream-ad-data/weights"))
        rows = [worth(backbone, line, LEARNED, DEFECTS) for line in lines]
        parts = {"seen kinds": [r for r, s in zip(rows, seen, strict=True) if s]}
        parts["new kinds"] = [r for r, s in zip(rows, seen, strict=True) if not s]
        found[backbone.spec.backbone] = {part: shown(some) for part, some in parts.items() if some}
        print(backbone.spec.backbone, found[backbone.spec.backbone], flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "families.json").write_text(json.dumps(told | {"backbones": found}, indent=1) + "\n")
    heading = ["backbone", "families", *Worth._fields[1:]]
    table = [heading, ["---"] * len(heading)]
    for name, parts in found.items():
        for part, figures in parts.items():
            cells = [f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, low, high in figures.values()]
            table.append([name, part, *cells])
    text = "\n".join("| " + " | ".join(line) + " |" for line in table)
    title = f"# Rendered families that training never showed ({count} of split {split})\n\n"
    (RESULTS / "families.md").write_text(title + text + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", required=True)
    parser.add_argument("--families", type=int, default=60)
    parser.add_argument("--split", type=Split, default=Split.HELDOUT)
    chosen = parser.parse_args()
    run(chosen.backbones.split(","), chosen.families, chosen.split)
