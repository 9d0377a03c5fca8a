"""Products added one by one through real jobs, by CMPMB and by PatchCore on the same features, in the same run.

    python -m benchmarks.continual --data DIR --backbone ID [--output FILE.json]

Without --data it renders the demo's products. DIR holds one folder per product in MVTec layout. Everything goes
through database, worker and gate, as in a plant; then the final bank is evaluated on all held-out images, and the
matrix R of the test halves is read from what the jobs stored. Writes JSON, and a Markdown table beside it.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from stream_ad.adapters.database import upgrade
from stream_ad.adapters.heldout import read_heldout
from stream_ad.app import App
from stream_ad.backbones.cached import CachedBackbone
from stream_ad.config import load_settings
from stream_ad.demo import write_product
from stream_ad.demo.products import PRODUCTS
from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.evaluation import METRICS, Half, Mode, TaskEvaluation
from stream_ad.domain.job import JobKind, JobState
from stream_ad.domain.task import Task, TaskId
from stream_ad.evaluation.forgetting import average, backward_transfer, forgetting_measure, regret, score_matrix
from stream_ad.evaluation.metrics import paired_bootstrap
from stream_ad.evaluation.protocol import evaluate

DETECTORS = ("cmpmb", "patchcore")
RESULTS = Path(__file__).parent / "results"


def quiet(stage: str, done: int, total: int) -> None:
    """Progress is told per job."""


def run(detector: str, folders: Sequence[Path], state: Path, backbone: str, shared: list[CachedBackbone]) -> dict:
    """All products added one by one by one detector; its figures."""
    state.mkdir(parents=True)
    file = state / "config.yaml"
    file.write_text(yaml.safe_dump({"data_dir": "data", "backbone": {"id": backbone}, "detector": {"name": detector}}))
    settings = load_settings(file)
    upgrade(settings.database_url)
    started = time.monotonic()
    jobs = []
    with App(settings) as app:
        if shared:
            app.__dict__["backbone"] = shared[0]  # frozen features are the same: computed once for all detectors
        shared[:] = [app.backbone]
        for folder in folders:
            name = folder.name.replace("_", " ")
            task = Task(id=TaskId(folder.name), class_name=name, false_alarm_rate=0.05)
            checked = app.check_folders(task, images=folder / "train" / "good", heldout=folder, roi=None, detector=None)
            job = app.database.tasks.add(task, JobKind.ADAPT, checked.payload, app.clock.now())
            begun = time.monotonic()
            app.worker().run(drain=True)
            job = app.database.jobs.get(job.id)
            seconds = time.monotonic() - begun
            print(f"{detector:10} {folder.name:20} {seconds:5.0f} s  {job.state}: {job.message}", flush=True)
            jobs.append({"task": folder.name, "state": str(job.state), "message": job.message, "seconds": seconds})
        evaluations = [one for one in app.database.evaluations.all(Half.TEST) if one.published]
        bank = app.database.banks.load()
        final = evaluate(
            app.model(bank), {task: read_heldout(folder_of(folders, task)) for task in bank.entries}, quiet
        )
        unseen = refused_when_left_out(app, bank, folders)
        return {
            "jobs": jobs,
            "published": sum(job["state"] == JobState.PUBLISHED for job in jobs),
            **matrices(evaluations),
            "final": {task: figures(one) for task, one in final.items()},
            "mean": means(final),
            "unseen_refused": unseen,
            "seconds": time.monotonic() - started,
            "provenance": {**app.provenance(), "bank": bank.sha256, "machine": platform.processor() or "unknown"},
            "_final": final,
        }


def folder_of(folders: Sequence[Path], task: str) -> Path:
    return next(folder for folder in folders if folder.name == task)


def refused_when_left_out(app: App, bank: MemoryBank, folders: Sequence[Path]) -> Mapping[str, float]:
    """For each product, the share of its held-out images that the bank without it calls unknown."""
    shares = {}
    for task in bank.entries:
        others = MemoryBank(bank.version)
        for entry in bank:
            if entry.task.id != task:
                others = others.with_entry(entry, bank.version)
        model = app.model(others)
        images = read_heldout(folder_of(folders, task))
        refused = 0
        for start in range(0, len(images), 16):
            views = model.views([images[i].pixels for i in range(start, min(start + 16, len(images)))])
            refused += sum(route.refused for route in model.route(views))
        shares[str(task)] = refused / len(images)
    return shares


def matrices(evaluations: Sequence[Any]) -> dict[str, Any]:
    """R on the test halves and what follows from it, per metric."""
    found: dict[str, Any] = {"R": {}, "average": {}, "fm": {}, "bwt": {}, "regret": {}}
    for metric in METRICS:
        routed = score_matrix(evaluations, metric, Mode.ROUTED)
        oracle = score_matrix(evaluations, metric, Mode.ORACLE)
        found["R"][metric] = plain(routed.scores)
        found["average"][metric] = plain(average(routed.scores))
        found["fm"][metric] = plain(forgetting_measure(routed.scores))
        found["bwt"][metric] = plain(backward_transfer(routed.scores))
        found["regret"][metric] = plain(np.nanmean(np.asarray(regret(routed.scores, oracle.scores))[-1]))
        found["tasks"] = list(routed.tasks)
    return found


def figures(one: TaskEvaluation) -> dict[str, Any]:
    return {
        "routed": {metric: plain(value) for metric, value in one.routed.items()},
        "oracle": {metric: plain(value) for metric, value in one.oracle.items()},
        "routing_accuracy": one.routing_accuracy,
        "refused": one.refused_rate,
        "false_alarms": one.false_alarm_rate,
        "detected": one.detection_rate,
        "good": one.n_normal,
        "defective": one.n_defective,
    }


def means(final: Mapping[TaskId, TaskEvaluation]) -> dict[str, Any]:
    """Means over products, and rates over all images."""
    outcomes = [outcome for one in final.values() for outcome in one.outcomes]
    values = {metric: plain(np.nanmean([one.routed[metric] for one in final.values()])) for metric in METRICS}
    return values | {
        "routing_accuracy": float(np.mean([outcome.routed_task == outcome.task for outcome in outcomes])),
        "known_refused": float(np.mean([outcome.refused for outcome in outcomes])),
        "images": len(outcomes),
    }


def differences(one: Mapping[TaskId, TaskEvaluation], two: Mapping[TaskId, TaskEvaluation]) -> dict[str, Any]:
    """Image AUROC of the first less that of the second, per product, with a paired bootstrap interval."""
    found = {}
    for task in one:
        defective = np.array([outcome.defective for outcome in one[task].outcomes])
        first, second = (np.array([outcome.routed_score for outcome in each[task].outcomes]) for each in (two, one))
        value = paired_bootstrap(first, second, defective, seed=0)
        found[str(task)] = {"value": value.value, "low": value.low, "high": value.high}
    return found


def plain(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, np.ndarray):
        return [plain(part) for part in value]
    return None if np.isnan(value) else float(value)


def markdown(report: Mapping[str, Any]) -> str:
    """The table that the README sums up."""
    first = next(iter(report["detectors"].values()))
    spec = first["provenance"]["features"]
    lines = [f"{len(first['jobs'])} products added one by one; features {spec}. Routed: each image alone.", ""]
    names = list(report["detectors"])
    lines += [
        "| product | " + " | ".join(f"{name} image AUROC | {name} pixel AP" for name in names) + " |",
        "|---|" + "---|" * (2 * len(names)),
    ]

    def cell(value: float | None) -> str:
        return "not measured" if value is None else f"{value:.3f}"

    for task in first["final"]:
        cells = [
            cell(report["detectors"][name]["final"][task]["routed"][metric])
            for name in names
            for metric in ("image_auroc", "pixel_ap")
        ]
        lines.append(f"| {task} | " + " | ".join(cells) + " |")
    cells = [cell(report["detectors"][n]["mean"][m]) for n in names for m in ("image_auroc", "pixel_ap")]
    lines.append("| **mean** | " + " | ".join(cells) + " |")
    lines += ["", "| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    rows = {
        "jobs published": lambda d: f"{d['published']} of {len(d['jobs'])}",
        "routing accuracy": lambda d: f"{d['mean']['routing_accuracy']:.4f} ({d['mean']['images']} images)",
        "known products refused": lambda d: f"{d['mean']['known_refused']:.3f}",
        "unseen products refused (leave one out)": lambda d: f"{np.mean(list(d['unseen_refused'].values())):.3f}",
        "forgetting FM, image AUROC (test half)": lambda d: f"{d['fm']['image_auroc']:+.4f}",
        "regret, image AUROC (test half)": lambda d: f"{d['regret']['image_auroc']:+.4f}",
        "seconds, all jobs": lambda d: f"{sum(job['seconds'] for job in d['jobs']):.0f}",
    }
    for label, of in rows.items():
        lines.append(f"| {label} | " + " | ".join(of(report["detectors"][name]) for name in names) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--backbone", default="auto")
    parser.add_argument("--detectors", default=",".join(DETECTORS))
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    backbone = chosen.backbone
    if backbone.startswith("local-dir:"):
        backbone = f"local-dir:{Path(backbone.removeprefix('local-dir:')).absolute()}"
    with tempfile.TemporaryDirectory() as scratch:
        data = chosen.data
        if data is None:
            data = Path(scratch) / "products"
            for product in PRODUCTS.values():
                write_product(data, product, train=40, good=20, per_defect=6, seed=1)
        folders = sorted(path for path in data.absolute().iterdir() if (path / "train" / "good").is_dir())
        shared: list[CachedBackbone] = []
        detectors = {
            name: run(name, folders, Path(scratch) / name, backbone, shared) for name in chosen.detectors.split(",")
        }
    finals = {name: found.pop("_final") for name, found in detectors.items()}
    report: dict[str, Any] = {"data": chosen.data.name if chosen.data else "rendered", "detectors": detectors}
    if len(finals) > 1:
        first, second = list(finals)[:2]
        report["difference"] = {"of": [first, second], "image_auroc": differences(finals[first], finals[second])}
    output = chosen.output or RESULTS / f"continual-{report['data']}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    output.with_suffix(".md").write_text(markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
