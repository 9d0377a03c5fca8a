"""Sources and producers on the test broker, and what is asked of them again and again."""

import re
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

from kafka import KafkaAdminClient
from kafka.structs import TopicPartition

from stream_ad.adapters.kafka_producer import KafkaProducerOptions, Outgoing, SafeProducer
from stream_ad.adapters.kafka_source import KafkaSource, KafkaSourceOptions
from stream_ad.domain.message import Place, Record
from stream_ad.errors import Unavailable
from tests.broker import SESSION, client

PATIENCE_S = 60.0


def options(bootstrap: str, topic: str, **changes: Any) -> KafkaSourceOptions:
    """Of a source in a group of its own."""
    chosen = {"group": uuid.uuid4().hex, "answer_timeout_ms": 3000, "request_timeout_ms": 3000, **SESSION, **changes}
    return KafkaSourceOptions(bootstrap=bootstrap, topics=(topic,), **chosen)


@contextmanager
def source_on(chosen: KafkaSourceOptions) -> Iterator[KafkaSource]:
    with closing(KafkaSource(chosen)) as source:
        yield source


def put(bootstrap: str, topic: str, count: int, *, start: int = 0, partition_keys: int = 0) -> list[bytes]:
    """Send numbered messages; with keys they spread over partitions. Returns their values."""
    values = [f"{number}".encode() for number in range(start, start + count)]
    with closing(SafeProducer(KafkaProducerOptions(bootstrap=bootstrap))) as producer:
        producer.send(
            [
                Outgoing(
                    topic=topic,
                    key=f"camera {number % partition_keys}".encode() if partition_keys else None,
                    value=value,
                    headers={},
                )
                for number, value in enumerate(values, start)
            ]
        )
    return values


def take(source: KafkaSource, count: int, *, at_once: int = 100) -> list[Record]:
    """Exactly `count` records; what is away in between is waited for."""
    records: list[Record] = []
    give_up = time.monotonic() + PATIENCE_S
    while len(records) < count:
        assert time.monotonic() < give_up, f"only {len(records)} of {count} records came"
        with suppress(Unavailable):
            records += source.poll(min(at_once, count - len(records)), 0.2)
    return records


def poll_until(sources: Sequence[KafkaSource], happened: Any, *, records: list[Record] | None = None) -> None:
    """Poll them in turn until it has happened; what they hand out goes to `records`."""
    give_up = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < give_up, "it did not happen"
        for source in sources:
            with suppress(Unavailable):
                came = source.poll(100, 0.1)
                if records is not None:
                    records += came


def values(records: Sequence[Record]) -> list[bytes]:
    return [record.value or b"" for record in records]


def places(records: Sequence[Record]) -> list[Place]:
    return [record.place for record in records]


def committed(bootstrap: str, group: str, topic: str, partition: int = 0) -> int | None:
    """What the group has committed, as the broker says it."""
    with closing(client(KafkaAdminClient, bootstrap)) as admin:
        offsets = admin.list_group_offsets([group])  # pyright: ignore[reportAttributeAccessIssue]
    place = TopicPartition(topic, partition)
    found = offsets.get(group, {}).get(place)
    return None if found is None or found.offset < 0 else found.offset


def one_after(records: list[Record], partition: int) -> int:
    return 1 + max(record.offset for record in records if record.partition == partition)


def done_with(records: list[Record], partition: int) -> dict[tuple[str, int], int]:
    return {(records[0].topic, partition): one_after(records, partition)}


def complaint(source: KafkaSource, pattern: str) -> str:
    """The first message of an `Unavailable` that the pattern fits, when the source is polled again and again."""
    give_up = time.monotonic() + PATIENCE_S
    said = ""
    while not re.search(pattern, said):
        assert time.monotonic() < give_up, f"it said at last: {said}"
        try:
            source.poll(1, 0.2)
        except Unavailable as error:
            said = str(error)
    return said
