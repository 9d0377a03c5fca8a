"""An installation in a folder, with real pictures, real jobs and the real store; the seeded backbone at 96 px."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from stream_ad.app import App
from stream_ad.config import load_settings
from stream_ad.domain.images import Picture
from stream_ad.domain.job import Job, JobKind
from stream_ad.domain.task import Task

CONFIG = (
    "backbone: {id: tiny, image_size: 96}\n"
    "detector: {name: patchcore, coreset_rows: 64}\n"
    "calibration: {folds: 2}\n"
    # untrained, it cannot tell a defect from another product, and its verdicts may change
    "routing: {refuse: false}\n"
    "gate: {max_flips: 1, max_false_alarm_rise: 1}\n"
)


def save(folder: Path, pictures: Iterable[Picture]) -> Path:
    """The folder with these pictures in it, `000.png` and so on."""
    folder.mkdir(parents=True)
    for row, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{row:03d}.png")
    return folder


def open_plant(place: Path) -> App:
    """The application of the plant in a folder, made when it is not there."""
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "config.yaml").exists():
        (place / "config.yaml").write_text(CONFIG)
    app = App(load_settings(place / "config.yaml"))
    app.make_database()
    return app


def teach(
    app: App, task: Task, images: Path, *, heldout: Path | None = None, roi: Path | None = None, detector: str = ""
) -> Job:
    """The ended job of a new task."""
    checked = app.check_folders(task, images=images, heldout=heldout, roi=roi, detector=detector or None)
    job = app.database.tasks.add(task, JobKind.ADAPT, checked.payload, app.clock.now())
    app.worker().run(drain=True)
    return app.database.jobs.get(job.id)


def scores(app: App, pictures: Sequence[Picture], product: str, *, batch_size: int = 8) -> list[tuple[float, bytes]]:
    """Score and map of each picture by the active bank, as bytes, so that equal means equal to the last bit."""
    scorer = app.scorer()
    found = []
    for start in range(0, len(pictures), batch_size):
        batch = pictures[start : start + batch_size]
        found += scorer.inspect(batch, declared=[product] * len(batch), cameras=[None] * len(batch))
    return [(one.score, np.asarray(one.map).tobytes()) for one in found]
