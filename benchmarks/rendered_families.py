"""CMPMB on rendered product families that training never showed, learned one after the other.

    python -m benchmarks.rendered_families [--backbone small] [--families 16] [--pictures DIR]

Writes each family as a folder of pictures (into DIR, if they are not there yet), runs `stream-ad bench continual` on
them and keeps its figures in benchmarks/results/continual-families.json and .md. Defects are of severity 0.2 to 1, as
in benchmarks/families.py; `cmpmb_alpha_0.9` is the preset with a tenth of text in its score.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmarks.command_line import run_and_keep
from benchmarks.families import photographed
from stream_ad.demo.families import Split
from stream_ad.demo.folders import save

METHODS = ("cmpmb", "cmpmb_alpha_0.9", "patchcore")
LEARNED = 24


def written(root: Path, index: int) -> None:
    """Held-out family `index` in MVTec AD's layout."""
    line = photographed(Split.HELDOUT, index, learned=LEARNED)
    folder = root / f"{index:02d}_{line.noun.replace(' ', '_')}"
    for number, shot in enumerate(line.shots):
        kind = shot.defect or "good"
        save(shot.picture, folder / ("train" if number < LEARNED else "test") / kind / f"{number:03d}.png")
        if shot.defect:
            mask = shot.mask.astype(np.uint8) * np.uint8(255)
            save(mask, folder / "ground_truth" / kind / f"{number:03d}_mask.png")


def run(backbone: str, count: int, pictures: Path | None) -> None:
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pictures or Path(scratch) / "families"
        for index in range(count):
            if not any(folder.glob(f"{index:02d}_*")):
                written(folder, index)
        output = Path(scratch) / "continual-families.json"
        run_and_keep(
            [
                *("bench", "continual", "--data", str(folder), "--backbone", backbone),
                *("--detectors", ",".join(METHODS), "--output", str(output)),
            ],
            output,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="small")
    parser.add_argument("--families", type=int, default=16)
    parser.add_argument("--pictures", type=Path)
    chosen = parser.parse_args()
    run(chosen.backbone, chosen.families, chosen.pictures)
