"""What every source promises, whatever is behind it."""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from stream_ad.adapters.clock import SystemClock
from stream_ad.adapters.folder_source import FolderSource
from stream_ad.adapters.in_memory import InMemoryLedger, InMemoryLog, InMemorySource, ManualClock
from stream_ad.adapters.kafka_producer import KafkaProducerOptions, Outgoing, SafeProducer
from stream_ad.adapters.kafka_source import KafkaSource, KafkaSourceOptions
from stream_ad.domain.message import Record
from stream_ad.domain.ports import Source
from tests.broker import SESSION
from tests.stream_kit import png


@dataclass
class Rig:
    """One kind of source: `connect` gives a new one on the same state, as after a restart."""

    connect: Callable[[], Source]
    put: Callable[[str, bytes], None]
    topic: str


@pytest.fixture(params=["memory", "folder", pytest.param("kafka", marks=pytest.mark.needs_broker)])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    match request.param:
        case "memory":
            log, clock = InMemoryLog(), ManualClock()
            yield Rig(
                connect=lambda: InMemorySource(log, clock),
                put=lambda name, data: void(log.append(data, headers={"ce_subject": name.encode()})),
                topic="images",
            )
        case "folder":
            ledger, folder = InMemoryLedger(), tmp_path / "watched"
            folder.mkdir()
            count = iter(range(1000))

            def put(name: str, data: bytes) -> None:
                (folder / "part").write_bytes(data)
                written = time.time() - 100 + next(count)
                os.utime(folder / "part", (written, written))
                (folder / "part").rename(folder / name)

            yield Rig(
                connect=lambda: FolderSource(folder, ledger, SystemClock(), topic="line-1", settle_s=0.01),
                put=put,
                topic="line-1",
            )
        case _:
            bootstrap, topic = request.getfixturevalue("bootstrap"), request.getfixturevalue("topic")
            producer = SafeProducer(KafkaProducerOptions(bootstrap=bootstrap))
            options = KafkaSourceOptions(bootstrap=bootstrap, topics=(topic,), group=uuid.uuid4().hex, **SESSION)

            def send(name: str, data: bytes) -> None:
                headers = {"ce_subject": name.encode()}
                producer.send([Outgoing(topic=topic, key=None, value=data, headers=headers)])

            with closing(producer):
                yield Rig(connect=lambda: KafkaSource(options), put=send, topic=topic)


def void(_: object) -> None:
    return None


def take(source: Source, count: int, *, at_once: int = 100) -> list[Record]:
    """Exactly `count` records, however many polls they take."""
    records: list[Record] = []
    give_up = time.monotonic() + 30
    while len(records) < count and time.monotonic() < give_up:
        records += source.poll(min(at_once, count - len(records)), 0.2)
    assert len(records) == count
    return records


def names(records: list[Record]) -> list[str]:
    return [record.headers["ce_subject"].decode() for record in records]


def test_everything_comes_in_order_with_its_bytes_and_rising_offsets(rig):
    for number in range(5):
        rig.put(f"{number}.png", png(number))
    with closing(rig.connect()) as source:
        records = take(source, 5, at_once=2)
        assert source.poll(10, 0.3) == []
    assert names(records) == [f"{number}.png" for number in range(5)]
    assert [record.value for record in records] == [png(number) for number in range(5)]
    assert [record.offset for record in records] == sorted({record.offset for record in records})
    assert {(record.topic, record.partition) for record in records} == {(rig.topic, 0)}


def test_never_more_than_was_asked_for(rig):
    for number in range(5):
        rig.put(f"{number}.png", png(number))
    with closing(rig.connect()) as source:
        first = take(source, 1)
        assert len(source.poll(2, 1.0)) <= 2
    assert names(first) == ["0.png"]


def test_what_was_not_committed_comes_again_after_a_restart_and_only_that(rig):
    for number in range(5):
        rig.put(f"{number}.png", png(number))
    with closing(rig.connect()) as source:
        first = take(source, 5)
        source.commit({(rig.topic, 0): first[2].offset + 1})
    with closing(rig.connect()) as source:
        again = take(source, 2)
        assert source.poll(10, 0.3) == []
        assert [(record.offset, record.value) for record in again] == [(r.offset, r.value) for r in first[3:]]
        source.commit({(rig.topic, 0): again[-1].offset + 1})
    with closing(rig.connect()) as source:
        rig.put("new.png", png(99))
        assert names(take(source, 1)) == ["new.png"]


def test_what_comes_later_is_found_too(rig):
    with closing(rig.connect()) as source:
        rig.put("0.png", png(0))
        take(source, 1)
        rig.put("1.png", png(1))
        assert names(take(source, 1)) == ["1.png"]


def test_nothing_comes_while_paused_and_nothing_is_lost_by_it(rig):
    rig.put("0.png", png(0))
    with closing(rig.connect()) as source:
        assert names(take(source, 1)) == ["0.png"]
        source.pause()
        rig.put("1.png", png(1))
        for _ in range(3):
            assert source.poll(10, 0.1) == []
        source.resume()
        assert names(take(source, 1)) == ["1.png"]


def test_paused_from_the_start_nothing_comes_either(rig):
    rig.put("0.png", png(0))
    with closing(rig.connect()) as source:
        source.pause()
        for _ in range(8):
            assert source.poll(10, 0.2) == []
        source.resume()
        assert names(take(source, 1)) == ["0.png"]


def test_lag_counts_what_waits(rig):
    for number in range(5):
        rig.put(f"{number}.png", png(number))
    with closing(rig.connect()) as source:
        take(source, 2)
        assert source.lag() == {(rig.topic, 0): 3}
        take(source, 3)
        assert source.lag() == {(rig.topic, 0): 0}


def test_a_commit_may_come_late_and_in_parts(rig):
    for number in range(4):
        rig.put(f"{number}.png", png(number))
    with closing(rig.connect()) as source:
        records = take(source, 4)
        for record in records[:3]:
            source.commit({(rig.topic, 0): record.offset + 1})
    with closing(rig.connect()) as source:
        assert names(take(source, 1)) == ["3.png"]
