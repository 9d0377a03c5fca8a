"""What only a real broker does: restarts, static membership, size limits, SCRAM, the refusal of bad settings.

    STREAM_AD_TEST_BOOTSTRAP=host:9092 STREAM_AD_TEST_BROKER_RESTART='...' python -m pytest tests/test_kafka_real.py

STREAM_AD_TEST_BROKER_RESTART is a command that restarts it and may return at once. Topics must be ours to make and
configure; for SCRAM the broker listens with SASL_PLAINTEXT at STREAM_AD_TEST_SASL.
"""

import os
import subprocess
import uuid
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import (
    NewTopic,
    ScramMechanism,  # pyright: ignore[reportAttributeAccessIssue] (old stubs)
    UserScramCredentialUpsertion,  # pyright: ignore[reportAttributeAccessIssue]
)

from stream_ad.adapters.kafka_producer import KafkaProducerOptions, Outgoing, SafeProducer
from stream_ad.adapters.kafka_security import KafkaSecurity
from stream_ad.adapters.kafka_topics import ask
from stream_ad.errors import ConfigError, DataError
from tests.broker import REAL, client, create_topic
from tests.kafka_kit import (
    committed,
    complaint,
    done_with,
    one_after,
    options,
    poll_until,
    put,
    source_on,
    take,
    values,
)

pytestmark = [
    pytest.mark.needs_real_broker,
    pytest.mark.skipif(REAL is None, reason="STREAM_AD_TEST_BOOTSTRAP names no broker; tansu cannot do this"),
]
RESTART = os.environ.get("STREAM_AD_TEST_BROKER_RESTART")
SASL = os.environ.get("STREAM_AD_TEST_SASL")


def topic_with(bootstrap: str, **configs: str) -> str:
    name = f"images-{uuid.uuid4().hex[:12]}"
    with closing(client(KafkaAdminClient, bootstrap)) as admin:
        admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1, topic_configs=configs)])
    return name


@pytest.mark.skipif(RESTART is None, reason="STREAM_AD_TEST_BROKER_RESTART is not set")
def test_over_a_restart_of_the_broker_everything_comes_and_what_was_committed_stays(bootstrap, topic):
    assert RESTART is not None
    sent = put(bootstrap, topic, 4)
    chosen = options(bootstrap, topic)
    with source_on(chosen) as source, closing(SafeProducer(KafkaProducerOptions(bootstrap=bootstrap))) as producer:
        came = take(source, 3)
        source.commit({(topic, 0): 2})
        subprocess.run(RESTART, shell=True, check=True, timeout=120)
        complaint(source, "no connection to Kafka|could not")
        poll_until([source], lambda: sent[3] in values(came), records=came)
        producer.send([Outgoing(topic=topic, key=None, value=b"after", headers={})])
        poll_until([source], lambda: b"after" in values(came), records=came)
        assert list(dict.fromkeys(values(came))) == [*sent, b"after"]
        assert committed(bootstrap, chosen.group, topic) == 2


def test_a_scorer_with_a_name_comes_back_to_its_partition_without_a_rebalance(bootstrap):
    topic = f"images-{uuid.uuid4().hex[:12]}"
    create_topic(bootstrap, topic, partitions=2)
    put(bootstrap, topic, 20, partition_keys=8)
    group = uuid.uuid4().hex
    with source_on(options(bootstrap, topic, group=group, instance="two")) as two:
        with source_on(options(bootstrap, topic, group=group, instance="one")) as one:
            poll_until([one, two], lambda: one.assigned and two.assigned)
            two.lost()
        # it has left without a word, and comes back before its session ends
        with source_on(options(bootstrap, topic, group=group, instance="one")) as again:
            poll_until([again, two], lambda: again.assigned)
            assert two.lost() == set()


def test_two_scorers_of_one_name_end_the_older_with_what_to_change(bootstrap, topic):
    group = uuid.uuid4().hex
    with (
        source_on(options(bootstrap, topic, group=group, instance="one")) as older,
        source_on(options(bootstrap, topic, group=group, instance="one")) as newer,
    ):
        poll_until([older], lambda: older.assigned)
        poll_until([newer], lambda: newer.assigned)
        with pytest.raises(ConfigError, match=r"kafka\.instance"):
            poll_until([older], lambda: False)


def test_a_session_that_the_broker_forbids_is_said_with_the_setting(bootstrap, topic):
    chosen = options(bootstrap, topic, session_timeout_ms=10, heartbeat_interval_ms=3)
    with source_on(chosen) as source, pytest.raises(ConfigError, match=r"kafka\.session_timeout_ms"):
        poll_until([source], lambda: False)


def test_when_a_scorer_joins_what_was_taken_is_told_and_comes_again_and_what_stayed_does_not(bootstrap):
    topic = f"images-{uuid.uuid4().hex[:12]}"
    create_topic(bootstrap, topic, partitions=4)
    put(bootstrap, topic, 40, partition_keys=16)
    chosen = options(bootstrap, topic)
    with source_on(chosen) as one, source_on(chosen) as two:
        before = take(one, 40)
        one.commit(done_with(before, partition=0))
        poll_until([one, two], lambda: one.assigned and two.assigned, records=(again := []))
        taken = {partition for _, partition in one.lost()}
        # partition 0 was committed, all others are done again by whoever did not have them
        expected = {record.place for record in before if record.partition in taken - {0}}
        poll_until([one, two], lambda: {record.place for record in again} >= expected, records=again)
        assert {record.place for record in again} == expected
        assert 0 < len(taken) < 4
        assert two.lost() == set()
        kept = min({1, 2, 3} - taken)
        one.commit(done_with(before, partition=kept))
        assert committed(bootstrap, chosen.group, topic, kept) == one_after(before, kept)


def test_a_picture_that_the_topic_refuses_is_said_and_the_next_one_goes(bootstrap):
    topic = topic_with(bootstrap, **{"max.message.bytes": "100000"})
    with closing(SafeProducer(KafkaProducerOptions(bootstrap=bootstrap))) as producer:
        with pytest.raises(DataError, match=r"raise max\.message\.bytes"):
            producer.send([Outgoing(topic=topic, key=None, value=b"x" * 200_000, headers={})])
        producer.send([Outgoing(topic=topic, key=None, value=b"small", headers={})])
    with source_on(options(bootstrap, topic)) as source:
        assert values(take(source, 1)) == [b"small"]


def test_a_message_above_the_fetch_size_comes_all_the_same(bootstrap):
    topic = topic_with(bootstrap, **{"max.message.bytes": str(4 * 1024**2)})
    picture = os.urandom(3 * 1024**2)
    with closing(SafeProducer(KafkaProducerOptions(bootstrap=bootstrap))) as producer:
        producer.send([Outgoing(topic=topic, key=None, value=picture, headers={})])
    chosen = options(bootstrap, topic, max_partition_fetch_bytes=1024**2, fetch_max_bytes=1024**2)
    with source_on(chosen) as source:
        assert values(take(source, 1)) == [picture]


def test_the_doctor_reads_the_limit_of_a_topic(bootstrap):
    topic = topic_with(bootstrap, **{"max.message.bytes": "123456"})
    _, (facts,) = ask(bootstrap, (topic,))
    assert facts.max_message_bytes == 123_456


def test_a_topic_that_is_not_there_is_named(bootstrap):
    with source_on(options(bootstrap, "no-such-topic", client={"allow_auto_create_topics": False})) as source:
        complaint(source, "has no topic no-such-topic; create it")


@pytest.mark.skipif(SASL is None, reason="STREAM_AD_TEST_SASL names no listener")
@pytest.mark.parametrize("mechanism", [ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512])
def test_a_user_with_scram_is_let_in(bootstrap, topic, tmp_path: Path, mechanism):
    assert SASL is not None
    with closing(client(KafkaAdminClient, bootstrap)) as admin:
        user = UserScramCredentialUpsertion("line-3", mechanism, "correct horse", 4096)
        admin.alter_user_scram_credentials([user])  # pyright: ignore[reportAttributeAccessIssue]
    (tmp_path / "password").write_text("correct horse\n")
    user = KafkaSecurity(
        protocol="SASL_PLAINTEXT",
        mechanism=mechanism.name.replace("_", "-"),
        username="line-3",
        password_file=tmp_path / "password",
    )
    put(bootstrap, topic, 1)
    with source_on(options(SASL, topic, security=user)) as source:
        assert values(take(source, 1)) == [b"0"]
