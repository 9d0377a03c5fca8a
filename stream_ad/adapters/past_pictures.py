"""Pictures of results, read again from where they came: a file of the watched folder, or a record of a topic."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from stream_ad.adapters.kafka_connection import connect, explained
from stream_ad.adapters.kafka_security import PLAIN, KafkaSecurity
from stream_ad.adapters.kafka_source import record_of
from stream_ad.domain.message import Place, Record
from stream_ad.domain.ports import FileLedger
from stream_ad.domain.result import InspectionResult
from stream_ad.errors import DataError, Unavailable

MIB = 1024**2


def from_folder(result: InspectionResult, folder: Path, ledger: FileLedger) -> bytes:
    """The file that the result is of, with the content that it had then.

    Raises:
        DataError: it is gone, or was overwritten.
    """
    known = ledger.find(result.topic, result.offset)
    # the ledger forgets what retention deleted; the name and the start of the hash are in the message's id as well
    path, sha256 = known or (result.subject, result.message_id.rpartition("@")[2])
    if not path or not sha256:
        raise DataError(f"nothing says which file of {folder} the result {result.message_id!r} is of")
    try:
        data = (folder / path).read_bytes()
    except OSError as error:
        raise DataError(
            f"the picture {folder / path} is gone: {error.strerror}; put it there again, or speak of a newer result"
        ) from error
    if not hashlib.sha256(data).hexdigest().startswith(sha256):
        raise DataError(f"{folder / path} has other content by now than the picture that was judged; bring that back")
    return data


def from_topic(
    result: InspectionResult,
    bootstrap: str,
    *,
    read: Callable[[Record], bytes],
    message_id: Callable[[Record], str],
    security: KafkaSecurity = PLAIN,
    max_bytes: int = 8 * MIB,
    timeout_s: float = 15.0,
) -> bytes:
    """The picture of the record that the result is of; `read` gets it out of the record, or from behind its reference.

    Raises:
        DataError: the record is gone, or the topic was made anew since.
        Unavailable: no broker answers.
        ConfigError: no retry helps.
    """
    place = result.topic, result.partition, result.offset
    record = read_record(place, bootstrap, security=security, max_bytes=max_bytes, timeout_s=timeout_s)
    name = f"{result.topic}/{result.partition}/{result.offset}"
    if record is None:
        raise DataError(f"Kafka at {bootstrap} no longer has the record {name}; topics keep records for a time only")
    if message_id(record) != result.message_id:
        raise DataError(
            f"Kafka at {bootstrap} has another message at {name}, {message_id(record)!r} instead of"
            f" {result.message_id!r}: the topic was made anew since"
        )
    return read(record)


def read_record(
    place: Place,
    bootstrap: str,
    *,
    security: KafkaSecurity = PLAIN,
    max_bytes: int = 8 * MIB,
    timeout_s: float = 15.0,
) -> Record | None:
    """The record at a place, without joining any group; None: it is gone, or never was.

    Raises:
        Unavailable: no broker answers in time, or there is no such topic.
        ConfigError: no retry helps.
    """
    topic, partition, offset = place
    wanted = TopicPartition(topic, partition)
    settings = {
        "bootstrap_servers": bootstrap.split(","),
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "max_partition_fetch_bytes": max_bytes,
        "fetch_max_bytes": max(max_bytes, 16 * MIB),
        "max_poll_records": 1,
        "bootstrap_timeout_ms": round(timeout_s * 1000),
        "request_timeout_ms": round(timeout_s * 1000),
        "allow_auto_create_topics": False,
        **security.client_settings(),
    }
    give_up = time.monotonic() + timeout_s
    with explained(bootstrap, "read from"):
        consumer, _ = connect(KafkaConsumer, settings)
        try:
            if partition not in (consumer.partitions_for_topic(topic) or ()):
                return None
            consumer.assign([wanted])
            consumer.seek(wanted, offset)
            while time.monotonic() < give_up:
                for record in consumer.poll(timeout_ms=500, max_records=1).get(wanted, ()):
                    # another one: compacted away, or out of range and begun anew
                    return record_of(record) if record.offset == offset else None
            if consumer.end_offsets([wanted])[wanted] <= offset:
                return None
        finally:
            consumer.close(autocommit=False, timeout_ms=1000)
    raise Unavailable(f"Kafka at {bootstrap} did not give {topic}/{partition}/{offset} in {timeout_s:.0f} s; try again")
