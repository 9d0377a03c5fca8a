"""Records from Kafka through kafka-python 3.

What its behaviour asks for (all observed with 3.0.12):

- Every network call is made by a thread of the client. A rebalance listener runs there too and must not block, so
  ours only notes what happened, and `poll` acts on it.
- `commit` after the group moved on raises CommitFailedError and no retry can help; the records come again, here or
  at another consumer, and overwrite their own rows. So it is noted and not an error.
- Paused partitions are forgotten in a rebalance: `poll` pauses again and puts back what leaked.
- The default reconnect back-off of 30 s can cost a minute after a broker's restart; 1 s is enough.
- Cooperative rebalancing swaps owners for seconds; the range assignor does not.
"""

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer
from kafka.consumer.fetcher import ConsumerRecord
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import CommitFailedError, KafkaError
from kafka.structs import OffsetAndMetadata, TopicPartition

from stream_ad.adapters.kafka_connection import connect
from stream_ad.domain.message import Record
from stream_ad.errors import Unavailable

log = logging.getLogger(__name__)

MIB = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSourceOptions:
    bootstrap: str
    topics: tuple[str, ...]
    group: str = "stream-ad"
    #: a batch must be done within this, or the group gives its partitions away
    max_poll_interval_ms: int = 600_000
    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 3_000
    max_partition_fetch_bytes: int = 8 * MIB
    fetch_max_bytes: int = 32 * MIB
    reconnect_backoff_max_ms: int = 1_000
    #: how long a connection, a commit and leaving may take
    request_timeout_ms: int = 10_000
    #: a name that survives restarts avoids a rebalance at each; must be unique in the group
    instance: str | None = None
    #: given to the client as they are: security_protocol, sasl_mechanism, ssl_cafile ...
    client: Mapping[str, Any] = field(default_factory=dict)


class KafkaSource:
    """`domain.ports.Source` on a consumer group. Connects at the first poll, and anew after `close`."""

    def __init__(self, options: KafkaSourceOptions) -> None:
        self._options = options
        self._consumer: KafkaConsumer | None = None
        self._assigned = _Assignment()
        self._paused = False
        # the broker refuses a fetch from before a fail-over by the epoch of the record last read
        self._epochs: dict[TopicPartition, int] = {}

    def poll(self, max_items: int, timeout_s: float) -> list[Record]:
        with _unavailable(self._options.bootstrap, "read from"):
            consumer = self._connected()
            if self._paused:
                self._pause(consumer)
            batches: Mapping[TopicPartition, Sequence[ConsumerRecord]] = consumer.poll(
                timeout_ms=round(timeout_s * 1000), max_records=max_items
            )
            if self._paused:
                self._put_back(consumer, batches)
                return []
        self._epochs |= {place: records[-1].leader_epoch or -1 for place, records in batches.items() if records}
        return [_record(record) for records in batches.values() for record in records]

    def commit(self, up_to: Mapping[tuple[str, int], int]) -> None:
        if self._consumer is None:
            raise Unavailable(f"not connected to Kafka at {self._options.bootstrap}, nothing was committed")
        with _unavailable(self._options.bootstrap, "commit to"):
            mine = self._consumer.assignment()
            offsets = {
                place: OffsetAndMetadata(offset, "", self._epochs.get(place, -1))
                for (topic, partition), offset in up_to.items()
                if (place := TopicPartition(topic, partition)) in mine
            }
            if len(offsets) < len(up_to):
                log.warning("partitions were taken away before their commit; their records come again elsewhere")
            try:
                if offsets:
                    self._consumer.commit(offsets, timeout_ms=self._options.request_timeout_ms)
            except CommitFailedError as error:
                log.warning("the group moved on before a commit; the records come again: %s", error)

    def lost(self) -> set[tuple[str, int]]:
        return set()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        if self._consumer is not None:
            self._consumer.resume(*self._consumer.paused())

    def lag(self) -> Mapping[tuple[str, int], int]:
        """Empty until the first fetch; partitions without one are missing."""
        if self._consumer is None:
            return {}
        consumer = self._consumer
        lags = {}
        with _unavailable(self._options.bootstrap, "read from"):
            for place in consumer.assignment():
                end = consumer.highwater(place)
                if end is not None and (position := consumer.position(place, timeout_ms=1000)) is not None:
                    lags[place.topic, place.partition] = max(0, end - position)
        return lags

    def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            try:
                consumer.close(autocommit=False, timeout_ms=self._options.request_timeout_ms)
            except KafkaError as error:
                log.warning("left Kafka impolitely: %s", error)

    @property
    def assigned(self) -> bool:
        """Whether the group has given this consumer any partitions, as far as is known."""
        return self._assigned.any.is_set()

    def _connected(self) -> KafkaConsumer:
        if self._consumer is None:
            options = self._options
            settings: dict[str, Any] = {
                "bootstrap_servers": options.bootstrap.split(","),
                "group_id": options.group,
                "group_instance_id": options.instance,
                "enable_auto_commit": False,
                "auto_offset_reset": "earliest",
                "partition_assignment_strategy": (RangePartitionAssignor,),
                "max_poll_interval_ms": options.max_poll_interval_ms,
                "session_timeout_ms": options.session_timeout_ms,
                "heartbeat_interval_ms": options.heartbeat_interval_ms,
                "max_partition_fetch_bytes": options.max_partition_fetch_bytes,
                "fetch_max_bytes": options.fetch_max_bytes,
                "reconnect_backoff_max_ms": options.reconnect_backoff_max_ms,
                "bootstrap_timeout_ms": options.request_timeout_ms,
            }
            consumer = connect(KafkaConsumer, settings | dict(options.client))
            consumer.subscribe(topics=list(options.topics), listener=self._assigned)
            self._consumer = consumer
        return self._consumer

    def _pause(self, consumer: KafkaConsumer) -> None:
        if fetching := consumer.assignment() - consumer.paused():
            consumer.pause(*fetching)

    def _put_back(self, consumer: KafkaConsumer, batches: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        """Undo the reading of partitions that were assigned during this very poll."""
        for place, records in batches.items():
            consumer.seek(place, records[0].offset)
        self._pause(consumer)


class _Assignment(ConsumerRebalanceListener):
    """Notes what the group did. Runs on the client's thread, where any call of the consumer would dead-lock."""

    def __init__(self) -> None:
        self.any = threading.Event()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        if list(assigned):
            self.any.set()

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        if list(revoked):
            self.any.clear()

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self.any.clear()


@contextmanager
def _unavailable(bootstrap: str, what: str) -> Iterator[None]:
    try:
        yield
    except KafkaError as error:
        raise Unavailable(
            f"could not {what} Kafka at {bootstrap}: {type(error).__name__}: {error}; check that it runs"
        ) from error


def _record(record: ConsumerRecord) -> Record:
    return Record(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        # a header may be repeated or empty; the last one counts
        headers={name: value for name, value in record.headers if value is not None},
        timestamp=datetime.fromtimestamp(record.timestamp / 1000, UTC) if record.timestamp >= 0 else None,
    )
