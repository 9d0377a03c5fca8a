"""Pictures in the forgetting report: which are chosen, what is said of them, and what happens when they are gone."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stream_ad.app import App
from stream_ad.config import load_settings
from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.images import HeldoutImage
from stream_ad.domain.job import JobKind
from stream_ad.domain.result import Verdict
from stream_ad.evaluation.report import forgetting_report, to_html
from stream_ad.report_pictures import with_pictures
from tests.evaluation_values import START, evaluation, outcome, task_evaluation
from tests.pictures import NUT, TILE, checks, disc
from tests.stream_kit import inspection_of


def save(folder: Path, pictures) -> None:
    folder.mkdir(parents=True)
    for row, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{row:03d}.png")


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nut with real held-out pictures and a tile with painted ones, both published."""
    place = tmp_path_factory.mktemp("plant")
    save(place / "nut", [disc(seed) for seed in range(20)])
    save(place / "tile", [checks(seed) for seed in range(24)])
    save(place / "held" / "good", [disc(seed) for seed in range(100, 104)])
    save(place / "held" / "scratch", [disc(seed, scratched=True) for seed in range(104, 108)])
    (place / "config.yaml").write_text(
        "backbone: {id: tiny, image_size: 96}\ndetector: {name: patchcore, coreset_rows: 64}\n"
        "routing: {refuse: false}\ngate: {max_flips: 1, max_false_alarm_rise: 1}\n"
    )
    with open_plant(place) as app:
        for task, held in ((NUT, place / "held"), (TILE, None)):
            checked = app.check_folders(task, images=place / task.id, heldout=held, roi=None, detector=None)
            app.database.tasks.add(task, JobKind.ADAPT, checked.payload, app.clock.now())
        app.worker().run(drain=True)
        assert app.database.banks.active_version() == 2
    return place


def open_plant(place: Path) -> App:
    app = App(load_settings(place / "config.yaml"))
    app.make_database()
    return app


@pytest.fixture
def app(plant: Path) -> Iterator[App]:
    with open_plant(plant) as app:
        yield app


def test_each_product_shows_a_find_the_weakest_defect_and_the_worst_good_part(app):
    report = app.forgetting_report(pictures=True)
    assert list(report.overlays) == ["nut", "tile"]
    found, weakest, good = (overlay.caption for overlay in report.overlays["nut"])
    assert found == "scratch: NG, found"
    assert weakest == "scratch: NG, found, lowest score"
    assert good.startswith("good: ")
    assert good.endswith(", highest score")
    assert all("synthetic" in overlay.caption for overlay in report.overlays["tile"][:2])
    assert all(overlay.jpeg.startswith(b"\xff\xd8") for shown in report.overlays.values() for overlay in shown)
    assert to_html(report).count('src="data:image/jpeg') == 6


def test_without_being_asked_for_no_picture_is_read(app):
    assert app.forgetting_report().overlays == {}
    assert "backbone" not in app.__dict__


def test_a_report_is_still_made_when_a_folder_is_gone(plant, tmp_path):
    copy = tmp_path / "plant"
    shutil.move(plant / "held", copy)
    try:
        with open_plant(plant) as app:
            report = app.forgetting_report(pictures=True)
    finally:
        shutil.move(copy, plant / "held")
    assert list(report.overlays) == ["tile"]
    assert any(note.startswith("No example pictures of nut") and "does not exist" in note for note in report.notes)


def test_a_report_is_still_made_when_pictures_were_taken_away(plant):
    kept = {file: file.read_bytes() for file in (plant / "held" / "scratch").iterdir()}
    try:
        for file in list(kept)[1:]:
            file.unlink()
        with open_plant(plant) as app:
            report = app.forgetting_report(pictures=True)
    finally:
        for file, data in kept.items():
            file.write_bytes(data)
    assert any("example pictures of nut are left out" in note for note in report.notes)


def test_a_report_is_still_made_with_another_backbone(plant, monkeypatch):
    monkeypatch.setenv("STREAM_AD_BACKBONE__IMAGE_SIZE", "64")
    with open_plant(plant) as app:
        report = app.forgetting_report(pictures=True)
    assert report.overlays == {}
    assert any("No example pictures: task 'nut' was learned with features" in note for note in report.notes)


# --- captions ---------------------------------------------------------------------------------------


class Held:
    """Pictures whose grey tells them apart."""

    def __init__(self, ids: list[str]) -> None:
        self.ids = ids
        self.defective = ["bad" in id for id in ids]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> HeldoutImage:
        grey = np.full((8, 8, 3), index, dtype=np.uint8)
        return HeldoutImage(id=self.ids[index], pixels=grey, defective=self.defective[index], mask=None, kind="")


class Says:
    """An inspector that always comes to the same verdict, and remembers what was declared."""

    def __init__(self, verdict: Verdict) -> None:
        self.bank = MemoryBank(version=0)
        self.verdict, self.declared = verdict, []

    def use(self, bank: MemoryBank) -> None:
        self.bank = bank

    def inspect(self, pictures, *, declared, cameras):
        self.declared += declared
        return [inspection_of(1.0, self.verdict) for _ in pictures]


@pytest.mark.parametrize(
    ("verdict", "captions"),
    [
        (Verdict.OK, ["scratch: OK, missed", "good: OK, highest score"]),
        (Verdict.NG, ["scratch: NG, found", "good: NG, false alarm, highest score"]),
        (Verdict.UNKNOWN, ["scratch: unknown product", "good: unknown product, false alarm, highest score"]),
    ],
)
def test_a_caption_says_what_was_said_and_whether_it_is_right(verdict, captions):
    judged = [outcome("a-bad", "nut", defective=True), outcome("b", "nut")]
    evaluated = evaluation(1, "nut", [task_evaluation("nut", 0.9, judged=judged)])
    report = forgetting_report([evaluated], made_at=START)
    inspector = Says(verdict)
    shown = with_pictures(report, evaluated.tasks, lambda task: Held(["a-bad", "b"]), inspector).overlays["nut"]
    assert [overlay.caption for overlay in shown] == captions
    assert inspector.declared == ["nut", "nut"]


def test_a_verdict_that_changed_is_shown_with_its_product_guessed():
    was = [outcome("bad", "nut", defective=True, verdict=Verdict.NG), outcome("good", "nut")]
    now = [outcome("bad", "nut", defective=True, verdict=Verdict.OK), outcome("good", "nut")]
    versions = [evaluation(n, "nut", [task_evaluation("nut", 0.9, judged=j)]) for n, j in ((1, was), (2, now))]
    report = forgetting_report(versions, made_at=START)
    inspector = Says(Verdict.OK)
    shown = with_pictures(report, versions[1].tasks, lambda task: Held(["bad", "good"]), inspector).overlays["nut"]
    assert shown[-1].caption == "scratch: NG with version 1, OK with version 2"
    assert inspector.declared[-1] is None
