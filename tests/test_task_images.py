"""Pictures that come later join a task without moving those that judge it."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import DataError
from stream_ad.task_images import TaskImageReader

NUT = Task(id=TaskId("nut"), class_name="nut")


def paint(folder: Path, count: int, seed: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng([seed, number]).integers(0, 256, (32, 32, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number:03}.png"), pixels)
    return folder


@pytest.fixture
def reader() -> TaskImageReader:
    return TaskImageReader(share=0.2, per_image=1, max_pixels=1_000_000)


@pytest.fixture
def first(tmp_path: Path, reader: TaskImageReader):
    """The payload of a task without held-out pictures of its own."""
    return reader.check(NUT, images=paint(tmp_path / "first", 20, 1), heldout=None, roi=None).payload


def ids(reader: TaskImageReader, payload) -> tuple[set[str], set[str], set[str]]:
    images = reader.read(NUT, payload)
    return set(images.normals.ids), set(images.heldout.regression.ids), set(images.heldout.test.ids)


def test_held_out_pictures_stay_in_their_halves_when_others_come(reader, first, tmp_path):
    checked = reader.check_more(first, images=paint(tmp_path / "more", 10, 2), heldout=None)
    assert checked.summary.startswith("10 more pictures")
    before, after = ids(reader, first), ids(reader, checked.payload)
    for then, now in zip(before, after, strict=True):
        assert then < now
    assert not (after[0] & (after[1] | after[2]))
    # of ten new pictures two are kept apart, each with a painted copy
    assert len(after[0]) - len(before[0]) == 8
    assert len(after[1] | after[2]) - len(before[1] | before[2]) == 4


def test_pictures_that_are_known_already_are_left_out(reader, first, tmp_path):
    more = paint(tmp_path / "more", 20, 1)  # the very same
    paint(more / "new", 5, 2)
    payload = reader.check_more(first, images=more, heldout=None).payload
    before, after = ids(reader, first), ids(reader, payload)
    assert len(after[0] - before[0]) == 4
    assert not after[0] & (before[1] | before[2])


def test_a_folder_with_nothing_new_is_refused(reader, first, tmp_path):
    payload = reader.check_more(first, images=paint(tmp_path / "more", 10, 1), heldout=None).payload
    with pytest.raises(DataError, match="all 10 there are known already"):
        reader.read(NUT, payload)


def test_the_same_folder_is_not_added_again(reader, first, tmp_path):
    with pytest.raises(DataError, match="put the new pictures into a folder of their own"):
        reader.check_more(first, images=tmp_path / "first", heldout=None)
    more = paint(tmp_path / "more", 10, 2)
    payload = reader.check_more(first, images=more, heldout=None).payload
    with pytest.raises(DataError, match="which is one of them"):
        reader.check_more(payload, images=more, heldout=None)


def test_beside_real_defects_none_are_painted(reader, tmp_path):
    held = tmp_path / "held"
    paint(held / "good", 6, 3)
    paint(held / "scratch", 6, 4)
    payload = reader.check(NUT, images=paint(tmp_path / "first", 20, 1), heldout=held, roi=None).payload
    before = reader.heldout(NUT, payload)
    payload = reader.check_more(payload, images=paint(tmp_path / "more", 10, 2), heldout=None).payload
    after = reader.heldout(NUT, payload)
    assert len(after) - len(before) == 2
    assert sum(after.defective) == sum(before.defective)
    assert not any(after[place].synthetic for place in range(len(after)))
    assert [after[place].id for place in range(len(after))] == list(after.ids)


def test_held_out_pictures_may_be_added_alone_with_good_ones(reader, first, tmp_path):
    held = tmp_path / "held"
    paint(held / "good", 4, 5)
    paint(held / "scratch", 4, 6)
    more = reader.check_more(first, images=paint(tmp_path / "more", 10, 2), heldout=held)
    assert "held-out ones in" in more.summary
    before, after = ids(reader, first), ids(reader, more.payload)
    assert len(after[0] - before[0]) == 10
    assert len((after[1] | after[2]) - before[1] - before[2]) == 8
    kinds = reader.heldout(NUT, more.payload).kinds
    assert kinds.count("scratch") == 4


def test_a_picture_that_changes_in_a_later_folder_is_noticed(reader, first, tmp_path):
    payload = reader.check_more(first, images=paint(tmp_path / "more", 10, 2), heldout=None).payload
    before = ids(reader, payload)
    paint(tmp_path / "more" / "late", 1, 7)
    assert ids(reader, payload) != before
