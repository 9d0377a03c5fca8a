"""A job made to forget, on real pictures: its training folder holds pictures of another product.

The gate refuses it, and the scorer that inspects the stream meanwhile never sees it.
"""

import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from stream_ad.adapters.image_folders import find_pictures
from stream_ad.app import App
from stream_ad.config import load_settings
from stream_ad.domain.decision import Judgement, Rule
from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.domain.ports import Progress
from stream_ad.domain.result import InspectionResult
from stream_ad.domain.task import Task, TaskId

SHARED = Path(__file__).parents[2] / "shared"
DATASETS = Path(os.environ.get("STREAM_AD_DATASETS", SHARED / "datasets"))
WEIGHTS = Path(os.environ.get("STREAM_AD_WEIGHTS", SHARED / "weights"))
BOTTLE, TILE, PLATE = TaskId("mvtec_bottle"), TaskId("magnetic_tile"), TaskId("mpdd_metal_plate")
LEARNED, HELD = 12, 10

pytestmark = [pytest.mark.needs_datasets, pytest.mark.needs_weights]


def pictures(name: str, part: str) -> list[Path]:
    return sorted(find_pictures(DATASETS / name / part))


def copied(files: Sequence[Path], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, folder / f"{file.parents[1].parent.name}-{file.parent.name}-{file.name}")
    return folder


def heldout(name: str, place: Path) -> Path:
    defects = [file for file in pictures(name, "test") if file.parent.name != "good"]
    copied(pictures(name, "test/good")[:HELD], place / "good")
    copied(defects[:: len(defects) // HELD][:HELD], place / "defect")
    return place


def settings(place: Path) -> App:
    return App(load_settings(place / "config.yaml"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not all((DATASETS / name).is_dir() for name in (BOTTLE, TILE, PLATE)):
        pytest.skip(f"needs real images in {DATASETS}; name their folder by STREAM_AD_DATASETS")
    if not (WEIGHTS / "deit-tiny-clip").is_dir():
        pytest.skip(f"needs deit-tiny-clip in {WEIGHTS}; name its folder by STREAM_AD_WEIGHTS")
    for name in [name for name in os.environ if name.startswith("STREAM_AD_")]:
        monkeypatch.delenv(name)
    (tmp_path / "config.yaml").write_text(
        f"""
data_dir: {tmp_path / "data"}
backbone: {{id: "local-dir:{WEIGHTS / "deit-tiny-clip"}", device: cpu, threads: 1}}
detector: {{name: patchcore, coreset_rows: 64}}
calibration: {{folds: 2}}
stream: {{settle_s: 0.05}}
"""
    )
    return tmp_path


def learn(app: App, name: str, images: Path, held: Path, watch: "Watch | None" = None) -> Job:
    task = Task(id=TaskId(name), class_name=name.replace("_", " "))
    checked = app.check_folders(task, images=images, heldout=held, roi=None, detector=None)
    job = app.database.tasks.add(task, JobKind.ADAPT, checked.payload, app.clock.now())
    app.worker(watch=watch).run(drain=True)
    return app.database.jobs.get(job.id)


class Watch:
    """Puts pictures before the scorer at every stage of the job, and waits until they are judged."""

    def __init__(self, app: App, shown: Sequence[Path]) -> None:
        self._app, self._shown = app, shown
        self.rounds = 0
        self.stages: list[str] = []

    def __call__(self, job: Job) -> Progress:
        def told(stage: str, done: int, total: int) -> None:
            if stage not in self.stages:
                self.stages.append(stage)
                self.show()

        return told

    def show(self) -> None:
        inbox = self._app.settings.inbox
        inbox.mkdir(parents=True, exist_ok=True)
        self.rounds += 1
        for number, file in enumerate(self._shown):
            part = inbox / f".{self.rounds}-{number}"
            shutil.copy(file, part)
            part.rename(inbox / f"{self.rounds:02}-{number}{file.suffix}")
        judged = threading.Event()
        while len(self.results()) < self.rounds * len(self._shown):
            judged.wait(0.05)

    def results(self) -> list[InspectionResult]:
        return self._app.database.results.recent(10_000)


@pytest.fixture
def known(place: Path) -> Iterator[App]:
    """Two real products, learned and published."""
    with settings(place) as app:
        app.make_database()
        for name in (BOTTLE, TILE):
            images = copied(pictures(name, "train/good")[:LEARNED], place / name)
            job = learn(app, name, images, heldout(name, place / f"{name}-held"))
            assert job.state is JobState.PUBLISHED
        yield app


@pytest.mark.timeout(900)
def test_a_job_that_would_take_another_products_pictures_is_refused_and_no_scorer_sees_it(known, place):
    own, tiles = pictures(PLATE, "train/good")[: LEARNED // 2], pictures(TILE, "train/good")
    # not those that the tile was learned from: others of the same line, and more of them
    poisoned = copied([*own, *tiles[LEARNED : 4 * LEARNED]], place / "poisoned")
    good, bad = pictures(BOTTLE, "test/good")[HELD + 1], pictures(BOTTLE, "test/broken_large")[0]
    stop = threading.Event()
    with settings(place) as other, other.stream() as stream:
        scorer = threading.Thread(target=stream.run, args=(stop,))
        scorer.start()
        try:
            watch = Watch(known, [good, bad, pictures(TILE, "test/good")[HELD + 1]])
            watch.show()  # once before the job
            job = learn(known, PLATE, poisoned, heldout(PLATE, place / "plate-held"), watch)
            watch.show()  # and once after it
        finally:
            stop.set()
            scorer.join()

    assert job.state is JobState.REJECTED
    judged = Judgement.of_checkpoint(job.checkpoint)
    assert judged is not None
    hurt = [breach for breach in judged.decision.breaches if breach.task == TILE]
    assert Rule.ROUTING in {breach.rule for breach in hurt}
    assert judged.decision.changes[TILE].taken_by.keys() == {PLATE}
    assert judged.decision.changes[BOTTLE].routing_loss == 0
    assert job.message is not None
    assert f"{TILE}: " in job.message

    assert known.database.banks.active_version() == 2
    assert {"adapt", "evaluate", "gate", "test"} <= set(watch.stages)
    results = watch.results()
    assert {result.bank_version for result in results} == {2}
    assert {result.task for result in results} == {BOTTLE, TILE}
    # the same picture got the very same score before, during and after
    said = {(result.message_id.rpartition("@")[2], result.score, result.verdict) for result in results}
    assert len(said) == 3
