"""The laws of the chaos run of jobs hold for what is right, and each breaks at what it forbids."""

from dataclasses import replace
from datetime import timedelta

import pytest

from benchmarks import job_chaos_laws as laws
from benchmarks.job_chaos import far_enough, job_of
from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.domain.task import TaskId
from tests.storage_kit import NOON


def job(number: int, **changes: object) -> Job:
    plain = Job(
        id=number,
        kind=JobKind.ADAPT,
        task=TaskId(f"task{number}"),
        state=JobState.PUBLISHED,
        payload={},
        attempts=1,
        max_attempts=3,
        created_at=NOON,
        bank_version=number,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


JOBS = [job(1), job(2)]
EXPECTED = {1: JobState.PUBLISHED, 2: JobState.PUBLISHED}
VERSIONS = [{"version": 1, "job_id": 1}, {"version": 2, "job_id": 2}]
AUDIT = ["bank 1", "bank 2"]
FIGURES = [(number, half) for number in (1, 2) for half in ("regression", "test")]


def test_what_is_right_breaks_no_law():
    right = [
        laws.right_end(JOBS, EXPECTED),
        laws.published_once(JOBS, VERSIONS, AUDIT),
        laws.measured_once(JOBS, FIGURES),
        laws.active_is_published([(0, None), (2, None)], VERSIONS),
        laws.within_attempts(JOBS),
        laws.failed_only_by_deaths({1: "its worker died in each of 3 attempts"}),
        laws.nothing_runs([], 0, 0),
        laws.gave_up([]),
        laws.ended_in_order({"worker0": 0}),
        laws.all_done({"worker": 2}, {"worker": 2}),
    ]
    assert [law.promise for law in right if law.broken] == []


@pytest.mark.parametrize(
    "law",
    [
        laws.right_end([JOBS[0], job(2, state=JobState.RUNNING)], EXPECTED),
        laws.right_end(JOBS[:1], EXPECTED),
        laws.published_once(JOBS, VERSIONS[:1], AUDIT[:1]),
        laws.published_once(JOBS, [*VERSIONS, {"version": 3, "job_id": 2}], [*AUDIT, "bank 3"]),
        laws.published_once(JOBS, VERSIONS, [*AUDIT, "bank 2"]),
        laws.published_once(JOBS, VERSIONS, AUDIT[:1]),
        laws.published_once([JOBS[0], job(2, state=JobState.FAILED)], VERSIONS, AUDIT),
        laws.measured_once(JOBS, FIGURES[:-1]),
        laws.measured_once(JOBS, [*FIGURES, FIGURES[0]]),
        laws.measured_once(JOBS, []),
        laws.active_is_published([(3, None)], VERSIONS),
        laws.active_is_published([(1, "its file is torn")], VERSIONS),
        laws.active_is_published([], VERSIONS),
        laws.within_attempts([job(1, attempts=4)]),
        laws.failed_only_by_deaths({1: "no pictures"}),
        laws.nothing_runs(["stream-ad job run 1"], 0, 0),
        laws.nothing_runs([], 1, 0),
        laws.nothing_runs([], 0, 1),
        laws.gave_up(["worker0: exit code 1"]),
        laws.ended_in_order({"worker0": None}),
        laws.all_done({"worker": 2}, {"worker": 1}),
    ],
    ids=lambda law: law.found[:60],
)
def test_what_a_law_forbids_breaks_it(law):
    assert law.broken


def test_the_victims_job_is_read_from_its_command_line():
    line = "/bin/python -m stream_ad.cli --config /p/config.yaml job run --supervised 17 --worker vm:12/ab-3 "
    assert job_of(line) == 17
    assert job_of("/bin/python -m stream_ad.cli --config /p/config.yaml worker ") is None


def test_how_far_a_job_is_is_told_by_the_time_that_others_took():
    def after(seconds: float):
        return NOON + timedelta(seconds=seconds)

    ended = [job(number, started_at=NOON, finished_at=after(took)) for number, took in enumerate((1, 10, 30), start=1)]
    running = [job(4, state=JobState.RUNNING, started_at=NOON), job(5, state=JobState.RUNNING, started_at=after(3))]
    assert far_enough([*ended, *running], 0.5, after(6)) == {4}
    assert far_enough([*ended, *running], 0.5, after(9)) == {4, 5}
    assert far_enough(running, 0.5, after(3)) == {4, 5}, "while none has ended, nobody knows"
