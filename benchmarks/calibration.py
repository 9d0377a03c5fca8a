"""Are false alarms as many as were asked for? On training pictures alone: some to learn from, the others as new ones.

    python -m benchmarks.calibration [--data DIR] [--backbone ID] [--preset fast] [--fit 60] [--repeats 2]

Each product's training pictures are divided at random; thresholds come from the first part as in a plant (out of fold),
and are judged by the second. No test picture is read. Without --data it renders the demo's products. Writes JSON and a
Markdown table.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.training_pictures import Pictures, arguments, backbone_at, lines, quiet
from stream_ad.detectors.registry import make_detector
from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.task import Task, TaskId
from stream_ad.evaluation.calibration import TaskAlarms, pooled_alarms
from stream_ad.inspection import BankModel
from stream_ad.presets import detector_options
from stream_ad.services.learning import learn

RATES = (0.05, 0.1, 0.01)
RESULTS = Path(__file__).parent / "results"


def measured(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """Per product and repeat: calibration size, new good pictures, and how many exceed the threshold for each rate."""
    backbone = backbone_at(chosen.backbone, chosen.weights)
    detector = make_detector(
        chosen.detector, backbone, detector_options(chosen.preset, depth=backbone.depth)[chosen.detector]
    )
    rows = []
    for line in lines(chosen.data, chosen.tasks.split(",") if chosen.tasks else None):
        for repeat in range(chosen.repeats):
            order = np.random.default_rng([repeat, 11]).permutation(len(line.good)).tolist()
            fit = min(chosen.fit, len(order) - 8)
            normals = Pictures([line.good[index] for index in order[:fit]])
            task = Task(id=TaskId(line.id), class_name=line.class_name)
            entry = learn(task, normals, detector, backbone, seed=repeat, progress=quiet)
            model = BankModel(backbone, {chosen.detector: detector}, MemoryBank(0).with_entry(entry, 1))
            new = [line.good[index] for index in order[fit:]]
            scores = []
            for start in range(0, len(new), 16):
                views = model.views(new[start : start + 16])
                scores += [found.score for found in model.find(views, [entry] * len(views))]
            values, calibration = np.array(scores), entry.calibration
            rows.append(
                {
                    "product": line.id,
                    "repeat": repeat,
                    "calibrated_on": len(calibration.scores),
                    "suspects": len(entry.suspects),
                    "new": len(new),
                    "alarms": {str(rate): int((values > calibration.threshold(rate)).sum()) for rate in RATES},
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def pooled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per repeat and rate, over all products."""
    found = []
    for repeat in sorted({row["repeat"] for row in rows}):
        for rate in RATES:
            tasks = [
                TaskAlarms(row["product"], row["calibrated_on"], row["new"], row["alarms"][str(rate)])
                for row in rows
                if row["repeat"] == repeat
            ]
            judged = pooled_alarms(tasks, rate)
            found.append(
                {
                    "repeat": repeat,
                    "rate": rate,
                    "new": judged.images,
                    "alarms": judged.alarms,
                    "expected": judged.expected,
                    "low": judged.interval.low,
                    "high": judged.interval.high,
                    "as_promised": judged.as_promised,
                    "cannot_be_promised": list(judged.left_out),
                }
            )
    return found


def markdown(report: dict[str, Any]) -> str:
    about = report["about"]
    lines_ = [
        f"{about['products']} products ({about['data']}), training pictures alone; {about['detector']},"
        f" preset {about['preset']}, {about['features']}.",
        "",
        "| draw | rate | new good | above the threshold | expected | chance allows (95 %) | cannot be promised |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in report["pooled"]:
        counts = (
            f"{one['alarms']} | {one['expected']:.1f} | {one['low']} to {one['high']}" if one["new"] else "- | - | -"
        )
        left = len(one["cannot_be_promised"])
        lines_.append(f"| {one['repeat']} | {100 * one['rate']:g} % | {one['new']} | {counts} | {left} products |")
    return "\n".join(lines_) + "\n"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=2)
    chosen = parser.parse_args()
    rows = measured(chosen)
    about = {
        "data": "real" if chosen.data else "rendered",
        "products": len({row["product"] for row in rows}),
        "detector": chosen.detector,
        "preset": chosen.preset,
        "features": str(backbone_at(chosen.backbone, chosen.weights).spec),
        "fit": chosen.fit,
    }
    report = {"about": about, "products": rows, "pooled": pooled(rows)}
    output = chosen.output or RESULTS / f"calibration-{about['data']}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n")
    output.with_suffix(".md").write_text(markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
