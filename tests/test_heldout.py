"""Held-out pictures: layouts, masks, painted defects, halves, and what may not overlap."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stream_ad.adapters.heldout import read_heldout
from stream_ad.adapters.image_folders import ImageFolder
from stream_ad.adapters.masks import read_mask, read_roi
from stream_ad.domain.evaluation import Half
from stream_ad.domain.images import HeldoutImage, HeldoutSet, LabelledSubset
from stream_ad.errors import DataError, NoImages, OverlappingSplits, UndecodableImage
from stream_ad.evaluation.splits import check_disjoint, reserve, split_halves, synthetic_heldout

DATASETS = Path(os.environ.get("STREAM_AD_DATASETS", Path(__file__).parents[2] / "shared" / "datasets"))
# train good, test good, test defective
COUNTS = {
    "mvtec_bottle": (100, 20, 63),
    "mvtec_screw": (100, 40, 60),
    "mpdd_metal_plate": (54, 26, 60),
    "kolektorsdd": (100, 40, 35),
    "magnetic_tile": (100, 40, 60),
    "ballscrew_bsdata": (100, 40, 60),
    "aws_cookie": (31, 14, 32),
    "deeppcb": (100, 40, 60),
    "elpv_mono": (100, 40, 60),
}
WITHOUT_MASKS = ("elpv_mono",)


def paint(path: Path, seed: int, size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def draw(path: Path, size: tuple[int, int] = (12, 10), value: int = 255) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(size, dtype=np.uint8)
    mask[2:5, 3:6] = value
    Image.fromarray(mask).save(path)
    return path


def mvtec(root: Path) -> Path:
    paint(root / "test" / "good" / "000.png", 0)
    paint(root / "test" / "hole" / "000.png", 1)
    paint(root / "test" / "scratch" / "000.png", 2)
    draw(root / "ground_truth" / "hole" / "000_mask.png")
    draw(root / "ground_truth" / "scratch" / "000_mask.png")
    paint(root / "train" / "good" / "000.png", 3)
    return root


class Pictures:
    """Normals that are in memory."""

    def __init__(self, count: int, size: tuple[int, int] = (40, 30)) -> None:
        self.pictures = np.random.default_rng(count).integers(0, 256, (count, *size, 3), dtype=np.uint8)
        self.ids = [f"{hash((count, index)) % 2**64:064x}" for index in range(count)]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.pictures[index]


class Labels:
    """A held-out set of which only ids and kinds matter."""

    def __init__(self, kinds: list[str]) -> None:
        self.kinds = kinds
        self.ids = [f"{index * 7919 % 10007:05d}" for index in range(len(kinds))]
        self.defective = [kind != "good" for kind in kinds]

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, index: int) -> HeldoutImage:
        raise AssertionError("nobody needs to open a picture to divide a set")


@pytest.mark.parametrize("inside", [".", "test"])
def test_mvtec_layout_is_read_from_its_root_or_its_test_folder(tmp_path, inside):
    heldout = read_heldout(mvtec(tmp_path) / inside)
    assert isinstance(heldout, HeldoutSet)
    assert list(heldout.kinds) == ["good", "hole", "scratch"]
    assert list(heldout.defective) == [False, True, True]
    assert heldout[0].mask is None
    hole = heldout[1]
    assert hole.mask is not None
    assert hole.mask.sum() == 9
    assert (hole.kind, hole.defective, hole.synthetic, hole.id) == ("hole", True, False, heldout.ids[1])
    assert heldout.unmarked == 0


@pytest.mark.parametrize(
    ("good", "defect", "mask"),
    [
        ("good", "defect", "mask/b.png"),
        ("good", "defects", "masks/b_mask.png"),
        ("OK", "NG", "ground_truth/NG/b.bmp"),
        ("good", "bad", None),
    ],
)
def test_good_and_defect_folders_are_read_with_or_without_masks(tmp_path, good, defect, mask):
    paint(tmp_path / good / "a.png", 0)
    paint(tmp_path / defect / "b.png", 1)
    if mask:
        draw(tmp_path / mask)
    heldout = read_heldout(tmp_path)
    assert list(heldout.defective) == [kind != "good" for kind in heldout.kinds]
    assert sorted(heldout.kinds, key=str.lower) == sorted(["good", defect], key=str.lower)
    assert heldout.unmarked == (mask is None)


def test_folders_below_defect_are_the_kinds(tmp_path):
    paint(tmp_path / "good" / "a.png", 0)
    paint(tmp_path / "defect" / "dent" / "b.png", 1)
    paint(tmp_path / "defect" / "stain" / "b.png", 2)
    draw(tmp_path / "mask" / "dent" / "b.png")
    heldout = read_heldout(tmp_path)
    assert sorted(heldout.kinds) == ["dent", "good", "stain"]
    assert heldout.unmarked == 1


@pytest.mark.parametrize("layout", [".", "good", "test/good"])
def test_normals_alone_are_a_heldout_set(tmp_path, layout):
    paint(tmp_path / layout / "a.png", 0)
    paint(tmp_path / layout / "b.png", 1)
    assert list(read_heldout(tmp_path).kinds) == ["good", "good"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["scratch/a.png", "hole/b.png"], "cannot tell good from defective parts.*got .*hole"),
        (["good/a.png", "b.png"], r"cannot tell good from defective parts.*got .*b\.png"),
        (["good/a.png", "train/b.png"], "cannot tell good from defective parts.*got .*train"),
    ],
)
def test_a_layout_that_could_mean_two_things_is_refused(tmp_path, files, message):
    for seed, name in enumerate(files):
        paint(tmp_path / name, seed)
    with pytest.raises(DataError, match=message):
        read_heldout(tmp_path)


def test_a_heldout_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(NoImages, match="does not exist"):
        read_heldout(tmp_path / "nowhere")
    with pytest.raises(NoImages, match="the folder is empty"):
        read_heldout(tmp_path)
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "list.txt").write_text("a.png")
    with pytest.raises(NoImages, match=r"found 1 other files, list\.txt"):
        read_heldout(tmp_path)


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path):
    draw(mvtec(tmp_path) / "ground_truth" / "hole" / "000_mask.png", (12, 11))
    with pytest.raises(DataError, match=r"000_mask\.png: needed a mask of its picture's size, 10 x 12, got 11 x 12"):
        len(read_heldout(tmp_path))


def test_a_mask_that_marks_nothing_is_refused(tmp_path):
    draw(mvtec(tmp_path) / "ground_truth" / "hole" / "000_mask.png", value=0)
    with pytest.raises(DataError, match=r"000_mask\.png is all black"):
        len(read_heldout(tmp_path))


def test_masks_whose_names_fit_no_picture_are_refused(tmp_path):
    paint(tmp_path / "good" / "a.png", 0)
    paint(tmp_path / "defect" / "b.png", 1)
    draw(tmp_path / "mask" / "mask_of_b.png")
    with pytest.raises(DataError, match=r"none of the 1 masks .* needed b_mask\.png or b\.png for .*b\.png"):
        read_heldout(tmp_path)


def test_a_picture_cannot_be_good_and_defective(tmp_path):
    paint(tmp_path / "good" / "a.png", 0)
    paint(tmp_path / "defect" / "b.png", 0)
    with pytest.raises(DataError, match=r"b\.png and .*a\.png are the same picture, one good and one defective"):
        len(read_heldout(tmp_path))


def test_a_broken_heldout_picture_is_named(tmp_path):
    (mvtec(tmp_path) / "test" / "hole" / "000.png").write_text("no picture")
    with pytest.raises(UndecodableImage, match=r"1 of 3 files .*hole.000\.png"):
        len(read_heldout(tmp_path))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
def test_masks_are_read_in_every_mode_and_any_value_but_black_counts(tmp_path, mode):
    expected = np.zeros((6, 8), dtype=bool)
    expected[1:3, 2:7] = True
    path = tmp_path / "mask.png"
    if mode == "I;16":
        Image.fromarray(expected.astype(np.uint16)).save(path)
    else:
        Image.fromarray(expected.astype(np.uint8) * 255).convert(mode).save(path)
    assert np.array_equal(read_mask(path), expected)


def test_transparent_pixels_of_a_mask_do_not_count(tmp_path):
    pixels = np.full((4, 4, 4), 255, dtype=np.uint8)
    pixels[:, 2:, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "roi.png")
    assert read_roi(tmp_path / "roi.png").sum() == 8


def test_a_region_of_interest_needs_pixels_and_a_lossless_file(tmp_path):
    with pytest.raises(DataError, match=r"roi\.png does not exist; check the path"):
        read_roi(tmp_path / "roi.png")
    draw(tmp_path / "roi.png", value=0)
    with pytest.raises(DataError, match=r"roi\.png: a region of interest needs pixels that are not black"):
        read_roi(tmp_path / "roi.png")
    draw(tmp_path / "roi.jpg")
    with pytest.raises(DataError, match=r"needed a PNG, BMP or TIFF mask, but .*roi\.jpg is none"):
        read_roi(tmp_path / "roi.jpg")
    (tmp_path / "roi.png").write_text("no picture")
    with pytest.raises(DataError, match="needed a PNG, BMP or TIFF mask"):
        read_roi(tmp_path / "roi.png")


def test_synthetic_heldout_keeps_each_normal_and_paints_marked_copies():
    normals = Pictures(9)
    heldout = synthetic_heldout(normals, seed=1, per_image=2)
    assert len(heldout) == 27
    assert len(set(heldout.ids)) == 27
    for index in range(27):
        image, normal = heldout[index], normals[index // 3]
        assert image.id == heldout.ids[index]
        assert image.kind == heldout.kinds[index]
        assert image.defective == image.synthetic == heldout.defective[index] == (index % 3 > 0)
        if image.defective:
            assert image.mask is not None
            assert image.kind.startswith("synthetic ")
            assert np.array_equal(image.pixels[~image.mask], normal[~image.mask])
        else:
            assert image.id == normals.ids[index // 3]
            assert np.array_equal(image.pixels, normal)


def test_synthetic_defects_are_the_same_each_time_and_stay_in_the_region_of_interest():
    roi = np.zeros((8, 6), dtype=bool)
    roi[:4] = True
    first, again = (synthetic_heldout(Pictures(6), seed=3, roi=roi) for _ in range(2))
    for index in range(len(first)):
        image = first[index]
        assert np.array_equal(image.pixels, again[index].pixels)
        assert image.mask is None or not image.mask[20:].any()


def test_halves_of_a_synthetic_set_share_no_part_and_each_kind_is_in_both():
    halves = split_halves(synthetic_heldout(Pictures(16)))
    assert len(halves[Half.REGRESSION]) == len(halves[Half.TEST]) == 16
    kinds = [Counter(half.kinds) for half in halves.values()]
    assert kinds[0] == kinds[1]
    assert len(kinds[0]) == 5
    normals = [
        {id for id, kind in zip(half.ids, half.kinds, strict=True) if kind == "good"} for half in halves.values()
    ]
    assert not normals[0] & normals[1]


@given(kinds=st.lists(st.sampled_from(["good", "dent", "hole", "stain"]), max_size=40), shuffle=st.randoms())
def test_halves_are_balanced_complete_and_do_not_depend_on_the_order_of_files(kinds, shuffle):
    labels = Labels(kinds)
    halves = split_halves(labels)
    regression, test = halves[Half.REGRESSION], halves[Half.TEST]
    assert sorted([*regression.ids, *test.ids]) == sorted(labels.ids)
    for flag in (False, True):
        assert 0 <= list(regression.defective).count(flag) - list(test.defective).count(flag) <= 1
    for kind in set(kinds):
        assert abs(list(regression.kinds).count(kind) - list(test.kinds).count(kind)) <= 1

    order = list(range(len(kinds)))
    shuffle.shuffle(order)
    shuffled = split_halves(LabelledSubset(labels, order))
    assert set(shuffled[Half.TEST].ids) == set(test.ids)


@given(count=st.integers(3, 60), share=st.floats(0.01, 0.99))
def test_reserved_normals_are_kept_apart_and_chosen_by_their_ids(count, share):
    normals = Pictures(count, size=(1, 1))
    fit, apart = reserve(normals, share)
    assert len(fit) >= 1
    assert len(apart) >= 2
    assert sorted([*fit.ids, *apart.ids]) == sorted(normals.ids)
    assert max(apart.ids) < min(fit.ids)


def test_too_few_normals_to_reserve_is_said():
    with pytest.raises(DataError, match="needed more than 2 normal pictures to keep 2 of them apart, got 2"):
        reserve(Pictures(2), 0.2)


def test_a_heldout_picture_that_is_also_a_training_picture_is_named_with_its_twin(tmp_path):
    paint(mvtec(tmp_path) / "test" / "good" / "copy.png", 3)
    training, heldout = ImageFolder(tmp_path), read_heldout(tmp_path)
    with pytest.raises(OverlappingSplits) as caught:
        check_disjoint({"the training images": training.named_ids, "the held-out images": heldout.named_ids})
    told = str(caught.value)
    assert told.startswith("1 pictures are in the training images and in the held-out images, pixel by pixel: ")
    assert f"{tmp_path / 'train' / 'good' / '000.png'} = {tmp_path / 'test' / 'good' / 'copy.png'}" in told


def test_sets_without_a_common_picture_are_disjoint():
    check_disjoint({"a": {"x": "1"}, "b": {"x": "2"}, "c": {}})


@pytest.mark.needs_datasets
@pytest.mark.parametrize("name", COUNTS)
def test_real_data_sets_are_read_as_they_are_described(name):
    folder = DATASETS / name
    if not folder.is_dir():
        pytest.skip(f"needs real images in {DATASETS}; name their folder by STREAM_AD_DATASETS")
    training, heldout = ImageFolder(folder), read_heldout(folder)
    good, defective = list(heldout.defective).count(False), list(heldout.defective).count(True)
    assert (len(training), good, defective) == COUNTS[name]
    assert heldout.unmarked == (defective if name in WITHOUT_MASKS else 0)
    check_disjoint({"training": training.named_ids, "held-out": heldout.named_ids})
