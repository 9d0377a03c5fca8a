"""`stream-ad serve`, `publish` and `up`: the line."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from stream_ad.adapters.memory import giving_back
from stream_ad.app import App
from stream_ad.commands.common import (
    ERROR,
    ConfigOption,
    coloured,
    config_path,
    end_here_and_now,
    err,
    log_to_terminal,
    open_app,
    out,
)
from stream_ad.commands.operations import Operations, log_results, say, start_log
from stream_ad.commands.retention import sweeping
from stream_ad.commands.score import COLOURS
from stream_ad.domain.result import InspectionResult, Verdict
from stream_ad.domain.wording import counted

if TYPE_CHECKING:
    from stream_ad.services.counters import Counters
    from stream_ad.services.streaming import Batch

#: how long a worker that died is left alone before it is started again
RESTART_S = 5.0
#: how long a worker may take to give its job back
FAREWELL_S = 30.0

IdleOption = Annotated[
    float | None,
    typer.Option(
        "--idle", metavar="SECONDS", help="Stop when no picture came for so long. Default: run until stopped."
    ),
]


def serve(config: ConfigOption = None, idle: IdleOption = None) -> None:
    """Score the stream: pictures of the watched folder, or of the Kafka topic, as `stream.source` says.

    Each picture's verdict is in the database exactly once; a bad picture becomes a dead letter and the stream goes
    on. A newly published bank is taken between two batches. Ctrl-C or SIGTERM ends the present batch, then stops.
    """
    app = open_app(config)
    start_log(app)
    stop = stop_on_signals()
    leave(run_stream(app, Operations(app, stop), stop, idle))


def stop_on_signals(*, again_kills: bool = True) -> threading.Event:
    """Set by Ctrl-C and SIGTERM. A second Ctrl-C ends the process at once, which loses nothing either."""
    stop = threading.Event()

    def asked(number: int, _: object) -> None:
        stop.set()
        if number == signal.SIGINT and again_kills:
            signal.signal(signal.SIGINT, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
    return stop


def run_stream(app: App, operations: Operations, stop: threading.Event, idle: float | None) -> "Counters":
    settings = app.settings
    console = out()
    show = log_results if settings.ops.log == "json" else show_results

    def told(batch: "Batch") -> None:
        operations.on_batch(batch)
        show(batch.results)

    kafka = settings.stream.source == "kafka"
    where = f"topic {settings.kafka.topic} at {settings.kafka.bootstrap}" if kafka else f"folder {settings.inbox}"
    with operations.open(), app.stream(on_batch=told) as stream, sweeping(app), giving_back():
        operations.watch(stream)
        say(app, f"bank {stream.health.bank_version}, {app.backbone.spec}", console)
        if caveat := app.backbone.caveat:
            say(app, f"note: {caveat}", err())
        say(app, f"scoring {where}; Ctrl-C stops", console)
        counters = stream.run(stop, idle_s=idle)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counters.verdicts.most_common()) or "none scored"
    letters = sum(counters.dead_letters.values())
    say(app, f"{counted(counters.received, 'picture')}: {verdicts}; {counted(letters, 'dead letter')}", console)
    if counters.abandoned:
        say(app, "what did not end in time is left behind; it comes again", err())
    return counters


def leave(counters: "Counters") -> None:
    """End here and now when threads were left behind: they would keep the process alive."""
    if counters.abandoned:
        end_here_and_now(ERROR)


def show_results(results: Sequence[InspectionResult]) -> None:
    """A line per verdict."""
    lines = [(f"{result.verdict:<15}", result.verdict, _about(result)) for result in results]
    if lines and sys.stdout.isatty():
        out().print(
            "\n".join(f"{coloured(shown, COLOURS.get(verdict))} {escape(about)}" for shown, verdict, about in lines)
        )
    elif lines:  # colours are for eyes, and finding them takes longer than a small model
        print("\n".join(f"{shown} {about}" for shown, _, about in lines), flush=True)


def _about(result: InspectionResult) -> str:
    """Which picture, as what it was scored, and what is wrong."""
    score = "" if result.score is None else f"score {result.score:.3f}"
    above = "" if result.threshold is None else f"NG above {result.threshold:.3f}"  # a score by words has none
    if result.verdict is Verdict.UNKNOWN and result.task is not None and result.alarm is None:
        # what merely came nearest must not read as what it was judged to be
        said = (f"nearest: {result.task} ({', '.join(filter(None, (score, above)))})",)
    else:
        said = (result.task or "-", f"{score} ({above})" if above else score, result.alarm)
    return "  ".join(filter(None, (result.subject or result.message_id, *said)))


def publish(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of pictures, e.g. where a camera saves them.")
    ],
    watch: Annotated[bool, typer.Option("--watch", help="Go on with pictures that come later, until stopped.")] = False,
    camera: Annotated[
        str | None,
        typer.Option("--camera", help="Camera to name. Default: the first folder below DIR, if there is one."),
    ] = None,
    product: Annotated[
        str | None, typer.Option("--product", metavar="ID", help="Declare that all of them show this product.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            metavar="N",
            help="Play the folder like a camera: N pictures a second, each said to be taken as it is sent. Default: as"
            " fast as the broker takes them, taken when the file was written.",
        ),
    ] = None,
    loop: Annotated[
        bool, typer.Option("--loop", help="Play the folder again and again, each time as new pictures, until stopped.")
    ] = False,
    trace: Annotated[
        bool, typer.Option("--trace", help="Start a W3C trace with each picture (header traceparent).")
    ] = False,
    reference_above_mb: Annotated[
        float | None,
        typer.Option(
            "--reference-above-mb",
            min=0,
            help="Send larger pictures as a reference to their file, which scorers must see under the same path and"
            " allow (stream.reference_roots); 0 sends all so. Default: three quarters of kafka.max_request_mb.",
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """The camera's side: send the pictures of a folder to the Kafka topic."""
    from stream_ad.adapters.publisher import PublishOptions
    from stream_ad.adapters.publisher import publish as send

    app = open_app(config)
    log_to_terminal()
    largest_mb = 0.75 * app.settings.kafka.max_request_mb if reference_above_mb is None else reference_above_mb
    options = PublishOptions(
        topic=app.settings.kafka.topic,
        camera=camera,
        product=product,
        rate=rate,
        loop=loop,
        trace=trace,
        watch=watch,
        reference_above_bytes=round(largest_mb * 1024**2),
        settle_s=app.settings.stream.settle_s,
    )
    with err().status("sending") as status:
        count = send(
            directory,
            app.kafka_producer_options(),
            options,
            clock=app.clock,
            stop=stop_on_signals(),
            on_sent=lambda name, sent: status.update(f"{sent} sent, {escape(name)}"),
        )
    out().print(f"{counted(count, 'picture')} sent to topic {options.topic}", markup=False)


def up(config: ConfigOption = None, idle: IdleOption = None) -> None:
    """Everything in one place: `serve` here, a `worker` and a `scheduler` beside it. Ctrl-C stops all."""
    app = open_app(config)
    start_log(app)
    stop = stop_on_signals(again_kills=False)  # the others must not be left behind
    operations = Operations(app, stop)
    named = config_path(config)
    supervisors = [
        threading.Thread(
            target=keep_running,
            args=(
                name,
                [sys.executable, "-m", "stream_ad.cli", name, *(["--config", str(named)] if named else [])],
                stop,
            ),
            name=f"{name}'s supervisor",
        )
        for name in ("worker", "scheduler")
    ]
    for supervisor in supervisors:
        supervisor.start()
    try:
        counters = run_stream(app, operations, stop, idle)
    finally:
        stop.set()
        for supervisor in supervisors:
            supervisor.join()
    leave(counters)


def keep_running(name: str, command: Sequence[str], stop: threading.Event) -> None:
    """Run a process until `stop`, again when it dies; then end it politely."""
    while not stop.is_set():
        # a session of its own: Ctrl-C reaches this process alone, which then ends the others in order
        process = subprocess.Popen(command, start_new_session=True, env=os.environ)
        while process.poll() is None and not stop.wait(0.2):
            pass
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(FAREWELL_S)
            except subprocess.TimeoutExpired:  # its lease runs out, and another takes over
                process.kill()
                process.wait()
        elif not stop.is_set():
            err().print(f"the {name} ended with exit code {process.returncode}; started again in {RESTART_S:g} s")
            stop.wait(RESTART_S)
