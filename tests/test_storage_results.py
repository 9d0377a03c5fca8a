# ruff: noqa: F811 (a fixture is imported, then named as an argument)

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from storage_kit import (  # noqa: F401
    NOON,
    after,
    database,
    dead_letter,
    outbox_message,
    record,
    result,
    url,
)

from stream_ad.adapters.storage import Database
from stream_ad.domain.result import Verdict


def test_a_result_comes_back_as_it_was(database: Database) -> None:
    unknown = result(
        1,
        task=None,
        detector=None,
        score=None,
        p_value=None,
        threshold=None,
        verdict=Verdict.UNKNOWN,
        alarm="A-1 or B?",
    )
    database.results.save_batch([result(0, margin=0.1), unknown], [], [])
    assert database.results.recent(10) == [unknown, result(0, margin=0.1)]
    assert database.results.recent(1) == [unknown]


def test_a_dead_letter_keeps_every_byte(database: Database) -> None:
    odd = record(key=b"\x00k", value=b"\xff\xd8\x00", headers={"ce_id": b"\xfe\x00"}, timestamp=NOON)
    letter = dead_letter(record=odd, trace="Traceback ...", attempts=3)
    database.results.save_batch([], [letter], [])
    assert database.results.dead_letters(10) == [letter]


def test_odd_text_in_a_record_does_not_stop_the_stream(database: Database) -> None:
    odd = result(0, message_id="a\0b", camera="\udcff", overlay="/o/Geh\udce4use.png")
    database.results.save_batch([odd], [dead_letter(1, "bad \0 \ud800")], [])
    [saved] = database.results.recent(1)
    assert saved.message_id == "a\N{REPLACEMENT CHARACTER}b"
    assert saved.camera == "\\udcff"
    assert saved.overlay == odd.overlay


def test_the_outbox_is_relayed_in_order_and_only_what_was_sent_leaves_it(database: Database) -> None:
    database.results.save_batch([], [], [outbox_message("a"), outbox_message("b")])
    database.results.save_batch([], [], [outbox_message("c")])
    waiting = database.results.outbox(2)
    assert [message for _, message in waiting] == [outbox_message("a"), outbox_message("b")]
    database.results.relayed([row for row, _ in waiting])
    assert [message.id for _, message in database.results.outbox(10)] == ["c"]


def test_a_message_replaced_while_its_old_form_was_sent_is_sent_too(database: Database) -> None:
    database.results.save_batch([], [], [outbox_message("a", b"old")])
    sent = database.results.outbox(10)
    database.results.save_batch([], [], [outbox_message("a", b"new")])
    database.results.relayed([row for row, _ in sent])
    assert [message.value for _, message in database.results.outbox(10)] == [b"new"]


def test_row_numbers_of_the_outbox_are_never_used_twice(database: Database) -> None:
    database.results.save_batch([], [], [outbox_message("a")])
    [(first, _)] = database.results.outbox(10)
    database.results.relayed([first])
    database.results.save_batch([], [], [outbox_message("b")])
    [(second, _)] = database.results.outbox(10)
    assert second > first


def test_a_batch_is_saved_whole_or_not_at_all(database: Database) -> None:
    wrong = dead_letter()
    object.__setattr__(wrong, "at", NOON.replace(tzinfo=None))
    with pytest.raises(Exception, match="time zone"):
        database.results.save_batch([result(5)], [wrong], [outbox_message("a")])
    assert database.results.recent(10) == []
    assert database.results.outbox(10) == []


def test_a_batch_of_thousands_fits(database: Database) -> None:
    many = [result(offset) for offset in range(2000)]
    messages = [outbox_message(f"m{offset}") for offset in range(2000)]
    for _ in range(2):
        database.results.save_batch(many, [], messages)
    assert len(database.results.recent(5000)) == 2000
    database.results.relayed([row for row, _ in database.results.outbox(5000)])
    assert database.results.outbox(1) == []


def test_offsets_of_files_never_change(database: Database) -> None:
    files = database.files
    assert files.register("line1", [("a.png", "11"), ("b.png", "22")], NOON) == [0, 1]
    assert files.register("line1", [("c.png", "33"), ("a.png", "11"), ("a.png", "44")], NOON) == [2, 0, 3]
    assert files.register("line2", [("a.png", "11")], NOON) == [0]
    assert files.register("line1", [("d.png", "55"), ("d.png", "55")], NOON) == [4, 4]
    assert files.register("line1", [], NOON) == []
    assert files.known("line1") == {
        ("a.png", "11"),
        ("b.png", "22"),
        ("c.png", "33"),
        ("a.png", "44"),
        ("d.png", "55"),
    }


def test_files_wait_until_they_are_done(database: Database) -> None:
    files = database.files
    files.register("line1", [(f"{number}.png", "00") for number in range(4)], NOON)
    files.register("line2", [("0.png", "00")], NOON)
    files.done("line1", 2)
    assert files.pending("line1", 10) == [(2, "2.png", "00"), (3, "3.png", "00")]
    assert files.pending("line1", 1) == [(2, "2.png", "00")]
    files.done("line1", 4)
    assert files.pending("line1", 10) == []
    assert files.register("line1", [("1.png", "00"), ("new.png", "00")], NOON) == [1, 4]
    assert files.pending("line1", 10) == [(4, "new.png", "00")]
    assert files.pending("line2", 10) == [(0, "0.png", "00")]


def test_a_file_that_is_given_again_comes_last_and_only_when_it_was_done(database: Database) -> None:
    files = database.files
    files.register("line1", [(f"{number}.png", "00") for number in range(3)], NOON)
    files.done("line1", 2)
    assert files.again("line1", 2) is None
    assert files.again("line1", 7) is None
    assert files.again("line2", 0) is None
    assert files.again("line1", 0) == 3
    assert files.again("line1", 0) is None
    assert files.pending("line1", 10) == [(2, "2.png", "00"), (3, "0.png", "00")]
    assert files.register("line1", [("0.png", "00"), ("new.png", "00")], NOON) == [3, 4]


def test_a_file_name_that_is_not_utf8_survives(database: Database) -> None:
    odd = "Geh\udce4use.png"
    assert database.files.register("line1", [(odd, "00")], NOON) == [0]
    assert database.files.register("line1", [(odd, "00")], NOON) == [0]
    assert database.files.pending("line1", 1) == [(0, odd, "00")]
    assert database.files.known("line1") == {(odd, "00")}


def test_two_watchers_of_a_folder_agree_on_its_offsets(database: Database) -> None:
    paths = [(f"{number}.png", "00") for number in range(200)]
    together = threading.Barrier(3)

    def watch(watcher: int) -> dict[tuple[str, str], int]:
        together.wait()
        mine = paths[watcher * 20 :] + paths[: watcher * 20]
        offsets: dict[tuple[str, str], int] = {}
        for start in range(0, len(mine), 10):
            part = mine[start : start + 10]
            offsets.update(zip(part, database.files.register("line1", part, NOON), strict=True))
        return offsets

    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(watch, range(3))
    assert all(other == first for other in others)
    assert sorted(first.values()) == list(range(200))


def test_the_newest_results_come_first(database: Database) -> None:
    database.results.save_batch([result(n, scored_at=after(-n)) for n in range(5)], [], [])
    assert [r.offset for r in database.results.recent(3)] == [0, 1, 2]
