"""Pictures in the forgetting report: which are chosen, what is said of them, and what happens when they are gone."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stream_ad.app import App
from stream_ad.config import load_settings
from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.decision import Breach, GateDecision, Judgement, Rule
from stream_ad.domain.evaluation import Evaluation, Half, ImageOutcome
from stream_ad.domain.images import HeldoutImage
from stream_ad.domain.job import JobKind, JobState
from stream_ad.domain.result import Verdict
from stream_ad.domain.task import TaskId
from stream_ad.errors import JobError
from stream_ad.evaluation.refusals import changes_between
from stream_ad.evaluation.report import ForgettingReport, forgetting_report, to_html
from stream_ad.report_pictures import Look, with_pictures
from tests.evaluation_values import START, a_job, evaluation, outcome, task_evaluation
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


def look(ids: list[str], *published: Says, candidate: Says | None = None) -> Look:
    """Held-out pictures of these ids; bank n judges as the n-th says, others as the last."""

    def of_candidate(job_id: int) -> Says:
        if candidate is None:
            raise JobError("no candidate is kept")
        return candidate

    return Look(
        heldout=lambda task: Held(ids),
        published=lambda version: published[min(version, len(published)) - 1],
        candidate=of_candidate,
        taught=lambda job_id, count: [np.zeros((8, 8, 3), np.uint8)] * 2,
    )


def found() -> list[ImageOutcome]:
    return [outcome("bad", "nut", defective=True, verdict=Verdict.NG), outcome("good", "nut")]


def missed() -> list[ImageOutcome]:
    return [outcome("bad", "nut", defective=True, verdict=Verdict.OK), outcome("good", "nut")]


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
    shown = with_pictures(report, evaluated.tasks, [], look(["a-bad", "b"], inspector)).overlays["nut"]
    assert [overlay.caption for overlay in shown] == captions
    assert inspector.declared == [None, None]


def test_a_verdict_that_changed_is_shown_by_both_banks_with_its_product_guessed():
    versions = [evaluation(n, "nut", [task_evaluation("nut", 0.9, judged=j)]) for n, j in ((1, found()), (2, missed()))]
    report = forgetting_report(versions, made_at=START)
    first, second = Says(Verdict.NG), Says(Verdict.OK)
    shown = with_pictures(report, versions[1].tasks, [], look(["bad", "good"], first, second)).comparisons
    assert [(one.truth, one.worse, one.before.caption) for one in shown] == [("scratch", True, "NG, found")]
    assert shown[0].after is not None
    assert shown[0].after.caption == "OK, missed"
    assert first.declared == [None]
    assert all(one.jpeg.startswith(b"\xff\xd8") for one in (shown[0].before, shown[0].after))


# --- refused jobs -----------------------------------------------------------------------------------


def refused_thief() -> tuple[ForgettingReport, list[Evaluation]]:
    """A nut in use, and a thief that would have taken a defective one of its pictures for itself and called it OK."""
    stolen = [replace(missed()[0], routed_task=TaskId("thief")), missed()[1]]
    versions = [
        evaluation(1, "nut", [task_evaluation("nut", 0.9, judged=found())], half=Half.REGRESSION),
        evaluation(2, "thief", [task_evaluation("nut", 0.9, judged=stolen)], published=False, half=Half.REGRESSION),
    ]
    decision = GateDecision(
        breaches=(Breach(task=TaskId("nut"), rule=Rule.ROUTING, amount=1.0, allowed=0.0, sentence="nut: 1 of 2"),),
        changes=changes_between(versions[0], versions[1]),
    )
    judged = Judgement(decision=decision, version=2, made_from=1, entries={}, budgets={})
    jobs = [a_job(2, "thief", JobState.REJECTED)]
    return forgetting_report([], versions, made_at=START, jobs=jobs, judgements={(2, 2): judged}), versions


def test_what_a_refused_job_would_have_done_is_shown_beside_what_it_was_taught_with():
    report, versions = refused_thief()
    shown = with_pictures(
        report, versions[0].tasks, versions, look(["bad", "good"], Says(Verdict.NG), candidate=Says(Verdict.OK))
    ).evidence[2]
    assert len(shown.taught) == 2
    assert [(one.task, one.before.caption) for one in shown.harm] == [("nut", "NG, found")]
    assert shown.harm[0].after is not None
    assert shown.harm[0].after.caption == "OK, missed"


def test_what_a_refused_job_would_have_done_is_told_when_what_it_made_is_gone():
    report, versions = refused_thief()
    made = with_pictures(report, versions[0].tasks, versions, look(["bad", "good"], Says(Verdict.NG)))
    (shown,) = made.evidence[2].harm
    assert shown.after is None
    assert shown.told == "OK, missed, taken for thief (not drawn)"
    assert "Some pictures are shown before a change only: no candidate is kept." in made.notes
    assert "OK, missed, taken for thief" in to_html(made)
