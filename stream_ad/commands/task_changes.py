"""`stream-ad tasks add-images | relearn | patch | retire | squeeze`: changes of what is learned. Each queues a job."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from stream_ad.app import App
from stream_ad.commands.common import SOMETHING_WRONG, ConfigOption, open_app, out, said_of_end
from stream_ad.commands.tasks import DetectorName, wait_for
from stream_ad.domain.feedback import FeedbackKind, FeedbackState
from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.domain.task import TaskId
from stream_ad.domain.wording import counted
from stream_ad.errors import DataError
from stream_ad.services.changes.squeezing import ROWS

MANY = 500  # false alarms of one patch

TaskName = Annotated[str, typer.Argument(metavar="TASK", help="Name of the product line.")]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="Wait until it is done, with a progress bar; does it here if no worker runs.")
]
DetectorOption = Annotated[
    DetectorName | None, typer.Option("--detector", help="How it is learned from now on. Default: as it was.")
]


def add_images(
    task: TaskName,
    images: Annotated[
        Path, typer.Option("--images", metavar="DIR", help="Folder with pictures of good parts, a folder of their own.")
    ],
    heldout: Annotated[
        Path | None,
        typer.Option(
            "--heldout",
            metavar="DIR",
            help="Folder with pictures to judge by, beside those so far. Without it a share of --images is kept apart.",
        ),
    ] = None,
    instead: Annotated[
        bool, typer.Option("--instead", help="Learn from these alone, and no longer from those so far.")
    ] = False,
    detector: DetectorOption = None,
    wait: WaitOption = False,
    config: ConfigOption = None,
) -> None:
    """Learn a known product again, with more pictures of good parts.

    It is judged by the pictures so far and by those kept apart of the new ones. Pictures that are known already are
    left out. Exit code with --wait: 0 published, 1 rejected or failed.
    """
    app = open_app(config)
    prepared = app.other_pictures if instead else app.more_pictures
    chosen = detector.value if detector else None
    checked = prepared(TaskId(task), images=images, heldout=heldout, detector=chosen)
    job = app.database.tasks.queue(TaskId(task), JobKind.READAPT, checked.payload, app.clock.now())
    _told(app, job, f"task {task!r}: {checked.summary}", wait)


def relearn(
    task: TaskName, detector: DetectorOption = None, wait: WaitOption = False, config: ConfigOption = None
) -> None:
    """Learn a known product again from the pictures that it has: by another detector, or with new shared weights.

    All folders that it was learned from must be where they were. Exit code with --wait: 0 published, 1 rejected or
    failed.
    """
    app = open_app(config)
    checked = app.same_pictures(TaskId(task), detector=detector.value if detector else None)
    job = app.database.tasks.queue(TaskId(task), JobKind.READAPT, checked.payload, app.clock.now())
    _told(app, job, f"task {task!r}: {checked.summary}", wait)


def patch(
    task: TaskName,
    only: Annotated[
        list[int] | None,
        typer.Option("--only", metavar="ID", help="Only this feedback; may be repeated. Without it, all that waits."),
    ] = None,
    wait: WaitOption = False,
    config: ConfigOption = None,
) -> None:
    """Take false alarms that people marked into the memory of their product, if no defect is hidden by it.

    The job says the score of each marked picture before and after. Exit code with --wait: 0 published or nothing to do,
    1 rejected or failed.
    """
    app = open_app(config)
    app.require_in_bank(TaskId(task))
    waiting = app.database.feedback.recent(
        MANY, task=TaskId(task), kind=FeedbackKind.FALSE_ALARM, state=FeedbackState.QUARANTINED
    )
    chosen = [one.id for one in waiting if only is None or one.id in only]
    if strange := sorted(set(only or ()) - set(chosen)):
        raise DataError(
            f"needed false alarms of task {task!r} that wait, got feedback {', '.join(map(str, strange))}; see"
            f" `stream-ad feedback list --task {task} --waiting`"
        )
    if not chosen:
        raise DataError(
            f"no false alarm of task {task!r} waits; mark one with `stream-ad feedback RESULT --false-alarm` first"
        )
    job = app.database.tasks.queue(TaskId(task), JobKind.PATCH, {}, app.clock.now(), feedback=chosen)
    _told(app, job, f"task {task!r}: {counted(len(chosen), 'false alarm')}", wait)


def retire(task: TaskName, wait: WaitOption = False, config: ConfigOption = None) -> None:
    """Leave a product out of the bank. Its pictures are an unknown product then; `add-task` brings it back.

    Exit code with --wait: 0 published, 1 rejected or failed.
    """
    app = open_app(config)
    app.require_in_bank(TaskId(task))
    job = app.database.tasks.queue(TaskId(task), JobKind.RETIRE, {}, app.clock.now())
    _told(app, job, f"task {task!r} is to be retired", wait)


def squeeze(
    rows: Annotated[int, typer.Option("--rows", min=1, help="Rows that the memories of all products may have.")],
    wait: WaitOption = False,
    config: ConfigOption = None,
) -> None:
    """Shrink memories until the bank fits into so many rows, if no product suffers.

    Rows are shared evenly; smaller memories keep theirs. Exit code with --wait: 0 published or nothing to do, 1
    rejected or failed.
    """
    app = open_app(config)
    job = app.database.tasks.queue(None, JobKind.SQUEEZE, {ROWS: rows}, app.clock.now())
    _told(app, job, f"all tasks into {counted(rows, 'row')}", wait)


def _told(app: App, job: Job, what: str, wait: bool) -> None:
    console = out()
    console.print(f"{escape(what)}; job {job.id} is queued")
    if not wait:
        console.print("a worker does it: `stream-ad worker` (if none runs); follow it with `stream-ad jobs list`")
        return
    ended = wait_for(app, job)
    console.print(said_of_end(ended.state, ended.message))
    if ended.state not in (JobState.PUBLISHED, JobState.DONE):
        raise typer.Exit(SOMETHING_WRONG)
