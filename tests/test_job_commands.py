# ruff: noqa: F811 (fixtures are imported, then named as arguments)
"""Jobs at the command line, in processes as operators run them."""

import os
import signal
from pathlib import Path

from stream_ad.adapters.clock import SystemClock
from stream_ad.app import App
from stream_ad.config import load_settings
from stream_ad.domain.job import Job, JobState
from tests.test_cli import in_process_of_its_own, paint, place, ready, run  # noqa: F401

LIMIT_S = 240.0


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def job_until(number: int, condition, limit_s: float = LIMIT_S) -> Job:
    clock = SystemClock()
    until_s = clock.elapsed() + limit_s
    with App(load_settings()) as app:
        while not condition(job := app.database.jobs.get(number)):
            assert clock.elapsed() < until_s, f"it did not happen: {job}"
            clock.sleep(0.02)
    return job


def test_a_job_whose_process_is_killed_is_done_by_the_next_and_its_log_is_followed_through_both(run, ready):
    paint(ready / "disc", "disc", 12)
    assert run("add-task", "disc", "--images", "disc").code == 0
    worker = in_process_of_its_own(ready, "worker")
    job_until(1, lambda job: job.state is JobState.RUNNING)
    followed = in_process_of_its_own(ready, "jobs", "logs", 1, "--follow")
    (process,) = children(worker.pid)
    os.kill(process, signal.SIGKILL)
    ended = job_until(1, lambda job: not job.state.open)
    assert (ended.state, ended.attempts) == (JobState.PUBLISHED, 2)
    told = followed.communicate(timeout=LIMIT_S)[0]
    assert followed.returncode == 0
    assert "attempt 1: killed by SIGKILL" in told
    assert "attempt 2 of 3" in told
    worker.send_signal(signal.SIGTERM)
    log = worker.communicate(timeout=LIMIT_S)[1]
    assert worker.returncode == 0
    assert "job 1 is queued, for its process died: killed by SIGKILL" in log
    assert "job 1: bank 1 published" in log
    assert "1 job done" in log


def test_a_job_that_is_asked_for_by_its_number_is_done_here_and_now(run, ready):
    paint(ready / "disc", "disc", 12)
    run("add-task", "disc", "--images", "disc")
    here = in_process_of_its_own(ready, "job", "run", 1)
    out, _ = here.communicate(timeout=LIMIT_S)
    assert here.returncode == 0
    assert out.splitlines()[-1].startswith("bank 1 published with 'disc'")
    assert "job 1: evaluate" in run("jobs", "logs", 1).out
    refused = run("job", "run", 1)
    assert refused.code == 2
    assert "job 1 needs to be queued and free to run, it is published" in refused.err


def test_a_job_that_has_logged_nothing_says_so(run, ready):
    paint(ready / "disc", "disc", 12)
    run("add-task", "disc", "--images", "disc")
    told = run("jobs", "logs", 1)
    assert (told.code, told.out) == (0, "")
    assert "job 1 is queued and has logged nothing" in told.err


def test_what_a_job_logs_does_nothing_to_a_terminal(run, ready):
    paint(ready / "disc", "disc", 12)
    run("add-task", "disc", "--images", "disc")
    with App(load_settings()) as app:
        app.database.jobs.claim("w", "cpu", 60.0, app.clock.now())
        app.database.jobs.write_log(1, "w", 1, "file \x1b[2J[red]name[/red].png")
    assert run("jobs", "logs", 1).out == "file \N{REPLACEMENT CHARACTER}[2J[red]name[/red].png\n"
