"""What a network and a broker do to a scorer, and that it loses nothing by it.

The broker is a tansu of its own behind a wire that fails, whatever STREAM_AD_TEST_BOOTSTRAP says: a broker must
advertise the wire's address.
"""

import gc
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import NamedTuple

import pytest

from stream_ad.adapters.kafka_connection import is_connected
from stream_ad.adapters.kafka_producer import KafkaProducerOptions, Outgoing, SafeProducer
from stream_ad.adapters.kafka_source import KafkaSource
from stream_ad.errors import Unavailable
from tests.broker import broker_behind, create_topic, read_all
from tests.kafka_kit import complaint, options, poll_until, put, source_on, take, values
from tests.wire import Wire

pytestmark = pytest.mark.needs_broker


class Line(NamedTuple):
    wire: Wire
    bootstrap: str
    topic: str


@pytest.fixture(scope="module")
def wired() -> Iterator[tuple[Wire, str]]:
    with Wire() as wire, broker_behind(wire) as bootstrap:
        yield wire, bootstrap


@pytest.fixture
def line(wired: tuple[Wire, str]) -> Iterator[Line]:
    """A new topic behind the wire, which is as good as new after each test."""
    wire, bootstrap = wired
    topic = f"images-{uuid.uuid4().hex[:12]}"
    create_topic(bootstrap, topic)
    yield Line(wire, bootstrap, topic)
    wire.thaw()
    wire.accept()
    wire.weather.delay_s, wire.weather.piece = 0.0, 64 * 1024


def test_after_a_cut_everything_comes_in_order_and_nothing_twice(line):
    sent = put(line.bootstrap, line.topic, 3)
    with source_on(options(line.bootstrap, line.topic)) as source:
        came = take(source, 2)
        assert line.wire.cut() > 0
        sent += put(line.bootstrap, line.topic, 3, start=3)
        came += take(source, 4)
        assert values(came) == sent
        assert source.poll(10, 0.5) == []


def test_a_broker_that_is_away_is_said_and_found_again(line):
    put(line.bootstrap, line.topic, 1)
    with source_on(options(line.bootstrap, line.topic)) as source:
        first = take(source, 1)
        line.wire.refuse()
        complaint(source, f"no connection to Kafka at {line.bootstrap} for")
        with pytest.raises(Unavailable):
            source.commit({(line.topic, 0): 1})
        line.wire.accept()
        put(line.bootstrap, line.topic, 1, start=1)
        # the session may have ended meanwhile: then the first record comes again, as it was not committed
        came = take(source, 1)
        if values(came) == [b"0"]:
            assert source.lost() == {(line.topic, 0)}
            came = take(source, 1)
        assert values(first + came) == [b"0", b"1"]


def test_what_the_client_had_fetched_when_the_broker_went_away_is_handed_out_and_not_passed_over(line):
    sent = put(line.bootstrap, line.topic, 6)
    seconds = [0.0]
    with closing(KafkaSource(options(line.bootstrap, line.topic), now=lambda: seconds[0])) as source:
        came = take(source, 1, at_once=1)
        line.wire.refuse()
        while source._client is None or is_connected(source._client):
            with suppress(Unavailable):
                came += source.poll(1, 0.0)
        while seconds[0] < 20:
            seconds[0] += 3
            with suppress(Unavailable):
                came += source.poll(1, 0.1)
        line.wire.accept()
        poll_until([source], lambda: sent[-1] in values(came), records=came)
        assert list(dict.fromkeys(values(came))) == sent


def test_a_broker_that_is_away_for_long_is_looked_for_at_its_bootstrap_address(line):
    put(line.bootstrap, line.topic, 1)
    with source_on(options(line.bootstrap, line.topic, stalled_s=3.0)) as source:
        take(source, 1)
        line.wire.refuse()
        poll_until([source], lambda: source.reconnects == 1)
        assert source.lost() == {(line.topic, 0)}
        assert not source.assigned
        line.wire.accept()
        assert values(take(source, 1)) == [b"0"]


def test_half_open_connections_are_given_up_and_made_anew(line):
    put(line.bootstrap, line.topic, 1)
    with source_on(options(line.bootstrap, line.topic, answer_timeout_ms=1500)) as source:
        take(source, 1)
        assert line.wire.strand() > 0
        put(line.bootstrap, line.topic, 1, start=1)
        poll_until([source], lambda: b"1" in values(came), records=(came := []))


def test_after_a_broker_hung_for_longer_than_the_session_only_what_was_not_committed_comes_again(line):
    put(line.bootstrap, line.topic, 3)
    with source_on(options(line.bootstrap, line.topic, answer_timeout_ms=1500)) as source:
        take(source, 3)
        source.commit({(line.topic, 0): 2})
        line.wire.freeze()
        for _ in range(20):
            with suppress(Unavailable):
                assert source.poll(10, 0.2) == []
        line.wire.thaw()
        put(line.bootstrap, line.topic, 1, start=3)
        poll_until([source], lambda: b"3" in values(came), records=(came := []))
        # the group may have taken the partition away meanwhile, and then it says so
        again = [b"2"] if source.lost() else []
        assert values(came) == [*again, b"3"]


def test_bytes_that_dribble_in_are_put_together(line):
    sent = put(line.bootstrap, line.topic, 5)
    line.wire.weather.piece, line.wire.weather.delay_s = 7, 0.0005
    with source_on(options(line.bootstrap, line.topic)) as source:
        assert values(take(source, 5)) == sent


def test_a_client_that_stopped_fetching_is_noticed_and_made_anew(line):
    put(line.bootstrap, line.topic, 1)
    with source_on(options(line.bootstrap, line.topic, stalled_s=1.0)) as source:
        take(source, 1)
        source.commit({(line.topic, 0): 1})
        assert source._consumer is not None
        source._consumer.pause(*source._consumer.assignment())  # as a fault of the client would
        put(line.bootstrap, line.topic, 1, start=1)
        poll_until([source], lambda: source.stalls == 1)
        assert source.lost() == {(line.topic, 0)}
        assert values(take(source, 1)) == [b"1"]


def test_a_line_without_pictures_is_no_stall(line):
    put(line.bootstrap, line.topic, 1)
    with source_on(options(line.bootstrap, line.topic, stalled_s=0.3)) as source:
        take(source, 1)
        for _ in range(10):
            assert source.poll(1, 0.2) == []
        assert source.stalls == 0
        assert source.lost() == set()


def test_a_producer_cut_while_it_sends_has_sent_everything_when_it_returns(line):
    with closing(SafeProducer(KafkaProducerOptions(bootstrap=line.bootstrap))) as producer:
        for number in range(6):
            if number % 2:
                line.wire.cut()
            message = Outgoing(topic=line.topic, key=None, value=f"{number}".encode(), headers={})
            producer.send([message])
    sent = [record.value for record in read_all(line.bootstrap, line.topic, 6)]
    assert list(dict.fromkeys(sent)) == [f"{number}".encode() for number in range(6)]


def test_a_producer_says_that_the_broker_is_away_and_works_again_when_it_is_back(line):
    chosen = KafkaProducerOptions(bootstrap=line.bootstrap, request_timeout_ms=1000, delivery_timeout_ms=2000)
    message = Outgoing(topic=line.topic, key=b"cam", value=b"x", headers={})
    with closing(SafeProducer(chosen)) as producer:
        producer.send([message])
        line.wire.refuse()
        for _ in range(2):
            with pytest.raises(Unavailable, match=f"could not write to Kafka at {line.bootstrap}"):
                producer.send([message])
        line.wire.accept()
        producer.send([message])
    assert {record.value for record in read_all(line.bootstrap, line.topic, 2)} == {b"x"}


def test_a_producer_given_up_with_messages_unsent_leaves_neither_socket_nor_thread(line):
    hasty = KafkaProducerOptions(bootstrap=line.bootstrap, delivery_timeout_ms=1500, request_timeout_ms=1000)
    with closing(SafeProducer(hasty)) as producer:
        producer.send([_message(line, b"first")])
        assert _sockets_to(line.bootstrap)
        line.wire.freeze()
        # more than the kernel takes from a client whose broker does not read
        with pytest.raises(Unavailable):
            producer.send([_message(line, os.urandom(900_000)) for _ in range(20)])
    give_up = time.monotonic() + 10
    while _sockets_to(line.bootstrap) or _client_threads():
        assert time.monotonic() < give_up, (_sockets_to(line.bootstrap), _client_threads())
        time.sleep(0.05)


def _message(line: Line, value: bytes) -> Outgoing:
    return Outgoing(topic=line.topic, key=None, value=value, headers={})


def _sockets_to(address: str) -> list[socket.socket]:
    """Open ones of this process, whoever has forgotten them."""
    port = int(address.rpartition(":")[2])
    found = []
    for one in gc.get_objects():
        if issubclass(type(one), socket.socket) and one.fileno() >= 0:  # isinstance asks lazy modules, which warn
            with suppress(OSError):
                peer = one.getpeername()
                if peer and peer[1] == port:
                    found.append(one)
    return found


def _client_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "kafka" in thread.name.lower()]
