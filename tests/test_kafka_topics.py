"""What `doctor` says about size limits: every mismatch that would refuse, strand or strip a picture."""

from dataclasses import replace

import pytest

from stream_ad.adapters.kafka_topics import RECEIVE_BYTES, Remark, TopicFacts, ask, compare
from stream_ad.errors import Unavailable
from tests.broker import REAL, free_port

MIB = 1024**2
IMAGES = TopicFacts(name="images", partitions=4, replicas=1, max_message_bytes=8 * MIB)
LETTERS = TopicFacts(name="images.dlq", partitions=1, replicas=1, max_message_bytes=8 * MIB)


def remarks(images: TopicFacts = IMAGES, letters: TopicFacts = LETTERS, brokers: int = 1) -> list[Remark]:
    return list(
        compare(
            images,
            [letters],
            brokers=brokers,
            producer_bytes=8 * MIB,
            partition_fetch_bytes=8 * MIB,
            fetch_bytes=32 * MIB,
        )
    )


def test_limits_that_fit_give_nothing_to_say():
    assert remarks() == []


def test_a_topic_with_kafkas_default_refuses_pictures_that_publish_would_send():
    (remark,) = [r for r in remarks(replace(IMAGES, max_message_bytes=1_048_588)) if r.grave]
    assert "takes messages of at most 1,048,588 bytes, kafka.max_request_mb is 8,388,608" in remark.message


@pytest.mark.parametrize(("limit", "grave"), [(RECEIVE_BYTES, False), (RECEIVE_BYTES + 1, True)])
def test_a_topic_that_takes_more_than_a_scorer_can_read_would_stop_it_for_good(limit, grave):
    assert (
        any(
            r.grave and "stops its partition for good" in r.message
            for r in remarks(replace(IMAGES, max_message_bytes=limit))
        )
        is grave
    )


def test_dead_letters_that_lose_their_bytes_are_told():
    (narrow,) = remarks(letters=replace(LETTERS, max_message_bytes=MIB))
    assert "images.dlq takes messages of at most 1,048,576 bytes" in narrow.message
    (wide,) = remarks(replace(IMAGES, max_message_bytes=9 * MIB))
    assert "cameras may send up to 9,437,184 bytes" in wide.message
    assert not any(remark.grave for remark in (narrow, wide))


def test_what_the_broker_does_not_say_is_said_to_be_unknown():
    (remark,) = remarks(replace(IMAGES, max_message_bytes=None), replace(LETTERS, max_message_bytes=None))
    assert "does not say max.message.bytes of images, images.dlq" in remark.message


def test_missing_topics_and_single_copies_are_told():
    (missing,) = remarks(letters=TopicFacts(name="images.dlq", partitions=0, replicas=0, max_message_bytes=None))
    assert "topic images.dlq is not there" in missing.message
    assert [r.message.split()[1] for r in remarks(brokers=3)] == ["images", "images.dlq"]


@pytest.mark.needs_broker
def test_a_broker_is_asked_and_nothing_is_created_by_it(bootstrap, topic):
    missing = f"{topic}.dlq"
    for _ in range(2):
        brokers, (images, letters) = ask(bootstrap, (topic, missing))
        assert brokers >= 1
        assert (images.name, images.partitions) == (topic, 1)
        assert (images.max_message_bytes is None) == (REAL is None)  # tansu answers an empty configuration
        assert letters == TopicFacts(name=missing, partitions=0, replicas=0, max_message_bytes=None)


def test_a_broker_that_is_away_is_said():
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match=f"could not ask Kafka at {address}"):
        ask(address, ("t",))
