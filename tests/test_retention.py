# ruff: noqa: F811 (a fixture is imported, then named as an argument)
"""What is old or too much goes, the oldest first; what is still needed stays, whatever happens meanwhile."""

import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from storage_kit import NOON, after, database, result, url  # noqa: F401  (fixtures)

from stream_ad.adapters import retention_files
from stream_ad.adapters.database import Transactions
from stream_ad.adapters.folder_source import FolderSource
from stream_ad.adapters.in_memory import ManualClock
from stream_ad.adapters.overlay import OverlayFolder
from stream_ad.adapters.retention_files import InboxPictures, Overlays
from stream_ad.adapters.retention_rows import DeadLetterRows, DoneFiles, ResultRows
from stream_ad.adapters.storage import Database
from stream_ad.domain.message import DeadLetter, ImageMessage, Record
from stream_ad.domain.result import Verdict
from stream_ad.domain.retention import Kept, Pruned
from stream_ad.errors import Unavailable
from stream_ad.services.retention import Retention, Rule
from tests.stream_kit import inspection_of

TOPIC = "folder:inbox"
DAY = timedelta(days=1)


def everything(kept: Kept, *, before: datetime | None = None, most: float | None = None, limit: int = 1000) -> Pruned:
    return kept.prune(before=before, most=most, limit=limit, dry_run=False)


class Inbox:
    """A watched folder whose files came one a second, from noon on."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder, self.database = folder, database
        folder.mkdir()
        self.kept = InboxPictures(folder, DoneFiles(Transactions(database.engine), TOPIC))

    def come(self, *names: str, size: int = 1000) -> None:
        for second, name in enumerate(names):
            self.write(name, name.encode().ljust(size), at=after(second))

    def write(self, name: str, content: bytes, *, at: datetime) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (at.timestamp(), at.timestamp()))
        self.database.files.register(TOPIC, [(name, hashlib.sha256(content).hexdigest())], at)

    def judge(self, up_to: int) -> None:
        self.database.files.done(TOPIC, up_to)

    @property
    def names(self) -> set[str]:
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}

    @property
    def ledger(self) -> set[str]:
        return {path for path, _ in self.database.files.known(TOPIC)}


@pytest.fixture
def inbox(tmp_path: Path, database: Database) -> Inbox:
    return Inbox(tmp_path / "inbox", database)


def test_pictures_with_a_verdict_go_when_they_are_old(inbox: Inbox):
    inbox.come("a.png", "cam1/b.png", "c.png", "d.png")
    inbox.judge(4)
    pruned = everything(inbox.kept, before=after(2))
    assert (pruned.count, pruned.bytes, pruned.more) == (2, 2000, False)
    assert inbox.names == inbox.ledger == {"c.png", "d.png"}


def test_a_picture_without_a_verdict_is_never_deleted(inbox: Inbox):
    inbox.come("a.png", "b.png", "c.png", "d.png")
    inbox.judge(1)
    assert everything(inbox.kept, before=NOON + 365 * DAY, most=0.0).count == 1
    assert inbox.names == {"b.png", "c.png", "d.png"}


def test_a_picture_that_someone_may_send_again_stays(inbox: Inbox):
    inbox.come("a.png", "b.png", "c.png")
    inbox.judge(3)
    letter = DeadLetter(
        record=Record(topic=TOPIC, partition=0, offset=0, key=None, value=b"", headers={}, timestamp=None),
        stage="decode",
        error_class="UndecodableImage",
        reason="damaged",
        at=NOON,
    )
    inbox.database.results.save_batch([], [letter], [])
    everything(inbox.kept, before=NOON + DAY)
    assert inbox.names == {"a.png", "c.png"}


def test_a_picture_whose_content_changed_since_its_verdict_stays(inbox: Inbox):
    inbox.come("a.png", "b.png", "c.png")
    inbox.judge(3)
    (inbox.folder / "a.png").write_bytes(b"the camera used the name again")  # not looked at yet: no row knows it
    everything(inbox.kept, before=NOON + 365 * DAY)
    assert "a.png" in inbox.names


def test_a_file_that_was_only_touched_goes(inbox: Inbox):
    inbox.come("a.png", "b.png")
    inbox.judge(2)
    (inbox.folder / "a.png").touch()  # a copy or a restored backup: newer, but the same
    everything(inbox.kept, before=NOON + DAY)
    assert inbox.names == {"b.png"}


def test_of_a_name_that_was_used_twice_the_later_picture_decides(inbox: Inbox):
    inbox.come("a.png", "b.png")
    inbox.write("a.png", b"second", at=after(100))
    inbox.come("c.png")
    inbox.judge(4)
    assert everything(inbox.kept, before=after(50)).count == 1
    assert inbox.names == {"a.png", "c.png"}
    assert ("a.png", hashlib.sha256(b"second").hexdigest()) in inbox.database.files.known(TOPIC)


def test_a_picture_put_in_place_at_the_very_moment_of_deletion_stays(inbox: Inbox, monkeypatch: pytest.MonkeyPatch):
    inbox.come("a.png", "b.png")
    inbox.judge(2)
    real = Path.rename

    def camera_is_faster(path: Path, target: Path) -> Path:
        if path.name == "a.png":
            new = path.with_name("new.tmp")
            new.write_bytes(b"a new picture")
            new.replace(path)
        return real(path, target)

    monkeypatch.setattr(Path, "rename", camera_is_faster)
    assert everything(inbox.kept, before=NOON + DAY).count == 0
    assert (inbox.folder / "a.png").read_bytes() == b"a new picture"


def test_a_full_inbox_loses_its_oldest_pictures_until_it_fits(inbox: Inbox):
    inbox.come(*(f"{row}.png" for row in range(10)), size=1000)
    inbox.judge(10)
    pruned = everything(inbox.kept, most=4500 / 1e9)
    assert pruned.count == 6
    assert inbox.names == {f"{row}.png" for row in range(6, 10)}


def test_the_work_of_one_sweep_is_bounded(inbox: Inbox):
    inbox.come(*(f"{row}.png" for row in range(10)))
    inbox.judge(10)
    first = everything(inbox.kept, before=NOON + DAY, limit=4)
    assert (first.count, first.more) == (4, True)
    second = everything(inbox.kept, before=NOON + DAY, limit=100)
    assert (second.count, second.more) == (5, False), "the newest row keeps its number taken"


def test_a_dry_run_says_what_would_go_and_deletes_nothing(inbox: Inbox):
    inbox.come("a.png", "b.png", "c.png")
    inbox.judge(3)
    would = inbox.kept.prune(before=NOON + DAY, most=None, limit=1, dry_run=True)
    assert (would.count, would.bytes) == (2, 2000)
    assert len(inbox.names) == 3
    assert everything(inbox.kept, before=NOON + DAY).count == would.count


def test_rows_of_files_that_somebody_else_deleted_are_forgotten(inbox: Inbox):
    inbox.come("a.png", "b.png", "c.png")
    inbox.judge(3)
    (inbox.folder / "a.png").unlink()
    assert everything(inbox.kept, before=NOON + DAY).count == 1
    assert inbox.ledger == {"c.png"}


def test_an_offset_is_never_given_twice(inbox: Inbox):
    inbox.come("a.png", "b.png")
    inbox.judge(2)
    everything(inbox.kept, before=NOON + DAY)
    assert inbox.database.files.register(TOPIC, [("z.png", "00")], after(9)) == [2]


def test_a_running_source_goes_on_while_its_pictures_are_deleted(inbox: Inbox):
    clock = ManualClock(after(60))
    source = FolderSource(inbox.folder, inbox.database.files, clock, topic=TOPIC, settle_s=0.0)
    inbox.come("a.png", "b.png", "c.png")
    first = source.poll(2, 0.0)
    assert [record.offset for record in first] == [0, 1]
    source.commit({(TOPIC, 0): 2})
    everything(inbox.kept, before=NOON + DAY)
    assert inbox.names == {"c.png"}
    (inbox.folder / "d.png").write_bytes(b"d")
    os.utime(inbox.folder / "d.png", (after(30).timestamp(), after(30).timestamp()))
    clock.sleep(1.0)
    assert [record.offset for record in source.poll(5, 0.0)] == [2]
    clock.sleep(1.0)  # a new file needs a second look
    assert [record.offset for record in source.poll(5, 0.0)] == [3]


# --- overlays


def drawn(folder: Path, names: Sequence[str], *, size: int = 100) -> Overlays:
    for second, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
        os.utime(path, (after(second).timestamp(), after(second).timestamp()))
    return Overlays(folder)


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*.jpg")}


def test_old_overlays_go_with_their_empty_folders(tmp_path: Path):
    kept = drawn(tmp_path / "overlays", ["t/0-0/0.jpg", "t/0-0/1.jpg", "t/0-1/2.jpg", "u/0-0/3.jpg"])
    pruned = everything(kept, before=after(3))
    assert (pruned.count, pruned.bytes) == (3, 300)
    assert left(tmp_path) == {"3.jpg"}
    assert not (tmp_path / "overlays/t").exists()
    assert everything(kept, before=after(9)).count == 1
    assert (tmp_path / "overlays").is_dir(), "the folder itself may be a mounted disk"


def test_overlays_stay_below_their_quota_the_newest_kept(tmp_path: Path):
    kept = drawn(tmp_path / "overlays", [f"t/0-{row % 3}/{row}.jpg" for row in range(12)])
    assert kept.prune(before=None, most=450 / 1e9, limit=2, dry_run=True) == Pruned("overlays", 8, 800)
    pieces = [everything(kept, most=450 / 1e9, limit=3) for _ in range(3)]
    assert [(piece.count, piece.more) for piece in pieces] == [(3, True), (3, True), (2, False)]
    assert left(tmp_path) == {f"{row}.jpg" for row in range(8, 12)}


def test_overlays_that_were_never_drawn_need_no_room(tmp_path: Path):
    assert everything(Overlays(tmp_path / "none"), before=NOON, most=0.0).count == 0


def test_an_overlay_is_drawn_although_its_folder_is_just_being_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = Path.mkdir

    def removed_at_once(path: Path, *rest: object, **options: object) -> None:
        monkeypatch.setattr(Path, "mkdir", real)
        real(path, *rest, **options)  # pyright: ignore[reportArgumentType]
        path.rmdir()

    monkeypatch.setattr(Path, "mkdir", removed_at_once)
    record = Record(topic="t", partition=0, offset=7, key=None, value=b"", headers={}, timestamp=None)
    message = ImageMessage(record=record, message_id="7", data=b"", camera=None, declared_product=None)
    picture = np.zeros((20, 30, 3), dtype=np.uint8)
    path = OverlayFolder(tmp_path / "overlays")(message, picture, inspection_of(200.0, Verdict.NG))
    assert path is not None
    assert Path(path).stat().st_size > 1000
    assert [file.name for file in (tmp_path / "overlays").rglob("*") if file.is_file()] == [Path(path).name]


# --- rows


def test_old_results_go_and_the_rest_stays(database: Database):
    database.results.save_batch([replace(result(offset), scored_at=after(offset)) for offset in range(10)], [], [])
    kept = ResultRows(Transactions(database.engine))
    assert kept.prune(before=after(4), most=None, limit=1, dry_run=True).count == 4
    first = everything(kept, before=after(4), limit=3)
    assert (first.count, first.more) == (3, True)
    assert everything(kept, before=after(4), limit=3).count == 1
    assert {one.offset for one in database.results.recent(99)} == set(range(4, 10))


def test_results_beyond_their_number_go_the_oldest_first(database: Database):
    database.results.save_batch([replace(result(offset), scored_at=after(offset)) for offset in range(10)], [], [])
    assert everything(ResultRows(Transactions(database.engine)), most=3.0).count == 7
    assert {one.offset for one in database.results.recent(99)} == {7, 8, 9}


def letter(offset: int, size: int) -> DeadLetter:
    record = Record(topic="t", partition=0, offset=offset, key=None, value=bytes(size), headers={}, timestamp=None)
    return DeadLetter(record=record, stage="decode", error_class="E", reason="r", at=after(offset))


def test_dead_letters_are_bounded_by_age_and_by_their_bytes(database: Database):
    database.results.save_batch([], [letter(offset, 300_000) for offset in range(10)], [])
    kept = DeadLetterRows(Transactions(database.engine))
    assert everything(kept, before=after(2)).count == 2
    half = everything(kept, most=1.2, limit=2)
    assert (half.count, half.more) == (2, True)
    assert everything(kept, most=1.2).count == 2
    assert {one.record.offset for one in database.results.dead_letters(99)} == {6, 7, 8, 9}


# --- all together


class Away:
    name = "things"

    def prune(self, *, before: datetime | None, most: float | None, limit: int, dry_run: bool) -> Pruned:
        raise Unavailable("the database is away")


class Counted:
    name = "others"

    def __init__(self, stop: threading.Event) -> None:
        self.stop, self.pieces = stop, [3, 3, 1]

    def prune(self, *, before: datetime | None, most: float | None, limit: int, dry_run: bool) -> Pruned:
        assert before == NOON - 2 * DAY
        count = self.pieces.pop(0)
        if not self.pieces:
            self.stop.set()
        return Pruned(self.name, count, more=bool(self.pieces))


def test_one_kind_that_is_away_does_not_hold_up_the_others(caplog: pytest.LogCaptureFixture):
    stop = threading.Event()
    rules = Retention([Rule(Away(), most=1.0), Rule(Counted(stop), days=2.0)], ManualClock(NOON))
    assert [one.count for one in rules.sweep()] == [3]
    assert "old things are not deleted now" in caplog.text


def test_sweeps_go_on_until_nothing_is_left_or_the_scorer_stops():
    stop = threading.Event()
    counted = Counted(stop)
    Retention([Rule(counted, days=2.0)], ManualClock(NOON)).keep_sweeping(stop, every_s=0.01)
    assert counted.pieces == []


def test_without_a_bound_nothing_is_looked_at():
    rules = Retention([Rule(Away())], ManualClock(NOON))
    assert not rules
    assert rules.sweep() == []


def test_gigabytes_are_those_of_disk_makers():
    assert retention_files.GB == 1e9
