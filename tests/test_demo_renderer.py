"""The demo's renderer: photographs that repeat exactly, masks that tell the truth."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from stream_ad.demo import PRODUCTS, contact_sheet, write_product

SIZE = 128  # the same scene as at 256, in a quarter of the time
ALL = [(name, defect) for name, product in PRODUCTS.items() for defect in product.defects]

# what a defect does beyond its own material: blur of the lens, a shadow, a darker corner
SPILL = 12 * SIZE // 256


def test_there_are_seven_products_with_at_least_four_defects_each():
    assert len(PRODUCTS) == 7
    for name, product in PRODUCTS.items():
        assert product.name == name
        assert len(set(product.defects)) >= 4


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_photograph_can_be_taken_again_to_the_pixel(name):
    product = PRODUCTS[name]
    defect = product.defects[0]
    first, again = (product.render(7, size=SIZE, defect=defect) for _ in range(2))
    assert np.array_equal(first.picture, again.picture)
    assert np.array_equal(first.mask, again.mask)
    assert first.picture.dtype == np.uint8
    assert not np.array_equal(first.picture, product.render(8, size=SIZE, defect=defect).picture)


@pytest.mark.parametrize("size", [64, 101, 256])
def test_pictures_have_the_size_asked_for(size):
    rendered = PRODUCTS["screw"].render(1, size=size, defect="rust")
    assert rendered.picture.shape == (size, size, 3)
    assert rendered.mask.shape == (size, size)


@pytest.mark.parametrize("name", PRODUCTS)
def test_good_parts_have_an_empty_mask(name):
    assert not PRODUCTS[name].render(3, size=64).mask.any()


@pytest.mark.parametrize(("name", "defect"), ALL)
def test_a_mask_covers_what_the_defect_changed_and_no_more(name, defect):
    product = PRODUCTS[name]
    for seed in (11, 12):
        good = product.render(seed, size=SIZE, noiseless=True).picture.astype(np.int16)
        bad, mask = product.render(seed, size=SIZE, noiseless=True, defect=defect)
        change = np.abs(bad.astype(np.int16) - good).max(axis=2)
        assert mask.any(), f"seed {seed}: empty mask"
        assert mask.mean() < 0.2
        assert change[mask].mean() >= 6, f"seed {seed}: {change[mask].mean():.1f} grey levels, nobody would see that"
        assert (change[mask] > 3).mean() > 0.5, f"seed {seed}: most of the mask looks as before"
        reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * SPILL + 1, 2 * SPILL + 1))
        near = cv2.dilate(mask.astype(np.uint8), reach).astype(bool)
        assert change[~near].max() <= 16, f"seed {seed}: {change[~near].max()} grey levels far from the mask"
        assert change[~near].mean() < 0.1


def test_an_unknown_defect_is_refused_by_name():
    with pytest.raises(ValueError, match=r"missing_component.*got 'rust'"):
        PRODUCTS["pcb"].render(1, defect="rust")


def test_a_product_is_written_in_mvtec_layout_without_any_picture_twice(tmp_path: Path):
    product = PRODUCTS["gasket"]
    folder = write_product(tmp_path, product, train=3, good=2, per_defect=2, seed=5, size=64)
    assert folder == tmp_path / "gasket"
    assert sorted(p.name for p in (folder / "train" / "good").iterdir()) == ["000.png", "001.png", "002.png"]
    assert sorted(p.name for p in (folder / "test").iterdir()) == sorted(["good", *product.defects])
    for defect in product.defects:
        for stem in ("000", "001"):
            mask = np.array(Image.open(folder / "ground_truth" / defect / f"{stem}_mask.png"))
            assert set(np.unique(mask)) == {0, 255}
            assert mask.shape == np.array(Image.open(folder / "test" / defect / f"{stem}.png")).shape[:2]
    pictures = [p.read_bytes() for p in folder.rglob("*.png") if "ground_truth" not in p.parts]
    assert len(pictures) == len(set(pictures)) == 3 + 2 + 2 * len(product.defects)


def test_a_contact_sheet_has_room_for_every_picture():
    wide, tall = np.full((20, 40, 3), 200, np.uint8), np.full((40, 20, 3), 100, np.uint8)
    rows = [("first", [wide, tall]), ("second", [wide])]
    sheet = contact_sheet(rows, columns=["a", "b"], captions=[["1", "2"], ["3"]], cell=50)
    assert sheet.shape[0] > 100
    assert (sheet == 200).all(axis=2).sum() >= 2 * 50 * 25 * 0.9  # both wide ones are there, fitted
    with pytest.raises(ValueError, match="needs a row"):
        contact_sheet([])
