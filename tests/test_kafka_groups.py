"""Scorers that share a topic: what they are given, what is taken from them, what they have committed."""

import time
import uuid
from collections import Counter

import pytest

from stream_ad.adapters.kafka_source import KafkaSource, KafkaSourceOptions
from stream_ad.domain.message import Record
from tests.broker import REAL, SESSION, create_topic
from tests.kafka_kit import committed, options, places, poll_until, put, source_on, take, values

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


def options_of_one_group(bootstrap: str, topic: str) -> KafkaSourceOptions:
    return options(bootstrap, topic, group=uuid.uuid4().hex)


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


def test_when_a_scorer_joins_what_was_taken_is_told_and_comes_again_and_what_stayed_does_not(bootstrap, wide):
    put(bootstrap, wide, 40, partition_keys=16)
    chosen = options_of_one_group(bootstrap, wide)
    with source_on(chosen) as one, source_on(chosen) as two:
        before = take(one, 40)
        one.commit(done_with(before, partition=0))
        again: list[Record] = []
        poll_until([one, two], lambda: one.assigned and two.assigned, records=again)
        taken = {partition for _, partition in one.lost()}
        # partition 0 was committed, all others are done again by whoever did not have them
        expected = {record.place for record in before if record.partition in taken - {0}}
        poll_until([one, two], lambda: {record.place for record in again} >= expected, records=again)
        assert {record.place for record in again} == expected
        assert 0 < len(taken) < 4
        assert two.lost() == set()
        # who kept a partition commits it, although the group has changed
        kept = min({1, 2, 3} - taken)
        one.commit(done_with(before, partition=kept))
        assert committed(bootstrap, chosen.group, wide, kept) == one_after(before, kept)


@pytest.mark.skipif(REAL is not None, reason="a real broker ends a rebalance within one poll")
def test_a_commit_in_the_middle_of_a_rebalance_is_made_when_it_has_ended(bootstrap, wide):
    put(bootstrap, wide, 40, partition_keys=16)
    chosen = options_of_one_group(bootstrap, wide)
    with source_on(chosen) as one, source_on(chosen) as two:
        before = take(one, 40)
        poll_until([one, two], lambda: not one.assigned)
        one.commit({**done_with(before, 0), **done_with(before, 1), **done_with(before, 2), **done_with(before, 3)})
        poll_until([one, two], lambda: one.assigned and two.assigned)
        taken = {partition for _, partition in one.lost()}
        for partition in {0, 1, 2, 3} - taken:
            assert committed(bootstrap, chosen.group, wide, partition) == one_after(before, partition)
        for partition in taken:
            assert committed(bootstrap, chosen.group, wide, partition) is None


def one_after(records: list[Record], partition: int) -> int:
    return 1 + max(record.offset for record in records if record.partition == partition)


def done_with(records: list[Record], partition: int) -> dict[tuple[str, int], int]:
    return {(records[0].topic, partition): one_after(records, partition)}


def test_scorers_that_come_and_go_leave_nothing_unread_and_commit_exactly_what_was_done(bootstrap, wide):
    chosen = options_of_one_group(bootstrap, wide)
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
