"""The end of a job's log is kept in its row, and who follows it sees every line once."""

import logging

from hypothesis import given
from hypothesis import strategies as st

from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.domain.task import TaskId
from stream_ad.services.job_log import MAX_LINES, MAX_WIDTH, JobLog, logging_of, new_lines
from tests.storage_kit import NOON


def job(log_tail: str | None = None) -> Job:
    return Job(
        id=5,
        kind=JobKind.ADAPT,
        task=TaskId("nut"),
        state=JobState.RUNNING,
        payload={},
        attempts=1,
        max_attempts=3,
        created_at=NOON,
        log_tail=log_tail,
    )


def test_what_this_package_logs_is_kept_behind_earlier_attempts():
    with logging_of(job("attempt 1: killed")) as kept:
        logging.getLogger("stream_ad.services.learning").info("learning %s", "nut")
        logging.getLogger("another library").warning("not ours")
    logging.getLogger("stream_ad").warning("too late")
    first, *rest = kept.text.splitlines()
    assert first == "attempt 1: killed"
    assert len(rest) == 1
    assert rest[0].endswith("INFO stream_ad.services.learning: learning nut")


def test_a_log_keeps_its_end_and_no_line_is_endless():
    kept = JobLog(job())
    for number in range(1000):
        kept.add(f"{number} " + "x" * 5000)
    lines = kept.text.splitlines()
    assert len(lines) == MAX_LINES
    assert lines[-1].startswith("999 ")
    assert max(map(len, lines)) < MAX_WIDTH + 10


def test_a_log_is_written_only_when_there_is_something_new_and_again_when_that_failed():
    kept, written, works = JobLog(job()), list[str](), [False, True, True]

    def write(text: str) -> bool:
        written.append(text)
        return works[len(written) - 1]

    kept.flush_to(write)
    kept.add("one")
    kept.flush_to(write)
    kept.flush_to(write)
    kept.flush_to(write)
    assert written == ["one", "one"]


@given(st.integers(1, 40), st.lists(st.integers(0, 12), max_size=20))
def test_who_follows_a_log_sees_every_line_once_while_not_more_than_its_end_passes_between_two_looks(width, steps):
    lines, shown, seen = [], [], list[str]()
    for step in steps:
        lines += [f"line {len(lines) + n}" for n in range(min(step, width))]
        now = lines[-width:]
        shown += new_lines(seen, now)
        seen = now
    assert shown == lines
