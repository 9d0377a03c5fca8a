"""Every picture of a stream is judged once or put aside with a reason, whatever goes wrong."""

import json
import threading
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.adapters.decode import decode
from stream_ad.adapters.in_memory import InMemoryResults, InMemorySink, InMemorySource
from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.message import ImageMessage, Record
from stream_ad.domain.result import Inspection, InspectionResult, Verdict
from stream_ad.errors import BankError, DataError, Unavailable
from stream_ad.services.streaming import StreamOptions
from tests.stream_kit import MAKES_IT_FAIL, GreyInspector, Line, inspection_of, png

RUNNING = threading.Event()  # never set


def test_every_picture_gets_its_verdict_and_is_committed():
    line = Line()
    line.put(10, 20, 200, 30, 40, 250)
    counters = line.stream().run(RUNNING, idle_s=1.0)
    assert line.scores == {0: 10, 1: 20, 2: 200, 3: 30, 4: 40, 5: 250}
    assert counters.verdicts == Counter({Verdict.OK: 4, Verdict.NG: 2})
    assert line.committed == 6
    assert line.inspector.batches == [4, 2]
    assert line.source.lag() == {("images", 0): 0}


def test_results_are_published_with_a_stable_id_and_schema():
    line = Line()
    line.log.append(png(200), headers={"ce_id": b"part-17", "camera": b"cam-1", "product": b"nut"})
    line.stream().run(RUNNING, idle_s=1.0)
    (message,) = line.sink.sent
    document = json.loads(message.value)
    assert message.id == document["id"] == "result:images/0/0"
    assert message.key == b"cam-1"
    assert {
        name: document[name] for name in ("schema", "message_id", "camera", "declared_product", "verdict", "score")
    } == {
        "schema": "stream-ad.result/1",
        "message_id": "part-17",
        "camera": "cam-1",
        "declared_product": "nut",
        "verdict": "NG",
        "score": 200.0,
    }
    assert line.results.outbox(10) == []


def test_a_bad_picture_is_put_aside_with_its_bytes_and_the_stream_goes_on(caplog):
    line = Line()
    line.put(10)
    line.log.append(b"no picture", key=b"k", headers={"camera": b"c"})
    line.log.append(None)
    line.put(20)
    counters = line.stream().run(RUNNING, idle_s=1.0)
    assert line.scores == {0: 10, 3: 20}
    letters = line.results.letters
    assert {place[2]: (letter.stage, letter.error_class) for place, letter in letters.items()} == {
        1: ("decode", "UndecodableImage"),
        2: ("message", "DataError"),
    }
    assert letters["images", 0, 1].record.value == b"no picture"
    assert counters.dead_letters == Counter(decode=1, message=1)
    assert "images/0/1 is a dead letter (decode): needed a JPEG" in caplog.text
    assert line.committed == 4
    dead = next(message for message in line.sink.sent if message.id == "dead-letter:images/0/1")
    assert (dead.channel, dead.key, dead.value) == ("dead-letters", b"k", b"no picture")
    assert dead.headers["camera"] == b"c"
    assert dead.headers["__connect.errors.offset"] == b"1"
    assert dead.headers["__connect.errors.exception.class.name"] == b"UndecodableImage"


def test_a_picture_that_breaks_the_model_costs_only_itself():
    line = Line()
    line.put(10, MAKES_IT_FAIL, 30, 40)
    line.stream().run(RUNNING, idle_s=1.0)
    assert line.scores == {0: 10, 2: 30, 3: 40}
    assert line.results.letters["images", 0, 1].stage == "score"
    assert "cannot bear" in line.results.letters["images", 0, 1].reason


def test_a_model_that_fails_on_everything_stops_the_stream_instead_of_emptying_it():
    line = Line()
    line.put(*[10] * 20)
    line.inspector.broken = True
    stream = line.stream(options=StreamOptions(batch_size=4, max_failures_in_a_row=6))
    with pytest.raises(Unavailable, match="7 pictures in a row"):
        stream.run(RUNNING, idle_s=1.0)
    assert line.committed == 4
    assert len(line.results.letters) == 4
    line.inspector.broken = False
    line.stream().run(RUNNING, idle_s=1.0)
    assert sorted(line.scores) == list(range(4, 20))


def test_a_score_that_is_no_number_is_never_ok():
    class Doubtful(GreyInspector):
        def inspect(self, pictures, *, declared, cameras) -> list[Inspection]:
            return [inspection_of(float("nan"), Verdict.OK) for _ in pictures]

    line = Line()
    line.put(10)
    line.stream(inspector=Doubtful()).run(RUNNING, idle_s=1.0)
    assert line.scores == {}
    assert "finite" in line.results.letters["images", 0, 0].reason


@pytest.mark.parametrize("what", ["results", "source", "sink"])
def test_what_was_away_is_waited_for_and_nothing_is_lost(what):
    line = Line()
    line.put(10, 20, 30)
    stream = line.stream()
    away = getattr(line, what)
    away.away = True
    since = line.clock.now()

    def come_back() -> None:
        away.away = (line.clock.now() - since).total_seconds() <= 5

    line.clock.on_sleep = come_back
    stream.run(RUNNING, idle_s=10.0)
    assert line.scores == {0: 10, 1: 20, 2: 30}
    assert line.committed == 3
    assert [message.id for message in line.sink.sent] == [f"result:images/0/{offset}" for offset in range(3)]


def test_a_sink_that_is_away_holds_up_neither_verdicts_nor_the_other_sink():
    line = Line()
    line.put(10, 20)
    here, away = InMemorySink(), InMemorySink()
    away.away = True
    stream = line.stream(sinks=[away, here])
    stream.run(RUNNING, idle_s=5.0)
    assert len(line.scores) == 2
    assert len(here.sent) == 2  # not once more for each attempt at the other
    away.away = False
    line.clock.sleep(60.0)
    stream.run(RUNNING, idle_s=2.0)
    assert (len(here.sent), len(away.sent)) == (2, 2)
    assert line.results.outbox(10) == []


def test_another_bank_is_taken_between_batches_forwards_and_back():
    line = Line()
    line.put(*range(10, 22))

    def publish_one_at_the_second_batch(results: Sequence[InspectionResult]) -> None:
        line.clock.sleep(2.0)
        versions.append(results[0].bank_version)
        if len(versions) == 1:
            line.banks.put(MemoryBank(version=5))
        elif len(versions) == 2:
            line.banks.use(0, who="test", reason="rollback", at=line.clock.now())

    versions: list[int] = []
    line.stream(on_batch=publish_one_at_the_second_batch).run(RUNNING, idle_s=1.0)
    assert versions == [0, 5, 0]


def test_a_bank_that_does_not_fit_leaves_the_old_one_in_use():
    class Picky(GreyInspector):
        def use(self, bank: MemoryBank) -> None:
            raise BankError("made for another backbone")

    line = Line()
    line.banks.put(MemoryBank(version=3))
    line.put(10)
    counters = line.stream(inspector=Picky()).run(RUNNING, idle_s=1.0)
    assert line.scores == {0: 10}
    assert counters.retries["bank"] == 1
    assert line.results.results["images", 0, 0].bank_version == 0


def test_references_are_resolved_and_those_that_never_will_be_are_put_aside():
    seen = []

    def references(reference: str, sha256: str | None) -> bytes:
        seen.append(reference)
        if reference == "gone":
            raise DataError("gone for good")
        if len(seen) < 4:
            raise Unavailable("the share is not mounted")
        return png(42)

    line = Line()
    line.log.append(None, headers={"ce_dataref": b"gone"})
    line.log.append(None, headers={"ce_dataref": b"there"})
    line.stream(references=references).run(RUNNING, idle_s=2.0)
    assert line.scores == {1: 42}
    assert line.results.letters["images", 0, 0].stage == "reference"


def test_overlays_are_drawn_before_the_row_is_written_and_their_failure_costs_nothing():
    def overlays(message: ImageMessage, picture, inspection: Inspection) -> str | None:
        if inspection.verdict == Verdict.OK:
            raise OSError("no space left on device")
        return f"{message.record.offset}.jpg"

    line = Line()
    line.put(10, 200)
    counters = line.stream(overlays=overlays).run(RUNNING, idle_s=1.0)
    assert [line.results.results["images", 0, offset].overlay for offset in (0, 1)] == [None, "1.jpg"]
    assert counters.overlays_failed == 1


def test_a_stop_finishes_the_batch_in_hand_and_leaves_the_next_to_come_again():
    line = Line()
    line.put(*range(10, 22))
    stop = threading.Event()
    line.stream(on_batch=lambda results: stop.set()).run(stop)
    assert sorted(line.scores) == [0, 1, 2, 3]
    assert line.committed == 4
    line.stream().run(RUNNING, idle_s=1.0)
    assert sorted(line.scores) == list(range(12))


def test_a_stop_is_heard_while_the_database_is_away():
    line = Line()
    line.put(10)
    line.results.away = True
    stop = threading.Event()
    line.clock.on_sleep = stop.set
    line.stream().run(stop)
    assert line.committed == 0


class Killed(BaseException):
    """kill -9, for a stream without a process of its own."""


STEPS = ["before the database", "after the database", "after the commit", "after the relay"]


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_every_picture_is_shown_exactly_once(step):
    class DyingResults(InMemoryResults):
        def save_batch(self, *batch) -> None:
            if step == "before the database":
                raise Killed
            super().save_batch(*batch)
            if step == "after the database":
                raise Killed

    class DyingSource(InMemorySource):
        def commit(self, up_to) -> None:
            super().commit(up_to)
            if step == "after the commit":
                raise Killed

    def die(results: Sequence[InspectionResult]) -> None:
        raise Killed

    line = Line(DyingResults())
    line.put(10, 20, 30, 40, 50)
    with pytest.raises(Killed):
        line.stream(source=DyingSource(line.log, line.clock), on_batch=die).run(RUNNING)
    first = dict(line.results.results)
    assert line.committed == (0 if step in STEPS[:2] else 4)
    assert len(first) == (0 if step == STEPS[0] else 4)
    assert len(line.sink.sent) == (4 if step == STEPS[3] else 0)

    step = "alive again"
    line.clock.sleep(1.0)
    line.stream().run(RUNNING, idle_s=1.0)
    assert line.scores == {0: 10, 1: 20, 2: 30, 3: 40, 4: 50}
    assert line.committed == 5
    assert Counter(message.id for message in line.sink.sent) == Counter(f"result:images/0/{n}" for n in range(5))
    assert {place: line.results.results[place] for place in first} == first  # the first verdict stays


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([10, 200, MAKES_IT_FAIL, None])), max_size=25),
    st.lists(st.integers(1, 6), min_size=1, max_size=8),
    st.integers(1, 5),
)
def test_whatever_comes_and_however_often_it_dies_each_record_has_one_row(records, deaths, batch_size):
    class Dying(InMemoryResults):
        calls_left = 0

        def _check(self) -> None:
            self.calls_left -= 1
            if self.calls_left == 0:
                raise Killed

    results = Dying()
    line = Line(results)
    for partition, grey in records:
        line.log.append(b"bad" if grey is None else png(grey), partition=partition)
    options = StreamOptions(batch_size=batch_size)
    for calls in [*deaths, 0]:
        results.calls_left = calls
        try:
            line.stream(options=options).run(RUNNING, idle_s=1.0)
        except Killed:
            continue
    everything = {(r.topic, r.partition, r.offset) for log in line.log.records.values() for r in log}
    assert everything == line.results.results.keys() | line.results.letters.keys()
    assert not line.results.results.keys() & line.results.letters.keys()
    assert line.log.committed == {place: len(log) for place, log in line.log.records.items()}
    assert {m.id.split(":")[1] for m in line.sink.sent} == {f"{t}/{p}/{o}" for t, p, o in everything}


def test_the_next_batch_is_decoded_while_the_model_works():
    line = Line()
    line.put(*range(10, 18))
    decoded = threading.Semaphore(0)

    def decode_and_tell(data: bytes):
        decoded.release()
        return decode(data)

    class Waiting(GreyInspector):
        def inspect(self, pictures, *, declared, cameras) -> list[Inspection]:
            if not self.batches:  # all eight, though only four were handed over
                assert all(decoded.acquire(timeout=10) for _ in range(8))
            return super().inspect(pictures, declared=declared, cameras=cameras)

    line.stream(inspector=Waiting(), decode=decode_and_tell).run(RUNNING, idle_s=1.0)
    assert len(line.scores) == 8


def test_a_source_is_polled_but_gives_nothing_while_something_is_away():
    line = Line()
    line.put(*range(10, 20))
    polls: list[int] = []

    class Counting(InMemorySource):
        def poll(self, max_items: int, timeout_s: float) -> list[Record]:
            records = super().poll(max_items, timeout_s)
            if line.results.away:
                polls.append(len(records))
            return records

    stop = threading.Event()

    def lose_patience() -> None:
        if len(polls) > 30:
            stop.set()

    line.results.away = True
    line.clock.on_sleep = lose_patience
    line.stream(source=Counting(line.log, line.clock)).run(stop)
    assert len(polls) > 30
    assert sum(polls) <= 8  # one batch in hand and one ahead
