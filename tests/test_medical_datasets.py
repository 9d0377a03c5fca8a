"""The papers' medical sets as users download them: nothing to learn from, and what that means for figures."""

from pathlib import Path

import numpy as np
import pytest

from stream_ad.adapters import datasets as readers
from stream_ad.adapters.datasets import find_products
from stream_ad.domain.evaluation import METRICS
from stream_ad.errors import DataError
from stream_ad.evaluation.continual.measure import metrics_of
from stream_ad.evaluation.continual.test_set import TestSet
from tests.test_datasets import draw, junk, paint


def polyps(root: Path, pictures: str, masks: str, suffix: str = ".png", mask_suffix: str = ".png") -> Path:
    for number in range(3):
        paint(root / pictures / f"{number}{suffix}")
        draw(root / masks / f"{number}{mask_suffix}")
    return root


def isic(root: Path) -> Path:
    for number in range(3):
        paint(root / "ISBI2016_ISIC_Part1_Test_Data" / f"ISIC_000{number}.jpg")
        draw(root / "ISBI2016_ISIC_Part1_Test_GroundTruth" / f"ISIC_000{number}_Segmentation.png")
    return root


def brain_mri(root: Path) -> Path:
    for name in ("no/1 no.jpeg", "no/N11.jpg", "no/no 4.jpg", "yes/Y1.jpg", "yes/Y2.JPG"):
        paint(root / name)
    return root


def br35h(root: Path) -> Path:
    for name in ("no/no0.jpg", "no/no1.jpg", "yes/y0.jpg", "yes/y1.jpg", "pred/pred0.jpg"):
        paint(root / name)
    return root


def head_ct(root: Path) -> Path:
    for number in range(4):
        paint(root / "head_ct" / "head_ct" / f"{number:03}.png")
    (root / "labels.csv").write_text("id, hemorrhage\n0,1\n1,1\n2,0\n3,0\n")
    return root


SETS = {
    "CVC-ClinicDB": lambda root: polyps(root / "CVC-ClinicDB", "Original", "Ground Truth", ".tif", ".tif"),
    "CVC-ColonDB": lambda root: polyps(root / "CVC-ColonDB", "images", "masks"),
    "Kvasir": lambda root: polyps(root / "Kvasir-SEG", "images", "masks", ".jpg", ".jpg"),
    "Endo": lambda root: polyps(root / "Endotect_2020_Segmentation_Test_Dataset", "images", "masks", ".jpg"),
    "EndoScene": lambda root: polyps(root / "CVC-300", "images", "masks"),
    "ISIC": isic,
    "BrainMRI": brain_mri,
    "Br35H": br35h,
    "HeadCT": head_ct,
}
WITH_MASKS = ("CVC-ClinicDB", "CVC-ColonDB", "Kvasir", "Endo", "EndoScene", "ISIC")


@pytest.mark.parametrize("dataset", SETS)
def test_every_set_is_known_by_its_files_and_only_judges(tmp_path: Path, dataset: str):
    SETS[dataset](tmp_path)
    (product,) = find_products(tmp_path, to_learn=False)
    assert (product.dataset, product.category, product.complete) == (dataset, dataset, False)
    assert product.class_name in ("brain", "colon", "skin")
    assert len(product.train) == 0
    assert list(product.train.ids) == []
    images = [product.test[row] for row in range(len(product.test))]
    if dataset in WITH_MASKS:
        areas = [image.mask.sum() for image in images if image.defective and image.mask is not None]
        assert len(areas) == len(images)
        # a mask saved as JPEG has grey pixels around it
        assert all(6 <= area <= 12 if dataset == "Kvasir" else area == 9 for area in areas)
        assert product.note == "no good picture: image metrics are not measured"
    else:
        assert {image.kind for image in images} in ({"good", "tumour"}, {"good", "bleeding"})
        assert "have no mask and do not count for pixels" in product.note


@pytest.mark.parametrize("dataset", SETS)
def test_metrics_that_lack_pictures_or_masks_are_nan_and_the_others_are_not(tmp_path: Path, dataset: str):
    SETS[dataset](tmp_path)
    test = TestSet(find_products(tmp_path, to_learn=False)[0].test, 24)
    generator = np.random.default_rng(0)
    maps = generator.random((len(test), 24, 24)).astype(np.float32)
    found = metrics_of(generator.random(len(test)), list(maps), test)
    measured = {metric for metric in METRICS if not np.isnan(found[metric])}
    pixels = {metric for metric in METRICS if metric.startswith("pixel")}
    assert measured == (pixels if dataset in WITH_MASKS else set(METRICS) - pixels)


def test_a_method_that_learns_from_good_pictures_is_told_that_there_are_none(tmp_path: Path):
    SETS["CVC-ColonDB"](tmp_path)
    with pytest.raises(DataError, match=r"found 0, 0 and 3;.*`stream-ad bench zero-shot` needs damaged ones alone"):
        find_products(tmp_path)


def test_both_ways_of_unpacking_clinic_db_and_head_ct(tmp_path: Path):
    polyps(tmp_path / "kaggle" / "CVC-ClinicDB", "PNG/Original", "PNG/Ground Truth")
    polyps(tmp_path / "kaggle" / "CVC-ClinicDB", "TIF/Original", "TIF/Ground Truth", ".tif", ".tif")
    for number in range(2):
        paint(tmp_path / "archive" / "head_ct" / f"{number:03}.png")
    (tmp_path / "archive" / "labels.csv").write_text("id,hemorrhage\n0,1\n1,0\n")
    clinic, head = sorted(find_products(tmp_path, to_learn=False), key=lambda one: one.layout, reverse=True)
    assert (clinic.dataset, len(clinic.test)) == ("CVC-ClinicDB", 3)
    assert (head.dataset, sorted(head.test.kinds)) == ("HeadCT", ["bleeding", "good"])


def test_whole_sets_are_complete_and_listing_opens_no_picture(tmp_path: Path):
    endo, head = tmp_path / "Endotect_2020_Segmentation_Test_Dataset", tmp_path / "head"
    for number in range(200):
        junk(endo / "images" / f"{number}.jpg")
        junk(endo / "masks" / f"{number}.png")
        junk(head / "head_ct" / f"{number:03}.png")
    table = "".join(f"{number},{int(number < 100)}\n" for number in range(200))
    (head / "labels.csv").write_text("id, hemorrhage\n" + table)
    for reader, folder, dataset in ((readers.polyps, endo, "Endo"), (readers.brain, head, "HeadCT")):
        assert list(reader.categories(folder).values()) == [dataset]
        assert reader.read(folder, dataset).complete
    (endo / "masks" / "7.png").unlink()
    assert not readers.polyps.read(endo, "Endo").complete


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("id,label\n0,1\n", "needed the columns id and hemorrhage"),
        ("id, hemorrhage\n0,yes\n", "needed the columns id and hemorrhage with whole numbers"),
        ("id, hemorrhage\n0\n", "needed the columns id and hemorrhage"),
        ("", "needed the columns id and hemorrhage"),
        ("id, hemorrhage\n0,1\n7,0\n", "1 are not in .*head_ct, number 7 for one"),
    ],
)
def test_a_table_of_head_ct_that_is_no_table_is_refused(tmp_path: Path, broken: str, message: str):
    head_ct(tmp_path)
    (tmp_path / "labels.csv").write_text(broken)
    with pytest.raises(DataError, match=message):
        find_products(tmp_path, to_learn=False)


def test_what_is_missing_is_said(tmp_path: Path):
    mask = isic(tmp_path / "a") / "ISBI2016_ISIC_Part1_Test_GroundTruth" / "ISIC_0001_Segmentation.png"
    mask.unlink()
    with pytest.raises(DataError, match=r"a mask in .*1 of 3 are missing, .*ISIC_0001_Segmentation\.png for one"):
        find_products(tmp_path / "a", to_learn=False)
    for file in (brain_mri(tmp_path / "b") / "yes").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"needed pictures in .*yes, found an empty folder"):
        find_products(tmp_path / "b", to_learn=False)
    mask = polyps(tmp_path / "CVC-ColonDB", "images", "masks") / "masks" / "1.png"
    mask.unlink()
    (product,) = find_products(tmp_path / "CVC-ColonDB", to_learn=False)
    assert product.note.endswith("1 of 3 defective pictures have no mask and do not count for pixels")
