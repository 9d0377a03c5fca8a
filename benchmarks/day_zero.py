"""A product's day zero in a stream: scored by words first, then by what a few pictures taught, then by its own entry.

    python -m benchmarks.day_zero --data ROOT --output FILE.json [--backbone ID] [--few-shot NAME] [--tasks A,B] ...

For each product: two others are learned, and `stream-ad serve` runs from then on. The test pictures of the new product
come three times: before anybody named it, after the job that learned a few training pictures, and after the job that
learned all. MPA's weights, and those of a few-shot detector that has any, are trained on the other products' test
pictures. The training pictures are those of the data set; nothing is tuned. Goes on with the next product when it was
cut off.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from stream_ad.adapters.datasets import find_products
from stream_ad.app import App
from stream_ad.config import load_settings
from stream_ad.domain.job import JobKind, JobState
from stream_ad.domain.product import Product
from stream_ad.domain.result import InspectionResult, Verdict
from stream_ad.domain.task import Task, TaskId
from stream_ad.evaluation.metrics import image_auroc

RESULTS = Path(__file__).parent / "results"
WAVES = ("no entry", "a few pictures", "all pictures")
KNOWN = 2
#: in the name of a test picture
GOOD, BAD = "isgood", "isbad"
PATIENCE_S = 600.0


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "stream_ad.cli", *map(str, arguments)]


def trained(kind: str, config: Path, data: Path, others: Sequence[str], output: Path) -> Path:
    """The folder of weights that were trained on others."""
    told = output / f"{kind}.folder"
    if not told.is_file():
        wanted = command("--config", config, "train", kind, "--data", data, "--tasks", ",".join(others))
        subprocess.run([*wanted, "--output", str(output)], check=True, stdout=subprocess.DEVNULL)
        (folder,) = output.glob(f"{kind}-*/")
        told.write_text(str(folder))
    return Path(told.read_text())


def settings_of(place: Path, chosen: argparse.Namespace, weights: Mapping[str, Path]) -> Path:
    """A configuration file, with what was trained so far."""
    shared = ", ".join(f"{kind}: {{weights: {folder}}}" for kind, folder in weights.items())
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.yaml").write_text(
        f"data_dir: {place / 'data'}\n"
        f"backbone: {{id: '{chosen.backbone}', threads: 1, device: {chosen.device}}}\n"
        f"detector: {{few_shot: {chosen.few_shot}, few_shot_images: {chosen.few}{', ' if shared else ''}{shared}}}\n"
        "discovery: {zero_shot: true}\n"
        "stream: {overlays: none, settle_s: 0.1, min_free_mb: 0}\n"
    )
    return place / "config.yaml"


@contextmanager
def serving(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`stream-ad serve`, to its end by its own pid."""
    process = subprocess.Popen(command("--config", config, "serve"), stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


def learn(app: App, product: Product, train: Path, detector: str | None, *, jobs: int) -> float:
    """Queue the product's job, and do the next `jobs`; seconds from the order to the end."""
    begun = time.monotonic()
    task = Task(id=TaskId(product.id), class_name=product.class_name)
    checked = app.check_new(task, images=train, heldout=None, roi=None, detector=detector)
    app.database.tasks.add(task, JobKind.ADAPT, checked.payload, app.clock.now())
    work(app, jobs)
    return time.monotonic() - begun


def work(app: App, jobs: int) -> None:
    for _ in range(jobs):
        before = app.database.jobs.counts().get(JobState.QUEUED, 0)
        (job,) = [one for one in app.database.jobs.all() if one.state.open]
        app.worker().run(until=lambda id=job.id: not app.database.jobs.get(id).state.open)
        ended = app.database.jobs.get(job.id)
        print(f"  job {job.id} ({before} queued): {ended.state}: {ended.message}", file=sys.stderr, flush=True)


def come(app: App, serve: subprocess.Popen[bytes], pictures: Mapping[str, Path], wave: int) -> list[InspectionResult]:
    """Results of the pictures, put into the watched folder under names of their own."""
    app.settings.inbox.mkdir(parents=True, exist_ok=True)
    for name, file in pictures.items():
        shutil.copy(file, app.settings.inbox / f"wave{wave}-{name}")
    give_up = time.monotonic() + PATIENCE_S
    while True:
        found = [one for one in app.database.results.recent(100_000) if f"wave{wave}-" in (one.subject or "")]
        if len(found) == len(pictures):
            return found
        if serve.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError(f"only {len(found)} of {len(pictures)} pictures have a result")
        time.sleep(0.5)


def told(results: Sequence[InspectionResult], product: Product) -> dict[str, Any]:
    """What a wave gave."""
    defective = np.array([f"-{BAD}-" in (one.subject or "") for one in results])
    own = np.array([one.verdict is not Verdict.UNKNOWN and one.task == product.id for one in results])
    scores = np.array([np.nan if one.score is None else one.score for one in results])
    scored = own if own.any() else np.isfinite(scores)
    both = len(set(defective[scored])) == 2
    alarms = np.array([one.verdict is not Verdict.OK for one in results])
    return {
        "detectors": dict(Counter(str(one.detector) for one in results)),
        "verdicts": dict(Counter(str(one.verdict) for one in results)),
        "recognised": float(own.mean()),
        "image_auroc": float(image_auroc(scores[scored], defective[scored])) if both else None,
        "alarms_of_good": float(alarms[~defective].mean()),
        "alarms_of_defective": float(alarms[defective].mean()),
    }


def test_pictures(data: Path, product: Product) -> dict[str, Path]:
    """Each picture of the test folder, under a name that says whether it is damaged."""
    folders = sorted(one for one in (data / product.id / "test").iterdir() if one.is_dir())
    return {
        f"{GOOD if folder.name == 'good' else BAD}-{folder.name}-{file.name}": file
        for folder in folders
        for file in sorted(folder.iterdir())
    }


def day_zero(product: Product, products: Sequence[Product], chosen: argparse.Namespace) -> dict[str, Any]:
    place, data = chosen.output.with_suffix(".state") / product.id, chosen.data
    others = [one.id for one in products if one.id != product.id]
    weights: dict[str, Path] = {}
    for kind in ("mpa", *([chosen.few_shot] if chosen.few_shot == "anople" else [])):
        weights[kind] = trained(kind, settings_of(place, chosen, {}), data, others, place / "weights")
    shutil.rmtree(place / "data", ignore_errors=True)
    config, pictures = settings_of(place, chosen, weights), test_pictures(data, product)
    index = list(products).index(product)
    with App(load_settings(config)) as app:
        app.make_database()
        for step in range(1, KNOWN + 1):
            known = products[(index + step) % len(products)]
            learn(app, known, data / known.id / "train", "cmpmb", jobs=1)
        with serving(config) as serve:
            waves = [told(come(app, serve, pictures, 1), product)]
            few_s = learn(app, product, data / product.id / "train", None, jobs=1)
            waves.append(told(come(app, serve, pictures, 2), product))
            begun = time.monotonic()
            work(app, 1)
            all_s = time.monotonic() - begun
            waves.append(told(come(app, serve, pictures, 3), product))
        provenance = {name: str(value) for name, value in app.provenance().items()}
    for wave in waves:
        print(f"  {wave}", file=sys.stderr, flush=True)
    return {
        "known": [products[(index + step) % len(products)].id for step in range(1, KNOWN + 1)],
        "pictures": len(pictures),
        "waves": dict(zip(WAVES, waves, strict=True)),
        "seconds": {WAVES[1]: few_s, WAVES[2]: all_s},
        "provenance": provenance,
    }


def markdown(results: Mapping[str, Mapping[str, Any]], chosen: argparse.Namespace) -> str:
    provenance = next(iter(results.values()))["provenance"]
    lines = [
        "# A product's day zero",
        "",
        f"Backbone {provenance['features']}, {provenance['device']}, code {provenance['code']};"
        f" {chosen.few} pictures first, by {chosen.few_shot}. The product's test pictures come three times through"
        f" `stream-ad serve`, on a bank of {KNOWN} other products. An alarm is NG or *unknown product*. AUROC is of the"
        " pictures that were recognised, or of all where none is.",
        "",
        "| product | entry | scored by | recognised | image AUROC | good: alarms | damaged: alarms |"
        " seconds until it was published |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in results.items():
        for when, wave in row["waves"].items():
            detectors = ", ".join(f"{detector} {count}" for detector, count in wave["detectors"].items())
            auroc = "-" if wave["image_auroc"] is None else f"{wave['image_auroc']:.3f}"
            seconds = row["seconds"].get(when)
            lines.append(
                f"| {name} | {when} | {detectors} | {wave['recognised']:.3f} | {auroc} |"
                f" {wave['alarms_of_good']:.3f} | {wave['alarms_of_defective']:.3f} |"
                f" {'-' if seconds is None else f'{seconds:.0f}'} |"
            )
    for when in WAVES:
        found = [row["waves"][when]["image_auroc"] for row in results.values()]
        known = [value for value in found if value is not None]
        if known:
            lines.append(f"| **mean** | {when} | | | {np.mean(known):.3f} | | | |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="products that lie like MVTec AD's")
    parser.add_argument("--output", type=Path, default=RESULTS / "day-zero.json")
    parser.add_argument("--backbone", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--few-shot", default="patchcore")
    parser.add_argument("--few", type=int, default=4)
    parser.add_argument("--tasks", help="products that are new, with commas; default: all whose damage is marked")
    chosen = parser.parse_args()
    products = [one for one in find_products(chosen.data, None) if not one.note]  # a note: damage is not marked
    wanted = chosen.tasks.split(",") if chosen.tasks else [one.id for one in products]
    results = json.loads(chosen.output.read_text()) if chosen.output.is_file() else {}
    for product in products:
        if product.id in wanted and product.id not in results:
            print(product.id, file=sys.stderr, flush=True)
            results[product.id] = day_zero(product, products, chosen)
            chosen.output.write_text(json.dumps(results, indent=1) + "\n")
    chosen.output.with_suffix(".md").write_text(markdown(results, chosen))
    print(markdown(results, chosen))


if __name__ == "__main__":
    main()
