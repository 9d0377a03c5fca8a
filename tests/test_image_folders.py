"""Folders of pictures: what is read, in which order, and what is refused with which words."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stream_ad.adapters.decode import pixel_sha256
from stream_ad.adapters.image_folders import ImageFolder
from stream_ad.domain.images import ImageSet
from stream_ad.errors import DataError, NoImages, UndecodableImage


def paint(path: Path, seed: int, size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_pictures_come_in_the_order_of_their_names_from_all_folders_below(tmp_path):
    for seed, name in enumerate(["b.png", "a.bmp", "below/c.PNG", "below/.hidden.png", ".cache/d.png"]):
        paint(tmp_path / name, seed)
    (tmp_path / "notes.txt").write_text("no picture")
    folder = ImageFolder(tmp_path)
    assert isinstance(folder, ImageSet)
    assert [Path(name).name for name in folder.names] == ["a.bmp", "b.png", "c.PNG"]
    assert len(folder) == 3
    assert list(folder.ids) == [pixel_sha256(folder[index]) for index in range(3)]
    assert folder.named_ids[str(tmp_path / "b.png")] == folder.ids[1]


@pytest.mark.parametrize("layout", ["train/good", "good", "."])
def test_the_folder_of_good_parts_is_found(tmp_path, layout):
    paint(tmp_path / layout / "a.png", 0)
    if layout != ".":
        paint(tmp_path / "test" / "scratch" / "b.png", 1)
    assert len(ImageFolder(tmp_path)) == 1


@pytest.mark.parametrize("cache_mb", [0.0, 0.001, 10.0])
def test_pictures_can_be_read_again_whatever_the_cache_holds(tmp_path, cache_mb):
    for seed in range(6):
        paint(tmp_path / f"{seed}.png", seed)
    folder = ImageFolder(tmp_path, cache_mb=cache_mb)
    first = [folder[index].copy() for index in range(6)]
    assert all(np.array_equal(folder[index], first[index]) for index in (5, 0, 3))
    assert folder._cache._bytes <= cache_mb * 1024**2


def test_equal_pictures_are_kept_once_and_named(tmp_path):
    paint(tmp_path / "a.png", 0)
    paint(tmp_path / "b.bmp", 0)  # another file, the same pixels
    paint(tmp_path / "c.png", 1)
    folder = ImageFolder(tmp_path)
    assert len(folder) == 2
    assert folder.duplicates == {str(tmp_path / "b.bmp"): str(tmp_path / "a.png")}


def test_a_file_that_is_no_picture_is_named(tmp_path):
    paint(tmp_path / "a.png", 0)
    (tmp_path / "text.png").write_text("I am a text")
    whole = paint(tmp_path / "cut.png", 1, (60, 60)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    folder = ImageFolder(tmp_path)
    with pytest.raises(UndecodableImage) as caught:
        len(folder)
    told = str(caught.value)
    assert told.startswith("2 of 3 files are no usable pictures")
    assert "text.png: needed a JPEG" in told
    assert "cut.png: needed a whole picture" in told
    assert told.endswith("Remove or replace them, then try again")


def test_a_file_that_went_away_is_named(tmp_path):
    gone = paint(tmp_path / "a.png", 0)
    folder = ImageFolder(tmp_path)
    gone.unlink()
    with pytest.raises(UndecodableImage, match=r"a\.png: cannot be read: No such file"):
        len(folder)


def test_a_picture_above_the_limit_is_refused(tmp_path):
    paint(tmp_path / "a.png", 0, (20, 20))
    folder = ImageFolder(tmp_path, max_pixels=399)
    with pytest.raises(UndecodableImage, match=r"a\.png: .*20 x 20"):
        len(folder)


def test_a_folder_without_pictures_says_what_was_looked_for(tmp_path):
    with pytest.raises(NoImages, match=r"needed pictures \(\.bmp, .*\) in .*; the folder is empty"):
        ImageFolder(tmp_path)
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(NoImages, match=r"found 1 other files, readme\.txt for one"):
        ImageFolder(tmp_path)
    with pytest.raises(NoImages, match="is a file; give the folder that it is in"):
        ImageFolder(tmp_path / "readme.txt")
    with pytest.raises(NoImages, match="does not exist; check the path"):
        ImageFolder(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["defect", "Test", "ground_truth", "NG"])
def test_defects_beside_good_parts_are_never_learnt_as_good(tmp_path, name):
    paint(tmp_path / "a.png", 0)
    paint(tmp_path / name / "b.png", 1)
    with pytest.raises(DataError, match=f"holds {name}.b.png, and a folder '{name.lower()}' does not look like that"):
        ImageFolder(tmp_path)
