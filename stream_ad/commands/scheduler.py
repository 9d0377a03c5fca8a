"""`stream-ad scheduler`: what must be done again and again, by one of any number of processes."""

import signal
import threading
from typing import Annotated

import typer

from stream_ad import scheduler_parts
from stream_ad.app import App
from stream_ad.commands.common import (
    ALL_OK,
    ERROR,
    SOMETHING_WRONG,
    ConfigOption,
    coloured,
    end_here_and_now,
    err,
    open_app,
    out,
    table,
)
from stream_ad.commands.operations import operating_scheduler, say, start_log
from stream_ad.domain.duty import DutyRun
from stream_ad.errors import ConfigError

#: how long a duty in hand may take to come to its next step when asked to stop
FAREWELL_S = 20.0


def scheduler(
    listed: Annotated[
        bool, typer.Option("--list", help="Show the duties, when they are due and how they went.")
    ] = False,
    now: Annotated[
        str | None, typer.Option("--now", metavar="DUTY", help="Do one duty here and now, whoever leads, and end.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Do what comes again and again: discovery, nightly evaluation, drift, retention, verification, reports.

    Schedules are in `scheduler` of config.yaml. Any number may run; one leads, the others stand by and take over when
    it is gone. Ctrl-C or SIGTERM ends it. Exit code with --now: 1 when something is not good.
    """
    app = open_app(config)
    if listed:
        show_duties(app)
        return
    start_log(app)
    if now is not None:
        raise typer.Exit(do_now(app, now))
    running = app.scheduler()
    stop = threading.Event()

    def asked(*_: object) -> None:
        stop.set()
        running.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
    say(app, f"scheduler {running.leadership.holder}; Ctrl-C stops", err())
    with operating_scheduler(app, running, stop):
        drained = running.run(drain_s=FAREWELL_S)
    if not drained:  # its thread would keep the process alive
        say(app, f"left behind: {', '.join(running.busy)}; whoever leads next does it again", err())
        end_here_and_now(ERROR)


def show_duties(app: App) -> None:
    duties, runs = app.duties(), app.database.duties.all()
    due = scheduler_parts.timetable([duty.name for duty in duties], app.settings).schedules
    lease = app.database.leases.read(scheduler_parts.LEASE)
    moment = app.clock.now()
    rows = [
        (
            duty.name,
            due[duty.name].text if duty.name in due else "never",
            runs[duty.name].started_at if duty.name in runs else None,
            went(runs.get(duty.name)),
            due[duty.name].due(runs.get(duty.name), moment) if duty.name in due else None,
            runs[duty.name].outcome if duty.name in runs else duty.about,
        )
        for duty in duties
    ]
    out().print(table("duty", "schedule", "last", "", "due", "", rows=rows))
    leader = f"{lease.holder} leads" if lease else "nobody leads; start one: `stream-ad scheduler`"
    out().print(f"\n{leader}", markup=False)


def went(run: DutyRun | None) -> str:
    """How a duty went, in a word."""
    if run is None:
        return ""
    if run.ended_at is None:
        return coloured("begun", "cyan")
    return coloured("failed", "red") if run.failed else coloured("done", "green")


def do_now(app: App, name: str) -> int:
    """The exit code of one duty, done by this process alone."""
    duties = {duty.name: duty for duty in app.duties()}
    if name not in duties:
        raise ConfigError(f"there is no duty {name!r}; duties: {', '.join(duties)}")
    found = duties[name].do(lambda: None)
    out().print(found.text, markup=False)
    return SOMETHING_WRONG if found.figures.get("damaged") or found.figures.get("missing") else ALL_OK
