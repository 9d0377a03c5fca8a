"""Routing among 10,000 tasks: does the shortlist give the exact answer, and what does it cost?

    python -m benchmarks.routing_scale --data DIR --backbone ID [--tasks 100,1000,10000] [--work DIR]

Tasks are pictures of DIR (products in MVTec layout; only their good training pictures are read) under looks of their
own, see `benchmarks/routing_tasks.py`; without --data the demo's products. Entries are made by the program's own code
and stored as the program stores them, in --work, from where an interrupted run goes on. Queries are other photographs
of the same products. The exact answer is the least `d_keys * (d_embedding + 0.001)` over ALL tasks, see
`benchmarks/routing_exact.py`. Writes JSON, and a Markdown table beside it.
"""

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.routing_exact import exact_routes
from benchmarks.routing_tasks import Scale, parameters, real_pictures, rendered_pictures
from benchmarks.training_pictures import Pictures
from stream_ad.adapters.arrays import FileEntryStore, entry_bytes
from stream_ad.app import code_version
from stream_ad.backbones.registry import load_backbone
from stream_ad.backbones.views import Views
from stream_ad.backbones.vit import VitBackbone
from stream_ad.domain.bank import BankEntry, BranchScale, Calibration, MemoryBank
from stream_ad.domain.task import Task, TaskId
from stream_ad.routing.index import faiss
from stream_ad.routing.keys import make_keys
from stream_ad.routing.router import Router

RESULTS = Path(__file__).parent / "results"
BLOCK = 5
LEARNED = 2  # photographs that a task learns
QUERIES = 3000  # of the largest number of tasks


def photographs(scale: Scale, task: int) -> Pictures:
    """What a task learns."""
    pictures = [scale.draw(task, number) for number in range(LEARNED)]
    return Pictures(pictures, [f"{task}/{number}" for number in range(LEARNED)])


def entry_of(scale: Scale, task: int, backbone: VitBackbone) -> BankEntry:
    """Keys by the program's own code; a coreset of the size that preset `fast` has, which routing never reads."""
    arrays = dict(make_keys(backbone, photographs(scale, task), block=BLOCK, seed=task))
    arrays["coreset"] = arrays["keys"].astype(np.float32)
    apart = 1 - np.asarray(arrays["embeddings"], np.float64) @ np.asarray(arrays["embeddings"], np.float64).T
    nothing = np.zeros(1)
    return BankEntry(
        task=Task(id=TaskId(f"task-{task:05d}"), class_name="part"),
        detector="patchcore/1",
        arrays=arrays,
        calibration=Calibration(
            score_scales={"visual": BranchScale(0.0, 1.0, 1.0)},
            map_scales={"visual": BranchScale(0.0, 1.0, 1.0)},
            scores=nothing,
            map_peaks=nothing,
            key_distances=nothing,
            embedding_distances=apart[0, 1:],
            out_of_fold=True,
        ),
        features=backbone.spec,
        shared_weights=None,
        splits={},
    )


def stored(scale: Scale, count: int, backbone: VitBackbone, store: FileEntryStore) -> list[str]:
    """Hashes of the first `count` entries; those that are not there yet are made. A killed run goes on here."""
    store.root.mkdir(parents=True, exist_ok=True)
    ledger = store.root / "made.txt"
    hashes = ledger.read_text().split() if ledger.exists() else []
    with ledger.open("a") as made:
        for task in range(len(hashes), count):
            data = entry_bytes(entry_of(scale, task, backbone))
            hashes.append(hashlib.sha256(data).hexdigest())
            store.path(hashes[-1]).write_bytes(data)  # without the store's fsync: nothing is lost here
            made.write(hashes[-1] + "\n")
            if task % 100 == 99:
                made.flush()
                print(f"{task + 1} tasks made", flush=True)
    return hashes[:count]


def measured(
    scale: Scale, hashes: Sequence[str], folder: Path, backbone: VitBackbone, count: int, jitter: float
) -> dict[str, Any]:
    """Figures of one bank: what it takes to load, to route, and how often the shortlist has the exact answer."""
    tasks = len(hashes)
    store = FileEntryStore(folder)  # a new one: nothing is loaded yet
    rss = resident_mb()
    started = time.monotonic()
    entries = {TaskId(f"task-{task:05d}"): store.get(sha256) for task, sha256 in enumerate(hashes)}
    loaded = time.monotonic()
    router = Router(MemoryBank(1, entries), block=BLOCK, refuse=False)
    built = time.monotonic()
    figures: dict[str, Any] = {
        "tasks": tasks,
        "queries": count,
        "load_s": loaded - started,
        "index_s": built - loaded,
        "index_mb": router.index.nbytes / 1e6,
        "landmarks": len(router.index),
        "start_rss_mb": resident_mb() - rss,
        "entry_bytes": float(np.mean([store.path(sha256).stat().st_size for sha256 in hashes])),
    }
    chosen = np.random.default_rng(tasks).permutation(np.arange(count) % tasks)
    patches, embeddings, routed, pass_ms, route_ms = [], [], [], [], []
    for number, task in enumerate(chosen.tolist()):
        views = Views(backbone, [scale.draw(task, LEARNED + number, jitter)])
        ticks = [time.thread_time()]
        views.compute([BLOCK], embedding=True)
        ticks.append(time.thread_time())
        [route] = router.route(views)
        ticks.append(time.thread_time())
        pass_ms.append(1000 * (ticks[1] - ticks[0]))
        route_ms.append(1000 * (ticks[2] - ticks[1]))
        routed.append(int(route.entry.task.id.removeprefix("task-")))
        patches.append(views.block(BLOCK)[0])
        embeddings.append(views.embedding[0])
    figures["rss_mb"] = resident_mb() - rss - sum(each.nbytes for each in patches) / 1e6
    print(f"{tasks} tasks: {count} queries routed, now exactly", flush=True)
    exact = exact_routes(torch.stack(patches), torch.stack(embeddings), list(entries.values()))
    agree = np.array(routed) == exact.tasks
    return figures | {
        "agreement": float(agree.mean()),
        "disagreements": int((~agree).sum()),
        "accuracy_exact": float((exact.tasks == chosen).mean()),
        "accuracy_routed": float((np.array(routed) == chosen).mean()),
        "pass_ms": float(np.mean(pass_ms)),
        "route_ms": float(np.mean(route_ms)),
        "ratio": float(np.sum(route_ms) / np.sum(pass_ms)),
        "compared_exactly": exact.compared,
    }


def resident_mb() -> float:
    """Memory of this process that is not backed by files, in MB: mapped entries can be dropped at any time."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024 / 1e6


def markdown(report: Mapping[str, Any]) -> str:
    head = (
        f"{report['pictures']} pictures of {len(report['products'])} products under seeded looks; features "
        f"{report['provenance']['features']}; one thread, CPU time. *Agreement*: routed as comparing with all tasks "
        "would; *accuracy*: that is the right one."
    )
    rows = {
        "queries": lambda r: f"{r['queries']:,}",
        "agreement with the exact answer": lambda r: f"{r['agreement']:.4%} ({r['disagreements']} others)",
        "accuracy, exact": lambda r: f"{r['accuracy_exact']:.4f}",
        "accuracy, routed": lambda r: f"{r['accuracy_routed']:.4f}",
        "one backbone pass, ms": lambda r: f"{r['pass_ms']:.1f}",
        "routing, ms": lambda r: f"{r['route_ms']:.2f}",
        "**routing / pass**": lambda r: f"**{r['ratio']:.1%}**",
        "entry, KB": lambda r: f"{r['entry_bytes'] / 1e3:.0f}",
        "index, MB": lambda r: f"{r['index_mb']:.1f}",
        "loading all entries, s": lambda r: f"{r['load_s']:.1f}",
        "building index and limit, s": lambda r: f"{r['index_s']:.1f}",
        "memory after start, MB": lambda r: f"{r['start_rss_mb']:.0f}",
        "memory after the queries, MB": lambda r: f"{r['rss_mb']:.0f}",
    }
    results = report["results"]
    lines = [head, "", "| tasks | " + " | ".join(f"{r['tasks']:,}" for r in results) + " |"]
    lines.append("|---|" + "---|" * len(results))
    lines += [f"| {name} | " + " | ".join(cell(r) for r in results) + " |" for name, cell in rows.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="products in MVTec layout; default: rendered ones")
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--tasks", default="100,1000,10000", help="numbers of tasks, rising")
    parser.add_argument("--queries", type=int, default=QUERIES, help="of the largest number; the others have a fifth")
    parser.add_argument("--query-jitter", type=float, default=1.0, help="share of the tasks' jitter that queries have")
    parser.add_argument("--work", type=Path, help="where entries are kept between runs; default: a temporary folder")
    parser.add_argument("--output", type=Path, default=RESULTS / "routing-scale.json")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    backbone = load_backbone(chosen.backbone, image_size=224, weights_dir=Path("weights"), device="cpu")
    with tempfile.TemporaryDirectory() as scratch:
        pictures, products = real_pictures(chosen.data) if chosen.data else rendered_pictures(Path(scratch) / "data")
        scale = Scale(pictures)
        folder = chosen.work or Path(scratch) / "entries"
        counts = [int(count) for count in chosen.tasks.split(",")]
        hashes = stored(scale, max(counts), backbone, FileEntryStore(folder))
        results = []
        for count in counts:
            queries = chosen.queries if count == max(counts) else chosen.queries // 5
            results.append(measured(scale, hashes[:count], folder, backbone, queries, chosen.query_jitter))
            print(json.dumps(results[-1], indent=1), flush=True)
    report = {
        "products": products,
        "pictures": len(pictures),
        "tasks_made_of": {**parameters(), "jitter_of_queries": chosen.query_jitter},
        "photographs_learned": LEARNED,
        "block": BLOCK,
        "results": results,
        "provenance": {
            "code": code_version(),
            "features": str(backbone.spec),
            "torch": torch.__version__,
            "faiss": faiss.__version__ if faiss else "not installed: torch",
            "threads": 1,
            "cores": os.cpu_count(),
        },
    }
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    chosen.output.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    chosen.output.with_suffix(".md").write_text(markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
