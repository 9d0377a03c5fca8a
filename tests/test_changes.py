"""A bank is changed by jobs of every kind, each published or refused as a whole, and says what became of what."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stream_ad.adapters.storage import Database
from stream_ad.domain.feedback import Feedback, FeedbackKind, FeedbackState
from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.domain.task import TaskId
from stream_ad.errors import DataError, JobError
from stream_ad.evaluation.continual.budget import rows_of
from stream_ad.services.changes.squeezing import shared_out
from stream_ad.services.work import Work
from stream_ad.services.worker import Worker
from tests import adaptation_kit as kit

SCREW = TaskId("screw")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with kit.open_storage(tmp_path) as opened:
        for name in ("screw", "tile"):
            kit.queue(opened, name)
        drain(opened)
        yield opened


def drain(database: Database, work: Work | None = None) -> None:
    Worker(kit.storage(database), work or kit.work(), kit.HandClock(), name="w", poll_s=0.01).run(drain=True)


def do(database: Database, kind: JobKind, task: TaskId | None = SCREW, payload=None, work=None, feedback=()) -> Job:
    job = database.tasks.queue(task, kind, payload or {}, kit.NOON, feedback=[one.id for one in feedback])
    drain(database, work)
    return database.jobs.get(job.id)


def message(job: Job) -> str:
    assert job.message is not None
    return job.message


def say(database: Database, number: int, kind: FeedbackKind = FeedbackKind.FALSE_ALARM, **changes) -> Feedback:
    plain = {
        "place": ("images", 0, number),
        "kind": kind,
        "who": "ada",
        "reason": "",
        "task": SCREW,
        "path": f"{number}.png",
        "sha256": kit.marked_id(number),
        "at": kit.NOON,
    }
    return database.feedback.add(**{**plain, **changes})


def hiding(bank, heldout, progress):
    """`perfect`, but a patched bank misses a defect that it found before."""
    measured = dict(kit.perfect(bank, heldout, progress))
    for task, evaluation in measured.items():
        if bank.entry(task).patches:
            first = next(place for place, one in enumerate(evaluation.outcomes) if one.defective)
            missed = replace(evaluation.outcomes[first], routed_verdict=kit.Verdict.OK)
            outcomes = [missed if place == first else one for place, one in enumerate(evaluation.outcomes)]
            measured[task] = replace(evaluation, outcomes=outcomes)
    return measured


# --- patch ----------------------------------------------------------------------------------------


def test_a_patch_says_what_every_marked_picture_scored_before_and_after(database):
    said = say(database, 7)
    job = do(database, JobKind.PATCH, feedback=[said])
    assert job.state is JobState.PUBLISHED
    assert message(job).startswith("bank 3 published with 'screw' patched: 1 of 1 false alarms are OK now")
    assert "feedback 1: score 3.00 -> 0.50, threshold 1.00: OK" in message(job)
    assert database.banks.load().entry("screw").patches == (said.sha256,)
    now = database.feedback.get(said.id)
    assert (now.state, now.job_id) == (FeedbackState.APPLIED, job.id)
    assert now.outcome == "feedback 1: score 3.00 -> 0.50, threshold 1.00: OK"


def test_a_patch_changes_no_other_task(database):
    before = database.banks.load()
    do(database, JobKind.PATCH, feedback=[say(database, 7)])
    after = database.banks.load()
    assert after.entry("tile").sha256 == before.entry("tile").sha256
    assert after.entry("screw").sha256 != before.entry("screw").sha256


def test_a_patch_that_hides_a_defect_is_refused_with_its_feedback(database):
    said = say(database, 7)
    job = do(database, JobKind.PATCH, work=kit.work(evaluate=hiding), feedback=[said])
    assert job.state is JobState.REJECTED
    assert "screw" in message(job)
    assert database.banks.active_version() == 2
    now = database.feedback.get(said.id)
    assert now.state is FeedbackState.REFUSED
    assert (now.outcome or "").startswith(f"job {job.id}: rejected, bank 2 stays in use")


def test_a_held_out_picture_is_never_learned(database):
    held = kit.pictures(database.tasks.get("tile"), {"images": "tile"}).heldout.test.ids[0]
    said, good = say(database, 7, sha256=held), say(database, 8)
    job = do(database, JobKind.PATCH, feedback=[said, good])
    assert job.state is JobState.PUBLISHED
    assert database.banks.load().entry("screw").patches == (good.sha256,)
    now = database.feedback.get(said.id)
    assert (now.state, now.job_id) == (FeedbackState.REFUSED, job.id)
    assert "held-out" in (now.outcome or "")


def test_what_is_no_alarm_any_more_needs_no_patch(database):
    do(database, JobKind.PATCH, feedback=[say(database, 7)])
    again = say(database, 8, sha256=kit.marked_id(7), path="7.png")
    job = do(database, JobKind.PATCH, feedback=[again])
    assert job.state is JobState.DONE
    assert "nothing to patch in bank 3" in message(job)
    now = database.feedback.get(again.id)
    assert (now.state, now.outcome) == (FeedbackState.APPLIED, "OK in bank 3 already")
    assert database.banks.active_version() == 3


def test_a_patch_that_would_end_no_alarm_is_not_made(database):
    said = say(database, 7)
    stubborn = kit.work(judge=lambda bank, found: [kit.inspection(next(iter(bank)), 3.0) for _ in found])
    job = do(database, JobKind.PATCH, work=stubborn, feedback=[said])
    assert job.state is JobState.DONE
    assert message(job).startswith("a patch of 'screw' would end no alarm: feedback 1: score 3.00 -> 3.00")
    assert database.feedback.get(said.id).state is FeedbackState.REFUSED
    assert database.banks.active_version() == 2


def test_a_patch_job_whose_feedback_went_to_another_job_says_so(database):
    job = do(database, JobKind.PATCH)
    assert job.state is JobState.FAILED
    assert "has no false alarms to take in" in message(job)


def test_a_patch_job_that_dies_half_way_has_said_nothing_of_its_feedback(database):
    """Its next attempt finds what the first one found."""
    held = kit.pictures(database.tasks.get("tile"), {"images": "tile"}).heldout.test.ids[0]
    do(database, JobKind.PATCH, feedback=[say(database, 7)])
    fine = say(database, 8, sha256=kit.marked_id(7), path="7.png")
    said = [fine, say(database, 9, sha256=held)]
    waiting = [database.feedback.get(one.id) for one in said]
    job = database.tasks.queue(TaskId("screw"), JobKind.PATCH, {}, kit.NOON, feedback=[one.id for one in said])

    class Killed(BaseException):
        pass

    class DyingJobs:
        def __getattr__(self, name):
            if name == "finish":
                raise Killed
            return getattr(database.jobs, name)

    with pytest.raises(Killed):
        Worker(replace(kit.storage(database), jobs=DyingJobs()), kit.work(), kit.HandClock(), name="dies").run_one(
            job.id
        )
    assert [replace(database.feedback.get(one.id), job_id=None) for one in said] == waiting
    database.jobs.release(job.id, "dies", kit.NOON, how="killed")
    drain(database)
    assert database.jobs.get(job.id).state is JobState.DONE
    assert [database.feedback.get(one.id).state for one in said] == [FeedbackState.APPLIED, FeedbackState.REFUSED]


def test_a_patch_with_a_picture_that_is_gone_fails_and_keeps_the_feedback_waiting(database):
    def gone(name):
        raise DataError(f"the picture {name} is gone; restore it from a backup")

    said = say(database, 7)
    job = do(database, JobKind.PATCH, work=kit.work(marked=gone), feedback=[said])
    assert (job.state, message(job)) == (JobState.FAILED, "the picture 7.png is gone; restore it from a backup")
    assert database.feedback.get(said.id).state is FeedbackState.QUARANTINED


def test_a_patch_that_loses_the_race_is_made_on_the_new_bank(database):
    said = say(database, 7)
    raced = []

    def evaluate(bank, heldout, progress):
        if not raced:
            raced.append(database.tasks.queue(TaskId("tile"), JobKind.RETIRE, {}, kit.NOON))
            Worker(kit.storage(database), kit.work(), kit.HandClock(), name="other").run(drain=True)
        return kit.perfect(bank, heldout, progress)

    job = do(database, JobKind.PATCH, work=kit.work(evaluate=evaluate, provenance={"code": "1"}), feedback=[said])
    assert job.state is JobState.PUBLISHED
    assert list(database.banks.load().entries) == ["screw"]
    assert database.banks.load().entry("screw").patches == (said.sha256,)


# --- readapt --------------------------------------------------------------------------------------


def test_a_task_learned_again_is_judged_as_an_old_one(database):
    job = do(database, JobKind.READAPT, payload={"images": "screw"})
    assert job.state is JobState.PUBLISHED
    assert "'screw': image AUROC 0.900" in message(job)
    assert "learned again from 10 pictures" in message(job)


def test_patches_survive_learning_again(database):
    said = say(database, 7)
    do(database, JobKind.PATCH, feedback=[said])
    job = do(database, JobKind.READAPT, payload={"images": "screw"})
    assert job.state is JobState.PUBLISHED
    assert "1 of 1 pictures of earlier patches were taken over" in message(job)
    assert database.banks.load().entry("screw").patches == (said.sha256,)


def test_patches_that_fit_no_more_are_left_out_and_named(database):
    do(database, JobKind.PATCH, feedback=[say(database, 7)])

    def unlike(entry, pictures):
        raise DataError("another look")

    job = do(database, JobKind.READAPT, payload={"images": "screw"}, work=kit.work(patch=unlike))
    assert job.state is JobState.PUBLISHED
    assert "what 'screw' was patched with is left out: another look" in message(job)


def test_learning_again_tells_which_missed_defects_are_found_now(database):
    first, second = (say(database, number, FeedbackKind.MISSED) for number in (7, 8))

    def judge(bank, pictures):
        sharper = bank.version > 2
        return [kit.inspection(bank.entry("screw"), 2.0 if sharper and p[0, 0, 0] == 7 else 0.2) for p in pictures]

    job = do(database, JobKind.READAPT, payload={"images": "screw"}, work=kit.work(judge=judge))
    assert "of 2 missed defects 1 are found now" in message(job)
    assert "feedback 2: score 0.20 -> 0.20, threshold 1.00: OK" in message(job)
    assert database.feedback.get(first.id).state is FeedbackState.APPLIED
    assert database.feedback.get(second.id).state is FeedbackState.QUARANTINED


def test_a_missed_defect_that_another_attempt_found_and_this_one_does_not_waits_on(database):
    missed = say(database, 7, FeedbackKind.MISSED)
    found = [True]

    def judge(bank, pictures):
        return [kit.inspection(bank.entry("screw"), 2.0 if bank.version > 2 and found[0] else 0.2) for _ in pictures]

    def gone(bank, heldout, progress):
        raise DataError("the share is away")

    job = do(database, JobKind.READAPT, payload={"images": "screw"}, work=kit.work(judge=judge, evaluate=gone))
    assert (job.state, database.feedback.get(missed.id)) == (JobState.FAILED, missed)
    found[0] = False
    database.jobs.requeue(job.id, kit.NOON)
    drain(database, kit.work(judge=judge))
    assert database.jobs.get(job.id).state is JobState.PUBLISHED
    assert database.feedback.get(missed.id).state is FeedbackState.QUARANTINED


def test_a_missed_defect_is_not_learned_as_a_good_part(database):
    say(database, 7, FeedbackKind.MISSED, sha256="screw-n3")
    job = do(database, JobKind.READAPT, payload={"images": "screw"})
    assert job.state is JobState.FAILED
    assert "feedback 1 calls a missed defect" in message(job)


def test_after_a_rollback_a_task_is_judged_by_the_pictures_that_its_entry_was_learned_from(database):
    do(database, JobKind.READAPT, payload={"images": "screw2"})
    assert database.banks.active_version() == 3
    database.banks.use(2, who="ada", reason="worse on the line", at=kit.NOON)
    job = do(database, JobKind.PATCH, TaskId("screw"), feedback=[say(database, 7)])
    assert job.state is JobState.PUBLISHED
    splits = database.banks.load().entry("screw").splits
    assert splits["regression"] == database.banks.load(2).entry("screw").splits["regression"]


# --- retire ---------------------------------------------------------------------------------------


def test_a_retired_task_leaves_the_bank_and_can_come_back(database):
    job = do(database, JobKind.RETIRE)
    assert job.state is JobState.PUBLISHED
    assert "without 'screw', which is retired" in message(job)
    assert list(database.banks.load().entries) == ["tile"]
    assert database.tasks.retired() == {SCREW}
    kit.queue(database, "screw")
    drain(database)
    assert list(database.banks.load().entries) == ["screw", "tile"]
    assert database.tasks.retired() == frozenset()


def test_the_last_task_can_be_retired(database):
    do(database, JobKind.RETIRE)
    job = do(database, JobKind.RETIRE, TaskId("tile"))
    assert job.state is JobState.PUBLISHED
    assert len(database.banks.load()) == 0


@pytest.mark.parametrize("kind", [JobKind.RETIRE, JobKind.PATCH, JobKind.READAPT])
def test_a_task_that_the_bank_has_not_cannot_be_changed(database, kind):
    do(database, JobKind.RETIRE)
    job = do(database, kind, payload={"images": "screw"}, feedback=[say(database, 7)])
    assert job.state is JobState.FAILED
    assert "bank 3 has no 'screw'" in message(job)


# --- squeeze --------------------------------------------------------------------------------------


def test_a_bank_is_squeezed_into_a_budget_of_rows(database):
    job = do(database, JobKind.SQUEEZE, None, {"rows": 16})
    # memories of 7 rows are below what is worth shrinking, so both stay
    assert job.state is JobState.DONE
    assert "has 14 rows, within 16" in message(job)


def test_squeezed_memories_keep_their_first_rows(database, monkeypatch):
    monkeypatch.setattr("stream_ad.services.changes.squeezing.SMALLEST", 2)
    job = do(database, JobKind.SQUEEZE, None, {"rows": 9})
    assert job.state is JobState.PUBLISHED
    assert "within 9 rows: screw 7 to 4, tile 7 to 5" in message(job)
    bank, before = database.banks.load(), database.banks.load(2)
    assert [rows_of(entry) for entry in bank] == [4, 5]
    for entry in bank:
        assert (entry.arrays["coreset"] == before.entry(entry.task.id).arrays["coreset"][: rows_of(entry)]).all()


def test_a_budget_too_small_for_the_tasks_is_refused(database):
    job = do(database, JobKind.SQUEEZE, None, {"rows": 3})
    assert job.state is JobState.FAILED
    assert "needed at least 8 rows for each of 2 tasks, 16 in all; got a budget of 3" in message(job)


def test_rows_are_shared_evenly_and_what_a_small_task_leaves_goes_to_the_others():
    shares = shared_out({TaskId("a"): 500, TaskId("b"): 20, TaskId("c"): 300, TaskId("z"): 0}, 420)
    assert shares == {"a": 200, "b": 20, "c": 200, "z": 0}
    with pytest.raises(JobError):
        shared_out({TaskId("a"): 100, TaskId("b"): 100}, 15)
