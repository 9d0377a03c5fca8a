"""What a few defective parts among the "good" training pictures cost, with suspects left out and with all learned.

    python -m benchmarks.contamination [--data DIR] [--backbone ID] [--preset fast] [--fit 60] [--shares 0,0.05]

Of each product's training pictures some are learned, a share of these damaged; the others are new good parts, and
damaged copies of them are what must be found. No test picture is read. Without --data it renders the demo's products.
Writes JSON and a Markdown table; a run that was cut off goes on.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.training_pictures import Line, Pictures, arguments, backbone_at, lines, quiet
from stream_ad.backbones.base import Backbone
from stream_ad.detectors.base import Detector
from stream_ad.detectors.registry import make_detector
from stream_ad.domain.bank import BankEntry, MemoryBank
from stream_ad.domain.images import Picture
from stream_ad.domain.task import Task, TaskId
from stream_ad.evaluation.metrics import image_auroc
from stream_ad.inspection import BankModel
from stream_ad.presets import detector_options
from stream_ad.services.learning import learn

RESULTS = Path(__file__).parent / "results"
RULES = {"suspects left out": 0.1, "all learned": 0.0}
NEW = 40  # good pictures to judge by, and as many damaged ones


def measured(line: Line, share: float, fit: int, detector: Detector, backbone: Backbone) -> dict[str, Any]:
    """One product with a share of damaged training pictures, by both rules."""
    order = np.random.default_rng(13).permutation(len(line.good)).tolist()
    fit = min(fit, len(order) - 12)
    bad = max(1, round(share * fit)) if share else 0
    learned = Pictures([line.damaged(i) if place < bad else line.good[i] for place, i in enumerate(order[:fit])])
    new = order[fit : fit + NEW]
    task = Task(id=TaskId(line.id), class_name=line.class_name)
    found: dict[str, Any] = {"product": line.id, "share": share, "learned": fit, "bad": bad, "new": len(new)}
    good, damaged = [line.good[i] for i in new], [line.damaged(i) for i in new]
    for rule, max_suspects in RULES.items():
        if rule == "all learned" and not found["suspects left out"]["suspects"]:
            found[rule] = found["suspects left out"]  # the same entry
            break
        entry = learn(task, learned, detector, backbone, max_suspects=max_suspects, progress=quiet)
        scores = [scored(entry, pictures, detector, backbone) for pictures in (good, damaged)]
        truth = np.repeat([False, True], [len(good), len(damaged)])
        found[rule] = {
            "image_auroc": image_auroc(np.concatenate(scores), truth),
            "detected": int((scores[1] > entry.threshold).sum()),
            "false_alarms": int((scores[0] > entry.threshold).sum()),
            "suspects": len(entry.suspects),
            "bad_suspects": len({*entry.suspects} & {*learned.ids[:bad]}),
        }
    return found


def scored(entry: BankEntry, pictures: list[Picture], detector: Detector, backbone: Backbone) -> np.ndarray:
    model = BankModel(backbone, {"the one": detector}, MemoryBank(0).with_entry(entry, 1))
    scores = []
    for start in range(0, len(pictures), 16):
        views = model.views(pictures[start : start + 16])
        scores += [one.score for one in model.find(views, [entry] * len(views))]
    return np.array(scores)


def table(report: dict[str, Any]) -> str:
    about = report["about"]
    written = [
        f"{about['products']} products ({about['data']}), about {about['fit']} training pictures each;"
        f" {about['detector']}, preset {about['preset']}, {about['features']}. Thresholds for 5 %.",
        "",
        "| damaged among the learned | rule | image AUROC | damaged found | false alarms | left out: damaged | good |",
        "|---|---|---|---|---|---|---|",
    ]
    for share in sorted({row["share"] for row in report["rows"]}):
        rows = [row for row in report["rows"] if row["share"] == share]
        new, bad, all_learned = (sum(row[name] for row in rows) for name in ("new", "bad", "learned"))
        for rule in reversed(RULES):
            one = {name: [row[rule][name] for row in rows] for name in rows[0][rule]}
            caught = sum(one["bad_suspects"])
            cells = (
                f"{100 * share:g} %",
                rule,
                f"{np.mean(one['image_auroc']):.3f}",
                f"{100 * sum(one['detected']) / new:.1f} %",
                f"{100 * sum(one['false_alarms']) / new:.1f} %",
                f"{caught} of {bad}",
                f"{sum(one['suspects']) - caught} of {all_learned - bad}",
            )
            written.append("| " + " | ".join(cells) + " |")
    return "\n".join(written) + "\n"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--shares", default="0,0.02,0.05,0.1")
    chosen = parser.parse_args()
    shares = [float(share) for share in chosen.shares.split(",")]
    backbone = backbone_at(chosen.backbone, chosen.weights)
    options = detector_options(chosen.preset, depth=backbone.depth)
    detector = make_detector(chosen.detector, backbone, options[chosen.detector])
    about = {
        "data": "real" if chosen.data else "rendered",
        "detector": chosen.detector,
        "preset": chosen.preset,
        "features": str(backbone.spec),
        "fit": chosen.fit,
    }
    output = chosen.output or RESULTS / f"contamination-{about['data']}.json"
    before = json.loads(output.read_text()) if output.exists() else {}
    report = {"about": about, "rows": before.get("rows", []) if before.get("settings") == about else []}
    report["settings"] = dict(about)
    done = {(row["product"], row["share"]) for row in report["rows"]}
    output.parent.mkdir(parents=True, exist_ok=True)
    for line in lines(chosen.data, chosen.tasks.split(",") if chosen.tasks else None):
        for share in shares:
            if (line.id, share) not in done:
                report["rows"].append(measured(line, share, chosen.fit, detector, backbone))
                report["about"] = {**about, "products": len({row["product"] for row in report["rows"]})}
                output.write_text(json.dumps(report, indent=1) + "\n")
                print(json.dumps(report["rows"][-1]), flush=True)
    output.with_suffix(".md").write_text(table(report))
    print(table(report))


if __name__ == "__main__":
    main()
