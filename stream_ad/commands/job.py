"""`stream-ad job run`: one job in one process. What executors start; people may, too."""

import contextlib
import logging
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from stream_ad.adapters.starter import when_starter_is_gone
from stream_ad.commands.common import ConfigOption, err, open_app, out, said_of_end
from stream_ad.commands.jobs import JobNumber
from stream_ad.commands.operations import start_log
from stream_ad.errors import Unavailable
from stream_ad.services.worker import Worker

log = logging.getLogger(__name__)

#: of 1000: when memory runs out, the system shall end a job before it ends what scores
OOM_SCORE = 500

job = typer.Typer(no_args_is_help=True, help="One job, here and now.")


@job.callback()
def about() -> None:
    """One job, here and now."""


@job.command()
def run(
    job_id: JobNumber,
    worker: Annotated[
        str | None, typer.Option("--worker", metavar="NAME", help="Name to hold the job by. Default: host and process.")
    ] = None,
    supervised: Annotated[
        bool,
        typer.Option(
            "--supervised",
            help="Log to stdout, and end when standard input does: whoever started this process is gone then.",
        ),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Do one queued job in this process. What `stream-ad worker` starts for each job.

    SIGTERM or Ctrl-C gives the job back. Exit code 0 however the job ended, which its row says; 2: it could not be
    had or not begun.
    """
    app = open_app(config)
    stop = threading.Event()
    workers: list[Worker] = []

    def asked(*_: object) -> None:
        stop.set()
        for each in workers:
            each.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
    start_log(app, stream=sys.stdout if supervised else None)
    if supervised:
        _end_before_scorers_do()
        when_starter_is_gone(asked)
    workers.append(app.worker(name=worker))
    log.info("job %s: on %s, backbone %s", job_id, app.backbone.device, app.backbone.spec)
    if app.backbone.caveat:
        log.info("note: %s", app.backbone.caveat)
    if stop.is_set():
        return
    try:
        outcome = workers[0].run_one(job_id)
    except Unavailable as error:
        if not supervised:
            raise
        # in order: it is not the job's fault, and must not count as its death
        log.error("job %s waits: %s", job_id, error)
        return
    if outcome is not None and not stop.is_set():
        app.write_report(job_id)  # the job has ended: whatever becomes of this process now, it stays as it is
    if outcome is None:
        err().print(f"job {job_id} is not done; see `stream-ad jobs show {job_id}`")
    elif not supervised:
        out().print(said_of_end(outcome.state, outcome.message))


def _end_before_scorers_do() -> None:
    with contextlib.suppress(OSError):  # elsewhere than on Linux
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
