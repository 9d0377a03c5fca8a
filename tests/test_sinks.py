"""What is sent is there when `send` returns."""

import json
import logging
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from stream_ad.adapters.in_memory import ManualClock
from stream_ad.adapters.jsonl_sink import JsonLinesSink
from stream_ad.adapters.kafka_producer import KafkaProducerOptions
from stream_ad.adapters.kafka_sink import KafkaSink
from stream_ad.domain.message import DeadLetter, OutboxMessage, Record
from stream_ad.domain.result import Verdict
from stream_ad.errors import Unavailable
from stream_ad.services.messages import dead_letter
from stream_ad.services.outgoing import dead_letter_message, result_message
from stream_ad.services.streaming import result_of
from tests.broker import create_topic, free_port, read_all
from tests.stream_kit import inspection_of
from tests.test_overlay import message

NOW = datetime(2026, 11, 22, 23, 59, tzinfo=UTC)


def a_result(offset: int = 3, **changes) -> OutboxMessage:
    inspection = inspection_of(**{"score": 7.5, "verdict": Verdict.NG} | changes)
    return result_message(result_of(message(offset), inspection, at=NOW, since=NOW, overlay=None))


def a_dead_letter(value: bytes | None = b"\xff\x00 no picture", offset: int = 4) -> OutboxMessage:
    record = Record(topic="t", partition=1, offset=offset, key=b"cam", value=value, headers={"camera": b"S\xc3\xbcd"})
    letter: DeadLetter = dead_letter(record, "decode", ValueError("no picture: ü"), at=NOW)
    return dead_letter_message(letter)


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_json_lines_are_appended_to_the_file_named_and_dead_letters_beside_it(tmp_path):
    sink = JsonLinesSink(tmp_path / "out" / "line 3.jsonl", clock=ManualClock(NOW))
    sink.send([a_result(1), a_dead_letter()])
    sink.send([a_result(2)])
    assert [(line["schema"], line["offset"]) for line in lines(tmp_path / "out" / "line 3.jsonl")] == [
        ("stream-ad.result/1", 1),
        ("stream-ad.result/1", 2),
    ]
    (dead,) = lines(tmp_path / "out" / "line 3.dead-letters.jsonl")
    assert (dead["key"], dead["bytes"], dead["headers"]["camera"]) == ("cam", 13, "Süd")
    assert dead["headers"]["__connect.errors.exception.message"] == "no picture: ü"


def test_a_new_day_is_a_new_file(tmp_path):
    clock = ManualClock(NOW)
    sink = JsonLinesSink(tmp_path / "results.jsonl", clock=clock, daily=True)
    sink.send([a_result(1)])
    clock.sleep(120.0)
    sink.send([a_result(2), a_dead_letter()])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "results-2026-11-22.jsonl",
        "results-2026-11-23.dead-letters.jsonl",
        "results-2026-11-23.jsonl",
    ]


def test_a_line_torn_by_a_crash_spoils_no_other(tmp_path):
    (tmp_path / "results.jsonl").write_bytes(b'{"half a li')
    JsonLinesSink(tmp_path / "results.jsonl", clock=ManualClock(NOW)).send([a_result(1)])
    torn, whole = (tmp_path / "results.jsonl").read_bytes().splitlines()
    assert torn == b'{"half a li'
    assert json.loads(whole)["offset"] == 1


def test_numbers_that_are_not_finite_are_null(tmp_path):
    sink = JsonLinesSink(tmp_path / "results.jsonl", clock=ManualClock(NOW))
    sink.send([a_result(1, margin=float("inf"), score=float("nan"))])
    (line,) = lines(tmp_path / "results.jsonl")
    assert (line["margin"], line["score"], line["verdict"]) == (None, None, "NG")


def test_a_place_that_cannot_be_written_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="check disk and permissions"):
        JsonLinesSink(tmp_path / "file" / "results.jsonl", clock=ManualClock(NOW)).send([a_result(1)])


@pytest.mark.needs_broker
def test_results_and_dead_letters_reach_their_topics(bootstrap, topic):
    create_topic(bootstrap, f"{topic}.results")
    create_topic(bootstrap, f"{topic}.dlq")
    options = KafkaProducerOptions(bootstrap=bootstrap)
    with closing(KafkaSink(options, results_topic=f"{topic}.results", dead_letter_topic=f"{topic}.dlq")) as sink:
        sink.send([a_result(1), a_dead_letter(), a_result(2)])
    results = read_all(bootstrap, f"{topic}.results", 2)
    assert [json.loads(record.value)["offset"] for record in results] == [1, 2]
    assert dict(results[0].headers)["ce_id"] == b"result:folder:/line 1/0/1"
    (dead,) = read_all(bootstrap, f"{topic}.dlq", 1)
    headers = dict(dead.headers)
    assert (dead.key, dead.value, headers["camera"]) == (b"cam", b"\xff\x00 no picture", b"S\xc3\xbcd")
    assert headers["__connect.errors.topic"] == b"t"
    assert headers["__connect.errors.exception.message"].decode() == "no picture: ü"


@pytest.mark.needs_broker
def test_a_dead_letter_that_is_too_large_goes_without_its_bytes_and_the_others_with(bootstrap, topic):
    options = KafkaProducerOptions(bootstrap=bootstrap, max_message_bytes=20_000)
    with closing(KafkaSink(options, results_topic=topic, dead_letter_topic=topic)) as sink:
        sink.send([a_dead_letter(b"x" * 30_000, offset=1), a_dead_letter(b"small", offset=2)])
    sent = {dict(r.headers)["__connect.errors.offset"]: r for r in read_all(bootstrap, topic, 3, timeout_s=3.0)}
    assert sent[b"1"].value is None
    assert dict(sent[b"1"].headers)["stream_ad.value_omitted"] == b"30000"
    assert sent[b"2"].value == b"small"


@pytest.mark.needs_broker
def test_a_dead_letter_whose_key_or_headers_are_too_large_goes_with_its_reason_alone(bootstrap, topic):
    options = KafkaProducerOptions(bootstrap=bootstrap, max_message_bytes=20_000)
    long_key = replace(a_dead_letter(b"1", offset=1), key=b"k" * 30_000)
    letter = a_dead_letter(b"22", offset=2)
    long_header = replace(letter, headers={**letter.headers, "camera": b"c" * 30_000})
    with closing(KafkaSink(options, results_topic=topic, dead_letter_topic=topic)) as sink:
        sink.send([long_key, long_header, a_dead_letter(b"small", offset=3)])
    sent = {dict(r.headers)["__connect.errors.offset"]: r for r in read_all(bootstrap, topic, 3)}
    for offset, size in ((b"1", b"1"), (b"2", b"2")):
        headers = dict(sent[offset].headers)
        assert sent[offset].key is None
        assert not sent[offset].value
        assert "camera" not in headers
        assert headers["__connect.errors.exception.message"].decode() == "no picture: ü"
        assert headers["stream_ad.value_omitted"] == size
    assert sent[b"3"].value == b"small"


@pytest.mark.needs_broker
def test_a_message_that_is_too_large_in_any_form_is_logged_and_holds_up_no_other(bootstrap, topic, caplog):
    options = KafkaProducerOptions(bootstrap=bootstrap, max_message_bytes=20_000)
    letter = a_dead_letter(offset=1)
    reason = {**letter.headers, "__connect.errors.exception.message": b"r" * 30_000}
    result = replace(a_result(2), key=b"k" * 30_000)
    sink = KafkaSink(options, results_topic=topic, dead_letter_topic=topic)
    with closing(sink), caplog.at_level(logging.ERROR):
        sink.send([replace(letter, headers=reason), result, a_dead_letter(b"small", offset=3)])
    (only,) = read_all(bootstrap, topic, 2, timeout_s=3.0)
    assert only.value == b"small"
    first, second = [record.getMessage() for record in caplog.records if record.name.startswith("stream_ad")]
    assert "no message about t/1/1" in first
    assert "no message about result:folder:/line 1/0/2" in second
    assert "the database has it" in first


def test_a_broker_that_is_away_is_unavailable_and_each_attempt_leaves_nothing_behind():
    address = f"127.0.0.1:{free_port()}"
    options = KafkaProducerOptions(bootstrap=address, request_timeout_ms=200, delivery_timeout_ms=1000)
    before = threading.active_count()
    with closing(KafkaSink(options, results_topic="r", dead_letter_topic="d")) as sink:
        for _ in range(3):
            with pytest.raises(Unavailable, match=f"Kafka at {address}"):
                sink.send([a_result(1)])
    assert threading.active_count() == before
