"""What sticky routing saves: CPU time per picture of one camera, each picture routed and every 20th.

    python -m benchmarks.sticky_routing [--backbone ID]

Three rendered products are learned, then a camera shows good parts of one of them, one picture at a time, as
`stream-ad serve` inspects them. One thread. Writes benchmarks/results/sticky-routing.json and .md.
"""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.training_pictures import Pictures, quiet
from stream_ad.app import code_version
from stream_ad.backbones.registry import load_backbone
from stream_ad.backbones.vit import VitBackbone
from stream_ad.demo.products import PRODUCTS
from stream_ad.detectors.registry import make_detectors
from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.task import Task, TaskId
from stream_ad.inspection import BankModel
from stream_ad.presets import detector_options
from stream_ad.services.learning import learn
from stream_ad.services.scoring import Scorer

RESULTS = Path(__file__).parent / "results"
CHECKS = 20
SHOWN = 60
#: detector and options on top of the preset; few steps of learning, which no picture's time depends on
METHODS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "patchcore, fast": ("patchcore", "fast", {}),
    "cmpmb without text and prompts, fast": ("cmpmb", "fast", {"text_weight": 0.0, "prompt_steps": 0}),
    "cmpmb without text, fast": ("cmpmb", "fast", {"text_weight": 0.0, "prompt_steps": 1}),
    "cmpmb, fast": ("cmpmb", "fast", {"text_steps": 1, "prompt_steps": 1}),
    "patchcore, accurate": ("patchcore", "accurate", {}),
}


def rendered(product: str, count: int) -> Pictures:
    """Good parts of a product."""
    pictures = [PRODUCTS[product].render(seed, size=224).picture for seed in range(count)]
    return Pictures(pictures, [f"{product}/{seed}" for seed in range(count)])


def measured(method: str, products: list[str], backbone: VitBackbone) -> dict[str, Any]:
    name, preset, changes = METHODS[method]
    options = dict(detector_options(preset, depth=backbone.depth))
    taken = {key: value for key, value in changes.items() if key in options[name]}
    detectors = make_detectors(backbone, {**options, name: {**options[name], **taken}})
    bank = MemoryBank(0)
    for version, product in enumerate(products, start=1):
        task = Task(id=TaskId(product), class_name=product, false_alarm_rate=0.01)
        entry = learn(task, rendered(product, 12), detectors[name], backbone, folds=2, max_suspects=0.0, progress=quiet)
        bank = bank.with_entry(entry, version)
    shown = [PRODUCTS[products[0]].render(1000 + seed, size=224).picture for seed in range(SHOWN)]
    milliseconds, unrouted = {}, 0
    for checks in (1, CHECKS, 1, CHECKS):  # twice, the faster one counts
        scorer = Scorer(lambda bank: BankModel(backbone, detectors, bank), bank, sticky_checks=checks)
        started = time.thread_time()
        found = [scorer.inspect([picture], declared=[None], cameras=["line"])[0] for picture in shown]
        each = 1000 * (time.thread_time() - started) / SHOWN
        milliseconds[checks] = min(each, milliseconds.get(checks, each))
        if checks == CHECKS:
            unrouted = sum(one.margin is None for one in found)
    return {
        "routed_ms": milliseconds[1],
        "sticky_ms": milliseconds[CHECKS],
        "saved": 1 - milliseconds[CHECKS] / milliseconds[1],
        "unrouted": unrouted / SHOWN,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="tiny")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    backbone = load_backbone(chosen.backbone, image_size=224, weights_dir=Path("weights"), device="cpu")
    products = sorted(PRODUCTS)[:3]
    results = {}
    for method in METHODS:
        results[method] = measured(method, products, backbone)
        print(method, json.dumps(results[method]), flush=True)
    report = {
        "sticky_checks": CHECKS,
        "pictures": SHOWN,
        "products": products,
        "results": results,
        "provenance": {"code": code_version(), "features": str(backbone.spec), "threads": 1},
    }
    lines = [
        f"CPU time per good picture, one thread; features {backbone.spec}; `routing.sticky_checks` {CHECKS}.",
        "",
        "| | every picture routed, ms | sticky, ms | saved | pictures not routed |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {r['routed_ms']:.0f} | {r['sticky_ms']:.0f} | {r['saved']:.0%} | {r['unrouted']:.0%} |"
            for name, r in results.items()
        ),
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "sticky-routing.json").write_text(json.dumps(report, indent=1) + "\n")
    (RESULTS / "sticky-routing.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
