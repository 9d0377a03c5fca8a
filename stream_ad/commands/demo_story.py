"""What the demo does, step by step. Nothing here is special: jobs, gate, daemon and report are those of a plant."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from rich.console import Console
from rich.markup import escape

from stream_ad.adapters.image_folders import find_pictures, require_folder
from stream_ad.app import App
from stream_ad.commands.common import COLOURS as STATE_COLOURS
from stream_ad.commands.common import coloured, err, job_bar
from stream_ad.config import Settings, load_settings
from stream_ad.demo import write_product
from stream_ad.demo.contact_sheet import contact_sheet
from stream_ad.demo.products import PRODUCTS
from stream_ad.domain.evaluation import Half
from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.domain.result import InspectionResult, Verdict
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import ConfigError, JobError, NoImages
from stream_ad.evaluation.report import to_html, to_json

MARKER = ".stream-ad-demo"
TRAIN, GOOD, PER_DEFECT = 28, 16, 4  # pictures rendered per product: to learn from, held out
SHOWN_GOOD, SHOWN_DEFECTS = 2, 2  # pictures per product and round that the camera sends
SHOWN_LEFT_OUT = 5  # folders that a message names
PATIENCE_S = 120.0  # for the daemon to start, and for a round of pictures

#: what the rendered products must reach, on the test half; measured figures lie above by a margin
FLOORS = {"mean image AUROC": 0.85, "routing accuracy": 0.97, "unknown product refused": 0.75}


@dataclass(frozen=True, slots=True)
class Line:
    """One product line of the demo."""

    name: str
    class_name: str
    images: Path
    heldout: Path
    good: Sequence[Path]  # what the camera sends
    defective: Sequence[Path]

    def round(self, number: int) -> list[tuple[Path, bool]]:
        """The pictures of one round, with their truth; other ones each time, as long as there are."""

        def some(files: Sequence[Path], count: int) -> list[Path]:
            return [files[(number * count + i) % len(files)] for i in range(min(count, len(files)))]

        return [(file, False) for file in some(self.good, SHOWN_GOOD)] + [
            (file, True) for file in some(self.defective, SHOWN_DEFECTS)
        ]


class Story:
    """The demo from an empty folder to a report."""

    def __init__(
        self,
        console: Console,
        output: Path,
        data: Path | None,
        backbone: str,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.console = console
        self.output = output
        self.data = data
        self.backbone = backbone
        self.chosen = settings or {}
        self.started = time.monotonic()
        self.sent = 0

    def tell(self) -> bool:
        """Everything in order; whether the floors were reached.

        Raises:
            ConfigError: the output folder holds something else.
            NoImages: `data` has fewer than two products.
        """
        self._clear()
        self._say("Product lines")
        *known, stranger = self._lines()
        with App(self._settings()) as app:
            app.make_database()
            self.console.print(f"backbone: {app.backbone.spec}", markup=False)
            if app.backbone.caveat:
                self.console.print(f"[yellow]note:[/] {escape(app.backbone.caveat)}")
            with self._daemon(app):
                refused = self._learn_while_scoring(app, known, stranger)
                self._learn_the_stranger(app, known, stranger)
                self._poison(app, known)
                self._roll_back(app, stranger)
            return self._report(app, refused)

    # --- the steps --------------------------------------------------------------------------------

    def _learn_while_scoring(self, app: App, known: Sequence[Line], stranger: Line) -> float:
        """One product after the other; the share of the stranger's pictures that were called unknown at the end."""
        for number, line in enumerate(known):
            self._say(f"add-task {line.name}   ({number + 1} of {len(known)})")
            self._add(app, line)
            if number == 0 or number == len(known) - 1 or number == len(known) // 2:
                for shown in known[: number + 1]:
                    self._show(app, shown, number)
        self._say(f"a product that nobody taught: {stranger.name}")
        files = [(file, False) for file in stranger.good] + [(file, True) for file in stranger.defective]
        results = self._send(app, stranger, files)
        refused = float(np.mean([result.verdict is Verdict.UNKNOWN for result in results]))
        self._print(stranger, files, results)
        self.console.print(
            f"{refused:.0%} of its pictures were called unknown; none of them is OK by mistake: "
            f"{sum(result.verdict is Verdict.OK for result in results)} OK of {len(results)}"
        )
        return refused

    def _learn_the_stranger(self, app: App, known: Sequence[Line], stranger: Line) -> None:
        self._say(f"add-task {stranger.name}")
        self._add(app, stranger)
        self._show(app, stranger, 1)
        self._show(app, known[0], len(known))

    def _poison(self, app: App, known: Sequence[Line]) -> None:
        """A job whose training folder holds another product: the gate must refuse it."""
        victim = known[1 % len(known)]
        name = f"{known[0].name}_new"
        self._say(f"a poisoned job: {name} is taught with pictures of {victim.name}")
        poisoned = Line(name, known[0].class_name, victim.images, victim.images, (), ())
        job = self._add(app, poisoned, heldout=False, detector="patchcore")
        if job.state is JobState.PUBLISHED:
            raise JobError("the gate let a poisoned job through; this must not happen")
        self.console.print(f"bank {app.database.banks.active_version()} stays in use", markup=False)

    def _roll_back(self, app: App, stranger: Line) -> None:
        latest = app.database.banks.active_version()
        self._say(f"a rollback: bank use {latest - 1}, and back to {latest}")
        for version in (latest - 1, latest):
            app.database.banks.use(version, who="demo", reason="to show a rollback", at=app.clock.now())
            self._wait_for_bank(app, stranger, version)

    def _report(self, app: App, refused: float) -> bool:
        self._say("report forgetting")
        report = app.forgetting_report(pictures=True)
        self.console.print(report.paragraph, markup=False)
        (self.output / "report.html").write_text(to_html(report), encoding="utf-8")
        (self.output / "report.json").write_text(to_json(report), encoding="utf-8")
        sheet = self._contact_sheet(app)
        evaluation = [one for one in app.database.evaluations.all(Half.TEST) if one.published][-1]
        tasks = list(evaluation.tasks.values())
        right = [outcome.routed_task == task.task for task in tasks for outcome in task.outcomes]
        reached = {
            "mean image AUROC": float(np.nanmean([task.routed["image_auroc"] for task in tasks])),
            "routing accuracy": float(np.mean(right)),
            "unknown product refused": refused,
        }
        self._say("Figures (test half, each image alone, its product guessed)")
        passed = True
        for name, value in reached.items():
            floor = FLOORS[name] if self.data is None else None
            good = floor is None or value >= floor
            passed = passed and good
            mark = "" if floor is None else coloured(f"  floor {floor:g}", "green" if good else "red")
            self.console.print(f"{name:<26}{value:.3f}{mark}")
        for path in (self.output / "report.html", sheet):
            self.console.print(f"look at  {path}", markup=False)
        self.console.print(f"done in {time.monotonic() - self.started:.0f} s with {app.backbone.spec}", markup=False)
        return passed

    # --- their parts ------------------------------------------------------------------------------

    def _clear(self) -> None:
        if self.data is not None and self.data.absolute().is_relative_to(self.output.absolute()):
            raise ConfigError(
                f"--data {self.data} lies in {self.output}, which the demo empties; name another --output"
            )
        if self.output.exists() and any(self.output.iterdir()):
            if not (self.output / MARKER).exists():
                raise ConfigError(
                    f"{self.output} holds files that are not the demo's; name an empty or new folder with --output"
                )
            shutil.rmtree(self.output)
        self.output.mkdir(parents=True, exist_ok=True)
        (self.output / MARKER).touch()

    def _settings(self) -> Settings:
        chosen: dict[str, Any] = {
            "data_dir": "state",
            "backbone": {"id": self.backbone},
            "stream": {"settle_s": 0.1, "overlays": "all"},
            "jobs": {"poll_s": 0.2},
        }
        if self.backbone.startswith("local-dir:"):
            folder = Path(self.backbone.removeprefix("local-dir:")).absolute()
            chosen["backbone"] = {"id": f"local-dir:{folder}"}
        if self.data is None:
            # small models gain nothing from a second thread, and the daemon needs the other core
            chosen["backbone"] = {**chosen["backbone"], "threads": 1}
        for section, values in self.chosen.items():
            chosen[section] = {**chosen.get(section, {}), **values}
        file = self.output / "config.yaml"
        file.write_text(yaml.safe_dump(chosen))
        return load_settings(file)

    def _lines(self) -> list[Line]:
        """The product lines; the last one is the stranger."""
        if self.data is not None:
            lines = [_line(folder, folder.name.replace("_", " ")) for folder in self._products(self.data)]
        else:
            root = self.output / "products"
            for product in PRODUCTS.values():
                write_product(root, product, train=TRAIN, good=GOOD, per_defect=PER_DEFECT, seed=1)
            lines = [_line(root / product.name, product.class_name) for product in PRODUCTS.values()]
        for line in lines:
            count = len(find_pictures(line.images))
            self.console.print(f"{line.name:<20} {count} good pictures to learn from", markup=False)
        self.console.print(f"kept back as a stranger: {lines[-1].name}", markup=False)
        return lines

    def _products(self, data: Path) -> list[Path]:
        """The folders that hold a whole product; the others are named."""
        folders = sorted(path for path in require_folder(data).iterdir() if path.is_dir() and path.name[0] != ".")
        lacks = {folder: missing for folder in folders if (missing := _missing(folder))}
        whole = [folder for folder in folders if folder not in lacks]
        left_out = [f"{folder.name} lacks {', '.join(missing)}" for folder, missing in lacks.items()]
        if len(whole) < 2:
            raise NoImages(
                f"needed two or more products in MVTec layout in {data}: a folder for each, with pictures in "
                f"train/good, test/good and a folder per kind of defect in test. Got {len(whole)}"
                f"{''.join(f'; {text}' for text in left_out[:SHOWN_LEFT_OUT])}"
                f"{'; ...' if len(left_out) > SHOWN_LEFT_OUT else ''}"
            )
        for text in left_out:
            self.console.print(f"left out: {text}", markup=False)
        return whole

    def _add(self, app: App, line: Line, *, heldout: bool = True, detector: str | None = None) -> Job:
        """What `stream-ad add-task ... --wait` does."""
        task = Task(
            id=TaskId(line.name),
            class_name=line.class_name,
            false_alarm_rate=app.settings.calibration.false_alarm_rate,
        )
        checked = app.check_folders(
            task, images=line.images, heldout=line.heldout if heldout else None, roi=None, detector=detector
        )
        job = app.database.tasks.add(task, JobKind.ADAPT, checked.payload, app.clock.now())
        bar, watch = job_bar(err())
        with bar:
            app.worker(watch=watch).run(until=lambda: not app.database.jobs.get(job.id).state.open)
        job = app.database.jobs.get(job.id)
        self.console.print(coloured(job.message, STATE_COLOURS.get(job.state)))
        if job.state is JobState.FAILED:
            raise JobError(f"the job of {line.name} failed: {job.message}")
        return job

    @contextmanager
    def _daemon(self, app: App) -> Iterator[None]:
        """`stream-ad serve` in a process of its own, as in a plant."""
        log = (self.output / "serve.log").open("w")
        command = [sys.executable, "-m", "stream_ad.cli", "--config", str(self.output / "config.yaml"), "serve"]
        app.settings.inbox.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
            log.close()

    def _show(self, app: App, line: Line, number: int) -> None:
        files = line.round(number)
        self._print(line, files, self._send(app, line, files))

    def _send(self, app: App, line: Line, files: Sequence[tuple[Path, bool]]) -> list[InspectionResult]:
        """Put pictures into the watched folder and wait for their verdicts."""
        names = []
        for file, _ in files:
            self.sent += 1
            name = f"{self.sent:04d}-{line.name}-{file.parent.name}-{file.name}"
            partial = app.settings.inbox / f".{name}.part"
            shutil.copy(file, partial)
            partial.rename(app.settings.inbox / name)
            names.append(name)

        def arrived() -> dict[str, InspectionResult]:
            recent = app.database.results.recent(4 * len(names) + 20)
            return {result.message_id.partition("@")[0]: result for result in recent}

        self._until(lambda: set(names) <= set(arrived()), "the daemon's verdicts")
        found = arrived()
        return [found[name] for name in names]

    def _wait_for_bank(self, app: App, line: Line, version: int) -> None:
        """Send a picture until the daemon scores it with this bank."""
        results: list[InspectionResult] = []

        def taken() -> bool:
            results[:] = self._send(app, line, line.round(0)[:1])
            return results[0].bank_version == version

        self._until(taken, f"the daemon to take bank {version}")
        self.console.print(f"bank {version}: a good {line.name} is {_verdict(results[0])}")

    def _until(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            if time.monotonic() > deadline:
                raise JobError(f"waited {PATIENCE_S:g} s for {what}; see {self.output / 'serve.log'}")
            time.sleep(0.05)

    def _print(self, line: Line, files: Sequence[tuple[Path, bool]], results: Sequence[InspectionResult]) -> None:
        """A row per product: what the parts were, and what was said of them."""
        for wanted in (False, True):
            said = [_verdict(result) for (_, bad), result in zip(files, results, strict=True) if bad is wanted]
            if said:
                self.console.print(
                    f"  {escape(line.name):<20} {'defective' if wanted else 'good':<10} {' '.join(said)}"
                )

    def _contact_sheet(self, app: App) -> Path:
        """Overlays of what the stream showed, the latest of each product."""
        rows: dict[str, list[np.ndarray]] = {}
        for result in app.database.results.recent(500):
            if result.overlay and result.task and result.verdict is Verdict.NG and len(rows.get(result.task, ())) < 4:
                rows.setdefault(result.task, []).append(np.asarray(Image.open(result.overlay).convert("RGB")))
        target = self.output / "overlays.png"
        if rows:
            Image.fromarray(contact_sheet(sorted(rows.items()), cell=360)).save(target)
        return target

    def _say(self, text: str) -> None:
        elapsed = time.monotonic() - self.started
        self.console.print(f"\n[bold]== {escape(text)}[/]  [dim]{elapsed:.0f} s[/]")


def _defects(folder: Path) -> list[list[Path]]:
    """The held-out pictures of a product's defects, by their kinds."""
    test = folder / "test"
    kinds = sorted(path for path in test.iterdir() if path.is_dir() and path.name != "good") if test.is_dir() else []
    return [pictures for kind in kinds if (pictures := find_pictures(kind))]


def _missing(folder: Path) -> list[str]:
    """What a product's folder lacks to be shown."""
    lacks = [part for part in ("train/good", "test/good") if not find_pictures(folder / part)]
    return lacks if _defects(folder) else [*lacks, "defects in test"]


def _line(folder: Path, class_name: str) -> Line:
    mixed = [file for group in zip(*_defects(folder), strict=False) for file in group]  # one of each kind, and again
    good = find_pictures(folder / "test" / "good")
    return Line(folder.name, class_name, folder / "train" / "good", folder, good[:8], mixed[:8])


def _verdict(result: InspectionResult) -> str:
    colour = {Verdict.OK: "green", Verdict.NG: "red"}.get(result.verdict, "yellow")
    return coloured(result.verdict, colour)
