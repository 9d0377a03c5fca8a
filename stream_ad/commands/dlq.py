"""`stream-ad dlq ...`: records that could not be scored, and how they come back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from stream_ad.app import App
from stream_ad.commands.common import (
    ALL_OK,
    SOMETHING_WRONG,
    ConfigOption,
    coloured,
    err,
    open_app,
    out,
    table,
)
from stream_ad.domain.message import Record, message_id
from stream_ad.errors import DataError
from stream_ad.services.dead_letters import DeadLetters, place_of, shown
from stream_ad.stream_parts import folder_topic

dlq = typer.Typer(no_args_is_help=True, help="Dead letters: list them, look into one, send it again.")

PlaceArgument = Annotated[
    str, typer.Argument(metavar="PLACE", help="topic/partition/offset, as `stream-ad dlq list` shows it.")
]
StageOption = Annotated[
    str | None,
    typer.Option(
        "--stage", help="Only those of this stage: source, message, reference, decode, score, store or crash."
    ),
]


@dlq.command("list")
def list_letters(
    everything: Annotated[bool, typer.Option("--all", help="Those that were sent again, too.")] = False,
    stage: StageOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 50,
    config: ConfigOption = None,
) -> None:
    """Open dead letters, newest first."""
    found = open_app(config).database.results.dead_letters(limit + 1, open_only=not everything, stage=stage)
    if not found:
        out().print("no dead letters" if everything else "no open dead letters")
        return
    rows = [
        (
            shown(letter.record.place),
            letter.at,
            coloured(letter.stage, "yellow" if letter.retried_at is None else None),
            letter.attempts,
            *((letter.retried_at,) if everything else ()),
            f"{letter.error_class}: {letter.reason}".splitlines()[0],
        )
        for letter in found[:limit]
    ]
    retried = ("sent again",) if everything else ()
    out().print(table("place", "since", "stage", "tries", *retried, "reason", rows=rows))
    if len(found) > limit:
        err().print("there are more; --limit shows them")


@dlq.command()
def show(
    place: PlaceArgument,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write the record's bytes to this file.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Everything about one dead letter: the reason, the record's headers, where in the program it failed."""
    with _office(open_app(config)) as office:
        letter = office.get(place_of(place))
    record = letter.record
    fields = {
        "place": shown(record.place),
        "message": message_id(record),
        "since": letter.at,
        "stage": letter.stage,
        "error": letter.error_class,
        "reason": letter.reason,
        "tries": letter.attempts,
        "sent again": letter.retried_at,
        "key": _readable(record.key),
        "time": record.timestamp,
        "bytes": "none" if record.value is None else f"{len(record.value):,}",
        **{f"header {name}": _readable(value) for name, value in record.headers.items()},
    }
    out().print(table("", "", rows=list(fields.items())))
    if letter.trace:
        out().print("\n" + escape(letter.trace))
    if output is not None:
        if record.value is None:
            raise DataError(f"needed a record with bytes to write to {output}, this one has none")
        try:
            output.write_bytes(record.value)
        except OSError as error:
            raise DataError(f"needed a place that can be written for --output: {error}") from error


@dlq.command()
def retry(
    places: Annotated[
        list[str] | None, typer.Argument(metavar="[PLACE]...", help="Which ones: topic/partition/offset.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every open one.")] = False,
    stage: StageOption = None,
    config: ConfigOption = None,
) -> None:
    """Send dead letters again, when their cause is gone: to the end of their topic, or of the folder's queue.

    Each becomes a new record with a place of its own. Exit code: 1 when one of them could not be sent.
    """
    app = open_app(config)
    if bool(places) == everything:
        raise DataError("needed either places or --all; `stream-ad dlq list` shows the places")
    chosen = [place_of(place) for place in places or ()]
    if everything:
        chosen = app.database.results.open_dead_letters(stage)
    refused = 0
    with _office(app) as office:
        for place in chosen:
            try:
                out().print(f"{shown(place)} is sent again, to {office.retry(place)}", markup=False)
            except DataError as error:
                refused += 1
                err().print(f"{shown(place)}: {error}", markup=False)
    if not chosen:
        out().print("no open dead letters")
    raise typer.Exit(SOMETHING_WRONG if refused else ALL_OK)


@contextmanager
def _office(app: App) -> Iterator[DeadLetters]:
    with _way_back(app) as send_again:
        yield DeadLetters(app.database.results, send_again, app.clock)


@contextmanager
def _way_back(app: App) -> Iterator[Callable[[Record], str]]:
    """Puts a record back into the source that is configured."""
    if app.settings.stream.source == "folder":
        yield lambda record: _into_folder(app, record)
        return
    from stream_ad.adapters.kafka_producer import Outgoing, SafeProducer

    producer = SafeProducer(app.kafka_producer_options())

    def into_topic(record: Record) -> str:
        if record.topic != app.settings.kafka.topic:
            raise DataError(
                f"needed a record of the topic {app.settings.kafka.topic}, which is read now, got one of"
                f" {record.topic}; name that one in kafka.topic"
            )
        producer.send([Outgoing(topic=record.topic, key=record.key, value=record.value, headers=record.headers)])
        return f"topic {record.topic}"

    try:
        yield into_topic
    finally:
        producer.close()


def _into_folder(app: App, record: Record) -> str:
    watched = folder_topic(app.settings.inbox)
    if record.topic != watched:
        raise DataError(
            f"needed a record of {watched}, which is watched now, got one of {record.topic};"
            " name that source in stream.source"
        )
    offset = app.database.files.again(record.topic, record.offset)
    if offset is None:
        raise DataError(
            "needed a file that was read, this one has gone from the queue or is still in hand;"
            " try in a moment, or put it into the folder again"
        )
    return shown((record.topic, record.partition, offset))


def _readable(raw: bytes | None) -> str | None:
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return repr(raw)
