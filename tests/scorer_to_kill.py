"""A scorer that dies, without a word to anybody, at a given step. Run as a process of its own.

Arguments: the folder of database and files, the broker, the topic, and where to die: a step of `STEPS`, or nowhere;
with "nowhere" it ends by itself once nothing came for some seconds. A picture of the grey `DEADLY` kills it always.
"""

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, event

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.decode import decode
from stream_ad.adapters.jsonl_sink import JsonLinesSink
from stream_ad.adapters.kafka_sink import KafkaSink
from stream_ad.adapters.kafka_source import KafkaSource
from stream_ad.adapters.repositories import SqlResultRepository
from stream_ad.domain.images import Picture
from stream_ad.domain.message import DeadLetter, ImageMessage, OutboxMessage, Record, Standing
from stream_ad.domain.result import Inspection, InspectionResult
from tests import recovery_kit as kit
from tests.stream_kit import GreyInspector

STEPS = (
    "polled",  # the source gave records
    "beginning",  # inside the transaction that notes them
    "begun",
    "decoding",
    "judging",
    "drawing",
    "saving",  # inside the transaction of results, dead letters and outbox
    "saved",
    "committing",  # before the source knows
    "committed",
    "sending",  # before the topics have anything
    "sent",  # they have it, and nobody noted that
    "written",  # the file has it, and nobody noted that
    "noting",  # inside the transaction that notes it
    "noted",
)
EXIT = 77
DEADLY = 13
POINT = sys.argv[4] if len(sys.argv) > 4 else "nowhere"
#: what this thread does inside a transaction
INSIDE = threading.local()


def die_at(step: str) -> None:
    if step == POINT:
        os._exit(EXIT)  # no handler, no finally, no flush: as SIGKILL, but at this very line


class Source(KafkaSource):
    def poll(self, max_items: int, timeout_s: float) -> list[Record]:
        if records := super().poll(max_items, timeout_s):
            die_at("polled")
        return records

    def commit(self, up_to: Mapping[tuple[str, int], int]) -> None:
        die_at("committing")
        super().commit(up_to)
        die_at("committed")


class Results(SqlResultRepository):
    def begin(self, records: Sequence[Record], at: datetime) -> list[Standing]:
        INSIDE.step = "beginning"
        standings = super().begin(records, at)
        INSIDE.step = None
        die_at("begun")
        return standings

    def save_batch(
        self,
        results: Sequence[InspectionResult],
        dead_letters: Sequence[DeadLetter],
        outbox: Sequence[OutboxMessage],
    ) -> None:
        INSIDE.step = "saving"
        super().save_batch(results, dead_letters, outbox)
        INSIDE.step = None
        die_at("saved")

    def relayed(self, rows: Sequence[int]) -> None:
        INSIDE.step = "noting"
        super().relayed(rows)
        INSIDE.step = None
        die_at("noted")


class Topics(KafkaSink):
    def send(self, messages: Sequence[OutboxMessage]) -> None:
        die_at("sending")
        super().send(messages)
        die_at("sent")


class Lines(JsonLinesSink):
    def send(self, messages: Sequence[OutboxMessage]) -> None:
        super().send(messages)
        die_at("written")


class Inspector(GreyInspector):
    def inspect(
        self, pictures: Sequence[Picture], *, declared: Sequence[str | None], cameras: Sequence[str | None]
    ) -> list[Inspection]:
        die_at("judging")
        if any(int(picture[0, 0, 0]) == DEADLY for picture in pictures):
            os._exit(EXIT)
        return super().inspect(pictures, declared=declared, cameras=cameras)


def deadly_decode(data: bytes) -> Picture:
    die_at("decoding")
    return decode(data)


def deadly_overlay(message: ImageMessage, picture: Picture, inspection: Inspection) -> None:
    die_at("drawing")


def in_transaction(_: Connection) -> None:
    """Called right before COMMIT."""
    if step := getattr(INSIDE, "step", None):
        die_at(step)


def main(folder: Path, bootstrap: str, topic: str) -> None:
    with kit.open_database(folder) as database:
        event.listen(database.engine, "commit", in_transaction)
        with kit.scorer(
            database,
            folder,
            bootstrap,
            topic,
            source=Source,
            topics=Topics,
            lines=Lines,
            inspector=Inspector(),
            results=Results(Transactions(database.engine)),
            decode=deadly_decode,
            overlays=deadly_overlay,
        ) as stream:
            stream.run(threading.Event(), idle_s=6.0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
