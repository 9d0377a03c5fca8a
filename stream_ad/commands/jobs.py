"""`stream-ad jobs ...` and `stream-ad worker`: the queue, and who works on it."""

import signal
import sys
import threading
from contextlib import nullcontext
from typing import Annotated

import typer

from stream_ad.commands.common import (
    ALL_OK,
    COLOURS,
    ConfigOption,
    coloured,
    config_path,
    err,
    job_bar,
    open_app,
    out,
    table,
    text,
)
from stream_ad.commands.gate import print_judgement
from stream_ad.commands.operations import operating_worker, say, start_log
from stream_ad.domain.job import Job, JobState
from stream_ad.domain.wording import counted
from stream_ad.services.job_log import new_lines

jobs = typer.Typer(
    no_args_is_help=True, help="Learning jobs: list them, look into one, follow it, cancel it, run it again."
)

#: how often `logs --follow` looks
FOLLOW_S = 1.0

JobNumber = Annotated[int, typer.Argument(metavar="JOB", help="Number of the job, as `stream-ad jobs list` shows it.")]


@jobs.command("list")
def list_jobs(
    config: ConfigOption = None,
    open_only: Annotated[bool, typer.Option("--open", help="Only jobs that wait or run.")] = False,
) -> None:
    """All jobs, newest first."""
    chosen = [job for job in open_app(config).database.jobs.all() if job.state.open or not open_only]
    if not chosen:
        out().print("no jobs" if open_only else "no jobs yet; `stream-ad add-task` makes one")
        return
    rows = [
        (
            job.id,
            job.kind,
            job.task,
            coloured(job.state, COLOURS.get(job.state)),
            _done(job),
            job.created_at,
            job.message,
        )
        for job in chosen
    ]
    out().print(table("job", "kind", "task", "state", "done", "created", "message", rows=rows))


@jobs.command()
def show(job_id: JobNumber, config: ConfigOption = None) -> None:
    """Everything about one job."""
    app = open_app(config)
    job = app.database.jobs.get(job_id)
    fields = {
        "job": job.id,
        "kind": job.kind,
        "task": job.task,
        "state": "queued, a process for it is starting" if job.starting(app.clock.now()) else job.state,
        "message": job.message,
        "done": _done(job),
        "attempts": f"{job.attempts} of {job.max_attempts}",
        "bank version": job.bank_version,
        "worker": job.worker,
        "device": job.device,
        "created": job.created_at,
        "started": job.started_at,
        "last heartbeat": job.heartbeat_at,
        "finished": job.finished_at,
        **{f"given {name}": value for name, value in job.payload.items()},
    }
    out().print(table("", "", rows=list(fields.items())))
    print_judgement(job)
    if job.log_tail:
        out().print(f"\nits log: stream-ad jobs logs {job.id}")


@jobs.command()
def logs(
    job_id: JobNumber,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what it logs, until it ends. Ctrl-C stops looking.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """The end of a job's log, of all its attempts, with the last words of a process that died.

    It is read from the database, so it does not matter on which machine the job runs.
    """
    app = open_app(config)
    job = app.database.jobs.get(job_id)
    shown: list[str] = []
    try:
        while True:
            now = (job.log_tail or "").splitlines()
            for line in new_lines(shown, now):
                out().print(_plain(line), markup=False, soft_wrap=True)
            shown = now
            if not (follow and job.state.open):
                break
            app.clock.sleep(FOLLOW_S)
            job = app.database.jobs.get(job_id)
    except KeyboardInterrupt:
        return
    if not shown:
        err().print(f"job {job.id} is {job.state} and has logged nothing")


@jobs.command()
def cancel(job_id: JobNumber, config: ConfigOption = None) -> None:
    """Stop a job: at once when it waits, at its next step when it runs. The bank stays as it is."""
    app = open_app(config)
    job = app.database.jobs.cancel(job_id, app.clock.now())
    out().print(f"job {job.id} is {'cancelled' if job.state is JobState.CANCELLED else 'asked to stop'}")


@jobs.command()
def retry(job_id: JobNumber, config: ConfigOption = None) -> None:
    """Queue a failed, rejected or cancelled job again."""
    app = open_app(config)
    job = app.database.jobs.requeue(job_id, app.clock.now())
    out().print(f"job {job.id} of {job.about} is queued; a worker takes it: `stream-ad worker`")


def worker(
    config: ConfigOption = None,
    drain: Annotated[
        bool, typer.Option("--drain", "--once", help="Stop when no job is left, instead of waiting for more.")
    ] = False,
) -> None:
    """Have jobs done: learn, evaluate, publish. Any number may run, also on other machines.

    Each job is a process of its own, so many at a time as there are devices (`jobs.slots`): what one dies of, memory
    or a crash, ends neither the worker nor another job. Ctrl-C or SIGTERM gives the present jobs back, so another
    worker can take them. Exit code with --drain: 0 when every job came to a good end, 1 when one was rejected or
    failed.
    """
    app = open_app(config)
    console = err()
    start_log(app, console)
    bar, watch = job_bar(console)
    bad: list[Job] = []

    def ended(job: Job) -> None:
        took = (job.finished_at - job.started_at).total_seconds() if job.finished_at and job.started_at else 0.0
        operations.metrics.ended(job.state, took)
        if job.state not in (JobState.PUBLISHED, JobState.DONE):
            bad.append(job)

    def show(line: str) -> None:
        if console.is_terminal:
            console.print(_plain(line), markup=False)
        elif app.settings.ops.log == "json" and not line.startswith("{"):
            say(app, line, console)
        else:
            print(line, file=sys.stderr, flush=True)

    running = app.placing(config_path(config), watch=watch if console.is_terminal else None, ended=ended, show=show)
    stop = threading.Event()

    def asked(*_: object) -> None:
        stop.set()
        running.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
    where = app.settings.jobs.slots or [app.settings.backbone.device]
    place = "a Ray cluster" if app.settings.jobs.executor == "ray" else f"this machine ({', '.join(where)})"
    say(app, f"worker {running.name}, jobs run on {place}", console)
    with operating_worker(app, running, stop) as operations, bar if console.is_terminal else nullcontext():
        done = running.run(drain=drain)
    say(app, f"{counted(done, 'job')} done{f', {len(bad)} of them rejected or failed' if bad else ''}", console)
    raise typer.Exit(1 if drain and bad else ALL_OK)


def _done(job: Job) -> str:
    return f"{job.progress:.0%} {job.stage}" if job.state is JobState.RUNNING and job.stage else text(None)


def _plain(line: str) -> str:
    """A line that does nothing to a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line)
