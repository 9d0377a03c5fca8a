"""A new product from its first picture on: scored by words, then by what a few pictures taught, then by all of them."""

# ruff: noqa: F811 (a fixture is imported, then named as an argument)

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from storage_kit import NOON, after, claim, database, entry, publish, task, url  # noqa: F401

from stream_ad.adapters.repositories.jobs import LAST_CALL_S
from stream_ad.adapters.storage import Database
from stream_ad.app import configuration_hash
from stream_ad.config import load_settings
from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.evaluation import Half
from stream_ad.domain.images import split_hash
from stream_ad.domain.job import Job, JobKind, JobState, first_few, learns_all
from stream_ad.domain.result import Verdict
from stream_ad.errors import JobError
from tests.models import learned
from tests.pictures import NUT, Pictures, disc
from tests.plant import CONFIG, open_plant, save, teach

ALL = {"images": "/data/nut", "heldout": None, "detector": "cmpmb"}
FIRST = first_few(ALL, "patchcore", 4)
GOOD = [disc(seed) for seed in range(12)]


def test_the_job_that_follows_learns_what_was_asked_for():
    assert FIRST == {**ALL, "detector": "patchcore", "few": 4, "then": "cmpmb"}
    assert learns_all(FIRST) == learns_all(ALL) == learns_all({**ALL, "after": 1}) == ALL


def test_a_few_are_learned_and_the_others_say_what_is_normal():
    pictures = Pictures(GOOD)
    made = learned(NUT, pictures, "patchcore", few=4)
    order = sorted(pictures.ids)
    assert made.splits["fit"] == split_hash(order[:4])
    assert made.splits["calibration"] == split_hash(order[4:])
    assert not made.calibration.out_of_fold
    assert len(made.calibration.scores) == 8
    kept = sorted(pictures.ids.index(id) for id in order[:4])
    only = learned(NUT, Pictures([GOOD[place] for place in kept]), "patchcore")
    np.testing.assert_array_equal(made.arrays["coreset"], only.arrays["coreset"])


def test_where_too_few_are_left_for_a_threshold_every_picture_is_learned_out_of_fold():
    made = learned(NUT, Pictures(GOOD[:7]), "patchcore", few=4)
    assert made.calibration.out_of_fold
    assert len(made.calibration.scores) == 7


# --- what follows in the queue, on every database -------------------------------------------------


def queue(database: Database, payload: Mapping = FIRST) -> Job:
    return database.tasks.add(task(), JobKind.ADAPT, payload, NOON)


def rest(database: Database) -> list[Job]:
    return [job for job in database.jobs.all() if job.id > 1]


def test_the_rest_is_queued_by_the_very_transaction_that_publishes(database: Database):
    publish(database)  # a job that learns all of its pictures
    assert len(database.jobs.all()) == 1
    database.banks.use(0, who="ada", reason="anew", at=NOON)
    first = queue(database)
    publish_claimed(database, first)
    (following,) = (job for job in database.jobs.all() if job.id > first.id)
    assert (following.kind, following.state, following.payload) == (
        JobKind.READAPT,
        JobState.QUEUED,
        {**ALL, "after": first.id},
    )
    assert following.max_attempts == first.max_attempts


def publish_claimed(database: Database, job: Job) -> None:
    running = claim(database)
    assert running.id == job.id
    stored = database.entries.put(entry())
    bank = MemoryBank(database.banks.next_version()).with_entry(stored, database.banks.next_version())
    database.banks.publish(bank, parent=0, job=running, worker="w1", evaluations=[], message="few", at=NOON)


@pytest.mark.parametrize("state", [JobState.REJECTED, JobState.FAILED])
def test_a_first_job_that_came_to_nothing_does_not_keep_the_product_from_being_learned(database: Database, state):
    queue(database)
    running = claim(database)
    assert database.jobs.finish(running.id, "w1", 1, state, "no", NOON)
    (following,) = rest(database)
    assert (following.kind, following.payload) == (JobKind.ADAPT, {**ALL, "after": 1})


def test_a_first_job_that_was_refused_comes_no_more_once_all_pictures_are_learned(database: Database):
    queue(database)
    database.jobs.finish(claim(database).id, "w1", 1, JobState.REJECTED, "no", NOON)
    publish_claimed(database, rest(database)[0])
    for again in (lambda: database.jobs.requeue(1, NOON), lambda: database.jobs.override(1, "ada", "mine", NOON)):
        with pytest.raises(JobError, match="job 1 learns a few pictures of a task that job 2 has published with all"):
            again()


def test_a_first_job_whose_worker_dies_each_time_is_followed_too(database: Database):
    queue(database)
    at = 0.0
    for attempt in range(3):
        assert claim(database, f"w{attempt}", after(at), lease_s=1.0).id == 1
        database.jobs.sweep(after(at + 2))
        at += 2 * LAST_CALL_S + 5
        database.jobs.sweep(after(at))
    assert database.jobs.get(1).state is JobState.FAILED
    assert [job.payload for job in rest(database)] == [{**ALL, "after": 1}]


def test_who_cancels_the_first_job_wants_none(database: Database):
    queue(database)
    database.jobs.cancel(1, NOON)
    assert rest(database) == []


# --- the whole way, in a plant --------------------------------------------------------------------


def test_every_result_names_what_scored_it_from_the_first_picture_on(tmp_path: Path):
    images = save(tmp_path / "nut", [disc(seed) for seed in range(20)])
    (tmp_path / "plant").mkdir()
    config = CONFIG.replace("{name: patchcore,", "{name: cmpmb, few_shot: patchcore, few_shot_images: 4,")
    (tmp_path / "plant" / "config.yaml").write_text(config + "discovery: {zero_shot: true}\n")
    seen = [disc(seed) for seed in range(80, 84)]

    with open_plant(tmp_path / "plant") as app:

        def found():
            return app.scorer().inspect(seen, declared=[None] * 4, cameras=[None] * 4)

        first = found()
        assert {one.verdict for one in first} == {Verdict.UNKNOWN}
        assert {one.detector for one in first} == {app.detectors["zero-shot"].name}

        checked = app.check_new(NUT, images=images, heldout=None, roi=None, detector=None)
        few = app.database.tasks.add(NUT, JobKind.ADAPT, checked.payload, app.clock.now())
        worker = app.worker()
        worker.run(until=lambda: not app.database.jobs.get(few.id).state.open)
        ended = app.database.jobs.get(few.id)
        assert ended.state is JobState.PUBLISHED
        assert "learned 4 of 16 pictures; the job after this one learns with cmpmb" in (ended.message or "")
        second = found()
        assert {one.detector for one in second} == {app.detectors["patchcore"].name}
        assert all(one.threshold is not None for one in second)

        # whoever did that may be gone by now: another worker does the rest
        app.worker().run(drain=True)
        (following,) = [job for job in app.database.jobs.all() if job.id > few.id]
        assert (following.kind, following.state) == (JobKind.READAPT, JobState.PUBLISHED)
        assert {one.detector for one in found()} == {app.detectors["cmpmb"].name}

        # pictures that come later are learned with all the others, by the same detector
        more = app.more_pictures(NUT.id, images=save(tmp_path / "more", [disc(90), disc(91)]), heldout=None)
        assert (more.payload["detector"], {"few", "then", "after"} & more.payload.keys()) == ("cmpmb", set())


def test_who_names_a_detector_gets_that_one_and_no_other(tmp_path: Path):
    images = save(tmp_path / "nut", [disc(seed) for seed in range(8)])
    (tmp_path / "plant").mkdir()
    config = CONFIG.replace("{name: patchcore,", "{name: cmpmb, few_shot: patchcore,")
    (tmp_path / "plant" / "config.yaml").write_text(config)
    with open_plant(tmp_path / "plant") as app:
        checked = app.check_new(NUT, images=images, heldout=None, roi=None, detector="zero-shot")
        assert (checked.payload["detector"], "few" in checked.payload) == ("zero-shot", False)


def test_what_a_few_pictures_taught_is_no_yardstick_for_all_of_them(tmp_path: Path):
    """The job that learns all is judged as that of a new product: recognised, and nobody else harmed."""
    images = save(tmp_path / "nut", [disc(seed) for seed in range(20)])
    (tmp_path / "plant").mkdir()
    (tmp_path / "plant" / "config.yaml").write_text(
        CONFIG.replace("{name: patchcore,", "{name: zero-shot, few_shot: patchcore,")
    )
    with open_plant(tmp_path / "plant") as app:
        checked = app.check_new(NUT, images=images, heldout=None, roi=None, detector=None)
        app.database.tasks.add(NUT, JobKind.ADAPT, checked.payload, app.clock.now())
        app.worker().run(drain=True)
        # untrained words are far worse than four pictures: an old product would be refused for that
        last, first = app.database.jobs.all()
        assert (first.state, last.state) == (JobState.PUBLISHED, JobState.PUBLISHED)
        tested = app.database.evaluations.all(Half.TEST)
        known = {one.job_id: one.tasks[NUT.id].routed["image_auroc"] for one in tested}
        assert known[first.id] > known[last.id] + 0.01
        assert (
            app.scorer().inspect([disc(1)], declared=[None], cameras=[None])[0].detector
            == app.detectors["zero-shot"].name
        )


def test_who_replaces_a_products_pictures_keeps_its_detector_and_its_region(tmp_path: Path):
    images = save(tmp_path / "nut", [disc(seed) for seed in range(10)])
    roi = tmp_path / "roi.png"
    Image.fromarray(np.full((96, 96), 255, np.uint8)).save(roi)
    with open_plant(tmp_path / "plant") as app:
        assert teach(app, NUT, images, roi=roi, detector="cmpmb").state is JobState.PUBLISHED
        assert app.settings.detector.name == "patchcore"
        others = save(tmp_path / "others", [disc(seed) for seed in range(20, 30)])
        payload = app.other_pictures(NUT.id, images=others, heldout=None).payload
        assert payload == {"images": str(others), "heldout": None, "roi": str(roi), "detector": "cmpmb"}
        named = app.other_pictures(NUT.id, images=others, heldout=None, detector="zero-shot").payload
        assert named == {**payload, "detector": "zero-shot"}


def test_figures_stay_comparable_whoever_learns_first_and_whatever_new_weights_there_are(tmp_path: Path):
    def hashed(detector: str) -> str:
        (tmp_path / "config.yaml").write_text(f"detector: {{{detector}}}\n")
        return configuration_hash(load_settings(tmp_path / "config.yaml"))

    plain = hashed("name: cmpmb")
    assert hashed("name: cmpmb, few_shot: patchcore, few_shot_images: 2, mpa: {weights: some/mpa-12}") == plain
    assert hashed("name: cmpmb, coreset_rows: 7") != plain
