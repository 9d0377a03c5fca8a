"""A watched folder: only complete pictures, each once, whatever their names and writers do."""

import logging
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stream_ad.adapters.folder_scan import Found
from stream_ad.adapters.folder_source import HASHED_AT_ONCE, FolderSource
from stream_ad.adapters.in_memory import InMemoryLedger, ManualClock
from stream_ad.domain.message import DeadLetter, ImageMessage, Record
from stream_ad.errors import Unavailable
from stream_ad.services.messages import read_message

START = datetime(2026, 1, 1, tzinfo=UTC)


class Folder:
    """A folder whose files are as old as the test's clock says."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock, self.ledger = path, ManualClock(START), InMemoryLedger()

    def source(self, **changes) -> FolderSource:
        return FolderSource(self.path, self.ledger, self.clock, **{"topic": "line-1", "settle_s": 1.0} | changes)

    def write(self, name: str, data: bytes = b"picture", *, age_s: float = 0.0) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        written = self.clock.now().timestamp() - age_s
        os.utime(path, (written, written))
        return path


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def subjects(records: list[Record]) -> list[str]:
    return [record.headers["ce_subject"].decode() for record in records]


def test_a_file_counts_only_when_it_stopped_growing(folder):
    source = folder.source()
    assert source.poll(10, 0.0) == []
    for size in (10, 20, 30):  # a writer that takes its time
        folder.write("slow.png", b"x" * size)
        assert source.poll(10, 0.8) == []
    assert [record.value for record in source.poll(10, 1.2)] == [b"x" * 30]


def test_a_file_renamed_into_place_needs_only_a_second_look(folder):
    source = folder.source()
    source.poll(10, 0.0)
    folder.clock.sleep(0.3)
    folder.write("new.part", age_s=50).rename(folder.path / "new.png")
    assert subjects(source.poll(10, 0.4)) == ["new.png"]


def test_what_is_there_at_the_start_comes_at_once_oldest_first(folder):
    folder.write("b.png", b"1", age_s=30)
    folder.write("a.png", b"2", age_s=20)
    assert subjects(folder.source().poll(10, 0.0)) == ["b.png", "a.png"]


@pytest.mark.parametrize(
    "name", [".hidden.png", "~lock.png", "tmp_1.png", ".cache/a.png", "a.png.part", "notes.txt", "a"]
)
def test_other_and_temporary_names_are_no_pictures(folder, name):
    folder.write(name, age_s=50)
    assert folder.source().poll(10, 2.0) == []


@pytest.mark.parametrize("name", ["a.png", "A.JPG", "b.jpeg", "c.tif", "d.TIFF", "e.bmp", "f.webp", "grün ß.png"])
def test_picture_names_are_taken_whatever_their_case(folder, name):
    folder.write(name, age_s=50)
    assert subjects(folder.source().poll(10, 0.0)) == [name]


def test_a_link_is_not_followed(folder, tmp_path_factory):
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.png"
    secret.write_bytes(b"secret")
    (folder.path / "link.png").symlink_to(secret)
    (folder.path / "dir").symlink_to(secret.parent)
    assert folder.source().poll(10, 3.0) == []


def test_the_first_sub_folder_is_the_camera(folder):
    folder.write("top/deep/a.png", b"1", age_s=50)
    folder.write("b.png", b"2", age_s=40)
    first, second = folder.source().poll(10, 0.0)
    assert (first.headers["camera"], first.headers["ce_subject"]) == (b"top", b"top/deep/a.png")
    assert "camera" not in second.headers


def test_a_picture_of_no_sub_folder_is_of_no_camera_and_of_no_declared_product(folder):
    folder.write("plain.png", age_s=20)
    [record] = folder.source().poll(10, 0.0)
    for key_names in ("camera", "product", None):
        message = read_message(record, None, at=START, key_names=key_names)
        assert isinstance(message, ImageMessage)
        assert (message.camera, message.declared_product) == (None, None)


def test_a_file_that_is_overwritten_is_a_new_record_and_a_touched_one_is_not(folder):
    folder.write("latest.png", b"first", age_s=50)
    source = folder.source()
    assert [record.value for record in source.poll(10, 0.0)] == [b"first"]
    folder.clock.sleep(1.0)
    folder.write("latest.png", b"first")
    assert source.poll(10, 3.0) == []
    folder.write("latest.png", b"second")
    assert [(record.offset, record.value) for record in source.poll(10, 3.0)] == [(1, b"second")]


def test_a_restart_repeats_nothing_that_was_done_and_sees_what_changed_meanwhile(folder):
    folder.write("a.png", b"1", age_s=50)
    source = folder.source()
    (record,) = source.poll(10, 0.0)
    source.commit({("line-1", 0): record.offset + 1})
    assert folder.source().poll(10, 1.0) == []
    folder.write("a.png", b"2", age_s=10)
    assert [record.value for record in folder.source().poll(10, 0.0)] == [b"2"]


def test_new_files_do_not_wait_until_a_full_folder_was_read_again_after_a_restart(folder):
    for number in range(HASHED_AT_ONCE + 50):
        folder.write(f"{number}.png", str(number).encode(), age_s=1000)
    source = folder.source()
    done = 0
    while records := source.poll(100, 1.0):
        done = records[-1].offset + 1
    assert done == HASHED_AT_ONCE + 50
    source.commit({("line-1", 0): done})
    folder.write("new.png", b"new", age_s=5)
    assert subjects(folder.source().poll(10, 0.0)) == ["new.png"]


@pytest.mark.parametrize("what", ["removed", "overwritten", "too large", "a pipe now"])
def test_a_picture_that_cannot_be_read_any_more_is_put_aside_with_the_reason(folder, what):
    path = folder.write("a.png", b"12345", age_s=50)
    source = folder.source(max_bytes=3 if what == "too large" else 100)
    register_only(source, folder)
    match what:
        case "removed":
            path.unlink()
        case "overwritten":
            folder.write("a.png", b"other")
        case "a pipe now":
            path.unlink()
            os.mkfifo(path)
    (record,) = folder.source(max_bytes=3 if what == "too large" else 100).poll(1, 0.0)
    assert record.value is None
    letter = read_message(record, None, at=START)
    assert isinstance(letter, DeadLetter)
    assert letter.stage == "source"
    assert "a.png" in letter.reason


def register_only(source: FolderSource, folder: Folder) -> None:
    """Let the source see the file, then act as if it had been killed before handing it over."""
    source.poll(1, 0.0)
    assert len(folder.ledger.pending("line-1", 10)) == 1


def test_a_folder_that_is_away_is_unavailable_and_taken_up_again(folder):
    folder.write("a.png", age_s=50)
    source = folder.source()
    away = folder.path.rename(folder.path.with_name("unmounted"))
    with pytest.raises(Unavailable, match="make or mount it"):
        source.poll(10, 0.0)
    away.rename(folder.path)
    assert subjects(source.poll(10, 3.0)) == ["a.png"]


class Locked(FolderSource):
    """A source that may not read the pictures whose names begin with "locked"."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.locked, self.tries = True, 0

    def _hash(self, file: Found) -> str:
        if self.locked and file.path.startswith("locked"):
            self.tries += 1
            raise PermissionError(13, "Permission denied", file.path)
        return super()._hash(file)


def locked_source(folder: Folder) -> Locked:
    return Locked(folder.path, folder.ledger, folder.clock, topic="line-1", settle_s=1.0)


def test_an_unreadable_file_is_named_once_and_tried_ever_more_seldom_until_it_can_be_read(folder, caplog):
    folder.write("locked.png", age_s=50)
    source = locked_source(folder)
    with caplog.at_level(logging.WARNING):
        assert source.poll(10, 600.0) == []
    assert len(caplog.records) == 1
    assert "locked.png" in caplog.text
    # after 0.5, 1, 2 ... 32 s, then each minute: not the 3,000 times of a look every 0.2 s
    assert 14 <= source.tries <= 17
    source.locked = False
    assert subjects(source.poll(10, 61.0)) == ["locked.png"]


def test_an_unreadable_file_that_was_replaced_is_tried_at_once(folder):
    folder.write("locked.png", b"old", age_s=50)
    source = locked_source(folder)
    source.poll(10, 300.0)
    source.locked = False
    folder.write("locked.png", b"newer")
    assert [record.value for record in source.poll(10, 2.0)] == [b"newer"]


def test_many_unreadable_files_keep_no_new_file_waiting(folder):
    for number in range(HASHED_AT_ONCE + 10):
        folder.write(f"locked-{number}.png", age_s=1000)
    source = locked_source(folder)
    source.poll(10, 5.0)
    folder.write("new.png", b"new")
    assert subjects(source.poll(10, 3.0)) == ["new.png"]
