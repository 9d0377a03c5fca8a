# ruff: noqa: F811 (a fixture is imported, then named as an argument)
"""The promise of every result repository: each record is told once, and one that kills its process is found."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from storage_kit import (  # noqa: F401
    NOON,
    after,
    database,
    dead_letter,
    outbox_message,
    record,
    result,
    results,
    told,
    url,
)

from stream_ad.adapters.storage import Database
from stream_ad.domain.message import Record, Standing
from stream_ad.domain.ports import ResultRepository
from stream_ad.domain.result import InspectionResult, Verdict
from stream_ad.errors import DataError

FRESH, DONE = Standing(done=False, tries=0), Standing(done=True, tries=0)


def sent(results: ResultRepository) -> list[tuple[str, bytes]]:
    return [(message.id, message.value) for _, message in results.outbox(10_000)]


def test_the_first_verdict_stays_and_is_told_once(results: ResultRepository) -> None:
    """Scorers overlap in a rebalance; rounding on another machine may even flip a verdict."""
    results.save_batch([result(0), result(1)], [], [told(0), told(1)])
    results.save_batch([result(1, verdict=Verdict.NG), result(2)], [], [told(1, b"other"), told(2)])
    assert results.recent(10) == [result(2), result(1), result(0)]
    assert [name for name, _ in sent(results)] == ["result:images/0/0", "result:images/0/1", "result:images/0/2"]
    assert b"other" not in dict(sent(results)).values()


def test_a_verdict_that_was_sent_is_not_sent_again(results: ResultRepository) -> None:
    results.save_batch([result()], [], [told()])
    results.relayed([row for row, _ in results.outbox(10)])
    results.save_batch([result()], [], [told()])
    assert sent(results) == []


def test_of_two_verdicts_of_one_record_in_a_batch_the_first_stays(results: ResultRepository) -> None:
    results.save_batch([result(0), result(0, verdict=Verdict.NG)], [dead_letter(0)], [])
    assert [r.verdict for r in results.recent(10)] == [Verdict.OK]
    assert results.dead_letters(10) == []


def test_a_record_is_a_result_or_a_dead_letter_never_both(results: ResultRepository) -> None:
    results.save_batch([], [dead_letter(3)], [])
    results.save_batch([result(3)], [], [])
    assert (results.recent(10), results.dead_letters(10)) == ([], [dead_letter(3)])
    results.save_batch([result(4)], [], [])
    results.save_batch([], [dead_letter(4)], [])
    assert (results.recent(10), results.dead_letters(10)) == ([result(4)], [dead_letter(3)])


ANOTHER = {
    "another name": (record(headers={"ce_id": b"other"}), result(message_id="other")),
    "another time": (record(timestamp=NOON), result(captured_at=NOON)),
    "another time by its sender": (
        record(headers={"ce_id": b"m0", "ce_time": b"2026-03-01T13:00:00+01:00"}),
        result(captured_at=NOON),
    ),
}


@pytest.mark.parametrize("other", ANOTHER)
def test_a_topic_made_anew_overwrites_what_the_old_one_left(results: ResultRepository, other: str) -> None:
    of_another, its_result = ANOTHER[other]
    for first in ([result()], []), ([], [dead_letter()]):
        results.save_batch(*first, [told(0, b"old")])
        assert results.begin([of_another], NOON) == [FRESH]
        results.save_batch([its_result], [], [told(0, b"new")])
        assert (results.recent(10), results.dead_letters(10)) == ([its_result], [])
        assert sent(results) == [("result:images/0/0", b"new")]
        assert results.begin([of_another], NOON) == [DONE]
        results.save_batch([], [dead_letter(record=record(headers={"ce_id": b"third"}))], [])
        assert results.recent(10) == []
        results.save_batch([], [replace(dead_letter(), record=record(timestamp=after(5)))], [])
        assert [letter.record.timestamp for letter in results.dead_letters(10)] == [after(5)]
        results.save_batch([result(message_id="fourth", captured_at=after(6))], [], [])


def test_what_is_done_is_not_worked_on_again(results: ResultRepository) -> None:
    results.save_batch([result(0)], [dead_letter(1)], [])
    assert results.begin([record(0), record(1), record(2)], NOON) == [DONE, DONE, FRESH]
    assert results.begin([record(0), record(1), record(2)], NOON) == [DONE, DONE, Standing(done=False, tries=1)]


def test_tries_that_never_ended_are_counted(results: ResultRepository) -> None:
    """A process that died in the middle leaves its try behind."""
    for tries in range(3):
        assert results.begin([record(0)], after(tries)) == [Standing(done=False, tries=tries)]
    results.save_batch([result(0)], [], [])
    assert results.begin([record(0)], NOON) == [DONE]
    assert results.begin([replace(record(0), timestamp=NOON)], NOON) == [FRESH]


def test_a_verdict_ends_the_tries_even_when_an_earlier_one_stays(results: ResultRepository) -> None:
    results.begin([record(0), record(1)], NOON)
    results.save_batch([result(0)], [dead_letter(1)], [])
    another = [replace(record(offset), timestamp=NOON) for offset in range(2)]
    assert results.begin(another, NOON) == [FRESH, FRESH]
    results.save_batch([result(0)], [dead_letter(1)], [])
    assert results.begin(another, NOON) == [FRESH, FRESH]


def test_what_was_put_down_untouched_was_not_tried(results: ResultRepository) -> None:
    results.begin([record(0), record(1)], NOON)
    results.release([record(0).place])
    assert results.begin([record(0), record(1)], NOON) == [FRESH, Standing(done=False, tries=1)]
    results.release([record(1).place, record(7).place])
    assert results.begin([record(1)], NOON) == [Standing(done=False, tries=1)]


def test_a_record_that_comes_twice_at_once_counts_twice(results: ResultRepository) -> None:
    assert results.begin([record(0), record(0)], NOON) == [FRESH, Standing(done=False, tries=1)]
    assert results.begin([record(0)], NOON) == [Standing(done=False, tries=2)]


def test_nothing_to_begin_release_or_save_is_nothing(results: ResultRepository) -> None:
    assert results.begin([], NOON) == []
    results.release([])
    results.save_batch([], [], [])
    results.relayed([])
    assert sent(results) == []


def test_a_message_about_no_record_is_always_sent(results: ResultRepository) -> None:
    results.save_batch([], [], [outbox_message("a", b"old")])
    results.save_batch([result()], [], [outbox_message("a", b"new")])
    results.save_batch([result()], [], [outbox_message("b")])
    assert sent(results) == [("a", b"new"), ("b", b"{}")]


def test_a_letter_that_was_sent_again_is_no_longer_open(results: ResultRepository) -> None:
    results.save_batch([], [dead_letter(0), dead_letter(1), dead_letter(2, stage="crash")], [])
    assert results.open_dead_letters() == [record(offset).place for offset in range(3)]
    assert results.retried(record(1).place, after(60))
    assert not results.retried(record(1).place, after(61))
    assert not results.retried(record(9).place, after(61))
    assert [letter.record.offset for letter in results.dead_letters(9, open_only=True)] == [2, 0]
    assert [letter.retried_at for letter in results.dead_letters(9)] == [None, after(60), None]
    assert results.open_dead_letters() == [record(0).place, record(2).place]
    assert results.open_dead_letters("crash") == [record(2).place]
    assert [letter.record.offset for letter in results.dead_letters(9, stage="decode")] == [1, 0]
    assert results.dead_letter(record(1).place) == dead_letter(1, retried_at=after(60))
    assert results.dead_letter(record(9).place) is None


def test_a_letter_that_was_sent_again_stays_the_verdict_of_its_own_place(results: ResultRepository) -> None:
    """The record has a new place; its old one may come once more after a crash."""
    results.save_batch([], [dead_letter(0)], [told(0, b"old")])
    results.retried(record(0).place, NOON)
    assert results.begin([record(0), record(1)], NOON) == [DONE, FRESH]
    results.save_batch([result(0)], [], [told(0, b"new")])
    assert results.recent(9) == []
    assert results.dead_letters(9) == [dead_letter(0, retried_at=NOON)]
    assert sent(results) == [("result:images/0/0", b"old")]


def test_a_picture_whose_file_is_gone_since_keeps_its_verdict(results: ResultRepository) -> None:
    """Its time went with the file, and what is left to say of it is that it cannot be read."""
    results.save_batch([result(0, captured_at=NOON)], [], [])
    assert results.begin([record(0)], NOON) == [DONE]
    results.save_batch([], [dead_letter(0, stage="source")], [])
    assert results.recent(9) == [result(0, captured_at=NOON)]
    assert results.dead_letters(9) == []


def test_what_a_database_cannot_store_is_the_fault_of_whoever_sent_it(database: Database) -> None:
    too_far = Record(topic="images", partition=0, offset=2**63, key=None, value=None)
    with pytest.raises(DataError, match="needed values that"):
        database.results.begin([record(0), too_far], NOON)
    with pytest.raises(DataError, match="needed values that"):
        database.results.save_batch([result(0)], [dead_letter(record=too_far)], [])
    assert database.results.begin([record(0)], NOON) == [FRESH]
    assert database.results.recent(9) == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=4), max_size=5))
def test_every_record_is_there_once_as_what_it_came_to_first(
    results: ResultRepository, batches: list[list[tuple[int, bool]]]
) -> None:
    """Whatever comes again, in whatever order, the first batch that held a record decides, and tells it once."""
    topic = f"run{next(RUNS)}"
    first: dict[int, bool] = {}
    for batch in batches:
        scored = [r for o, good in batch if good and (r := result(o, topic=topic))]
        dead = [dead_letter(o, record=record(o, topic=topic)) for o, good in batch if not good]
        for offset, good in sorted(batch, key=lambda fate: not fate[1]):
            first.setdefault(offset, good)
        places = [(topic, 0, o) for o, _ in batch]
        results.save_batch(scored, dead, [outbox_message(f"{topic}/{p[2]}", place=p) for p in places])
    mine = [r for r in results.recent(999) if r.topic == topic]
    letters = [d for d in results.dead_letters(999) if d.record.topic == topic]
    assert sorted(r.offset for r in mine) == sorted(o for o, good in first.items() if good)
    assert sorted(d.record.offset for d in letters) == sorted(o for o, good in first.items() if not good)
    assert sorted(name for name, _ in sent(results) if name.startswith(f"{topic}/")) == sorted(
        f"{topic}/{offset}" for offset in first
    )


RUNS = count()


def overlapping(offset: int, scorer: int) -> InspectionResult:
    return result(offset % 50, partition=offset // 50, message_id=f"m{offset}", bank_version=scorer)


def test_of_scorers_that_have_the_same_records_one_is_heard(database: Database) -> None:
    """Four at once on four partitions, in other batches and another order each; one result and one message each."""
    together = threading.Barrier(4)
    records = [
        Record(topic="images", partition=o // 50, offset=o % 50, key=None, value=b"", headers={"ce_id": b"m%d" % o})
        for o in range(200)
    ]

    def score(scorer: int) -> None:
        together.wait()
        size = 7 + 4 * scorer
        starts = list(range(0, 200, size))
        for start in starts[scorer * 3 :] + starts[: scorer * 3]:
            part = range(start, min(start + size, 200))
            standings = database.results.begin([records[o] for o in part], NOON)
            mine = [overlapping(o, scorer) for o, standing in zip(part, standings, strict=True) if not standing.done]
            messages = [
                outbox_message(f"{r.partition}/{r.offset}", b"%d" % scorer, (r.topic, r.partition, r.offset))
                for r in mine
            ]
            database.results.save_batch(mine, [], messages)
            database.results.release([records[o].place for o in part if o % 3])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(score, range(4)))
    kept = database.results.recent(1000)
    assert sorted((r.partition, r.offset) for r in kept) == [record.place[1:] for record in records]
    heard = {f"{r.partition}/{r.offset}": b"%d" % r.bank_version for r in kept}
    assert dict(sent(database.results)) == heard
    assert len(sent(database.results)) == 200
    assert all(standing.done for standing in database.results.begin(records, NOON))


def test_a_batch_costs_as_many_statements_whatever_its_size(database: Database) -> None:
    """A statement for each record would cost more than the rest of the writer."""
    counted: list[str] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def _count(*call: object) -> None:
        counted.append(str(call[2]))

    def cost(size: int, start: int) -> int:
        records = [record(start + number, partition=number % 5) for number in range(size)]
        scored = [result(r.offset, partition=r.partition) for r in records]
        counted.clear()
        database.results.begin(records, NOON)
        database.results.save_batch(scored, [], [outbox_message(r.message_id) for r in scored])
        database.results.release([r.place for r in records])
        return len(counted)

    assert cost(2, 0) == cost(100, 1000) == cost(300, 5000)


def test_no_table_is_read_whole_for_a_batch(tmp_path: Path) -> None:
    """With millions of results that would be seconds, with the write lock held. SQLite says how it reads."""
    with Database(f"sqlite:///{tmp_path / 'stream-ad.db'}", tmp_path / "entries", create=True) as database:
        seen: list[str] = []

        @event.listens_for(database.engine, "before_cursor_execute")
        def _note(*call: object) -> None:
            seen.append(str(call[2]))

        database.results.begin([record(0)], NOON)
        database.results.save_batch([result(0)], [dead_letter(1)], [told(0)])
        other = timedelta(hours=1)
        database.results.save_batch([result(1)], [dead_letter(0, record=record(0, timestamp=NOON + other))], [])
        database.results.release([record(0).place])
        statements = {s for s in seen if s.lstrip().startswith(("SELECT", "DELETE", "UPDATE", "INSERT"))}
        with database.engine.connect() as connection:
            for statement in statements:
                empty = (None,) * statement.count("?")
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", empty).fetchall()
                read_whole = [step for *_, step in plan if step.startswith("SCAN") and "json_each" not in step]
                assert not read_whole, f"{statement}: {plan}"
