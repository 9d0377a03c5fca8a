"""Products that nobody named arrive as one mixed stream: are they found, and are they inspected as well as named ones?

    python -m benchmarks.discovery --data ../shared/datasets --backbone local-dir:../shared/weights/deit-tiny-clip

All training pictures of a folder of data sets (MVTec layout) go through a real stream in one shuffled order and in
several parts, with an empty bank and no `add-task`. Discovery looks after each part. In the end a "person", who sees
which product most pictures of a proposal show, approves each; a worker learns them. Then, on the sets' own test
pictures, by the same code: the mean image AUROC through the router of the bank so found, and of one whose tasks were
made by hand from the same folders by what `add-task` does. At last each product is left out of the bank once and comes
as if it were new.

Nothing here chooses anything by a test picture. Stages are kept in --work: a run that was cut off goes on.
"""

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.training_pictures import backbone_at, quiet
from stream_ad.adapters.decode import decode, pixel_sha256
from stream_ad.adapters.heldout import read_heldout
from stream_ad.adapters.image_folders import find_pictures
from stream_ad.app import App
from stream_ad.config import load_settings
from stream_ad.domain.bank import BankEntry, MemoryBank
from stream_ad.domain.proposal import Proposal, ProposalKind, ProposalState
from stream_ad.domain.result import Verdict
from stream_ad.domain.task import Task, TaskId
from stream_ad.evaluation.metrics import image_auroc
from stream_ad.functional.grouping import group

RESULTS = Path(__file__).parent / "results"
PARTS, SEED, BATCH = 3, 7, 16
PURE = 0.95  # of a proposal's pictures must be of one product; with fewer it is a merge


def arriving(data: Path) -> list[tuple[str, Path]]:
    """Every training picture with its product, in the order of the stream."""
    pictures = [(folder.name, file) for folder in products(data) for file in find_pictures(folder / "train" / "good")]
    return [pictures[row] for row in np.random.default_rng(SEED).permutation(len(pictures))]


def products(data: Path) -> list[Path]:
    return sorted(folder for folder in data.iterdir() if (folder / "train" / "good").is_dir())


def stream(app: App, pictures: Sequence[tuple[str, Path]], part: int) -> Counter[str]:
    """One part of the pictures through the watched folder; the verdicts. Names tell nothing of the product."""
    inbox = app.settings.inbox
    inbox.mkdir(parents=True, exist_ok=True)
    for number, (_, file) in enumerate(pictures):
        shutil.copy(file, inbox / f"{part}-{number:04d}{file.suffix}")
    with app.stream() as line:
        counters = line.run(threading.Event(), idle_s=2.0)
    return Counter({str(verdict): count for verdict, count in counters.verdicts.items()})


def shown(app: App, proposal: Proposal, truth: Mapping[str, str]) -> Counter[str]:
    """What a person sees on the pictures of a proposal."""
    return Counter(truth[image.sha256] for image in app.database.kept_images.of(proposal.id))


def decide(app: App, truth: Mapping[str, str]) -> dict[str, Any]:
    """Approve every open proposal by what it shows most of; a second one of a product is a split."""
    splits, merges, named = [], [], {}
    for proposal in app.database.proposals.all(ProposalKind.PRODUCT, ProposalState.OPEN):
        seen = shown(app, proposal, truth)
        name, count = seen.most_common(1)[0]
        if count < PURE * seen.total():
            merges.append({"proposal": proposal.id, "shows": dict(seen)})
        if name in named:
            splits.append({"proposal": proposal.id, "shows": dict(seen)})
            continue  # its pictures could be added later, by --into
        named[name] = {"proposal": proposal.id, "pictures": seen.total(), "shows": dict(seen)}
        task = Task(id=TaskId(name), class_name=name.replace("_", " "))
        app.discovery().approve(proposal.id, task, who="benchmark", remark="named by what it shows")
    return {"named": named, "splits": splits, "merges": merges}


def by_hand(app: App, data: Path, name: str) -> BankEntry:
    """What `add-task NAME --images DIR` would learn."""
    task = Task(id=TaskId(name), class_name=name.replace("_", " "))
    payload = app.check_folders(task, images=data / name / "train" / "good", heldout=None, roi=None, detector=None)
    images = app.task_images.read(task, payload.payload)
    return app.learn(task, images.normals, detector=None, roi=None, progress=quiet)


def measured(app: App, bank: MemoryBank, data: Path) -> dict[str, dict[str, float]]:
    """Each product's test pictures through the router: AUROC, and where they were sent."""
    model, found = app.model(bank), {}
    for folder in products(data):
        name = folder.name
        pictures = read_heldout(folder)
        scores, routed, refused = [], [], []
        for start in range(0, len(pictures), BATCH):
            batch = [pictures[row].pixels for row in range(start, min(start + BATCH, len(pictures)))]
            views = model.views(batch)
            routes = model.route(views)
            scores += [one.score for one in model.find(views, [route.entry for route in routes])]
            routed += [route.entry.task.id == name for route in routes]
            refused += [route.refused for route in routes]
        found[name] = {
            "image_auroc": image_auroc(np.array(scores), np.array(pictures.defective)),
            "routed": float(np.mean(routed)),
            "refused": float(np.mean(refused)),
        }
        print(f"  {name}: {found[name]}", flush=True)
    return found


def left_out(app: App, bank: MemoryBank, data: Path) -> dict[str, dict[str, Any]]:
    """Each product comes to a bank that knows all the others: how many of its pictures are refused, how they group."""
    found = {}
    for folder in products(data):
        if TaskId(folder.name) not in bank.entries:
            continue
        others = MemoryBank(bank.version, {task: entry for task, entry in bank.entries.items() if task != folder.name})
        scorer = app.scorer(others)
        files = find_pictures(folder / "train" / "good")
        kept = []
        for start in range(0, len(files), BATCH):
            batch = [decode(file.read_bytes()) for file in files[start : start + BATCH]]
            nothing = [None] * len(batch)
            kept += [
                one.embedding
                for one in scorer.inspect(batch, declared=nothing, cameras=nothing)
                if one.verdict is Verdict.UNKNOWN and one.embedding is not None
            ]
        smallest = app.settings.discovery.min_images
        groups = group(np.stack(kept), smallest=smallest) if kept else []
        found[folder.name] = {"pictures": len(files), "unknown": len(kept), "groups": [len(one) for one in groups]}
        print(f"  new to the others: {folder.name}: {found[folder.name]}", flush=True)
    return found


def run(data: Path, backbone_id: str, work: Path) -> dict[str, Any]:
    """All stages; figures of those that are done are read again."""
    work.mkdir(parents=True, exist_ok=True)
    kept = work / "stages.json"
    stages: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}

    def stage(name: str, value: Any) -> None:
        stages[name] = value
        kept.write_text(json.dumps(stages, indent=1))
        print(f"{name}: {value}", flush=True)

    config = work / "config.yaml"
    config.write_text("data_dir: data\nstream: {overlays: none, settle_s: 0.0}\n")
    settings = load_settings(config)
    began = time.process_time()
    with App(settings, backbone=backbone_at(backbone_id, settings.weights_dir)) as app:
        app.make_database()
        pictures = arriving(data)
        truth = {pixel_sha256(decode(file.read_bytes())): name for name, file in pictures}
        for part in range(PARTS):
            if f"part {part}" not in stages:
                verdicts = stream(app, pictures[part::PARTS], part)
                told = app.discovery().run().text
                looks = [
                    {"proposal": one.id, "shows": dict(shown(app, one, truth))}
                    for one in app.database.proposals.all(ProposalKind.PRODUCT, ProposalState.OPEN)
                ]
                stage(f"part {part}", {"verdicts": dict(verdicts), "told": told, "open": looks})
        if "decided" not in stages:
            stage("decided", decide(app, truth))
        app.worker().run(drain=True)
        bank = app.database.banks.load()
        stage(
            "jobs",
            [{"task": job.task, "state": str(job.state), "message": job.message} for job in app.database.jobs.all()],
        )
        if "discovered" not in stages:
            stage("discovered", measured(app, bank, data))
        if "by hand" not in stages:
            entries = {folder.name: by_hand(app, data, folder.name) for folder in products(data)}
            hand = MemoryBank(1)
            for entry in entries.values():
                hand = hand.with_entry(app.database.entries.put(entry), 1)
            stage("by hand", measured(app, hand, data))
        if "left out" not in stages:
            stage("left out", left_out(app, bank, data))
        about = dict(app.provenance()) | {
            "data": data.name,
            "pictures": len(pictures),
            "order": f"shuffled by seed {SEED}, in {PARTS} parts",
            "discovery": settings.discovery.model_dump(mode="json"),
            "cpu_s_of_this_run": round(time.process_time() - began),
        }
    return {"about": about, **stages}


def mean(figures: Mapping[str, Mapping[str, float]]) -> float:
    return float(np.mean([one["image_auroc"] for one in figures.values()]))


def table(report: Mapping[str, Any]) -> str:
    decided, about = report["decided"], report["about"]
    found, hand = report["discovered"], report["by hand"]
    rows = [
        f"{about['pictures']} training pictures of {len(hand)} products ({about['data']}), {about['order']}, to an"
        f" empty bank; {about['features']}. Proposed: {len(decided['named'])}, split {len(decided['splits'])}, merged"
        f" {len(decided['merges'])}. Mean image AUROC through the router on the sets' test pictures: {mean(found):.4f}"
        f" with the products that were found, {mean(hand):.4f} with tasks made by hand"
        f" (difference {mean(found) - mean(hand):+.4f}).",
        "",
        "| product | in its proposal | image AUROC, found | by hand | routed rightly, found | by hand |"
        " new to the others: unknown | groups |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in hand:
        named = decided["named"].get(name)
        new = report["left out"].get(name, {})
        groups = ", ".join(map(str, new.get("groups", []))) or "-"
        rows.append(
            f"| {name} | {named['pictures'] if named else 'not proposed'} | {found[name]['image_auroc']:.3f} |"
            f" {hand[name]['image_auroc']:.3f} | {found[name]['routed']:.3f} | {hand[name]['routed']:.3f} |"
            f" {new.get('unknown', '-')} of {new.get('pictures', '-')} | {groups} |"
        )
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("STREAM_AD_DATASETS", "../shared/datasets")))
    parser.add_argument("--backbone", default="local-dir:../shared/weights/deit-tiny-clip")
    parser.add_argument("--work", type=Path, help="keep the stages here; without it in a folder that is deleted")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        report = run(chosen.data.absolute(), chosen.backbone, (chosen.work or Path(scratch)).absolute())
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "discovery.json").write_text(json.dumps(report, indent=1, default=str) + "\n")
    (RESULTS / "discovery.md").write_text(table(report))
    print(table(report))


if __name__ == "__main__":
    main()
