"""Every sink gets every message, whatever the others do, and nothing that it has already."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.adapters.in_memory import InMemoryResults, InMemorySink, ManualClock
from stream_ad.adapters.storage import Database
from stream_ad.domain.message import OutboxMessage
from stream_ad.errors import DataError, Unavailable
from stream_ad.services.relay import Relay
from tests.storage_kit import outbox_message, url  # noqa: F401


class HangingSink(InMemorySink):
    """Takes nothing and says nothing until it is let go."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.let_go = threading.Event()

    def send(self, messages: Sequence[OutboxMessage]) -> None:
        assert self.let_go.wait(30)
        super().send(messages)


class PickySink(InMemorySink):
    """Falls over certain messages: refuses them, or goes away as long as one of them is sent."""

    def __init__(self, *bad: str, says: type[Exception], name: str = "picky", at_once: int = 100) -> None:
        super().__init__(name)
        self.bad, self.says, self.at_once = set(bad), says, at_once
        self.attempts = 0

    def send(self, messages: Sequence[OutboxMessage]) -> None:
        self.attempts += 1
        if any(message.id in self.bad for message in messages):
            raise self.says("not this one")
        super().send(messages)


class Office:
    """An outbox with its clock; `relay` starts a new process on it."""

    def __init__(self, *names: str) -> None:
        self.clock, self.results = ManualClock(), InMemoryResults()
        self.put(*names)

    def put(self, *names: str) -> None:
        self.results.save_batch([], [], [outbox_message(name) for name in names])

    def relay(self, *sinks: InMemorySink) -> Relay:
        return Relay(self.results, sinks, clock=self.clock, patience_s=0.2)

    @property
    def waiting(self) -> list[str]:
        return [message.id for _, message in self.results.outbox(1000)]


def ids(sink: InMemorySink) -> list[str]:
    return [message.id for message in sink.sent]


def numbered(count: int) -> list[str]:
    return [f"{number:03}" for number in range(count)]


def test_every_sink_gets_everything_in_order_and_the_outbox_is_empty_then():
    office, one, other = Office(*numbered(250)), InMemorySink("one"), InMemorySink("other")
    assert office.relay(one, other).flush() == 250
    assert ids(one) == ids(other) == numbered(250)
    assert office.waiting == []


def test_two_sinks_of_one_name_are_two_sinks():
    office, one, other = Office("a"), InMemorySink("mqtt"), InMemorySink("mqtt")
    office.relay(one, other).flush()
    assert ids(one) == ids(other) == ["a"]


def test_a_sink_that_is_away_for_long_holds_up_no_other_and_gets_all_in_order_later():
    office, here, away = Office(*numbered(300)), InMemorySink("here"), InMemorySink("away")
    away.away = True
    relay = office.relay(away, here)
    assert relay.flush() == 0
    assert ids(here) == numbered(300)
    office.put("x", "y")
    relay.flush()
    assert ids(here) == [*numbered(300), "x", "y"]
    assert set(relay.away) == {"away"}
    for _ in range(10):
        office.clock.sleep(100.0)
        relay.flush()
    away.away = False
    office.clock.sleep(100.0)
    assert relay.flush() == 302
    assert ids(away) == ids(here) == [*numbered(300), "x", "y"]
    assert (relay.away, office.waiting) == ({}, [])


def test_the_wait_for_a_sink_that_is_away_doubles_up_to_a_limit():
    office, away = Office("a"), PickySink("a", says=Unavailable)
    relay = Relay(office.results, [away], clock=office.clock, retry_s=1.0, retry_max_s=8.0)
    tried_at = []
    for second in range(40):
        before = away.attempts
        relay.flush()
        tried_at += [second] if away.attempts > before else []
        office.clock.sleep(1.0)
    assert tried_at == [0, 1, 3, 7, 15, 23, 31, 39]


def test_a_sink_that_hangs_holds_up_no_other_and_is_not_given_more_meanwhile():
    office, here, hanging = Office("a"), InMemorySink("here"), HangingSink("hanging")
    relay = office.relay(hanging, here)
    relay.flush()
    office.put("b")
    relay.flush()
    assert ids(here) == ["a", "b"]
    assert office.waiting == ["a", "b"]
    hanging.let_go.set()
    assert relay.flush(patience_s=30.0) == 1  # what it had been given
    assert relay.flush(patience_s=30.0) == 1
    assert ids(hanging) == ids(here) == ["a", "b"]
    assert office.waiting == []


def test_a_restart_repeats_nothing_to_the_sinks_that_have_it():
    office, here, away = Office(*numbered(150)), InMemorySink("here"), InMemorySink("away")
    away.away = True
    office.relay(here, away).flush()
    away.away = False
    office.put("new")
    assert office.relay(here, away).flush() == 151
    assert ids(here) == ids(away) == [*numbered(150), "new"]


def test_a_message_that_a_sink_refuses_for_good_is_left_out_there_and_nowhere_else(caplog):
    office, other = Office(*numbered(5)), InMemorySink("other")
    picky = PickySink("002", says=DataError)
    relay = office.relay(picky, other)
    assert relay.flush() == 5
    assert ids(picky) == ["000", "001", "003", "004"]
    assert ids(other) == numbered(5)
    assert relay.left_out == {"picky": 1, "other": 0}
    assert "picky never gets 002, the database has it: not this one" in caplog.text


@settings(deadline=None, max_examples=30)
@given(
    bad=st.sets(st.integers(0, 29), max_size=3),
    at_once=st.sampled_from([1, 4, 100]),
)
def test_messages_that_drive_a_sink_away_are_left_out_in_the_end_and_all_others_arrive(bad, at_once):
    office = Office(*numbered(30))
    poison = {f"{number:03}" for number in bad}
    sink = PickySink(*poison, says=Unavailable, at_once=at_once)
    relay = office.relay(sink)
    for number in range(60):
        relay.flush()
        office.put(f"later {number}")  # there are always others: by them one sees that the sink is there
        office.clock.sleep(100.0)
    assert set(numbered(30)) - poison <= set(ids(sink))
    assert poison.isdisjoint(office.waiting)
    assert relay.left_out == {"picky": len(bad)}
    assert sorted(ids(sink)) == sorted(set(ids(sink)))  # nothing twice


def test_while_everything_fails_nothing_is_left_out_however_long_it_takes():
    office, away = Office(*numbered(30)), InMemorySink("away")
    away.away = True
    relay = office.relay(away)
    for _ in range(100):
        relay.flush()
        office.clock.sleep(100.0)
    away.away = False
    assert relay.flush() == 30
    assert ids(away) == numbered(30)


def test_a_fault_in_a_sink_is_its_own(caplog):
    office, other = Office("a", "b"), InMemorySink("other")
    relay = office.relay(PickySink("a", says=ZeroDivisionError), other)
    relay.flush()
    assert ids(other) == ["a", "b"]
    assert "picky failed in a way that it should not" in caplog.text


def test_what_could_not_be_noted_is_not_sent_again():
    class Forgetful(InMemoryResults):
        fails = False

        def relayed(self, rows: Sequence[int]) -> None:
            if self.fails:
                raise Unavailable("locked")
            super().relayed(rows)

    office, sink = Office(), InMemorySink("one")
    office.results = results = Forgetful()
    office.put("a", "b")
    relay = office.relay(sink)
    results.fails = True
    assert relay.flush() == 0
    results.fails = False
    office.clock.sleep(1.0)
    relay.flush()
    assert ids(sink) == ["a", "b"]
    assert office.waiting == []


# --- with a real database


@pytest.fixture
def databases(url: str, tmp_path: Path):  # noqa: F811
    """Two processes' views of one database."""
    with (
        Database(url, tmp_path / "entries", create=True) as one,
        Database(url, tmp_path / "entries") as other,
    ):
        yield one, other


def test_one_process_relays_at_a_time_and_the_next_takes_over_when_it_ends(databases):
    one, other = databases
    assert one.results.may_relay()
    assert one.results.may_relay()
    assert not other.results.may_relay()
    one.close()
    assert other.results.may_relay()


def test_two_processes_on_one_database_send_everything_once(databases):
    sinks = [InMemorySink("topic"), InMemorySink("topic")]
    relays = [Relay(db.results, [sink], clock=ManualClock()) for db, sink in zip(databases, sinks, strict=True)]
    for number in range(50):
        databases[number % 2].results.save_batch([], [], [outbox_message(f"{number:03}")])
        for relay in relays:
            relay.flush()
    assert sorted(ids(sinks[0]) + ids(sinks[1])) == numbered(50)
    assert databases[0].results.outbox(10) == []


def test_the_outbox_knows_which_sinks_have_what(databases):
    results, other = databases[0].results, databases[1].results
    results.save_batch([], [], [outbox_message(name) for name in "abc"])
    rows = [row for row, _ in results.outbox(10)]
    results.partly_relayed({rows[0]: frozenset({"kafka", "web_hook"}), rows[1]: frozenset({"kafka"})})

    def names(**asked) -> list[str]:
        return [message.id for _, message in other.outbox(10, **asked)]

    assert names() == ["a", "b", "c"]
    assert names(untouched=True) == ["c"]
    assert names(lacking="web_hook") == ["b", "c"]
    assert [message.has for _, message in other.outbox(2)] == [{"kafka", "web_hook"}, {"kafka"}]
    results.save_batch([], [], [replace(outbox_message("a"), value=b"anew")])
    assert names(untouched=True) == ["c", "a"]
