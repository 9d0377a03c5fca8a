"""The camera's side: every picture of a folder becomes one message that says what it is."""

import hashlib
import re
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from stream_ad.adapters.clock import SystemClock
from stream_ad.adapters.folder_scan import picture_files
from stream_ad.adapters.in_memory import ManualClock
from stream_ad.adapters.kafka_producer import KafkaProducerOptions
from stream_ad.adapters.publisher import PublishOptions, _Shutter, message_of, publish
from stream_ad.adapters.references import FileReferences
from stream_ad.domain.message import ImageMessage, Record
from stream_ad.errors import ConfigError, NoImages, Unavailable
from stream_ad.services.messages import read_message
from tests.broker import free_port, read_all
from tests.stream_kit import png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "cam-1").mkdir(parents=True)
    (folder / "cam-1" / "ä b.png").write_bytes(png(7))
    (folder / "notes.txt").write_text("no picture")
    return folder


def understood(folder: Path, options: PublishOptions) -> ImageMessage:
    """What a scorer makes of the folder's only picture."""
    (file,) = picture_files(folder)
    sent = message_of(folder, file, (folder / file.path).read_bytes(), options)
    record = Record(topic=sent.topic, partition=0, offset=0, key=sent.key, value=sent.value, headers=sent.headers)
    message = read_message(record, FileReferences([folder]), at=SystemClock().now())
    assert isinstance(message, ImageMessage)
    return message


@pytest.mark.parametrize("above", [10_000, 0])
def test_a_scorer_reads_what_the_camera_sent_inline_or_by_reference(folder, above):
    message = understood(folder, PublishOptions(topic="t", product="nut", reference_above_bytes=above))
    assert message.data == png(7)
    assert (message.camera, message.declared_product) == ("cam-1", "nut")
    assert (message.record.value is None) == (above == 0)
    assert message.record.headers["sha256"].decode() == hashlib.sha256(png(7)).hexdigest()
    assert message.record.headers["content-type"] == b"image/png"


def test_a_repeat_has_the_same_id_and_other_content_another(folder):
    options = PublishOptions(topic="t")
    first = understood(folder, options)
    assert understood(folder, options).message_id == first.message_id
    (folder / "cam-1" / "ä b.png").write_bytes(png(8))
    assert understood(folder, options).message_id != first.message_id


def test_the_camera_given_comes_before_the_folders_name(folder):
    assert understood(folder, PublishOptions(topic="t", camera="cam-9")).camera == "cam-9"


def send(folder: Path, bootstrap: str, topic: str = "t", **changes: Any) -> int:
    options = PublishOptions(topic=topic, **changes)
    producer = KafkaProducerOptions(bootstrap=bootstrap, request_timeout_ms=1000)
    return publish(folder, producer, options, clock=SystemClock(), stop=threading.Event())


def test_a_folder_without_pictures_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(NoImages, match=r"needed \.png"):
        send(tmp_path, "127.0.0.1:1")
    with pytest.raises(ConfigError, match="there is none at"):
        send(tmp_path / "nowhere", "127.0.0.1:1")
    with pytest.raises(ConfigError, match="rate above 0"):
        send(tmp_path, "127.0.0.1:1", rate=0.0)


@pytest.mark.parametrize("watch", [False, True])
def test_a_broker_that_is_away_from_the_start_is_an_error(folder, watch):
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match=address):
        send(folder, address, watch=watch, settle_s=0.01)


@pytest.mark.needs_broker
def test_every_picture_is_sent_once_oldest_first(folder, bootstrap, topic):
    for number in range(3):
        (folder / f"{number}.png").write_bytes(png(number))
    assert send(folder, bootstrap, topic=topic) == 4
    records = read_all(bootstrap, topic, 5, timeout_s=2.0)
    assert [dict(record.headers)["ce_subject"].decode() for record in records] == [
        "cam-1/ä b.png",
        "0.png",
        "1.png",
        "2.png",
    ]
    assert [record.value for record in records] == [png(grey) for grey in (7, 0, 1, 2)]
    assert [record.key for record in records] == [b"cam-1", None, None, None]


@pytest.mark.needs_broker
def test_a_watched_folder_is_followed_until_the_stop(folder, bootstrap, topic):
    stop, sent = threading.Event(), []

    def on_sent(name: str, count: int) -> None:
        sent.append(name)
        if count == 3:
            stop.set()
        else:
            (folder / "part").write_bytes(png(count))
            (folder / "part").rename(folder / f"{count}.png")

    options = PublishOptions(topic=topic, watch=True, settle_s=0.05, scan_every_s=0.02)
    producer = KafkaProducerOptions(bootstrap=bootstrap)
    assert publish(folder, producer, options, clock=SystemClock(), stop=stop, on_sent=on_sent) == 3
    assert sent == ["cam-1/ä b.png", "1.png", "2.png"]
    assert len(read_all(bootstrap, topic, 4, timeout_s=2.0)) == 3


@pytest.mark.needs_broker
def test_the_rate_is_kept(folder, bootstrap, topic):
    for number in range(3):
        (folder / f"{number}.png").write_bytes(png(number))
    clock = ManualClock()
    began = clock.now()
    options = PublishOptions(topic=topic, rate=2.0)
    publish(folder, KafkaProducerOptions(bootstrap=bootstrap), options, clock=clock, stop=threading.Event())
    assert (clock.now() - began).total_seconds() == pytest.approx(1.5)


@pytest.mark.needs_broker
def test_a_camera_that_is_played_takes_each_picture_now_and_keeps_its_beat(folder, bootstrap, topic):
    (folder / "1.png").write_bytes(png(1))
    clock, stop = ManualClock(), threading.Event()
    began = clock.now()

    def on_sent(name: str, count: int) -> None:
        clock.sleep(0.3)  # what sending took
        if count == 5:
            stop.set()

    options = PublishOptions(topic=topic, rate=2.0, loop=True, trace=True)
    producer = KafkaProducerOptions(bootstrap=bootstrap)
    assert publish(folder, producer, options, clock=clock, stop=stop, on_sent=on_sent) == 5
    headers = [dict(record.headers) for record in read_all(bootstrap, topic, 5)]
    taken = [datetime.fromisoformat(one["ce_time"].decode()) - began for one in headers]
    assert [one.total_seconds() for one in taken] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0], abs=0.01)
    # again and again the same two files, and each time another picture with a trace of its own
    assert len({one["ce_subject"] for one in headers}) == 2
    assert len({one["ce_id"] for one in headers}) == 5
    assert len({one["traceparent"] for one in headers}) == 5
    assert all(re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-01", one["traceparent"]) for one in headers)


def test_a_camera_that_was_held_up_does_not_make_up_for_an_hour():
    clock = ManualClock()
    shutter = _Shutter(clock, 1.0, threading.Event())
    assert shutter.next() == clock.now()
    clock.sleep(3600.0)
    began = clock.now()
    for _ in range(4):
        shutter.next()
    assert (clock.now() - began).total_seconds() == pytest.approx(2.0)


def test_a_folder_is_not_played_and_watched_at_once(folder):
    with pytest.raises(ConfigError, match="got both"):
        send(folder, "127.0.0.1:1", watch=True, loop=True)
