"""Scorers that share a topic: what they are given, what is taken from them, what they have committed."""

import time
import uuid
from collections import Counter

import pytest

from stream_ad.adapters.kafka_source import KafkaSource
from stream_ad.domain.message import Record
from tests.broker import SESSION, create_topic
from tests.kafka_kit import committed, done_with, one_after, options, places, poll_until, put, source_on, take, values
from tests.rebalance import Rebalance, held

pytestmark = pytest.mark.needs_broker

#: the longest silence that the group suffers, and a batch that takes much longer
MAX_POLL_MS = max(2_000, SESSION["session_timeout_ms"])
BATCH_S = 2.4 * MAX_POLL_MS / 1000


@pytest.fixture
def wide(bootstrap: str) -> str:
    """A new topic of four partitions."""
    name = f"images-{uuid.uuid4().hex[:12]}"
    create_topic(bootstrap, name, partitions=4)
    return name


def test_a_batch_longer_than_the_longest_silence_loses_nothing_when_the_source_is_polled_meanwhile(bootstrap, topic):
    put(bootstrap, topic, 3)
    chosen = options(bootstrap, topic, max_poll_interval_ms=MAX_POLL_MS)
    with source_on(chosen) as source:
        batch = take(source, 2, at_once=2)
        source.pause()
        scored = time.monotonic() + BATCH_S
        while time.monotonic() < scored:
            assert source.poll(10, 0.1) == []
            assert source.lost() == set()
        source.commit({(topic, 0): batch[-1].offset + 1})
        source.resume()
        assert values(take(source, 1)) == [b"2"]
        assert source.lost() == set()
        assert committed(bootstrap, chosen.group, topic) == 2


def test_a_scorer_that_falls_silent_for_longer_loses_its_partition_and_is_told(bootstrap, topic):
    put(bootstrap, topic, 2)
    chosen = options(bootstrap, topic, max_poll_interval_ms=MAX_POLL_MS)
    with source_on(chosen) as source:
        first = take(source, 2)
        time.sleep(BATCH_S)  # the very thing that must not happen
        source.commit({(topic, 0): 2})
        poll_until([source], lambda: len(came) >= 2, records=(came := []))
        assert source.lost() == {(topic, 0)}
        assert places(came) == places(first)
        assert committed(bootstrap, chosen.group, topic) is None


def test_what_a_rebalance_takes_is_told_and_comes_again_and_what_stays_does_not(bootstrap, wide):
    put(bootstrap, wide, 40, partition_keys=16)
    chosen = options(bootstrap, wide)
    with source_on(chosen) as source:
        before = take(source, 40)
        source.commit(done_with(before, partition=0))
        came: list[Record] = []
        Rebalance(source).give(wide, {2, 3})
        poll_until([source], lambda: held(source) == {2, 3}, records=came)
        assert source.lost() == {(wide, 0), (wide, 1)}
        # who kept a partition commits it, although the group has changed
        source.commit(done_with(before, partition=2))
        assert committed(bootstrap, chosen.group, wide, 2) == one_after(before, 2)
        # the two come back: 0 was committed, 1 is done again
        Rebalance(source).give(wide, range(4))
        again = {record.place for record in before if record.partition == 1}
        poll_until([source], lambda: {record.place for record in came} >= again, records=came)
        assert {record.place for record in came} == again
        assert source.lost() == set()


def test_a_commit_in_the_middle_of_a_rebalance_is_made_when_it_has_ended(bootstrap, wide):
    put(bootstrap, wide, 40, partition_keys=16)
    chosen = options(bootstrap, wide)
    with source_on(chosen) as source:
        before = take(source, 40)
        rebalance = Rebalance(source)
        poll_until([source], lambda: not held(source))
        source.commit({place: offset for one in range(4) for place, offset in done_with(before, partition=one).items()})
        assert [committed(bootstrap, chosen.group, wide, partition) for partition in range(4)] == [None] * 4
        rebalance.give(wide, {1, 2})
        poll_until([source], lambda: held(source) == {1, 2})
        assert source.poll(10, 0.1) == []
        found = [committed(bootstrap, chosen.group, wide, partition) for partition in range(4)]
        assert found == [None, one_after(before, 1), one_after(before, 2), None]
        assert source.lost() == {(wide, 0), (wide, 3)}


def test_scorers_that_come_and_go_leave_nothing_unread_and_commit_exactly_what_was_done(bootstrap, wide):
    # tansu forgets a rebalance now and then; a client waits 5 s longer than this for its end before it asks again
    chosen = options(bootstrap, wide, max_poll_interval_ms=5_000)
    done: Counter = Counter()
    sources = [KafkaSource(chosen), KafkaSource(chosen)]
    try:
        for turn in range(3):
            put(bootstrap, wide, 60, start=60 * turn, partition_keys=16)
            while len(done) < 60 * (turn + 1):
                for source in sources:
                    work(source, done)
            if turn == 0:
                sources.append(KafkaSource(chosen))
            elif turn == 1:
                sources.pop(0).close()
    finally:
        for source in sources:
            source.close()
    assert {int(value) for value in done} == set(range(180))
    total = sum(committed(bootstrap, chosen.group, wide, partition) or 0 for partition in range(4))
    assert total == 180


def work(source: KafkaSource, done: Counter) -> None:
    """A poll, and what came is done and committed."""
    records = source.poll(7, 0.1)
    done.update(values(records))
    up_to: dict[tuple[str, int], int] = {}
    for record in records:
        up_to[record.topic, record.partition] = record.offset + 1
    if up_to:
        source.commit(up_to)
