"""What all commands share: the configuration option, tables, and how long work is shown."""

import getpass
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated, NoReturn

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from stream_ad.app import App
from stream_ad.config import load_settings
from stream_ad.domain import ports
from stream_ad.domain.job import Job, JobState
from stream_ad.domain.wording import how_it_ended
from stream_ad.errors import ConfigError

ALL_OK, SOMETHING_WRONG, ERROR = 0, 1, 2

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Configuration file. Without it: $STREAM_AD_CONFIG, then config.yaml in this folder, then the defaults.",
    ),
]

COLOURS = {
    JobState.PUBLISHED: "green",
    JobState.REJECTED: "yellow",
    JobState.FAILED: "red",
    JobState.RUNNING: "cyan",
}


def out() -> Console:
    """Where results go. Made anew each time, so that it follows a redirected stdout; plain text when not a terminal."""
    console = Console(highlight=False)
    # a file or a pipe has no width: nothing is wrapped there
    return console if console.is_terminal else Console(highlight=False, width=100_000)


def err() -> Console:
    """Where messages and progress go; as `out`."""
    console = Console(stderr=True, highlight=False)
    return console if console.is_terminal else Console(stderr=True, highlight=False, width=100_000)


@dataclass(slots=True)
class Session:
    """One run of the command line: the --config before the command, and what to close at the end."""

    config: Path | None = None
    opened: ExitStack = field(default_factory=ExitStack)


SESSION = ContextVar[Session]("SESSION")


def open_app(config: Path | None) -> App:
    """The application for a command; closed when the command line ends.

    Raises:
        ConfigError: the configuration is missing or not understood.
    """
    return SESSION.get().opened.enter_context(App(load_settings(config_path(config))))


def login_name() -> str:
    """Who is at the command line, for the audit table; a container's user may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def who_says(name: str | None) -> str:
    """Who decides or says something, for the audit table: as given, else who is logged in.

    Raises:
        ConfigError: the name that was given is empty.
    """
    if not (who := (login_name() if name is None else name).strip()):
        raise ConfigError("needed a name after --who; the audit table keeps it")
    return who


def require_writable(output: Path, suffix: str = "") -> None:
    """Nothing, when --output can be written there; asked before long work. The folder of the file is made.

    Raises:
        ConfigError: it cannot, or the file's name does not end in the suffix.
    """
    if suffix and output.suffix != suffix:
        raise ConfigError(f"--output needs a file whose name ends in {suffix}, got {output}")
    if (why := _unwritable(output)) is not None:
        raise ConfigError(f"--output needs a file that can be written; got {output}: {why}")


def _unwritable(output: Path) -> str | None:
    """Why a file cannot be written; None: it can."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.is_dir():
            return "it is a folder"
        # the file is not opened: an empty one would look like figures of an earlier run
        return None if os.access(output if output.exists() else output.parent, os.W_OK) else "permission denied"
    except FileExistsError:
        return f"{output.parent} is no folder"
    except OSError as error:
        return f"{error.filename}: {error.strerror}"


def end_here_and_now(code: int) -> NoReturn:
    """End the process although threads were left behind, which would keep it alive; what was said is written."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def config_path(config: Path | None) -> Path | None:
    """The --config given; the one behind the command wins."""
    return config or SESSION.get().config


def table(*columns: str, rows: Sequence[Sequence[object]]) -> Table:
    """A table of plain cells; a cell may colour itself through `coloured`."""
    made = Table(*columns, box=None, header_style="bold", pad_edge=False, show_header=any(columns))
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Coloured) else escape(text(cell)) for cell in row))
    return made


class Coloured(str):
    """Text with rich's markup in it."""


def coloured(value: object, colour: str | None) -> str:
    return Coloured(f"[{colour}]{escape(text(value))}[/]") if colour else escape(text(value))


def text(value: object) -> str:
    """A cell as people read it."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return "not measured" if value != value else f"{value:.4g}"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "-"
    return str(value)


def said_of_end(state: JobState, message: str | None) -> str:
    """How a job ended, in its state's colour."""
    return coloured(how_it_ended(state, message), COLOURS.get(state))


def log_to_terminal(console: Console | None = None, stream: IO[str] | None = None) -> None:
    """Show this package's log on stderr, or as plain lines in `stream`."""
    logger = logging.getLogger("stream_ad")
    logger.setLevel(logging.INFO)
    logger.propagate = False  # a library that logs gives the root a handler, and every line would come twice
    if not logger.handlers:
        console = console or err()
        if stream is None and console.is_terminal:
            logger.addHandler(RichHandler(console=console, show_path=False, markup=False, log_time_format="%X"))
        else:  # a file or a service's journal: one line per message
            handler = logging.StreamHandler(stream)
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            logger.addHandler(handler)


def job_bar(console: Console) -> tuple[Progress, Callable[[Job], ports.Progress]]:
    """A progress bar with time left, and what shows a job on it."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[stage]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=console,
        transient=not console.is_terminal,
    )
    shown: dict[int, TaskID] = {}

    def watch(job: Job) -> ports.Progress:
        row = shown.setdefault(job.id, bar.add_task(escape(job.task or job.kind), total=1000, stage=""))

        def told(stage: str, done: int, total: int) -> None:
            bar.update(row, completed=done, total=total, stage=stage)

        return told

    return bar, watch


LevelsOption = Annotated[
    str, typer.Option("--levels", metavar="A,B,...", help="Perception levels: sides of windows, in patches.")
]


def whole_numbers(text: str, option: str, most: int | None = None) -> tuple[int, ...]:
    """What an option lists, rising, each once.

    Raises:
        ConfigError: not whole numbers from 1 on, up to `most`.
    """
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = [0]
    if found[0] < 1 or (most is not None and found[-1] > most):
        up_to = "on" if most is None else f"to {most}"
        raise ConfigError(f"{option} needs numbers from 1 {up_to} with commas between them, got {text!r}")
    return tuple(found)
