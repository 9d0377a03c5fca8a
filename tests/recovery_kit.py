"""A scorer on a real topic, a real database and real sinks; only the model is the grey one of `stream_kit`."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer
from kafka.structs import TopicPartition
from sqlalchemy import text

from stream_ad.adapters.clock import SystemClock
from stream_ad.adapters.decode import decode
from stream_ad.adapters.in_memory import InMemoryBanks
from stream_ad.adapters.jsonl_sink import JsonLinesSink
from stream_ad.adapters.kafka_producer import KafkaProducerOptions
from stream_ad.adapters.kafka_sink import KafkaSink
from stream_ad.adapters.kafka_source import KafkaSource, KafkaSourceOptions
from stream_ad.adapters.storage import Database
from stream_ad.services.streaming import Stream, StreamOptions
from tests.broker import SESSION, client
from tests.stream_kit import GreyInspector

LINES = "results.jsonl"


@contextmanager
def scorer(
    database: Database,
    folder: Path,
    bootstrap: str,
    topic: str,
    *,
    source: type[KafkaSource] = KafkaSource,
    topics: type[KafkaSink] = KafkaSink,
    lines: type[JsonLinesSink] = JsonLinesSink,
    **changes: Any,
) -> Iterator[Stream]:
    """Wired as `stream-ad serve` does it, with other classes in some places if wished; closed at the end."""
    with ExitStack() as open_until_end:
        clock = SystemClock()
        consumer = open_until_end.enter_context(
            closing(source(KafkaSourceOptions(bootstrap=bootstrap, topics=(topic,), group=f"{topic}.line", **SESSION)))
        )
        sinks = [
            topics(
                KafkaProducerOptions(bootstrap=bootstrap),
                results_topic=f"{topic}.results",
                dead_letter_topic=f"{topic}.dlq",
            ),
            lines(folder / LINES, clock=clock),
        ]
        for sink in sinks:
            open_until_end.enter_context(closing(sink))
        wiring: dict[str, Any] = {
            "source": consumer,
            "inspector": GreyInspector(),
            "banks": InMemoryBanks(),
            "results": database.results,
            "decode": decode,
            "clock": clock,
            "sinks": sinks,
            "options": StreamOptions(batch_size=8, poll_timeout_s=0.1),
        }
        yield Stream(**wiring | changes)


def open_database(folder: Path) -> Database:
    """Made when it is not there."""
    return Database(f"sqlite:///{folder / 'stream_ad.db'}", folder / "entries", create=True)


class Books:
    """What the database and the broker have of a topic of one partition, read from outside."""

    def __init__(self, database: Database, bootstrap: str, topic: str) -> None:
        self._database, self._place = database, TopicPartition(topic, 0)
        self._consumer = client(KafkaConsumer, bootstrap, group_id=f"{topic}.line", enable_auto_commit=False)

    def close(self) -> None:
        self._consumer.close(autocommit=False)

    def count(self, table: str) -> int:
        with self._database.engine.connect() as connection:
            return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()

    @property
    def verdicts(self) -> int:
        """Records with a result or a dead letter."""
        return self.count("results") + self.count("dead_letters")

    @property
    def committed(self) -> int:
        return self._consumer.committed(self._place) or 0


def work_until(stream: Stream, done: Callable[[], bool], *, within_s: float = 60.0) -> None:
    """Run the stream in a thread until all is done as asked, then end it in order."""
    stop, failures = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            stream.run(stop)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="heir")
    thread.start()
    give_up = time.monotonic() + within_s
    try:
        while not done() and thread.is_alive() and time.monotonic() < give_up:
            time.sleep(0.1)
    finally:
        stop.set()
        thread.join(30)
    assert not failures, failures
    assert not thread.is_alive()
