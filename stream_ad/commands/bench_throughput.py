"""`stream-ad bench throughput`: what a picture costs, stage by stage and as a whole, beside the bare forward."""

import hashlib
import json
import os
import platform
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from stream_ad.app import App, code_version
from stream_ad.commands.bench import code_hash, named, source
from stream_ad.commands.common import ConfigOption, err, open_app, out, require_writable
from stream_ad.commands.throughput_line import (
    Frame,
    changed,
    digest,
    fill_folder,
    frames,
    learn,
    make_pictures,
    plant_settings,
    results_of,
    topic_of,
)
from stream_ad.config import Settings
from stream_ad.domain.task import Task
from stream_ad.errors import ConfigError, DataError
from stream_ad.evaluation.throughput import Cost, Row, figures, summary, to_markdown

if TYPE_CHECKING:
    from torch import Tensor

    from stream_ad.backbones.vit import VitBackbone

#: batches on the stream before and behind those that are measured, so that buffers are full at both ends
BEFORE, BEHIND = 2, 8
#: a stream that ends no batch for so long ends none
IDLE_S = 120.0
DECLARED, ROUTED = "declared", "routed"


@dataclass(frozen=True, slots=True)
class Way:
    """One way of serving."""

    source: str
    mode: str

    @property
    def name(self) -> str:
        return f"{self.source}, {self.mode}"


def throughput(
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE.json", help="Where the figures go; .md and .state go beside it.")
    ],
    sources: Annotated[
        str, typer.Option("--sources", metavar="A,B", help="kafka: the broker of kafka.bootstrap; folder.")
    ] = "kafka,folder",
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", metavar="ID", help="Default: backbone.id. random:ViT-B-16 will do for speed."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="ROOT", help="Pictures of a data set. Default: rendered products."),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option("--tasks", metavar="A,B,...", help="Products. Default: pcb,screw, or all of --data.")
    ] = None,
    size: Annotated[int, typer.Option("--size", min=64, help="Longer side of the pictures sent, px.")] = 640,
    images: Annotated[int, typer.Option("--images", min=8, metavar="N", help="Pictures measured in a turn.")] = 96,
    repeats: Annotated[int, typer.Option("--repeats", min=1, metavar="N", help="Turns of everything.")] = 6,
    checks: Annotated[
        int,
        typer.Option("--checks", min=1, metavar="N", help="Declared: every so many-th picture is routed all the same."),
    ] = 20,
    config: ConfigOption = None,
) -> None:
    """Measure what `serve` costs per picture, beside the bare forward of the same pictures in the same run.

    Learns the products, fills a topic and a folder, and serves both as the settings say, with a database of its own.
    *declared*: cameras name the product (`routing.sticky_checks` as --checks); *routed*: nothing is declared, every
    picture is routed. The broker's own work is not counted.
    """
    require_writable(output, ".json")
    chosen = named(sources, "--sources") or []
    if unknown := set(chosen) - {"kafka", "folder"}:
        raise ConfigError(f"--sources needs kafka, folder or both, got {', '.join(sorted(unknown))}")
    app = open_app(config)
    base = app.settings if backbone is None else changed(app.settings, backbone={"id": backbone})
    said = _said()
    with tempfile.TemporaryDirectory(prefix="stream-ad-throughput-") as scratch:
        bench = Bench(base, Path(scratch), output.with_suffix(".state"), images, checks, said)
        bench.prepare(data, named(tasks, "--tasks"), size)
        with bench.open(chosen) as ways:
            report = bench.measure(ways, repeats)
    report["settings"] |= {"pictures": f"{'rendered' if data is None else 'data set'} JPEG pictures, {size} px"}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    markdown = to_markdown(report)
    output.with_suffix(".md").write_text(markdown, encoding="utf-8")
    out().print(markdown, markup=False)
    err().print(f"written to {output} and {output.with_suffix('.md').name}")


class Bench:
    """One run: prepared, opened, measured."""

    def __init__(
        self, base: Settings, scratch: Path, state: Path, images: int, checks: int, said: Callable[[str], None]
    ) -> None:
        self.base, self.scratch, self.state, self.said = base, scratch, state, said
        self.images, self.checks = images, checks
        self.batch = base.stream.batch_size
        self.loaded = App(base).backbone
        native = _native_size(self.backbone)
        if base.backbone.image_size != native:
            raise ConfigError(
                f"needed backbone.image_size {native}, for which the model was made, got {base.backbone.image_size}:"
                " its own forward, to compare with, takes no other"
            )
        self.tasks: list[Task] = []
        self.frames: list[Frame] = []
        self._runs = 0
        self._topics: dict[str, str] = {}

    @property
    def backbone(self) -> "VitBackbone":
        return self.loaded.backbone

    def prepare(self, data: Path | None, products: Sequence[str] | None, size: int) -> None:
        """Pictures and bank, made once and kept in the state folder."""
        from stream_ad.adapters import tables

        pictures = self.state / f"pictures-{digest(data, products, size)}"
        self.tasks = make_pictures(pictures, products, data, size, self.said)
        # a bank that other code learned, or in tables of another form, is no bank
        code = (code_hash(), hashlib.sha256(Path(tables.__file__).read_bytes()).hexdigest())
        learned = digest(pictures.name, str(self.backbone.spec), self.base.detector.model_dump(mode="json"), code)
        self.bank = self.state / f"bank-{learned}"
        learn(self.base, self.bank, pictures, self.tasks, self.loaded, self.said)
        self.said("pictures to send")
        self.frames = frames(pictures, self.tasks, self.images + (BEFORE + BEHIND) * self.batch)

    @contextmanager
    def open(self, sources: Sequence[str]) -> Iterator[list[Way]]:
        """The ways of serving, their topics filled."""
        with ExitStack() as stack:
            if "kafka" in sources:
                app = stack.enter_context(App(self.base))
                for mode in (DECLARED, ROUTED):
                    self.said(f"filling a topic at {self.base.kafka.bootstrap}")
                    opened = topic_of(app, self.frames, declared=mode == DECLARED)
                    self._topics[mode] = stack.enter_context(opened)
            yield [Way(source, mode) for source in sources for mode in (DECLARED, ROUTED)]

    def measure(self, ways: Sequence[Way], repeats: int) -> dict[str, Any]:
        served: dict[Way, list[Cost]] = {way: [] for way in ways}
        bare: dict[Way, list[Cost]] = {way: [] for way in ways}
        verdicts: dict[Way, Counter[str]] = {way: Counter() for way in ways}
        stages = self.stages([way.source for way in ways])
        costs: dict[str, list[Cost]] = {stage.name: [] for stage in stages}
        for turn in range(repeats):
            for way in ways:
                self.said(f"turn {turn + 1} of {repeats}: {way.name}")
                for half in ("bare", "served") if turn % 2 else ("served", "bare"):
                    if half == "bare":
                        bare[way].append(self.bare(way.mode))
                    else:
                        cost, seen = self.serve(way)
                        served[way].append(cost)
                        verdicts[way] += seen
            self.said(f"turn {turn + 1} of {repeats}: stages")
            for stage in stages:
                costs[stage.name].append(stage.measure())
        rows = [Row(way.name, self.forward_name(way.mode), served[way], bare[way], verdicts[way]) for way in ways]
        return {
            "whole": figures(rows),
            "stages": [
                {"name": stage.name, "note": stage.note, "cost": summary(costs[stage.name])} for stage in stages
            ],
            "settings": {
                "preset": self.base.detector.preset,
                "detector": self.base.detector.name,
                "batch_size": self.batch,
                "images": self.images,
                "repeats": repeats,
                "checks": self.checks,
                "tasks": [str(task.id) for task in self.tasks],
                "overlays": self.base.stream.overlays,
            },
            "provenance": self.provenance(),
        }

    # --- the whole ------------------------------------------------------------------------------

    @contextmanager
    def plant(self, source: str, mode: str) -> Iterator[App]:
        """An installation of its own with the bank, on a source that nobody has read."""
        self._runs += 1
        place = self.scratch / f"plant-{self._runs}"
        shutil.copytree(self.bank, place)
        # what is given up on would go on beside the next measurement
        settings = plant_settings(self.base, place, source=source, settle_s=0.0, drain_s=120.0)
        settings = changed(settings, routing={"sticky_checks": self.checks if mode == DECLARED else 1})
        if source == "kafka":
            topic = self._topics[mode]
            group = f"{topic}.{self._runs}"
            settings = changed(settings, kafka={"topic": topic, "results_topic": results_of(topic), "group": group})
        else:
            fill_folder(settings.inbox, self.frames, declared=mode == DECLARED)
        try:
            with App(settings, backbone=self.loaded) as app:
                yield app
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def serve(self, way: Way) -> tuple[Cost, Counter[str]]:
        """What a picture costs while buffers are full, and the verdicts of those that were measured."""
        stop = threading.Event()
        marks: list[tuple[int, float, float, Counter[str]]] = []

        patience = [threading.Timer(IDLE_S, stop.set)]

        def told(_: object) -> None:
            patience[0].cancel()
            patience[0] = threading.Timer(IDLE_S, stop.set)
            patience[0].start()
            counters = stream.counters
            enough = marks[0][0] + self.images if marks else BEFORE * self.batch
            if len(marks) < 2 and counters.scored >= enough:
                seen = Counter({str(verdict): count for verdict, count in counters.verdicts.items()})
                marks.append((counters.scored, time.process_time(), time.perf_counter(), seen))
                if len(marks) == 2:
                    stop.set()

        with self.plant(way.source, way.mode) as app, app.stream(on_batch=told) as stream:
            patience[0].start()
            try:
                stream.run(stop)
            finally:
                patience[0].cancel()
        if len(marks) < 2:
            raise DataError(
                f"needed {self.images} pictures scored, {stream.counters.scored} came within {IDLE_S:.0f} s and"
                f" {sum(stream.counters.dead_letters.values())} became dead letters; see the log above"
            )
        (first, core, wall, before), (last, core_end, wall_end, after) = marks
        each = 1000 / (last - first)
        return Cost((core_end - core) * each, (wall_end - wall) * each), after - before

    def bare(self, mode: str) -> Cost:
        """The forward alone, of as many pictures in batches of the same size."""
        batches = -(-self.images // self.batch)
        pixels = self.pixels

        def run() -> None:
            for _ in range(batches):
                bare_forward(self.backbone, pixels, self.last_block, whole=mode == ROUTED)

        bare_forward(self.backbone, pixels[:2], self.last_block, whole=False)
        return measured(run, batches * self.batch)

    @property
    def pixels(self) -> "Tensor":
        """A batch as the backbone takes it, with the tiles that the preset reads."""
        if not hasattr(self, "_pixels"):
            import torch

            from stream_ad.adapters.decode import decode
            from stream_ad.backbones.views import Views

            views = Views(self.backbone, [decode(frame.data) for frame in self.frames[: self.batch]])
            self._pixels = torch.cat([views.at(scale).pixels for scale in self.options["scales"]])
        return self._pixels

    @property
    def options(self) -> Mapping[str, Any]:
        return self.base.detector.options(self.backbone.depth)[self.base.detector.name]

    @property
    def last_block(self) -> int:
        """The last block that the detector reads."""
        return max(self.options["blocks"])

    def forward_name(self, mode: str) -> str:
        return "the whole tower" if mode == ROUTED else f"to block {self.last_block}"

    # --- stage by stage -------------------------------------------------------------------------

    def stages(self, sources: Sequence[str]) -> list["Stage"]:
        """Every stage alone, on one batch."""
        from stream_ad.commands.throughput_stages import stages

        return stages(self, sources)

    def provenance(self) -> dict[str, Any]:
        """What every figure carries."""
        import torch

        return {
            "code": code_version(),
            **source(),
            "features": str(self.backbone.spec),
            "caveat": self.backbone.caveat,
            "device": str(self.backbone.device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "processor": _processor(),
        }


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the pipeline: what it does to so many pictures."""

    name: str
    measure: Callable[[], Cost]
    note: str = ""


def measured(run: Callable[[], object], pictures: int) -> Cost:
    """What a picture costs in a call that handles so many."""
    core, wall = time.process_time(), time.perf_counter()
    run()
    each = 1000 / pictures
    return Cost((time.process_time() - core) * each, (time.perf_counter() - wall) * each)


def bare_forward(backbone: "VitBackbone", pixels: "Tensor", last: int, *, whole: bool) -> None:
    """open_clip's own forward of a batch, by its own blocks: up to block `last`, or the whole tower."""
    import torch

    visual = cast(Any, backbone.visual)
    with torch.inference_mode():
        if whole:
            visual(pixels)
        else:
            visual.forward_intermediates(pixels, indices=[last], stop_early=True, intermediates_only=True)
    if backbone.device.type == "cuda":
        torch.cuda.synchronize(backbone.device)


def _native_size(backbone: "VitBackbone") -> int:
    tokens = len(cast(Any, backbone.visual).positional_embedding)
    return round((tokens - 1) ** 0.5) * backbone.patch_size


def _said() -> Callable[[str], None]:
    console = err()
    return lambda text: console.print(text, markup=False)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
