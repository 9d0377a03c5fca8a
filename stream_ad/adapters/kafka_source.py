"""Records from Kafka through kafka-python 3.

What its behaviour asks for (all observed with 3.0.12):

- Every network call is made by a thread of the client. A rebalance listener runs there too and must not block, so
  ours only notes what happened, and `poll` acts on it.
- In a rebalance the range assignor takes all partitions away and gives some back. The client goes on in those where
  it was, and does not give again what was not committed: so only the others are lost. What is to be committed
  meanwhile waits for the end of the rebalance. No record of a partition that was lost and came back is handed out
  before `lost` could be asked.
- `commit` after the group moved on raises CommitFailedError and no retry can help; the records come again, here or
  at another consumer, and change no row. So it is noted and not an error.
- Paused partitions are forgotten in a rebalance: `poll` pauses again and puts back what leaked.
- `poll` returns nothing and raises nothing while every broker is away: we look at the connections ourselves.
- The default reconnect back-off of 30 s can cost a minute after a broker's restart; 1 s is enough. It goes back to
  the brokers that it knows, never to the bootstrap addresses: after a while without any we connect anew.
- Cooperative rebalancing swaps owners for seconds; the range assignor does not.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn

from kafka import ConsumerRebalanceListener, KafkaConsumer
from kafka.consumer.fetcher import ConsumerRecord
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from kafka.net.compat import KafkaNetClient
from kafka.structs import OffsetAndMetadata, TopicPartition

from stream_ad.adapters.kafka_connection import ClientFault, connect, explained, is_connected
from stream_ad.adapters.kafka_security import PLAIN, KafkaSecurity
from stream_ad.domain.message import Record
from stream_ad.errors import ConfigError, Unavailable

log = logging.getLogger(__name__)

Batches = Mapping[TopicPartition, Sequence[ConsumerRecord]]

MIB = 1024**2

#: how long no broker may be connected before it is said: reconnecting after a cut takes less
AWAY_S = 2.0
#: what leaving may take when the connection is given up anyway
FAREWELL_MS = 1_000
#: the group has moved on, and the records come again
MOVED_ON = (CommitFailedError, RebalanceInProgressError, IllegalGenerationError, UnknownMemberIdError)


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSourceOptions:
    bootstrap: str
    topics: tuple[str, ...]
    group: str = "stream-ad"
    #: a consumer that is not polled for so long loses its partitions
    max_poll_interval_ms: int = 600_000
    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 3_000
    max_partition_fetch_bytes: int = 8 * MIB
    fetch_max_bytes: int = 16 * MIB
    reconnect_backoff_max_ms: int = 1_000
    #: how long bootstrapping and leaving may take
    request_timeout_ms: int = 10_000
    #: an answer that takes longer will not come; None: what the largest fetch takes at 1 MiB/s, at least 15 s
    answer_timeout_ms: int | None = None
    #: how long a commit may take; the next one includes it
    commit_timeout_ms: int = 5_000
    #: a name that survives restarts avoids a rebalance at each; must be unique in the group
    instance: str | None = None
    #: records wait and none comes for so long, or no broker is connected: connect anew
    stalled_s: float = 60.0
    security: KafkaSecurity = PLAIN
    #: given to the client as they are
    client: Mapping[str, Any] = field(default_factory=dict)


class KafkaSource:
    """`domain.ports.Source` on a consumer group. Connects at the first poll, and anew after `close` or a stall.

    Raises:
        ConfigError: a file of the security options is missing or no good.
    """

    def __init__(self, options: KafkaSourceOptions, *, now: Callable[[], float] = time.monotonic) -> None:
        options.security.client_settings()
        self._options, self._now = options, now
        self._consumer: KafkaConsumer | None = None
        self._client: KafkaNetClient | None = None
        self._group = _Group()
        self._paused = False
        # the broker refuses a fetch from before a fail-over by the epoch of the record last read
        self._epochs: dict[TopicPartition, int] = {}
        #: what is to be committed, and was not yet
        self._owed: dict[TopicPartition, OffsetAndMetadata] = {}
        self._watch = _Watch(now())
        #: how often the connection was made anew because records waited and none came
        self.stalls = 0
        #: how often it was made anew because no broker was connected for long
        self.reconnects = 0

    def poll(self, max_items: int, timeout_s: float) -> list[Record]:
        try:
            with explained(self._options.bootstrap, "read from"):
                batches = self._poll(self._connected(), max_items, timeout_s)
        except ClientFault:
            self._close(FAREWELL_MS)
            raise
        self._epochs |= {place: records[-1].leader_epoch or -1 for place, records in batches.items() if records}
        return [record_of(record) for records in batches.values() for record in records]

    def _poll(self, consumer: KafkaConsumer, max_items: int, timeout_s: float) -> Batches:
        if self._paused:
            self._pause(consumer)
        batches: Batches = consumer.poll(timeout_ms=round(timeout_s * 1000), max_records=max_items)
        if self._paused or (batches and self._group.to_be_told()):
            self._put_back(consumer, batches)
            batches = {}
        if batches:
            # the client is past them now: an error here, be it true, would lose them
            self._watch.came(self._now())
            return batches
        if self._owed:
            self._commit_owed(consumer)
        self._check(consumer)
        return {}

    def commit(self, up_to: Mapping[tuple[str, int], int]) -> None:
        if self._consumer is None:
            raise Unavailable(f"not connected to Kafka at {self._options.bootstrap}, nothing was committed")
        with explained(self._options.bootstrap, "commit to"):
            for (topic, partition), offset in up_to.items():
                place = TopicPartition(topic, partition)
                self._owed[place] = OffsetAndMetadata(offset, "", self._epochs.get(place, -1))
            self._commit_owed(self._consumer)

    def _commit_owed(self, consumer: KafkaConsumer) -> None:
        """Commit what is ours to commit. Nothing during a rebalance: it would block, and `poll` comes back to it."""
        held, coming = self._group.share()
        if any(place not in held | coming for place in self._owed):
            log.warning("partitions were taken away before their commit; their records come again")
        self._owed = {place: offset for place, offset in self._owed.items() if place in held | coming}
        if not self._owed or coming:
            return
        try:
            consumer.commit(self._owed, timeout_ms=self._options.commit_timeout_ms)
        except MOVED_ON as error:
            log.warning("the group moved on before a commit; the records come again: %s", error)
        self._owed = {}

    def lost(self) -> set[tuple[str, int]]:
        return {(place.topic, place.partition) for place in self._group.take_lost()}

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        if self._consumer is not None:
            for place in self._consumer.paused():
                with suppress(KeyError):  # a rebalance took it away meanwhile
                    self._consumer.resume(place)

    def lag(self) -> Mapping[tuple[str, int], int]:
        """As of the last fetch; partitions without one are missing."""
        if self._consumer is None:
            return {}
        consumer = self._consumer
        lags = {}
        with explained(self._options.bootstrap, "read from"):
            for place in consumer.assignment():
                end = consumer.highwater(place)
                if end is not None and (position := consumer.position(place, timeout_ms=1000)) is not None:
                    lags[place.topic, place.partition] = max(0, end - position)
        return lags

    def close(self) -> None:
        self._close(self._options.request_timeout_ms)

    @property
    def assigned(self) -> bool:
        """Whether the group has given this consumer any partitions, as far as is known."""
        return bool(self._group.held)

    def _connected(self) -> KafkaConsumer:
        if self._consumer is None:
            options = self._options
            try:
                security = options.security.client_settings()
            except ConfigError as error:  # it was there at the start: somebody is replacing it
                raise Unavailable(str(error)) from error
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
                "request_timeout_ms": options.answer_timeout_ms or _patience_ms(options),
                "bootstrap_timeout_ms": options.request_timeout_ms,
                "metadata_max_age_ms": 30_000,  # a topic that was created, or got partitions, shows within this
                **security,
            }
            consumer, self._client = connect(KafkaConsumer, settings | dict(options.client))
            consumer.subscribe(topics=list(options.topics), listener=self._group)
            self._consumer, self._watch = consumer, _Watch(self._now())
        return self._consumer

    def _close(self, timeout_ms: int) -> None:
        consumer, self._consumer, self._client = self._consumer, None, None
        if consumer is not None:
            try:
                consumer.close(autocommit=False, timeout_ms=timeout_ms)
            except (KafkaError, OSError, RuntimeError) as error:
                log.warning("left Kafka impolitely: %s", error)
        self._group.gone()
        self._owed = {}

    def _pause(self, consumer: KafkaConsumer) -> None:
        if fetching := consumer.assignment() - consumer.paused():
            consumer.pause(*fetching)

    def _put_back(self, consumer: KafkaConsumer, batches: Batches) -> None:
        """Undo the reading of partitions that were assigned during this very poll."""
        for place, records in batches.items():
            consumer.seek(place, records[0].offset)
        if self._paused:
            self._pause(consumer)

    def _check(self, consumer: KafkaConsumer) -> None:
        """Whether all is well with the connection, though nothing came. Raises: Unavailable: it is not."""
        options, watch, now = self._options, self._watch, self._now()
        watch.polled(now)
        if self._paused:
            watch.well(now)
        if self._client is not None and is_connected(self._client):
            watch.away_since = None
        else:
            watch.away_since = watch.away_since or now
            if (gone_s := now - watch.away_since) > options.stalled_s:
                self.reconnects += 1
                self._close(FAREWELL_MS)
            if gone_s > AWAY_S:
                raise Unavailable(
                    f"no connection to Kafka at {options.bootstrap} for {gone_s:.0f} s; check that it runs"
                )
            return
        if not self._group.joined:
            # others may hold a rebalance up for as long as their batch takes
            patience_s = options.max_poll_interval_ms / 1000 + options.stalled_s
            if now - watch.well_since > patience_s:
                self._give_up(f"the group {options.group} let nobody join for {patience_s:.0f} s")
        elif not self._group.held:
            watch.well(now)
            self._check_topics()
        elif now - watch.well_since > options.stalled_s / 2:
            self._check_progress(consumer, now)

    def _check_topics(self) -> None:
        """A topic without partitions is not there. Raises: Unavailable."""
        for topic in self._options.topics:
            if self._client is not None and not self._client.cluster.partitions_for_topic(topic):
                raise Unavailable(
                    f"Kafka at {self._options.bootstrap} has no topic {topic}; create it, or correct kafka.topic"
                )

    def _check_progress(self, consumer: KafkaConsumer, now: float) -> None:
        """Connect anew when what waited at half time still waits. Raises: Unavailable."""
        watch, half_s = self._watch, self._options.stalled_s / 2
        if watch.waiting is not None and now - watch.asked_at < half_s:
            return
        try:
            places = sorted(self._group.held)
            timeout_ms = self._options.commit_timeout_ms
            ends = consumer.end_offsets(places, timeout_ms=timeout_ms)  # pyright: ignore[reportCallIssue] (old stubs)
            positions = {place: consumer.position(place, timeout_ms=1000) for place in places}
        except KafkaError as error:
            self._give_up(
                f"no record came for {now - watch.well_since:.0f} s, and the broker does not say why: {error}"
            )
            return
        if watch.waiting is not None and (stuck := watch.stuck(positions)):
            names = ", ".join(f"{place.topic}/{place.partition}" for place in stuck)
            self._give_up(f"records wait in {names}, and none came for {now - watch.well_since:.0f} s")
        watch.waiting, watch.asked_at = {p: end for p, end in ends.items() if (positions[p] or 0) < end}, now

    def _give_up(self, reason: str) -> NoReturn:
        """Raises: Unavailable, always; the next poll connects anew."""
        self.stalls += 1
        self._close(FAREWELL_MS)
        raise Unavailable(f"{reason}; connecting to Kafka at {self._options.bootstrap} anew")


def _patience_ms(options: KafkaSourceOptions) -> int:
    largest = max(options.fetch_max_bytes, options.max_partition_fetch_bytes)
    return max(15_000, round(1000 * largest / MIB))


class _Watch:
    """What is known of a connection that may have gone quiet. Times are of a monotonic clock, in seconds."""

    #: a source that was not polled for this long cannot have got anything
    UNPOLLED_S = 5.0

    def __init__(self, now: float) -> None:
        self.away_since: float | None = None
        self._polled_at = now
        self.well(now)

    def well(self, now: float) -> None:
        """Records came, or none were asked for."""
        self.well_since = self.asked_at = now
        #: end of each partition that had records waiting when it was last asked; None: not asked yet
        self.waiting: dict[TopicPartition, int] | None = None

    def came(self, now: float) -> None:
        self._polled_at = now
        self.well(now)

    def polled(self, now: float) -> None:
        if now - self._polled_at > self.UNPOLLED_S:
            self.well(now)
        self._polled_at = now

    def stuck(self, positions: Mapping[TopicPartition, int | None]) -> list[TopicPartition]:
        """Partitions whose records of last time still wait."""
        return [p for p, end in (self.waiting or {}).items() if p in positions and (positions[p] or 0) < end]


class _Group(ConsumerRebalanceListener):
    """Notes what the group did. Called on the client's thread, where any call of the consumer would dead-lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: frozenset[TopicPartition] = frozenset()
        # taken away in a rebalance that has not ended: some of them may come back
        self._pending: frozenset[TopicPartition] = frozenset()
        self._lost: set[TopicPartition] = set()
        self._told = True
        #: whether the group has given us our share, be it empty
        self.joined = False

    @property
    def held(self) -> frozenset[TopicPartition]:
        return self._held

    def share(self) -> tuple[frozenset[TopicPartition], frozenset[TopicPartition]]:
        """What is ours, and what may come back to us at the end of a rebalance."""
        with self._lock:
            return self._held, self._pending

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        with self._lock:
            self._held, pending, self._pending = frozenset(assigned), self._pending, frozenset()
            self._lose(pending - self._held)
            self.joined = True

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        with self._lock:
            taken = frozenset(revoked)
            self._held, self._pending = self._held - taken, self._pending | taken
            self.joined = False

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self.gone()

    def gone(self) -> None:
        """All of it: the connection was given up, or the group has forgotten us."""
        with self._lock:
            self._lose(self._held | self._pending)
            self._held = self._pending = frozenset()
            self.joined = False

    def _lose(self, places: frozenset[TopicPartition]) -> None:
        self._lost |= places
        self._told = self._told and not places

    def to_be_told(self) -> bool:
        """Whether there is a loss that nobody was told of. True once: who does not ask then does not care."""
        with self._lock:
            told, self._told = self._told, True
            return not told

    def take_lost(self) -> set[TopicPartition]:
        with self._lock:
            lost, self._lost, self._told = self._lost, set(), True
            return lost


def record_of(record: ConsumerRecord) -> Record:
    """The client's record as ours."""
    return Record(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        # a header may be repeated or empty; the last one counts
        headers={name: value for name, value in record.headers if value is not None},
        timestamp=_time(record.timestamp),
    )


def _time(milliseconds: int) -> datetime | None:
    """None: there is none, or a sender counted in other units, which makes it a time that no calendar has.

    >>> _time(1_767_225_600_000).isoformat(), _time(-1), _time(1_767_225_600_000_000_000)
    ('2026-01-01T00:00:00+00:00', None, None)
    """
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds >= 0 else None
    except (ValueError, OverflowError, OSError):
        return None
