"""`stream-ad bench continual`: methods that learn products one by one, measured side by side on the same features."""

import hashlib
import json
import platform
import subprocess
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stream_ad.app import App, code_version
from stream_ad.commands.common import ConfigOption, err, open_app, out, require_writable
from stream_ad.domain import ports
from stream_ad.errors import ConfigError

if TYPE_CHECKING:
    from stream_ad.backbones.cached import CachedBackbone
    from stream_ad.evaluation.continual.run import Bench, Kit

bench = typer.Typer(no_args_is_help=True, help="Benchmarks: figures that anybody with the same data gets too.")

#: bytes of frozen features kept in memory
CACHED = 3 << 30
#: code that a score depends on, below the package; of these, what only shows scores is left out
SCORING = (
    *("backbones", "detectors", "domain", "functional", "routing", "inspection.py", "presets.py"),
    *("evaluation/metrics.py", "evaluation/continual", "services/learning.py", "services/suspects.py"),
    *("adapters/datasets", "adapters/decode.py", "adapters/heldout.py", "adapters/image_folders.py"),
    *("adapters/jpeg.py", "adapters/masks.py"),
)
SHOWING = ("renderings.py", "tables.py", "published.py", "differences.py", "results.py", "gallery.py")


@bench.callback()
def benchmarks() -> None:
    """Benchmarks: figures that anybody with the same data gets too."""


@bench.command()
def continual(
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="ROOT",
            help="MVTec AD, VisA, MPDD, BTAD, Real-IAD, KolektorSDD, DAGM, DTD-Synthetic as downloaded, or a folder of"
            " products that lie like MVTec AD's.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", metavar="FILE.json", help="Where the figures go; .md, .html and .state go beside it."),
    ],
    tasks: Annotated[
        str | None,
        typer.Option("--tasks", metavar="A,B,...", help="Products, in the order in which they arrive. Default: all."),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", metavar="ID", help="Default: backbone.id of the settings.")
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", help="fast, accurate, or paper: one configuration for all products.")
    ] = "fast",
    detectors: Annotated[
        str | None,
        typer.Option("--detectors", metavar="A,B,...", help="Methods; X@budget is X in a fixed number of rows."),
    ] = None,
    ablations: Annotated[
        bool, typer.Option("--ablations", help="The paper's ablations too: fusion, read-out block, k.")
    ] = False,
    orders: Annotated[
        int, typer.Option("--orders", min=1, help="Orders of arrival, each with the next seed; the first is as given.")
    ] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the first order.")] = 0,
    budget: Annotated[
        int | None,
        typer.Option("--budget", min=1, metavar="ROWS", help="Rows of all products together, for X@budget."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=4, metavar="N", help="Only so many pictures per set: a quick look, no figure."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Learn products one by one by every method, and write what each forgot.

    Runs that were cut off go on where they stopped. Nothing of a test picture is looked at before all is learned; the
    file says when each look was.
    """
    from stream_ad.adapters.datasets import find_products
    from stream_ad.evaluation.continual.renderings import to_html, to_markdown
    from stream_ad.evaluation.continual.results import gallery
    from stream_ad.evaluation.continual.run import Bench, Plan
    from stream_ad.evaluation.continual.variants import chosen

    require_writable(output, ".json")
    products = find_products(data, named(tasks, "--tasks"))
    app = open_app(config)
    with shown() as told:
        tools = kit(app, backbone, output.with_suffix(".state"), told)
        depth = tools.backbone(app.settings.backbone.image_size).depth
        plan = Plan(
            products=products,
            variants=chosen(
                named(detectors, "--detectors"),
                preset,
                depth=depth,
                ablations=ablations,
                weights={name: folder for name, folder in app.settings.detector.shared.items() if folder},
            ),
            preset=preset,
            seed=seed,
            orders=orders,
            budget=budget,
            limit=limit,
        )
        made = Bench(plan, tools)
        made.run()
        told("figures", 0, 1)
        report = finished(made, app)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    markdown = to_markdown(report)
    output.with_suffix(".md").write_text(markdown, encoding="utf-8")
    output.with_suffix(".html").write_text(to_html(report, gallery(made)), encoding="utf-8")
    out().print(markdown, markup=False)
    err().print(f"written to {output}, {output.with_suffix('.md').name} and {output.with_suffix('.html').name}")


def named(text: str | None, option: str) -> list[str] | None:
    """The names between commas. Raises: ConfigError: there is none, or one is empty."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ConfigError(f"{option} needs names with commas between them, got {text!r}")
    return names


class shown:
    """A bar with time left on stderr; one line per step where that is no terminal."""

    def __enter__(self) -> ports.Progress:
        console = err()
        self.bar = Progress(
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=not console.is_terminal,
        )
        row = self.bar.add_task("", total=None)
        self.bar.start()

        def told(stage: str, done: int, total: int) -> None:
            if console.is_terminal:
                self.bar.update(row, description=stage, completed=done, total=total)
            else:
                console.print(f"{done}/{total} {stage}", markup=False)

        return told

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()


def kit(app: App, backbone: str | None, state: Path, told: ports.Progress) -> "Kit":
    """What a run works with, its parts in the folder `state`."""
    from stream_ad.adapters.arrays import FileEntryStore
    from stream_ad.backbones.cached import CachedBackbone
    from stream_ad.backbones.registry import load_backbone
    from stream_ad.evaluation.continual.parts import Parts
    from stream_ad.evaluation.continual.run import Kit
    from stream_ad.services.learning import learn

    wanted = app.settings.backbone
    if wanted.threads:
        import torch

        torch.set_num_threads(wanted.threads)

    @cache
    def at_size(image_size: int) -> "CachedBackbone":
        loaded = load_backbone(
            backbone or wanted.id, image_size=image_size, weights_dir=app.settings.weights_dir, device=wanted.device
        )
        return CachedBackbone(loaded, max_bytes=CACHED)

    return Kit(
        backbone=at_size,
        learn=learn,
        entries=FileEntryStore(state / "entries"),
        parts=Parts(state),
        now=app.clock.now,
        progress=told,
        code=code_hash(),
        draw=drawn,
    )


def finished(made: "Bench", app: App) -> dict[str, Any]:
    """The figures with all that they came from."""
    from stream_ad.evaluation.continual.differences import differences
    from stream_ad.evaluation.continual.results import figures

    report = figures(made)
    report["differences"] = differences(made)
    report["provenance"] = provenance(made, app.clock.now())
    return report


def provenance(made: "Bench", at: datetime) -> dict[str, Any]:
    """What every figure carries."""
    import numpy as np
    import torch

    from stream_ad.evaluation.continual.results import data, test_reads
    from stream_ad.evaluation.continual.test_set import BATCH

    sizes = sorted({variant.image_size for variant in made.plan.variants})
    backbones = [made.kit.backbone(size) for size in sizes]
    known = made.kit.parts.get("runs", made.configuration)
    if known is None:
        known = {"date": at.isoformat(timespec="seconds"), **source()}
        made.kit.parts.put("runs", made.configuration, known)
    return {
        "code": code_version(),
        "code_sha256": made.kit.code,
        **known,
        "preset": made.plan.preset,
        "configuration": made.configuration,
        "seeds": [arrivals.seed for arrivals in made.sequences],
        "budget": made.plan.budget,
        "limit": made.plan.limit,
        "features": [str(one.spec) for one in backbones],
        "weights_sha256": backbones[0].spec.weights_sha256,
        "caveat": backbones[0].caveat,
        "device": str(getattr(backbones[0], "device", "cpu")),
        "threads": torch.get_num_threads(),
        "batch_size": BATCH,
        "map_size": made.plan.map_size,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "data": data(made),
        "test_reads": test_reads(made),
    }


def source() -> dict[str, Any]:
    """Which commit the code is of and whether it was changed since; null where it is no checkout."""
    here = Path(__file__).parents[2]

    def git(*arguments: str) -> str | None:
        try:
            told = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True, timeout=20)
        except (OSError, subprocess.SubprocessError):
            return None
        return told.stdout.strip()

    if not (here / ".git").exists():
        return {"commit": None, "clean_tree": None}
    changes = git("status", "--porcelain", "--", "stream_ad")
    return {"commit": git("rev-parse", "HEAD"), "clean_tree": None if changes is None else not changes}


@cache
def code_hash(more: tuple[str, ...] = ()) -> str:
    """Hash of all code that a score can depend on, and of `more`, as it lies there when the program starts."""
    package = Path(__file__).parents[1]
    made_of = hashlib.sha256()
    for place in (*SCORING, *more):
        for file in sorted((package / place).rglob("*.py")) if "." not in place else [package / place]:
            if file.name not in SHOWING:
                made_of.update(str(file.relative_to(package)).encode() + file.read_bytes())
    return made_of.hexdigest()[:16]


def drawn(picture: Any, inspection: Any, truth: Any) -> bytes:
    """The overlay of a picture, the true defect outlined in cyan, as a small JPEG."""
    import io

    import cv2
    import numpy as np
    from PIL import Image

    from stream_ad.adapters.overlay import draw_overlay

    if truth is not None and truth.any():
        lines, _ = cv2.findContours(truth.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        picture = np.ascontiguousarray(picture).copy()
        width = max(1, round(max(picture.shape[:2]) / 240))
        cv2.drawContours(picture, lines, -1, (0, 220, 255), width, cv2.LINE_AA)
    overlay = Image.fromarray(draw_overlay(picture, inspection))
    overlay.thumbnail((640, 640))
    encoded = io.BytesIO()
    overlay.save(encoded, "JPEG", quality=75)
    return encoded.getvalue()
