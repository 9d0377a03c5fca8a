"""Every picture of a stream is judged once or put aside with a reason, whatever goes wrong."""

import json
import os
import threading
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.adapters.decode import decode
from stream_ad.adapters.folder_source import FolderSource
from stream_ad.adapters.in_memory import InMemoryLedger, InMemoryResults, InMemorySink, InMemorySource
from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.message import ImageMessage, Record
from stream_ad.domain.result import Inspection, Verdict
from stream_ad.errors import BankError, DatabaseError, DataError, Unavailable
from stream_ad.services.budget import Budget
from stream_ad.services.deadlines import Deadlines
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


def test_a_key_names_what_the_settings_say():
    named = {}
    for key_names in ("camera", "product", None):
        line = Line()
        line.log.append(png(10), key=b"nut")
        line.stream(options=StreamOptions(key_names=key_names)).run(RUNNING, idle_s=1.0)
        (result,) = line.results.results.values()
        named[key_names] = (result.camera, result.declared_product)
    assert named == {"camera": ("nut", None), "product": (None, "nut"), None: (None, None)}


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

    class Publishing(GreyInspector):
        def inspect(self, pictures, *, declared, cameras) -> list[Inspection]:
            inspections = super().inspect(pictures, declared=declared, cameras=cameras)
            if len(self.batches) == 1:
                line.banks.put(MemoryBank(version=5))
            elif len(self.batches) == 2:
                line.banks.use(0, who="test", reason="rollback", at=line.clock.now())
            return inspections

    counters = line.stream(inspector=Publishing()).run(RUNNING, idle_s=1.0)
    versions = [line.results.results["images", 0, offset].bank_version for offset in range(12)]
    assert versions == [0] * 4 + [5] * 4 + [0] * 4
    assert counters.bank_swaps == 2


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


def test_a_stop_finishes_the_batches_in_hand_and_leaves_the_rest_to_come_again():
    line = Line()
    line.put(*range(10, 50))
    stop = threading.Event()
    line.stream(on_batch=lambda batch: stop.set()).run(stop)
    assert 4 <= len(line.scores) < 40
    assert sorted(line.scores) == list(range(line.committed))
    assert len(line.sink.sent) == line.committed
    assert not +line.results.tries  # nothing looks like a crash
    line.stream().run(RUNNING, idle_s=1.0)
    assert sorted(line.scores) == list(range(40))


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


class Power:
    """What a kill takes away from a whole process: after it, nothing that the process calls answers."""

    def __init__(self) -> None:
        self.off = False

    def check(self) -> None:
        if self.off:
            raise Killed

    def cut(self, place: str = "") -> None:
        self.off = True
        # sinks have threads of their own, whose death nobody would notice
        raise Unavailable("the power is off") if place == "relay" else Killed


STEPS = ["before the begin", "after the begin", "before the database", "after the database"]
STEPS += ["before the commit", "after the commit", "before the relay", "after the relay"]


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_every_picture_is_shown_exactly_once(step):
    power = Power()

    def dying(place: str, action):
        def act(*arguments):
            power.check()
            if step == f"before the {place}":
                power.cut(place)
            outcome = action(*arguments)
            if step == f"after the {place}":
                power.cut(place)
            return outcome

        return act

    line = Line()
    line.put(10, 20, 30, 40, 50)
    source = InMemorySource(line.log, line.clock)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line.results, "begin", dying("begin", line.results.begin))
        patch.setattr(line.results, "save_batch", dying("database", line.results.save_batch))
        patch.setattr(line.results, "relayed", dying("outbox", line.results.relayed))
        patch.setattr(line.sink, "send", dying("relay", line.sink.send))
        patch.setattr(source, "commit", dying("commit", source.commit))
        stream = line.stream(source=source)
        with pytest.raises(Killed):
            stream.run(RUNNING)
    first = dict(line.results.results)
    assert line.committed <= len(first)
    tried = +line.results.tries
    assert not tried.keys() & first.keys()

    line.clock.sleep(1.0)
    line.stream().run(RUNNING, idle_s=1.0)
    assert line.scores == {0: 10, 1: 20, 2: 30, 3: 40, 4: 50}
    assert line.committed == 5
    assert not +line.results.tries
    sent = Counter(message.id for message in line.sink.sent)
    assert sent.keys() == {f"result:images/0/{n}" for n in range(5)}
    assert max(sent.values()) == 1 or step == "after the relay"  # sent, and died before it could be noted
    assert {place: line.results.results[place] for place in first} == first  # the first verdict stays


def test_a_record_that_kills_the_process_goes_alone_and_is_then_put_aside():
    power = Power()

    class Deadly(GreyInspector):
        def inspect(self, pictures, *, declared, cameras) -> list[Inspection]:
            power.check()
            inspections = inspect(pictures, declared=declared, cameras=cameras)
            if any(int(picture[0, 0, 0]) == 99 for picture in pictures):
                power.cut()
            return inspections

    line = Line()
    inspect = line.inspector.inspect
    line.put(10, 20, 99, 40, 50, 60)
    deaths = 0
    while True:
        power.off = False
        try:
            counters = line.stream(inspector=Deadly()).run(RUNNING, idle_s=1.0)
            break
        except Killed:
            deaths += 1
    assert deaths == 3
    assert line.scores == {0: 10, 1: 20, 3: 40, 4: 50, 5: 60}
    letter = line.results.letters["images", 0, 2]
    assert (letter.stage, letter.attempts) == ("crash", 3)
    assert "begun 3 times" in letter.reason
    assert counters.dead_letters == Counter(crash=1)
    assert line.committed == 6
    assert 1 in line.inspector.batches  # the innocent ones of its batch went alone


def test_the_commit_of_whoever_has_a_partition_now_is_not_undone():
    class Source(InMemorySource):
        def lost(self) -> set[tuple[str, int]]:
            lost = super().lost()
            self._position |= dict.fromkeys(lost, 12)  # nothing of it comes here any more
            return lost

    class Slow(GreyInspector):
        def inspect(self, pictures, *, declared, cameras) -> list[Inspection]:
            if not self.batches:
                source.taken_away = {("images", 0)}
                line.log.committed["images", 0] = 12  # the other one was fast
            return super().inspect(pictures, declared=declared, cameras=cameras)

    line = Line()
    line.put(*range(10, 22))
    source = Source(line.log, line.clock)
    line.stream(source=source, inspector=Slow()).run(RUNNING, idle_s=1.0)
    assert line.committed == 12
    assert not +line.results.tries


@pytest.mark.parametrize(("told", "skip"), [(Verdict.LATE, False), (Verdict.NG, False), (Verdict.LATE, True)])
def test_a_verdict_after_its_cameras_deadline_never_says_ok(told, skip):
    line = Line()
    now = line.clock.now()
    for camera, grey, age_s in [(b"fast", 10, 3), (b"fast", 200, 3), (b"slow", 20, 3), (b"fast", 30, 0), (b"", 40, 9)]:
        line.log.append(png(grey), headers={"camera": camera}, timestamp=now - timedelta(seconds=age_s))
    deadlines = Deadlines(default_s=10.0, by_camera={"fast": 2.0, "slow": 5.0}, told=told, skip=skip)
    counters = line.stream(deadlines=deadlines).run(RUNNING, idle_s=1.0)
    verdicts = [line.results.results["images", 0, offset].verdict for offset in range(5)]
    assert verdicts == [told, told if skip else Verdict.NG, Verdict.OK, Verdict.OK, Verdict.OK]
    assert counters.late == 2
    late = line.results.results["images", 0, 0]
    assert "late" in (late.alarm or "")
    assert late.score == (None if skip else 10)


def test_a_verdict_that_waits_for_the_database_past_its_deadline_is_late():
    line = Line()
    line.log.append(png(10), headers={"camera": b"gate"}, timestamp=line.clock.now())
    since = line.clock.elapsed()

    def come_back() -> None:
        line.results.away = bool(line.inspector.seen) and line.clock.elapsed() - since < 5

    class Slow(GreyInspector):
        def inspect(self, pictures, *, declared, cameras) -> list[Inspection]:
            line.results.away = True
            return line.inspector.inspect(pictures, declared=declared, cameras=cameras)

    line.clock.on_sleep = come_back
    counters = line.stream(inspector=Slow(), deadlines=Deadlines(default_s=2.0)).run(RUNNING, idle_s=9.0)
    assert line.results.results["images", 0, 0].verdict is Verdict.LATE
    assert (counters.late, counters.verdicts) == (1, Counter({Verdict.LATE: 1}))


def test_a_full_disk_stops_the_intake_and_nothing_else():
    full = [True]

    def guard() -> None:
        if full[0]:
            raise Unavailable("needed 500 MB on the disk, got 3")

    line = Line()
    line.put(10, 20)
    since = line.clock.now()

    def make_room() -> None:
        full[0] = (line.clock.now() - since).total_seconds() < 5

    line.clock.on_sleep = make_room
    stream = line.stream(guard=guard)
    stream.run(RUNNING, idle_s=20.0)
    assert line.scores == {0: 10, 1: 20}
    assert line.results.results["images", 0, 0].scored_at >= since + timedelta(seconds=5)
    assert stream.counters.retries["disk"] == 1


def test_a_busy_camera_does_not_keep_the_others_waiting():
    line = Line()
    for _ in range(40):
        line.log.append(png(10), headers={"camera": b"busy"})
    line.log.append(png(20), headers={"camera": b"quiet"})
    line.stream(options=StreamOptions(batch_size=4, buffer_records=64)).run(RUNNING, idle_s=1.0)
    order = sorted(line.results.results.values(), key=lambda result: (result.scored_at, result.offset))
    assert line.inspector.seen.index(20) < 16
    assert len(order) == 41


def test_decoded_pictures_stay_within_their_memory():
    line = Line()
    line.put(*[10] * 30)
    held: list[int] = []

    class Weighing(GreyInspector):
        def inspect(self, pictures, *, declared, cameras) -> list[Inspection]:
            held.append(sum(picture.nbytes for picture in pictures))
            return super().inspect(pictures, declared=declared, cameras=cameras)

    size = 8 * 8 * 3
    options = StreamOptions(batch_size=8, linger_s=0.1, picture_bytes=6 * size)
    line.stream(inspector=Weighing(), measure=lambda data: 5 * size, options=options).run(RUNNING, idle_s=1.0)
    assert len(line.scores) == 30
    # decoding takes five times what is left afterwards, so beside two pictures no other is begun; on a busy machine one
    # may go to the model before the second is decoded
    assert max(held) <= 2 * size


def test_a_large_picture_is_not_kept_waiting_for_memory_by_small_ones():
    budget = Budget(10)
    budget.take(6)
    order: list[int] = []

    def take(count: int) -> None:
        budget.take(count)
        order.append(count)

    threads = [threading.Thread(target=take, args=(count,)) for count in (20, 1)]
    for waiting, thread in enumerate(threads, 1):
        thread.start()
        while budget.waiting < waiting:  # until it stands in the queue
            pass
    assert order == []
    budget.give(6)
    threads[0].join()
    assert order == [20]
    budget.give(20)
    threads[1].join()
    assert order == [20, 1]


def test_a_repeat_of_a_record_is_scored_once():
    line = Line()
    line.put(10, 20, 30)
    line.stream().run(RUNNING, idle_s=1.0)
    line.log.committed.clear()  # as if the commit had been lost
    counters = line.stream().run(RUNNING, idle_s=1.0)
    assert (counters.repeated, counters.scored) == (3, 0)
    assert line.committed == 3
    assert len(line.sink.sent) == 3


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
    options = StreamOptions(batch_size=4, buffer_records=6, keep_alive_s=0.0)
    line.stream(source=Counting(line.log, line.clock), options=options).run(stop)
    assert len(polls) > 30
    assert sum(polls) <= 6  # what there was room for


def test_what_a_reference_store_does_to_us_costs_only_its_picture():
    def references(reference: str, sha256: str | None) -> bytes:
        raise RuntimeError("a fault of the store's client")

    line = Line()
    line.log.append(None, headers={"ce_dataref": b"x"})
    line.put(10)
    line.stream(references=references).run(RUNNING, idle_s=1.0)
    assert line.scores == {1: 10}
    letter = line.results.letters["images", 0, 0]
    assert (letter.stage, letter.error_class) == ("reference", "RuntimeError")


class Refusing(InMemoryResults):
    """A database that cannot store one record: what comes of it, or even the fact that it is begun."""

    def __init__(self, *refused: str, offset: int = 1) -> None:
        super().__init__()
        self.refused, self.offset = refused, offset

    def begin(self, records, at):
        self._refuse("begin", [record.offset for record in records])
        return super().begin(records, at)

    def save_batch(self, results, dead_letters, outbox) -> None:
        self._refuse("result", [result.offset for result in results])
        self._refuse("letter", [letter.record.offset for letter in dead_letters])
        super().save_batch(results, dead_letters, outbox)

    def _refuse(self, what: str, offsets: list[int]) -> None:
        if what in self.refused and self.offset in offsets:
            raise DataError("a number that the database has no room for")


@pytest.mark.parametrize("what", ["begin", "result"])
def test_a_record_that_the_database_cannot_store_costs_only_itself(what):
    line = Line(Refusing(what))
    line.put(10, 20, 30, 40)
    line.stream().run(RUNNING, idle_s=1.0)
    assert line.scores == {0: 10, 2: 30, 3: 40}
    letter = line.results.letters["images", 0, 1]
    assert (letter.stage, letter.error_class) == ("store", "DataError")
    assert line.committed == 4
    assert {message.id for message in line.sink.sent} == {
        *(f"result:images/0/{offset}" for offset in (0, 2, 3)),
        "dead-letter:images/0/1",
    }
    assert not +line.results.tries


def test_a_database_that_takes_neither_a_result_nor_its_dead_letter_stops_the_stream_with_a_reason():
    line = Line(Refusing("result", "letter"))
    line.put(10, 20, 30)
    with pytest.raises(DatabaseError, match="images/0/1"):
        line.stream().run(RUNNING, idle_s=1.0)
    assert line.committed == 0
    assert 1 not in line.scores


def test_a_bank_that_breaks_while_it_is_taken_leaves_the_old_one_in_use():
    class Breaking(GreyInspector):
        def use(self, bank: MemoryBank) -> None:
            raise RuntimeError("out of memory on the device")

    line = Line()
    line.banks.put(MemoryBank(version=3))
    line.put(10)
    counters = line.stream(inspector=Breaking()).run(RUNNING, idle_s=1.0)
    assert line.scores == {0: 10}
    assert counters.retries["bank"] == 1


def test_a_stop_does_not_wait_for_a_picture_that_never_ends():
    line = Line()
    line.put(10, 20)
    stop, hanging, over = threading.Event(), threading.Event(), threading.Event()

    def hang(data: bytes):
        hanging.set()
        over.wait()
        return decode(data)

    class Source(InMemorySource):
        def poll(self, max_items: int, timeout_s: float) -> list[Record]:
            if hanging.is_set():
                stop.set()
            return super().poll(max_items, timeout_s)

    try:
        counters = line.stream(
            source=Source(line.log, line.clock), decode=hang, options=StreamOptions(drain_s=0.1)
        ).run(stop)
        assert counters.abandoned  # whoever ends the process must not wait for its threads
        assert line.committed == 0
    finally:
        over.set()


def test_a_stop_while_the_database_is_away_ends_in_order_with_several_batches_in_hand():
    class Away(InMemoryResults):
        def save_batch(self, results, dead_letters, outbox) -> None:
            raise Unavailable("the database is away")

    line = Line(Away())
    line.put(*range(10, 40))
    stop = threading.Event()
    stream = line.stream()
    since = line.clock.now()

    def lose_patience() -> None:
        if line.clock.now() - since > timedelta(seconds=30):
            stop.set()

    line.clock.on_sleep = lose_patience
    assert not stream.run(stop).abandoned
    assert line.committed == 0


def test_a_file_moved_away_between_its_verdict_and_the_commit_keeps_the_verdict(tmp_path):
    line = Line()
    ledger, path = InMemoryLedger(), tmp_path / "a.png"
    path.write_bytes(png(10))
    os.utime(path, (0, 0))

    class Cut(FolderSource):
        def commit(self, up_to) -> None:
            raise Unavailable("killed before it could")

    for kind in (Cut, FolderSource):
        line.stream(source=kind(tmp_path, ledger, line.clock, topic="inbox")).run(RUNNING, idle_s=2.0)
        path.unlink(missing_ok=True)
    assert [result.score for result in line.results.results.values()] == [10]
    assert line.results.letters == {}
    assert ledger.pending("inbox", 9) == []


def test_nothing_waits_for_a_clock_that_was_set_back(tmp_path):
    """The one that is right comes after an hour of the other: records, back-offs and settling files must not wait."""
    line = Line()
    source = FolderSource(tmp_path, InMemoryLedger(), line.clock, topic="inbox")
    line.results.away = line.sink.away = True
    began = line.clock.elapsed()
    happened: list[str] = []

    def what_happens() -> None:
        now = line.clock.elapsed() - began
        if now >= 1 and not happened:
            happened.append("a picture comes")
            (tmp_path / "a.png").write_bytes(png(10))
            written = line.clock.now().timestamp()
            os.utime(tmp_path / "a.png", (written, written))
        elif now >= 3 and len(happened) == 1:
            happened.append("the clock is set")
            line.clock.set_by(-3600.0)
            line.results.away = line.sink.away = False

    line.clock.on_sleep = what_happens
    line.stream(source=source).run(RUNNING, idle_s=10.0)
    assert [result.score for result in line.results.results.values()] == [10]
    assert len(line.sink.sent) == 1
    assert line.clock.elapsed() - began < 30
