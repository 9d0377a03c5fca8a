"""`stream-ad add-task` and `stream-ad tasks`: product lines."""

import signal
import threading
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from typer.core import TyperGroup

from stream_ad.app import App
from stream_ad.commands.common import (
    COLOURS,
    SESSION,
    SOMETHING_WRONG,
    ConfigOption,
    coloured,
    config_path,
    err,
    job_bar,
    open_app,
    out,
    said_of_end,
    table,
)
from stream_ad.domain.job import THEN, Job, JobKind, JobState
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import TaskExists
from stream_ad.services.work import Outcome
from stream_ad.services.worker import Worker


class Group(TyperGroup):
    """A group whose own function is given the context that its signature names."""

    context_class = typer.Context


tasks = typer.Typer(invoke_without_command=True, cls=Group)

#: how long --wait leaves a new job to a worker that runs already, before it does the job itself
PATIENCE_S = 2.0
STEP_S = 0.2


class DetectorName(StrEnum):
    ANOPLE = "anople"
    CMPMB = "cmpmb"
    MPA = "mpa"
    PATCHCORE = "patchcore"
    PROMPTMAD = "promptmad"
    ZERO_SHOT = "zero-shot"


def add_task(
    name: Annotated[str, typer.Argument(help="Name of the product line, e.g. metal_nut.")],
    images: Annotated[
        Path,
        typer.Option("--images", metavar="DIR", help="Folder with pictures of good parts; 50 are a good start."),
    ],
    heldout: Annotated[
        Path | None,
        typer.Option(
            "--heldout",
            metavar="DIR",
            help="Folder with other pictures, to judge the result: good/ and defect/, or MVTec's test/ layout, or good"
            " ones alone. Without it a fifth of --images is kept apart and defects are painted on copies.",
        ),
    ] = None,
    class_name: Annotated[
        str | None,
        typer.Option("--class-name", help="What the part is called, in English: 'metal nut'. Default: from the name."),
    ] = None,
    product_id: Annotated[
        list[str] | None,
        typer.Option("--product-id", help="Id by which a message's header declares this product. May be repeated."),
    ] = None,
    camera: Annotated[
        list[str] | None,
        typer.Option("--camera", help="A camera that sees this product and no other. May be repeated."),
    ] = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option("--false-alarm-rate", help="Share of good parts that may be called NG; 0.01 is one in a hundred."),
    ] = None,
    roi: Annotated[
        Path | None,
        typer.Option("--roi", metavar="MASK", help="Picture that is black where the part must not be inspected."),
    ] = None,
    detector: Annotated[
        DetectorName | None,
        typer.Option("--detector", help="How it is learned. Default: detector.name of the settings."),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Wait until it is learned, with a progress bar; learns here if no worker runs."),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Teach a new product line from pictures of good parts.

    The pictures are checked first, then task and job are written; a worker learns it, proves that no other product
    suffers, and publishes. Exit code with --wait: 0 published, 1 rejected or failed.
    """
    app = open_app(config)
    task = Task(
        id=TaskId(name),
        class_name=class_name or name.replace("_", " ").replace("-", " "),
        product_ids=tuple(product_id or ()),
        cameras=tuple(camera or ()),
        false_alarm_rate=app.settings.calibration.false_alarm_rate if false_alarm_rate is None else false_alarm_rate,
    )
    app.make_database()
    if task.id in app.database.banks.contents(app.database.banks.active_version()):
        raise TaskExists(task.id, f"or teach it more pictures with `stream-ad tasks add-images {task.id} --images DIR`")
    checked = app.check_new(
        task, images=images, heldout=heldout, roi=roi, detector=detector.value if detector else None
    )
    job = app.database.tasks.add(task, JobKind.ADAPT, checked.payload, app.clock.now())
    console = out()
    console.print(f"task {escape(task.id)!r}: {checked.summary}; job {job.id} is queued")
    if not wait:
        console.print("a worker learns it: `stream-ad worker` (if none runs); follow it with `stream-ad jobs list`")
        return
    ended = wait_for(app, job)
    console.print(said_of_end(ended.state, ended.message))
    if THEN in ended.payload and (rest := following(app, ended)) is not None:
        ended = wait_for(app, rest)
        console.print(said_of_end(ended.state, ended.message))
    if ended.state is not JobState.PUBLISHED:
        raise typer.Exit(SOMETHING_WRONG)


def following(app: App, job: Job) -> Job | None:
    """The job of the same product that came after this one."""
    return next((one for one in reversed(app.database.jobs.all()) if one.task == job.task and one.id > job.id), None)


def wait_for(app: App, job: Job) -> Job:
    """The job when it has ended. Shows the progress of whatever worker has it; if none takes it, does it here."""
    console = err()
    bar, watch = job_bar(console)
    stop = threading.Event()
    workers: list[Worker] = []

    def interrupt(number: int, frame: object) -> None:
        stop.set()
        for worker in workers:
            worker.stop()

    def report(job: Job, outcome: Outcome) -> None:
        app.write_report(job.id)

    def ended() -> bool:
        return not app.database.jobs.get(job.id).state.open

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with bar:
            told, waited = watch(job), 0.0
            while not ended() and not stop.wait(STEP_S):
                waited += STEP_S
                now = app.database.jobs.get(job.id)
                if now.state is JobState.RUNNING or now.starting(app.clock.now()):
                    told(now.stage or "", round(1000 * now.progress), 1000)
                    waited = 0.0
                elif waited >= PATIENCE_S:
                    workers.append(app.worker(watch=watch, ended=report))
                    workers[-1].run(until=ended)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if not ended():
        console.print(f"no longer waiting for job {job.id}; see `stream-ad jobs list`")
        raise typer.Exit(SOMETHING_WRONG)
    return app.database.jobs.get(job.id)


@tasks.callback()
def list_tasks(context: typer.Context, config: ConfigOption = None) -> None:
    """All product lines and whether the active bank knows them; with a command, what is to be done about them."""
    if context.invoked_subcommand is not None:
        SESSION.get().config = config_path(config)  # a --config before the command holds for it as well
        return
    app = open_app(config)
    known = app.database.tasks.all()
    if not known:
        out().print("no tasks yet; `stream-ad add-task NAME --images DIR` adds one")
        return
    version = app.database.banks.active_version()
    inside = app.database.banks.contents(version)
    latest = {job.task: job for job in reversed(app.database.jobs.all())}
    retired = app.database.tasks.retired()
    rows = []
    for task in known:
        job = latest.get(task.id)
        state = coloured(job.state, COLOURS.get(job.state)) if job else None
        rows.append(
            (
                task.id,
                task.class_name,
                f"in bank {version}" if task.id in inside else "retired" if task.id in retired else "not in the bank",
                state,
                f"{task.false_alarm_rate:g}",
                task.product_ids,
                task.cameras,
            )
        )
    columns = ("task", "part", "bank", "latest job", "false-alarm rate", "product ids", "cameras")
    out().print(table(*columns, rows=rows))
