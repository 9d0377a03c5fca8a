"""The active bank is measured again; nothing is published, and what got worse is said."""
# ruff: noqa: F811 (a fixture is imported, then named as an argument)

from dataclasses import replace

import storage_kit
from storage_kit import database, url  # noqa: F401

from stream_ad.adapters.storage import Database
from stream_ad.domain.evaluation import Half
from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.domain.result import Verdict
from stream_ad.errors import NoImages
from stream_ad.services.work import Work
from stream_ad.services.worker import Worker
from tests import adaptation_kit as kit

SCREW = kit.TaskId("screw")


def drain(database: Database, work: Work | None = None) -> None:
    Worker(kit.storage(database), work or kit.work(), kit.HandClock(), name="w", poll_s=0.01).run(drain=True)


def again(database: Database, work: Work | None = None) -> Job:
    job = database.tasks.queue(None, JobKind.EVALUATE, {}, kit.NOON)
    drain(database, work)
    return database.jobs.get(job.id)


def said(job: Job) -> str:
    assert job.message is not None
    return job.message


def learned(database: Database, *names: str) -> None:
    for name in names:
        kit.queue(database, name)
    drain(database)


def worn(bank, heldout, progress):
    """As if the pictures of screw's defects were judged OK by now."""
    measured = dict(kit.perfect(bank, heldout, progress))
    screw = measured[SCREW]
    outcomes = [replace(o, routed_verdict=Verdict.OK) for o in screw.outcomes]
    measured[SCREW] = replace(screw, outcomes=outcomes, routed={**screw.routed, "image_auroc": 0.5})
    return measured


def test_a_bank_that_is_as_good_as_ever_is_told_so_and_stays(database):
    learned(database, "screw", "tile")
    job = again(database)
    assert (job.state, job.bank_version) == (JobState.DONE, None)
    assert job.message == "bank 2 measured again: nothing is worse than when it was published (2 tasks)"
    assert database.banks.active_version() == 2
    assert [v["version"] for v in database.banks.versions()] == [1, 2]
    for half in Half:
        last = database.evaluations.all(half)[-1]
        assert (last.job_id, last.bank_version, last.published, last.learned_task) == (job.id, 2, True, "tile")
        assert list(last.tasks) == ["screw", "tile"]


def test_what_got_worse_is_named_with_task_and_amount_on_each_half(database):
    learned(database, "screw", "tile")
    job = again(database, kit.work(evaluate=worn))
    assert job.state is JobState.DONE
    assert "worse than when it was published: screw: image AUROC falls from 0.900 to 0.500" in said(job)
    assert "(regression half)" in said(job)
    assert "(test half)" in said(job)
    assert "tile" not in said(job)
    assert database.banks.active_version() == 2


def test_figures_of_another_program_are_compared_and_the_difference_is_named(database):
    learned(database, "screw")
    job = again(database, kit.work(provenance={"code": "1", "threads": 1}))
    assert said(job).endswith("measured otherwise than then, which may be why figures differ: code")


def test_pictures_that_are_gone_fail_the_job_and_the_others_are_measured_all_the_same(database):
    learned(database, "screw", "tile")

    def gone(task, payload):
        if task.id == "screw":
            raise NoImages("there is no folder /data/screw")
        return kit.pictures(task, payload)

    job = again(database, kit.work(read=gone))
    assert job.state is JobState.FAILED
    assert "nothing is worse than when it was published (1 task). NOT MEASURED: the held-out" in said(job)
    assert "there is no folder /data/screw" in said(job)
    assert list(database.evaluations.all(Half.REGRESSION)[-1].tasks) == ["tile"]


def test_an_empty_bank_has_nothing_to_measure(database):
    assert again(database).message == "no product is known yet: nothing to measure"
    assert database.evaluations.all(Half.TEST) == []


def test_the_single_pictures_of_former_nights_are_forgotten_and_their_figures_kept(database):
    learned(database, "screw")
    jobs = [again(database).id for _ in range(3)]
    for half in Half:
        kept = [(e.job_id, len(e.tasks[SCREW].outcomes), e.tasks[SCREW].routed["image_auroc"])
                for e in database.evaluations.all(half)]  # fmt: skip
        assert kept == [(1, 20, 0.9), (jobs[0], 0, 0.9), (jobs[1], 0, 0.9), (jobs[2], 20, 0.9)]


def test_forgetting_pictures_touches_neither_other_versions_nor_refused_candidates(database):
    jobs = [storage_kit.queue(database, name) for name in ("nut", "tile", "screw")]
    for job, version, published in zip(jobs, (1, 2, 1), (True, True, False), strict=True):
        database.evaluations.save(storage_kit.evaluation("nut", version=version, job_id=job.id, published=published))
    database.evaluations.thin(1, keep=[])
    assert [len(e.tasks["nut"].outcomes) for e in database.evaluations.all(Half.REGRESSION)] == [0, 5, 5]


def test_the_next_job_takes_the_figures_of_the_night_with_their_pictures(database):
    """A bank measured again with new settings need not be measured once more by the next job."""
    learned(database, "screw")
    new = {"code": "1"}
    again(database, kit.work(provenance=new))
    evaluated = []

    def counting(bank, heldout, progress):
        evaluated.append(bank.version)
        return kit.perfect(bank, heldout, progress)

    kit.queue(database, "tile")
    drain(database, kit.work(evaluate=counting, provenance=new))
    assert evaluated == [2, 2]


def test_after_a_rollback_a_task_is_judged_by_the_pictures_of_the_version_in_use(database):
    """Version 2 learned screw again from other pictures; version 1, in use again, is not judged by those."""
    learned(database, "screw")
    database.tasks.queue(kit.TaskId("screw"), JobKind.READAPT, {"images": "other"}, kit.NOON)
    drain(database)
    assert database.banks.active_version() == 2
    database.banks.use(1, who="test", reason="worse", at=kit.NOON)
    job = again(database)
    assert job.message == "bank 1 measured again: nothing is worse than when it was published (1 task)"
    last = database.evaluations.all(Half.TEST)[-1]
    assert last.tasks[SCREW].outcomes[0].image_id == "screw-t0"
