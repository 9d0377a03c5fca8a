"""What people say of verdicts is kept with its picture, said once, and follows the job that takes it in."""

# ruff: noqa: F811 (a fixture is imported, then named as an argument)

import hashlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from storage_kit import NOON, after, claim, database, evaluation, publish, result, url  # noqa: F401

from stream_ad.adapters.feedback_pictures import FeedbackPictures
from stream_ad.adapters.storage import Database
from stream_ad.domain.evaluation import Evaluation
from stream_ad.domain.feedback import Became, Feedback, FeedbackKind, FeedbackState
from stream_ad.domain.job import JobKind, JobState
from stream_ad.domain.task import TaskId
from stream_ad.errors import DataError

NUT = TaskId("nut")


def say(database: Database, offset: int = 0, kind: FeedbackKind = FeedbackKind.FALSE_ALARM, **changes) -> Feedback:
    plain = {
        "place": ("images", 0, offset),
        "kind": kind,
        "who": "ada",
        "reason": "a reflection",
        "task": NUT,
        "path": f"{offset:02}/picture.jpg",
        "sha256": f"{offset:064x}",
        "at": NOON,
    }
    return database.feedback.add(**{**plain, **changes})


def patching(database: Database, *feedback: Feedback) -> int:
    """A running job that has taken it on itself."""
    publish(database)
    job = database.tasks.queue(NUT, JobKind.PATCH, {}, NOON, feedback=[one.id for one in feedback])
    claim(database)
    return job.id


def end_published(database: Database, job_id: int, **found: str) -> None:
    """`found`: what it found of feedback, by `f` and its number."""
    bank = database.banks.load()
    database.banks.publish(
        bank.with_entry(bank.entry("nut"), 2),
        parent=1,
        job=database.jobs.get(job_id),
        worker="w1",
        evaluations=[],
        message="patched",
        at=NOON,
        feedback={int(name[1:]): Became(FeedbackState.APPLIED, text) for name, text in found.items()},
    )


def test_what_was_said_is_kept_in_quarantine_and_in_the_audit_table(database: Database) -> None:
    said = say(database)
    assert database.feedback.get(said.id) == said
    assert said.state is FeedbackState.QUARANTINED
    assert (said.task, said.place, said.at) == (NUT, ("images", 0, 0), NOON)
    [row] = database.audit.recent(5)
    assert (row["who"], row["action"], row["reason"]) == ("ada", "feedback", "a reflection")


def test_said_twice_is_said_once(database: Database) -> None:
    first = say(database)
    with pytest.raises(DataError, match="images/0/0 was said before"):
        say(database, who="bob")
    assert database.feedback.at(("images", 0, 0), FeedbackKind.FALSE_ALARM) == first
    assert database.feedback.at(("images", 0, 0), FeedbackKind.MISSED) is None


def test_a_published_job_applies_what_it_took(database: Database) -> None:
    said, other = say(database), say(database, 1)
    job = patching(database, said)
    end_published(database, job, **{f"f{said.id}": "score 3.1 -> 0.2"})
    now = database.feedback.get(said.id)
    assert (now.state, now.outcome, now.job_id) == (FeedbackState.APPLIED, "score 3.1 -> 0.2", job)
    assert database.feedback.get(other.id) == other


def test_a_rejected_job_refuses_false_alarms_and_says_why(database: Database) -> None:
    said, missed = say(database), say(database, 1, FeedbackKind.MISSED)
    job = patching(database, said, missed)
    database.jobs.finish(job, "w1", 1, JobState.REJECTED, "rejected: it hides a defect", NOON)
    now = database.feedback.get(said.id)
    assert (now.state, now.outcome) == (FeedbackState.REFUSED, f"job {job}: rejected: it hides a defect")
    assert database.feedback.get(missed.id).state is FeedbackState.QUARANTINED


def test_a_rejected_job_says_of_each_what_it_found(database: Database) -> None:
    said, fine = say(database), say(database, 1)
    job = patching(database, said, fine)
    found = {fine.id: Became(FeedbackState.APPLIED, "OK in bank 1 already")}
    assert database.jobs.finish(job, "w1", 1, JobState.REJECTED, "it hides a defect", NOON, feedback=found)
    states = [database.feedback.get(one.id).state for one in (said, fine)]
    assert states == [FeedbackState.REFUSED, FeedbackState.APPLIED]


def test_a_rejected_patch_that_is_published_after_all_applies_it(database: Database) -> None:
    said = say(database)
    job = patching(database, said)
    database.jobs.finish(job, "w1", 1, JobState.REJECTED, "rejected", NOON)
    database.jobs.requeue(job, NOON)
    claim(database)
    end_published(database, job, **{f"f{said.id}": "score 3.1 -> 0.2"})
    assert database.feedback.get(said.id).state is FeedbackState.APPLIED


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_after_a_job_that_came_to_nothing_it_waits_for_another(database: Database, state: JobState) -> None:
    said = say(database)
    job = patching(database, said)
    database.jobs.finish(job, "w1", 1, state, "disk full", NOON)
    assert database.feedback.get(said.id).state is FeedbackState.QUARANTINED
    again = database.tasks.queue(NUT, JobKind.PATCH, {}, NOON, feedback=[said.id])
    assert [one.id for one in database.feedback.of_job(again.id)] == [said.id]
    assert database.feedback.of_job(job) == []


def test_a_worker_that_lost_its_lease_settles_nothing(database: Database) -> None:
    said = say(database)
    job = patching(database, said)
    found = {said.id: Became(FeedbackState.APPLIED, "OK in bank 1 already")}
    assert not database.jobs.finish(job, "another", 1, JobState.REJECTED, "rejected", NOON, feedback=found)
    assert database.feedback.get(said.id).state is FeedbackState.QUARANTINED


def test_a_mistake_is_withdrawn_until_a_job_followed(database: Database) -> None:
    said = say(database)
    gone = database.feedback.withdraw(said.id, who="ada", reason="wrong picture", at=NOON)
    assert (gone.state, gone.outcome) == (FeedbackState.REFUSED, "withdrawn by ada: wrong picture")
    with pytest.raises(DataError, match="nothing followed yet"):
        database.feedback.withdraw(said.id, who="ada", reason="again", at=NOON)


def test_a_mark_that_is_withdrawn_while_its_job_ends_stops_neither(database: Database) -> None:
    """The job's end holds its row, and then wants the feedback's; who withdraws must not hold that meanwhile."""
    said = say(database)
    job = patching(database, said)
    withdrawing = threading.Event()

    def measured() -> Iterator[Evaluation]:
        yield evaluation("nut", job_id=job, published=False)
        withdrawn.append(pool.submit(withdraw))  # by now the job's row is locked
        withdrawing.wait(10)
        time.sleep(0.3)

    def withdraw() -> Exception | None:
        withdrawing.set()
        try:
            database.feedback.withdraw(said.id, who="ada", reason="wrong picture", at=NOON)
        except Exception as error:
            return error
        return None

    with ThreadPoolExecutor(1) as pool:
        withdrawn: list[Future[Exception | None]] = []
        assert database.jobs.finish(job, "w1", 1, JobState.REJECTED, "it hides a defect", NOON, evaluations=measured())
        error = withdrawn[0].result(10)
    assert isinstance(error, DataError)
    assert "is refused" in str(error)
    assert database.feedback.get(said.id).outcome == f"job {job}: it hides a defect"


def test_what_was_withdrawn_is_taken_by_no_job(database: Database) -> None:
    """Somebody withdraws a mark while another looks at the list, or while a job looks at the picture."""
    said, missed = say(database), say(database, 1, FeedbackKind.MISSED)
    for one in (said, missed):
        database.feedback.withdraw(one.id, who="ada", reason="a real defect", at=NOON)
    job = patching(database, said)
    assert database.feedback.of_job(job) == []
    end_published(database, job, **{f"f{missed.id}": "score 0.2 -> 3.1"})
    for one in (said, missed):
        now = database.feedback.get(one.id)
        assert (now.state, now.outcome) == (FeedbackState.REFUSED, "withdrawn by ada: a real defect")


def test_feedback_is_found_by_task_kind_state_and_picture(database: Database) -> None:
    first, second = say(database), say(database, 1, FeedbackKind.MISSED, task=TaskId("tile"))
    database.feedback.settle(FeedbackState.REFUSED, {second.id: "held out"})
    assert [one.id for one in database.feedback.recent(9)] == [second.id, first.id]
    assert [one.id for one in database.feedback.recent(9, task=NUT)] == [first.id]
    assert [one.id for one in database.feedback.recent(9, kind=FeedbackKind.MISSED)] == [second.id]
    assert [one.id for one in database.feedback.recent(9, state=FeedbackState.QUARANTINED)] == [first.id]
    assert [one.id for one in database.feedback.of_pictures({f"{1:064x}", "nothing"})] == [second.id]


def test_a_result_is_found_by_place_message_or_file(database: Database) -> None:
    database.results.save_batch(
        [
            result(3, topic="plant/line 1", message_id="cam1/a.jpg@12ab", subject="cam1/a.jpg"),
            result(4, topic="plant/line 1", message_id="cam1/a.jpg@34cd", subject="cam1/a.jpg"),
        ],
        [],
        [],
    )
    assert [one.offset for one in database.feedback.results("plant/line 1/0/3")] == [3]
    assert [one.offset for one in database.feedback.results("cam1/a.jpg@12ab")] == [3]
    assert [one.offset for one in database.feedback.results("cam1/a.jpg")] == [4, 3]
    assert database.feedback.results("plant/line 1/0/99") == []
    assert database.feedback.results("a/b/99999999999999999999999") == []


def test_pictures_are_files_named_by_their_content(tmp_path: Path) -> None:
    store = FeedbackPictures(tmp_path / "feedback")
    data = b"\xff\xd8\xff and more"
    name = store.put(data)
    assert name == store.put(data) == f"{(sha := hashlib.sha256(data).hexdigest())[:2]}/{sha}.jpg"
    assert store.get(name) == data
    (store.root / name).chmod(0o600)
    (store.root / name).write_bytes(b"\xff\xd8\xff other")
    with pytest.raises(DataError, match="damaged"):
        store.get(name)
    assert store.get(store.put(data)) == data
    with pytest.raises(DataError, match="is gone"):
        store.get("00/0.jpg")
