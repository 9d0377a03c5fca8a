"""Several scorers on one topic, one database and one result topic: nobody loses a picture, nobody shows one twice."""

import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from kafka.coordinator.base import BaseCoordinator

from stream_ad.adapters.clock import SystemClock
from stream_ad.adapters.decode import decode
from stream_ad.adapters.in_memory import InMemoryBanks
from stream_ad.adapters.kafka_producer import KafkaProducerOptions, Outgoing, SafeProducer
from stream_ad.adapters.kafka_sink import KafkaSink
from stream_ad.adapters.kafka_source import KafkaSource, KafkaSourceOptions
from stream_ad.adapters.storage import Database
from stream_ad.domain.result import Inspection
from stream_ad.services.streaming import Stream, StreamOptions
from tests.broker import REAL, SESSION, create_topic, read_all
from tests.stream_kit import GreyInspector, png

pytestmark = pytest.mark.needs_broker

PARTITIONS = 4
PATIENCE_S = 200.0


class Slow(GreyInspector):
    """Takes its time over every batch, the first one most of all."""

    def __init__(self, first_s: float, each_s: float) -> None:
        super().__init__()
        self.first_s, self.each_s = first_s, each_s
        #: set when the first batch is with the model
        self.at_work = threading.Event()

    def inspect(self, pictures, *, declared, cameras) -> list[Inspection]:
        first = not self.batches
        self.at_work.set()
        time.sleep(self.first_s if first else self.each_s)  # what a model does
        return super().inspect(pictures, declared=declared, cameras=cameras)


class Scorer:
    """A stream in a thread, on a database connection of its own, as a process would be."""

    def __init__(self, bootstrap: str, topic: str, url: str, entries: Path, inspector: GreyInspector, **kafka) -> None:
        self.stop = threading.Event()
        self.inspector = inspector
        self._thread = threading.Thread(target=self._run, args=(bootstrap, topic, url, entries, kafka), name="scorer")
        self.stream: Stream | None = None
        self._thread.start()

    def _run(self, bootstrap: str, topic: str, url: str, entries: Path, kafka: dict) -> None:
        source = KafkaSource(
            KafkaSourceOptions(bootstrap=bootstrap, topics=(topic,), group=f"{topic}-scorers", **SESSION | kafka)
        )
        sink = KafkaSink(
            KafkaProducerOptions(bootstrap=bootstrap),
            results_topic=f"{topic}-results",
            dead_letter_topic=f"{topic}.dlq",
        )
        with Database(url, entries) as database, closing(source), closing(sink):
            self.stream = Stream(
                source=source,
                inspector=self.inspector,
                banks=InMemoryBanks(),
                results=database.results,
                decode=decode,
                clock=SystemClock(),
                sinks=[sink],
                options=StreamOptions(batch_size=4, poll_timeout_s=0.1, keep_alive_s=1.0),
            )
            self.stream.run(self.stop)

    def leave(self) -> None:
        self.stop.set()
        self._thread.join(timeout=PATIENCE_S)
        assert not self._thread.is_alive()


@pytest.fixture
def line(bootstrap: str, topic: str, tmp_path: Path):
    """A topic of several partitions, with its result topic, and an empty database."""
    name = f"{topic}-wide"
    create_topic(bootstrap, name, PARTITIONS)
    create_topic(bootstrap, f"{name}-results")
    create_topic(bootstrap, f"{name}.dlq")
    url = f"sqlite:///{tmp_path / 'stream-ad.db'}"
    Database(url, tmp_path / "entries", create=True).close()
    return bootstrap, name, url, tmp_path / "entries"


def send(bootstrap: str, topic: str, count: int) -> None:
    with closing(SafeProducer(KafkaProducerOptions(bootstrap=bootstrap))) as producer:
        producer.send(
            [
                Outgoing(
                    topic=topic, key=f"camera-{n % 13}".encode(), value=png(100 + n % 100), headers={"ce_id": b"%d" % n}
                )
                for n in range(count)
            ]
        )


def wait_for(database: Database, count: int) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while (rows := len(database.results.recent(10_000))) < count:
        assert time.monotonic() < give_up, f"only {rows} of {count} pictures have a verdict"
        time.sleep(0.1)


def shown(bootstrap: str, topic: str, count: int) -> Counter[str]:
    """How often each result was published. Reads on for a moment, so that a repeat would be seen."""
    records = read_all(bootstrap, f"{topic}-results", count + 1, timeout_s=5.0)
    return Counter(dict(record.headers)["ce_subject"].decode() for record in records)


def test_a_batch_longer_than_the_poll_interval_loses_no_partition(line):
    bootstrap, topic, url, entries = line
    send(bootstrap, topic, 24)
    slow = Slow(first_s=12.0, each_s=0.0)
    scorer = Scorer(bootstrap, topic, url, entries, slow, max_poll_interval_ms=5000)
    try:
        with Database(url, entries) as database:
            wait_for(database, 24)
            assert scorer.stream is not None
            repeated = scorer.stream.counters.repeated
    finally:
        scorer.leave()
    assert len(slow.seen) == 24  # nothing came a second time
    assert repeated == 0
    assert shown(bootstrap, topic, 24) == Counter({str(n): 1 for n in range(24)})


def test_scorers_that_join_and_leave_under_load_repeat_no_visible_result(line, monkeypatch):
    if not REAL:  # tansu never comes to rest again after its group's leader said goodbye; a death it does notice
        monkeypatch.setattr(BaseCoordinator, "maybe_leave_group", lambda *_, **__: None)
    bootstrap, topic, url, entries = line
    send(bootstrap, topic, 160)

    def join() -> Scorer:
        return Scorer(bootstrap, topic, url, entries, Slow(0.05, 0.05), max_poll_interval_ms=5000, stalled_s=3.0)

    first, second = join(), join()
    scorers = [first, second]
    try:
        with Database(url, entries) as database:
            wait_for(database, 20)
            scorers.append(join())
            wait_for(database, 60)
            first.leave()
            wait_for(database, 90)
            scorers.append(join())
            second.leave()
            wait_for(database, 160)
            seen = sum(len(scorer.inspector.seen) for scorer in scorers)
    finally:
        for scorer in scorers:
            scorer.leave()
    assert seen >= 160
    assert shown(bootstrap, topic, 160) == Counter({str(n): 1 for n in range(160)})
