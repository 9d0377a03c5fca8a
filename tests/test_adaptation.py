"""A job ends as published, rejected or failed, says why, and never leaves anything in between."""

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from stream_ad.adapters.storage import Database
from stream_ad.domain.evaluation import Half
from stream_ad.domain.job import JobState
from stream_ad.errors import NoImages, OverlappingSplits, TooFewImages, Unavailable
from stream_ad.services.heartbeat import Heartbeat
from stream_ad.services.heldout import check_disjoint
from stream_ad.services.work import TaskImages, Work
from stream_ad.services.worker import Worker
from tests import adaptation_kit as kit
from tests import storage_kit


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with kit.open_storage(tmp_path) as opened:
        yield opened


def drain(database: Database, work: Work | None = None, **options) -> Worker:
    worker = Worker(kit.storage(database), work or kit.work(), kit.HandClock(), name="w", poll_s=0.01, **options)
    worker.run(drain=True)
    return worker


def test_a_job_publishes_a_bank_with_its_figures_on_both_halves(database):
    job = kit.queue(database, "screw")
    drain(database)
    ended = database.jobs.get(job.id)
    assert (ended.state, ended.bank_version, ended.progress) == (JobState.PUBLISHED, 1, 1.0)
    assert ended.message.startswith("bank 1 published with 'screw': image AUROC 0.900")
    bank = database.banks.load()
    assert list(bank.entries) == ["screw"]
    assert {"fit", "regression", "test"} <= bank.entry("screw").splits.keys()
    for half in Half:
        (evaluation,) = database.evaluations.all(half)
        assert evaluation.published
        assert evaluation.bank_version == 1
        assert evaluation.provenance["heldout"]["screw"] == bank.entry("screw").splits[half]


def test_every_task_of_the_candidate_is_evaluated(database):
    for name in ("screw", "tile", "bottle"):
        kit.queue(database, name)
    drain(database)
    assert [list(e.tasks) for e in database.evaluations.all(Half.REGRESSION)] == [
        ["screw"],
        ["screw", "tile"],
        ["bottle", "screw", "tile"],
    ]
    assert database.banks.active_version() == 3


def test_the_present_bank_is_not_measured_again_when_its_figures_are_there(database):
    evaluated = []

    def counting(bank, heldout, progress):
        evaluated.append((bank.version, sorted(heldout)))
        return kit.perfect(bank, heldout, progress)

    for name in ("screw", "tile"):
        kit.queue(database, name)
    drain(database, kit.work(evaluate=counting))
    both = ["screw", "tile"]
    assert evaluated == [(1, ["screw"]), (1, ["screw"]), (2, both), (2, both)]


def test_the_present_bank_is_measured_again_when_settings_changed(database):
    evaluated = []

    def counting(bank, heldout, progress):
        evaluated.append(bank.version)
        return kit.perfect(bank, heldout, progress)

    kit.queue(database, "screw")
    drain(database)
    kit.queue(database, "tile")
    drain(database, kit.work(evaluate=counting, provenance={"code": "1"}))
    assert evaluated == [1, 2, 2]


def test_a_candidate_that_steals_pictures_is_rejected_and_scorers_never_see_it(database):
    kit.queue(database, "screw")
    drain(database)
    thief = kit.queue(database, "thief")
    drain(database, kit.work(evaluate=kit.stealing("thief")))
    ended = database.jobs.get(thief.id)
    assert ended.state is JobState.REJECTED
    assert ended.message == (
        "rejected, bank 1 stays in use: screw: 10 of 20 images now go to another product (10 to thief);"
        " at most 1.0% allowed"
    )
    assert database.banks.active_version() == 1
    rejected = [e for half in Half for e in database.evaluations.all(half) if not e.published]
    assert [(e.bank_version, e.learned_task) for e in rejected] == [(2, "thief")] * 2


def test_a_rejection_by_who_lost_the_job_writes_nothing(database):
    kit.queue(database, "screw")
    drain(database)
    thief = kit.queue(database, "thief")
    steals = kit.stealing("thief")

    def robbed(bank, heldout, progress):
        if database.jobs.get(thief.id).worker == "w":  # its machine slept, and another worker has the job by now
            database.jobs.sweep(kit.NOON + timedelta(seconds=100))
            database.jobs.claim("another", "cpu", 60.0, kit.NOON + timedelta(seconds=200))
        return steals(bank, heldout, lambda stage, done, total: None)

    assert Worker(kit.storage(database), kit.work(evaluate=robbed), kit.HandClock(), name="w").run_one(thief.id) is None
    now = database.jobs.get(thief.id)
    assert (now.state, now.worker, "gate" in now.checkpoint) == (JobState.RUNNING, "another", False)
    assert [e for half in Half for e in database.evaluations.all(half) if not e.published] == []


def test_a_rejection_that_breaks_off_leaves_nothing_of_it(database):
    kit.queue(database, "screw")
    job = database.jobs.claim("w", "cpu", 60.0, kit.NOON)

    def breaks_off():
        yield storage_kit.evaluation("screw", job_id=job.id, published=False)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        database.jobs.finish(
            job.id, "w", 1, JobState.REJECTED, "no", kit.NOON, evaluations=breaks_off(), checkpoint={"gate": {}}
        )
    assert database.jobs.get(job.id) == job
    assert database.evaluations.all(Half.REGRESSION) == []


def test_after_a_rejection_the_next_product_gets_the_number(database):
    kit.queue(database, "screw")
    kit.queue(database, "thief")
    kit.queue(database, "tile")
    drain(database, kit.work(evaluate=kit.stealing("thief")))
    assert list(database.banks.load().entries) == ["screw", "tile"]
    assert database.banks.active_version() == 2


def test_a_job_that_loses_the_race_to_publish_evaluates_against_the_new_bank(database):
    kit.queue(database, "screw")
    seen = []

    def raced(bank, heldout, progress):
        seen.append((bank.version, sorted(bank.entries)))
        if len(seen) == 1:  # while this one evaluates, another worker publishes
            kit.queue(database, "tile")
            Worker(kit.storage(database), kit.work(), kit.HandClock(), name="other").run(drain=True)
        return kit.perfect(bank, heldout, progress)

    drain(database, kit.work(evaluate=raced))
    assert seen[0] == (1, ["screw"])
    assert seen[-1] == (2, ["screw", "tile"])
    assert sorted(database.banks.load().entries) == ["screw", "tile"]
    assert [v["parent"] for v in database.banks.versions()] == [0, 1]


def test_a_bank_that_never_stands_still_fails_the_job_with_what_to_do(database):
    kit.queue(database, "screw")
    drain(database)
    job = kit.queue(database, "tile")
    calls = itertools.count()

    def restless(bank, heldout, progress):
        if next(calls) % 2 == 0:  # each round evaluates both halves
            to = 1 - database.banks.active_version()
            database.banks.use(to, who="test", reason="to and fro", at=kit.NOON)
        return kit.perfect(bank, heldout, progress)

    drain(database, kit.work(evaluate=restless))
    ended = database.jobs.get(job.id)
    assert ended.state is JobState.FAILED
    assert "changed the active bank 5 times while that for task 'tile' was evaluated" in ended.message


def test_bad_input_fails_at_once_with_its_own_words(database):
    job = kit.queue(database, "screw")

    def nothing(task, payload):
        raise NoImages("no picture in /data/screw")

    drain(database, kit.work(read=nothing))
    ended = database.jobs.get(job.id)
    assert (ended.state, ended.message, ended.attempts) == (JobState.FAILED, "no picture in /data/screw", 1)
    assert database.banks.active_version() == 0


def test_too_few_images_fail_the_job(database):
    job = kit.queue(database, "screw")

    def refuse(task, images, payload, progress):
        raise TooFewImages(task.id, 4, 2)

    drain(database, kit.work(learn=refuse))
    assert "needs at least 4 normal images, got 2" in database.jobs.get(job.id).message


def test_a_crash_is_tried_again_until_attempts_are_used_up_and_keeps_its_trace(database):
    job = kit.queue(database, "screw")

    def crash(task, images, payload, progress):
        raise ZeroDivisionError("a bug")

    drain(database, kit.work(learn=crash))
    ended = database.jobs.get(job.id)
    assert (ended.state, ended.attempts) == (JobState.FAILED, ended.max_attempts)
    assert "unexpected ZeroDivisionError: a bug" in ended.message
    assert 'raise ZeroDivisionError("a bug")' in ended.log_tail


def test_a_failed_job_publishes_when_it_is_retried(database):
    job = kit.queue(database, "screw")

    def refuse(task, images, payload, progress):
        raise TooFewImages(task.id, 4, 2)

    drain(database, kit.work(learn=refuse))
    database.jobs.requeue(job.id, kit.NOON)
    drain(database)
    assert database.jobs.get(job.id).state is JobState.PUBLISHED


def test_a_database_that_is_away_costs_no_attempt(database):
    job = kit.queue(database, "screw")

    def away(task, payload):
        raise Unavailable("the database is away")

    with pytest.raises(Unavailable):
        drain(database, kit.work(read=away))
    waiting = database.jobs.get(job.id)
    assert (waiting.state, waiting.attempts) == (JobState.QUEUED, 0)


def test_a_cancelled_job_stops_at_its_next_progress(database):
    job = kit.queue(database, "screw")
    told = threading.Event()

    def slow(task, images, payload, progress):
        database.jobs.cancel(job.id, kit.NOON)
        while True:  # ends when the heartbeat has heard of it
            told.wait(0.01)
            progress("adapt", 1, 2)

    drain(database, kit.work(learn=slow), lease_s=0.1)
    ended = database.jobs.get(job.id)
    assert (ended.state, ended.message) == (JobState.CANCELLED, "cancelled on request")


def test_a_stopped_worker_gives_its_job_back_and_the_attempt_does_not_count(database):
    job = kit.queue(database, "screw")
    workers: list[Worker] = []

    def stop(task, images, payload, progress):
        workers[0].stop()
        progress("adapt", 1, 2)
        raise AssertionError("went on")

    workers.append(Worker(kit.storage(database), kit.work(learn=stop), kit.HandClock(), name="w"))
    assert workers[0].run() == 1
    waiting = database.jobs.get(job.id)
    assert (waiting.state, waiting.attempts, waiting.worker) == (JobState.QUEUED, 0, None)
    drain(database)
    assert database.jobs.get(job.id).state is JobState.PUBLISHED


def test_a_job_that_another_worker_took_over_is_left_alone(database):
    job = kit.queue(database, "screw")
    quiet = threading.Event()

    def robbed(task, images, payload, progress):
        late = kit.HandClock(kit.NOON)
        taken = None
        while taken is None:  # until a last call falls between two heartbeats
            database.jobs.sweep(late.now())
            late.sleep(3600)
            taken = database.jobs.claim("thief", "cpu", 60.0, late.now())
        while True:
            quiet.wait(0.01)
            progress("adapt", 1, 2)

    drain(database, kit.work(learn=robbed), lease_s=0.1)
    now = database.jobs.get(job.id)
    assert (now.state, now.worker) == (JobState.RUNNING, "thief")
    assert database.banks.active_version() == 0


def test_the_lease_is_prolonged_while_a_stage_is_silent(database):
    kit.queue(database, "screw")
    job = database.jobs.claim("w", "cpu", 0.1, kit.NOON)
    clock = kit.HandClock()
    clock.sleep(1000)
    with Heartbeat(job, "w", database.jobs, clock, lease_s=0.1):
        waited = threading.Event()
        while database.jobs.get(job.id).lease_until < clock.now():
            waited.wait(0.01)
    assert database.jobs.get(job.id).heartbeat_at == clock.now()


def test_progress_never_goes_backwards(database):
    kit.queue(database, "screw")
    job = database.jobs.claim("w", "cpu", 60.0, kit.NOON)
    told = []
    heartbeat = Heartbeat(
        job, "w", database.jobs, kit.HandClock(), listener=lambda stage, done, total: told.append(done)
    )
    for stage, done in (("read", 1), ("adapt", 0), ("adapt", 1), ("evaluate", 1), ("evaluate", 0), ("publish", 1)):
        heartbeat(stage, done, 1)
    assert told == sorted(told)
    assert told[-1] == 1000


def test_a_missing_heldout_folder_of_an_old_task_is_named(database):
    kit.queue(database, "screw")
    drain(database)
    job = kit.queue(database, "tile")

    def gone(task, payload):
        if task.id == "screw":
            raise NoImages("there is no folder /data/screw")
        return kit.pictures(task, payload)

    drain(database, kit.work(read=gone))
    ended = database.jobs.get(job.id)
    assert ended.state is JobState.FAILED
    assert "held-out pictures of task 'screw' are needed" in ended.message
    assert "there is no folder /data/screw" in ended.message


def test_a_training_picture_that_is_held_out_too_is_refused(database):
    plain = kit.pictures(kit.Task(id=kit.TaskId("screw"), class_name="screw"), {"images": "screw"})
    leaky = TaskImages(kit.Numbers(["screw-n0", "screw-t3"]), plain.heldout)
    with pytest.raises(OverlappingSplits, match="1 of 2 training pictures are held-out pictures too"):
        check_disjoint(kit.TaskId("screw"), leaky)
    twice = replace(plain, heldout=plain.heldout._replace(test=plain.heldout.regression))
    with pytest.raises(OverlappingSplits, match="20 held-out pictures are in both halves"):
        check_disjoint(kit.TaskId("screw"), twice)


def test_the_bank_does_not_depend_on_the_order_of_arrival(tmp_path):
    hashes = set()
    for order in (("screw", "tile"), ("tile", "screw")):
        directory = tmp_path / order[0]
        directory.mkdir()
        with kit.open_storage(directory) as database:
            for name in order:
                kit.queue(database, name)
            drain(database)
            hashes.add(database.banks.load().sha256)
    assert len(hashes) == 1


def test_held_out_pictures_that_changed_since_are_refused(database):
    """Ranks move when a folder changes: a picture that was learned could become one that judges."""
    kit.queue(database, "screw")
    drain(database)
    job = kit.queue(database, "tile")

    def one_less(task, payload):
        images = kit.pictures(task, payload)
        if task.id != "screw":
            return images
        return replace(images, heldout=images.heldout._replace(test=kit.HeldNumbers(images.heldout.test.ids[1:])))

    drain(database, kit.work(read=one_less))
    ended = database.jobs.get(job.id)
    assert ended.state is JobState.FAILED
    assert "the held-out pictures of task 'screw' are not those" in ended.message
    assert database.banks.active_version() == 1


def test_a_picture_held_out_for_one_task_is_not_learned_by_another(database):
    kit.queue(database, "screw")
    drain(database)
    job = kit.queue(database, "tile")

    def greedy(task, payload):
        images = kit.pictures(task, payload)
        return replace(images, normals=kit.Numbers([*images.normals.ids, "screw-t3"])) if task.id == "tile" else images

    drain(database, kit.work(read=greedy))
    ended = database.jobs.get(job.id)
    assert ended.state is JobState.FAILED
    assert "1 of the 11 training pictures of task 'tile' are held-out pictures of 'screw'" in ended.message
