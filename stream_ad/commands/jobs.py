"""`stream-ad jobs ...` and `stream-ad worker`: the queue, and who works on it."""

import signal
import threading
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.markup import escape

from stream_ad.commands.common import (
    ALL_OK,
    COLOURS,
    ConfigOption,
    coloured,
    err,
    job_bar,
    open_app,
    out,
    table,
    text,
)
from stream_ad.commands.operations import operating_worker, say, start_log
from stream_ad.domain.job import Job, JobState
from stream_ad.services.work import Outcome

jobs = typer.Typer(no_args_is_help=True, help="Learning jobs: list them, look into one, cancel it, run it again.")

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
    """Everything about one job, with the end of its log if it failed."""
    job = open_app(config).database.jobs.get(job_id)
    fields = {
        "job": job.id,
        "kind": job.kind,
        "task": job.task,
        "state": job.state,
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
    if job.log_tail:
        out().print("\nlog:\n" + escape(job.log_tail))


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
    """Work on jobs, one after the other: learn, evaluate, publish. Any number may run, also on other machines.

    Ctrl-C or SIGTERM gives the present job back, so another worker can take it. Exit code with --drain: 0 when every
    job was published, 1 when one was rejected or failed.
    """
    app = open_app(config)
    console = err()
    start_log(app, console)
    bar, watch = job_bar(console)
    bad: list[Job] = []

    def ended(job: Job, outcome: Outcome) -> None:
        operations.metrics.ended(outcome.state)
        if outcome.state is not JobState.PUBLISHED:
            bad.append(job)

    running = app.worker(watch=watch if console.is_terminal else None, ended=ended)
    stop = threading.Event()

    def asked(*_: object) -> None:
        stop.set()
        running.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
    say(app, f"worker {running.name} on {running.device}, backbone {app.backbone.spec}", console)
    if app.backbone.caveat:
        say(app, f"note: {app.backbone.caveat}", console)
    with operating_worker(app, running, stop) as operations, bar if console.is_terminal else nullcontext():
        done = running.run(drain=drain)
    say(app, f"{done} jobs done", console)
    raise typer.Exit(1 if drain and bad else ALL_OK)


def _done(job: Job) -> str:
    return f"{job.progress:.0%} {job.stage}" if job.state is JobState.RUNNING and job.stage else text(None)
