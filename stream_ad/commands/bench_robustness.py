"""`stream-ad bench robustness`: what corruptions and attacks do to scores, with the text branch and without."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_ad.app import code_version
from stream_ad.commands.bench import CACHED, code_hash, named, shown, source
from stream_ad.commands.common import ConfigOption, err, open_app, out, require_writable
from stream_ad.domain import ports
from stream_ad.errors import ConfigError

if TYPE_CHECKING:
    from stream_ad.backbones.base import Backbone
    from stream_ad.domain.product import Product

WITH_TEXT, WITHOUT_TEXT = "with text", "without text"
#: where a preset has no text branch, this much of one
TEXT_WEIGHT = 0.1


def robustness(
    data: Annotated[
        Path, typer.Option("--data", metavar="ROOT", help="Data sets, as for `stream-ad bench continual`.")
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE.json", help="Where the figures go; .md and .html go beside it.")
    ],
    tasks: Annotated[
        str | None, typer.Option("--tasks", metavar="A,B,...", help="Products. Default: all in the folder.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", metavar="ID", help="Default: backbone.id of the settings.")
    ] = None,
    preset: Annotated[str, typer.Option("--preset", help="fast, accurate, or paper.")] = "fast",
    images: Annotated[
        int, typer.Option("--images", min=4, metavar="N", help="Test pictures per product, half of them good.")
    ] = 40,
    attacked: Annotated[
        int, typer.Option("--attacked", min=0, metavar="N", help="So many of them are attacked too; 0: none.")
    ] = 16,
    bounds: Annotated[
        str, typer.Option("--bounds", metavar="A,B,...", help="How far an attack may change a pixel, in 1/255.")
    ] = "1,2,4,8",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of the attack per bound.")] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of learning, noise and directions.")] = 0,
    config: ConfigOption = None,
) -> None:
    """Measure how scores bear noise, blur, light, compression and shift at five severities, and a white-box attack.

    CMPMB with its text branch and without; thresholds as they would be deployed. A run that was cut off goes on.
    """
    from stream_ad.adapters.datasets import find_products
    from stream_ad.evaluation.robustness_report import GROUPS, pooled, to_html, to_markdown
    from stream_ad.presets import detector_options

    require_writable(output, ".json")
    sizes = _bounds(bounds)
    products = find_products(data, named(tasks, "--tasks"))
    app = open_app(config)
    with shown() as told:
        loaded = _backbone(app.settings, backbone)
        options = detector_options(preset, depth=loaded.depth)["cmpmb"]
        settings = {
            "preset": preset,
            "options": dict(options),
            "features": str(loaded.spec),
            "code_sha256": code_hash(),
            "images": images,
            "attacked": attacked,
            "bounds": sizes,
            "steps": steps,
            "seed": seed,
        }
        methods: dict[str, dict[str, Any]] = _kept(output, settings)
        total = 2 * len(products)
        for number, (product, name) in enumerate((p, m) for p in products for m in (WITH_TEXT, WITHOUT_TEXT)):
            told(f"{product.id} {name}", number, total)
            done = methods.setdefault(name, {"products": {}})["products"]
            if product.id not in done:
                weight = (options["text_weight"] or TEXT_WEIGHT) if name == WITH_TEXT else 0.0
                done[product.id] = _measured(product, {**options, "text_weight": weight}, loaded, settings, told)
                _write(output, {"settings": settings, "methods": methods})
        told("written", total, total)
    ids = [product.id for product in products]
    for method in methods.values():
        for group in GROUPS:
            method[group] = pooled([method["products"][id][group] for id in ids])
    report = {
        "tasks": ids,
        "settings": settings,
        "methods": methods,
        "provenance": _provenance(loaded, app.clock.now().isoformat(timespec="seconds")),
    }
    _write(output, report)
    markdown = to_markdown(report)
    output.with_suffix(".md").write_text(markdown, encoding="utf-8")
    output.with_suffix(".html").write_text(to_html(report), encoding="utf-8")
    out().print(markdown, markup=False)
    err().print(f"written to {output}, {output.with_suffix('.md').name} and {output.with_suffix('.html').name}")


def _measured(
    product: "Product",
    options: Mapping[str, Any],
    backbone: "Backbone",
    settings: Mapping[str, Any],
    told: ports.Progress,
) -> dict[str, Any]:
    """One product by one method: learned, then disturbed."""
    from stream_ad.detectors.registry import make_detector
    from stream_ad.domain.bank import MemoryBank
    from stream_ad.domain.task import Task, TaskId
    from stream_ad.evaluation.continual.test_set import Limited
    from stream_ad.evaluation.robustness import attack_curves, corruption_curves, samples
    from stream_ad.evaluation.robustness_report import plain
    from stream_ad.inspection import BankModel
    from stream_ad.services.learning import learn

    def unseen(stage: str, done: int, total: int) -> None:
        """Progress is told per product."""

    detector = make_detector("cmpmb", backbone, options)
    task = Task(id=TaskId(product.id), class_name=product.class_name)
    entry = learn(task, product.train, detector, backbone, seed=settings["seed"], progress=unseen)
    model = BankModel(backbone, {"cmpmb": detector}, MemoryBank(0).with_entry(entry, 1), refuse=False)
    clean = samples(Limited(product.test, settings["images"]))
    corruptions = corruption_curves(model, entry, clean, seed=settings["seed"], progress=unseen)
    attack = {}
    if settings["attacked"]:
        some = samples(Limited(product.test, settings["attacked"]))
        attack = attack_curves(model, entry, some, settings["bounds"], settings["steps"], seed=settings["seed"])
    return {
        "threshold": entry.threshold,
        "learned": len(product.train),
        "suspects": len(entry.suspects),
        "can_promise": entry.calibration.can_promise(task.false_alarm_rate),
        "corruptions": plain(corruptions),
        "attack": plain(attack),
    }


def _bounds(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or sizes != sorted(set(sizes)) or not 1 <= sizes[0] <= sizes[-1] <= 255:
        raise ConfigError(f"--bounds needs rising whole numbers from 1 to 255 with commas between them, got {text!r}")
    return sizes


def _backbone(settings: Any, backbone: str | None) -> "Backbone":
    from stream_ad.backbones.cached import CachedBackbone
    from stream_ad.backbones.registry import load_backbone

    wanted = settings.backbone
    if wanted.threads:
        import torch

        torch.set_num_threads(wanted.threads)
    loaded = load_backbone(
        backbone or wanted.id, image_size=wanted.image_size, weights_dir=settings.weights_dir, device=wanted.device
    )
    return CachedBackbone(loaded, max_bytes=CACHED)


def _kept(output: Path, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What an earlier run with the same settings and code has measured already."""
    if not output.exists():
        return {}
    try:
        before = json.loads(output.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    same = json.loads(json.dumps(settings))
    if not isinstance(before, dict) or before.get("settings") != same:
        return {}
    return {name: {"products": dict(method["products"])} for name, method in before["methods"].items()}


def _write(output: Path, report: Mapping[str, Any]) -> None:
    """Whole or not at all, so that a run that was cut off can go on."""
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_suffix(".partial")
    partial.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(output)


def _provenance(backbone: "Backbone", at: str) -> dict[str, Any]:
    import torch

    return {
        "code": code_version(),
        **source(),
        "date": at,
        "caveat": backbone.caveat,
        "device": str(getattr(backbone, "device", "cpu")),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
