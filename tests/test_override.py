"""A person may publish what the gate refused: by name, with a reason, and for the harm that they saw."""
# ruff: noqa: F811 (a fixture is imported, then named as an argument)

from dataclasses import replace

import pytest
from storage_kit import database, url  # noqa: F401
from test_changes import hiding, say
from test_cli import place, ready, run, two_banks  # noqa: F401

from stream_ad.adapters.storage import Database
from stream_ad.domain.decision import Judgement, Override, Rule
from stream_ad.domain.evaluation import Half
from stream_ad.domain.feedback import FeedbackState
from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.errors import JobError, TooFewImages
from stream_ad.services.work import Work
from stream_ad.services.worker import Worker
from tests import adaptation_kit as kit

THIEF = kit.work(evaluate=kit.stealing("thief"))
SCREW = kit.TaskId("screw")
REFUSED = "screw: 10 of 20 images now go to another product (10 to thief); at most 1.0% allowed"


def drain(database: Database, work: Work | None = None) -> None:
    Worker(kit.storage(database), work or kit.work(), kit.HandClock(), name="w", poll_s=0.01).run(drain=True)


@pytest.fixture
def rejected(database: Database) -> Job:
    """A job that would take screw's pictures for another product's, rejected for it."""
    kit.queue(database, "screw")
    drain(database)
    job = kit.queue(database, "thief")
    drain(database, THIEF)
    assert database.jobs.get(job.id).state is JobState.REJECTED
    return job


def override(database: Database, job: Job) -> Job:
    return database.jobs.override(job.id, "anna", "the old line stops on Friday", kit.NOON)


def test_a_rejected_job_keeps_which_task_was_hurt_by_how_much(database, rejected):
    judged = Judgement.of_checkpoint(database.jobs.get(rejected.id).checkpoint)
    assert judged is not None
    [breach] = judged.decision.breaches
    assert (breach.task, breach.rule, breach.amount, breach.allowed) == ("screw", Rule.ROUTING, 10.0, 1.0)
    assert judged.decision.changes[SCREW].taken_by == {"thief": 10}
    assert (judged.version, judged.made_from, list(judged.entries)) == (2, 1, ["thief"])
    assert judged.budgets["max_routing_loss"] == 0.01


def test_an_overridden_job_is_published_and_says_by_whom_why_and_against_what(database, rejected):
    override(database, rejected)
    drain(database, THIEF)
    ended = database.jobs.get(rejected.id)
    assert (ended.state, ended.bank_version) == (JobState.PUBLISHED, 2)
    assert ended.message.startswith(
        f"bank 2 published against the gate by anna (the old line stops on Friday), although {REFUSED}; with 'thief'"
    )
    assert list(database.banks.load().entries) == ["screw", "thief"]
    assert [e.published for e in database.evaluations.all(Half.REGRESSION)] == [True, True]


def test_the_audit_table_says_who_overrode_what_with_what_reason_and_what_the_gate_had_said(database, rejected):
    override(database, rejected)
    [row] = [row for row in database.audit.recent(10) if row["action"] == "override"]
    assert (row["who"], row["subject"], row["reason"]) == (
        "anna",
        f"job {rejected.id}",
        "the old line stops on Friday",
    )
    assert row["details"]["gate"]["breaches"][0]["sentence"] == REFUSED
    drain(database, THIEF)
    published = database.audit.recent(1)[0]
    assert published["action"] == "publish"
    assert "against the gate by anna" in published["reason"]


def test_an_overridden_job_takes_what_it_had_learned(database, rejected):
    def never(task, images, payload, progress):
        raise AssertionError("learned again")

    override(database, rejected)
    drain(database, replace(THIEF, learn=never))
    assert database.jobs.get(rejected.id).state is JobState.PUBLISHED


def test_only_a_rejected_job_can_be_overridden(database, rejected):
    for job, state in ((database.jobs.get(1), "published"), (kit.queue(database, "tile"), "queued")):
        with pytest.raises(JobError, match=f"is {state}; only a job that the gate rejected"):
            override(database, job)

    def refuse(task, images, payload, progress):
        raise TooFewImages(task.id, 4, 2)

    drain(database, kit.work(learn=refuse))
    with pytest.raises(JobError, match="is failed; only"):
        override(database, database.jobs.all()[0])
    assert [row for row in database.audit.recent(10) if row["action"] == "override"] == []


def test_a_rejection_that_kept_no_figures_must_be_judged_anew_first(database):
    kit.queue(database, "screw")
    job = database.jobs.claim("w", "cpu", 60.0, kit.NOON)
    database.jobs.finish(job.id, "w", 1, JobState.REJECTED, "rejected by an older version", kit.NOON)
    with pytest.raises(JobError, match=f"`stream-ad jobs retry {job.id}`"):
        override(database, job)


def test_an_override_covers_no_more_harm_than_was_seen(database, rejected):
    def worse(bank, heldout, progress):
        measured = dict(kit.stealing("thief")(bank, heldout, progress))
        if "thief" in bank.entries:
            screw = measured[SCREW]
            measured[SCREW] = replace(screw, routed={**screw.routed, "image_auroc": 0.6})
        return measured

    override(database, rejected)
    drain(database, kit.work(evaluate=worse))
    ended = database.jobs.get(rejected.id)
    assert ended.state is JobState.REJECTED
    assert ended.message.startswith(
        "rejected, bank 1 stays in use: anna overrode the gate for less: screw would be hurt more than was known then;"
        " screw: image AUROC falls from 0.900 to 0.600"
    )
    assert database.banks.active_version() == 1
    # whoever accepts that too can say so
    override(database, rejected)
    drain(database, kit.work(evaluate=worse))
    assert database.jobs.get(rejected.id).state is JobState.PUBLISHED


def test_an_override_covers_nothing_that_was_learned_anew(database, rejected):
    def others(task, images, payload, progress):
        return replace(kit.storage_kit.entry(task.id, seed=7), task=task, sha256="")

    override(database, rejected)
    drain(database, replace(THIEF, learn=others, provenance={"code": "1", "threads": 1}))
    ended = database.jobs.get(rejected.id)
    assert ended.state is JobState.REJECTED
    assert "what was learned of thief is not what anna overrode the gate for" in ended.message
    assert database.banks.active_version() == 1


def test_what_the_gate_lets_through_by_now_needs_no_override(database, rejected):
    override(database, rejected)
    drain(database)  # this time nothing is stolen
    ended = database.jobs.get(rejected.id)
    assert ended.state is JobState.PUBLISHED
    assert ended.message.startswith("bank 2 published by the gate, no longer against it as anna")


def test_a_plain_retry_is_judged_like_any_job_whatever_somebody_wanted_before(database, rejected):
    override(database, rejected)
    database.jobs.cancel(rejected.id, kit.NOON)
    database.jobs.requeue(rejected.id, kit.NOON)
    assert Override.of_checkpoint(database.jobs.get(rejected.id).checkpoint) is None
    drain(database, THIEF)
    assert database.jobs.get(rejected.id).state is JobState.REJECTED
    assert database.banks.active_version() == 1


def test_an_override_survives_an_attempt_that_died(database, rejected):
    override(database, rejected)
    job = database.jobs.claim("dead", "cpu", 60.0, kit.NOON)
    assert database.jobs.release(job.id, "dead", kit.NOON, how="killed by signal 9").state is JobState.QUEUED
    drain(database, THIEF)
    assert database.jobs.get(rejected.id).state is JobState.PUBLISHED


def test_a_patch_that_hides_a_defect_can_be_taken_on_and_its_feedback_is_applied_then(database):
    kit.queue(database, "screw")
    drain(database)
    said = say(database, 7)
    job = database.tasks.queue(SCREW, JobKind.PATCH, {}, kit.NOON, feedback=[said.id])
    drain(database, kit.work(evaluate=hiding))
    judged = Judgement.of_checkpoint(database.jobs.get(job.id).checkpoint)
    assert judged is not None
    assert [breach.rule for breach in judged.decision.breaches] == [Rule.HIDDEN]
    assert database.feedback.get(said.id).state is FeedbackState.REFUSED
    override(database, job)
    drain(database, kit.work(evaluate=hiding))
    assert database.jobs.get(job.id).state is JobState.PUBLISHED
    assert database.feedback.get(said.id).state is FeedbackState.APPLIED
    assert database.banks.load().entry("screw").patches == (said.sha256,)


# --- after a rollback -----------------------------------------------------------------------------


def test_what_is_published_after_a_rollback_says_what_the_newest_bank_had(database):
    for name in ("screw", "tile"):
        kit.queue(database, name)
    drain(database)
    database.banks.use(1, who="anna", reason="tile is wrong", at=kit.NOON)
    assert database.audit.recent(1)[0]["details"] == {"before": 2, "dropped": ["tile"], "otherwise": []}
    kit.queue(database, "bottle")
    drain(database)
    message = database.jobs.all()[0].message
    assert message.startswith("bank 3 published with 'bottle'")
    assert (
        "made from bank 1, which was in use, not from the newest, bank 2; against that one it is without tile"
        in message
    )
    assert list(database.banks.load().entries) == ["bottle", "screw"]
    # the one after that is made from the newest
    kit.queue(database, "nut")
    drain(database)
    assert "made from" not in database.jobs.all()[0].message


# --- at the command line --------------------------------------------------------------------------


def test_overriding_at_the_command_line_names_the_harm_and_keeps_who_and_why(run, two_banks):
    asked = run("jobs", "override", 3, "--who", "anna", "--reason", "line stops")
    assert asked.code == 0
    assert "job 3 of task 'thief' is queued, to be published in spite of what the gate said:" in asked.out
    assert REFUSED in asked.out
    assert "line stops; not yet published" in run("jobs", "show", 3).out
    again = run("jobs", "override", 3, "--reason", "line stops")
    assert (again.code, "is queued; only a job that the gate rejected" in again.err) == (2, True)


def test_an_override_without_a_reason_is_refused(run, two_banks):
    assert run("jobs", "override", 3).code == 2
    refused = run("jobs", "override", 3, "--reason", " ", "--who", "anna")
    assert (refused.code, "needed a reason" in refused.err) == (2, True)
    nobody = run("jobs", "override", 3, "--reason", "line stops", "--who", " ")
    assert (nobody.code, "needed a name after --who" in nobody.err) == (2, True)


def test_a_rejected_job_is_shown_with_every_task_that_it_would_touch(run, two_banks):
    shown = run("jobs", "show", 3).out
    assert "the gate refused the candidate of job 3, made from bank 2:" in shown
    [screw] = [line for line in shown.splitlines() if line.startswith("screw ")]
    assert screw.split()[:3] == ["screw", "0.9", "0.9"]
    assert screw.rstrip().endswith("routing")
    assert REFUSED in shown
    assert "the gate passed what became bank 1" in run("jobs", "show", 1).out


def test_measuring_the_bank_in_use_again_is_queued_once(run, two_banks):
    assert run("bank", "evaluate").code == 0
    twice = run("bank", "evaluate")
    assert (twice.code, "evaluate job is open already" in twice.err) == (2, True)
