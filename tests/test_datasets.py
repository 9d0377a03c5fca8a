"""Public data sets as they are downloaded: layouts, splits, masks, what is complete, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stream_ad.adapters.datasets import READERS, find_products
from stream_ad.adapters.heldout import HeldoutFile, HeldoutFolder
from stream_ad.domain.images import ImageSet, LabelledSet
from stream_ad.domain.product import Named, Product
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import DataError, NoImages, OverlappingSplits
from stream_ad.evaluation.splits import check_disjoint
from tests.pictures import Pictures, disc
from tests.test_heldout import COUNTS, DATASETS

SIZE = (12, 10)


def paint(path: Path, size: tuple[int, int] = SIZE) -> Path:
    """A picture that no other path has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(str(path).encode()))
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


def draw(path: Path, value: int = 255, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(size, dtype=np.uint8)
    mask[2:5, 3:6] = value
    Image.fromarray(mask).save(path)
    return path


def junk(path: Path) -> Path:
    """A file with a picture's name, for listings that must not open it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("no picture")
    return path


def mvtec(folder: Path, *, kinds: tuple[str, ...] = ("hole",), train: int = 2) -> Path:
    for number in range(train):
        paint(folder / "train" / "good" / f"{number:03}.png")
    paint(folder / "test" / "good" / "000.png")
    for kind in kinds:
        paint(folder / "test" / kind / "000.png")
        draw(folder / "ground_truth" / kind / "000_mask.png")
    return folder


def visa(root: Path, objects: tuple[str, ...] = ("candle", "pcb1")) -> Path:
    lines = ["object,split,label,image,mask"]
    for name in objects:
        for number, split in enumerate(["train", "train", "test"]):
            file = paint(root / name / "Data" / "Images" / "Normal" / f"{number:04}.JPG")
            lines.append(f"{name},{split},normal,{file.relative_to(root).as_posix()},")
        for number, label in enumerate([1, 2]):
            file = paint(root / name / "Data" / "Images" / "Anomaly" / f"{number:03}.JPG")
            mask = draw(root / name / "Data" / "Masks" / "Anomaly" / f"{number:03}.png", label)
            lines.append(f"{name},test,anomaly,{file.relative_to(root).as_posix()},{mask.relative_to(root).as_posix()}")
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text("\n".join(lines) + "\n")
    return root


def real_iad(
    root: Path, *, pictures: str = "realiad_1024", jsons: str = "realiad_jsons", train_kind: str = "OK"
) -> Path:
    for name in ("toy_brick", "audiojack"):
        listed = {"meta": {"prefix": f"{name}/", "normal_class": "OK"}, "train": [], "test": []}
        for number, (part, kind) in enumerate([("train", train_kind), ("train", "OK"), ("test", "OK"), ("test", "HS")]):
            place = f"OK/S{number:04}" if kind == "OK" else f"NG/{kind}/S{number:04}"
            picture = f"{place}/{name}_{number:04}_C1.jpg"
            paint(root / pictures / name / picture)
            mask = None if kind == "OK" else picture.replace(".jpg", ".png")
            if mask:
                draw(root / pictures / name / mask)
            item = {"category": name, "anomaly_class": kind, "image_path": picture, "mask_path": mask}
            listed[part].append(item)
        file = root / jsons / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(listed))
    return root


def kolektor(root: Path, commutators: int = 6) -> Path:
    for number in range(1, commutators + 1):
        for part in range(2):
            paint(root / f"kos{number:02}" / f"Part{part}.jpg")
            # the first view of every second commutator is cracked
            value = 255 if part == 0 and number % 2 == 0 else 0
            draw(root / f"kos{number:02}" / f"Part{part}_label.bmp", value)
    return root


def kolektor2(root: Path) -> Path:
    for part, first, defects in (("train", 10000, 1), ("test", 20000, 2)):
        for number in range(first, first + 5):
            paint(root / part / f"{number}.png")
            draw(root / part / f"{number}_GT.png", 255 if number < first + defects else 0)
    return root


def dagm(root: Path, classes: tuple[int, ...] = (10, 2)) -> Path:
    for one in classes:
        for half in ("Train", "Test"):
            for number in range(1, 5):
                paint(root / f"Class{one}" / half / f"{number:04}.PNG")
            draw(root / f"Class{one}" / half / "Label" / "0003_label.PNG")
            (root / f"Class{one}" / half / "Label" / "Labels.txt").write_text("1\n")
    return root


def btad(root: Path) -> Path:
    for name, suffix, mask in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        for place in ("train/ok/0000", "train/ok/0001", "test/ok/0000", "test/ko/0000"):
            paint(root / name / f"{place}.{suffix}")
        draw(root / name / "ground_truth" / "ko" / f"0000.{mask}")
    return root


LAYOUTS = {
    "mvtec": lambda root: mvtec(root / "bolt").parent,
    "visa": visa,
    "real-iad": real_iad,
    "kolektorsdd": kolektor,
    "kolektorsdd2": kolektor2,
    "dagm": dagm,
    "btad": btad,
}


def files(images: object) -> list[str]:
    """The ends of a set's paths."""
    assert isinstance(images, Named)
    return ["/".join(Path(name).parts[-2:]) for name in images.named_ids]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_found_by_its_files_and_read_with_masks_and_disjoint_sets(tmp_path, layout):
    products = find_products(LAYOUTS[layout](tmp_path))
    assert {product.layout for product in products} == {layout}
    for product in products:
        assert isinstance(product.train, ImageSet)
        assert isinstance(product.test, LabelledSet)
        Task(id=TaskId(product.id), class_name=product.class_name)  # its name and noun are fit for a task
        check_disjoint(product.named_ids())
        assert len(product.train) >= 2
        for index in range(len(product.test)):
            image = product.test[index]
            assert image.defective == (image.kind != "good") == product.test.defective[index]
            assert (image.mask is None) != image.defective
            assert image.mask is None or image.mask.sum() == 9
        assert {True, False} == set(product.test.defective)
        # a handful of pictures is no published split; Real-IAD's own list is whole
        assert product.complete == (layout == "real-iad")


def test_listing_opens_no_picture(tmp_path):
    for layout, make in LAYOUTS.items():
        root = make(tmp_path / layout)
        for file in [*root.rglob("*.png"), *root.rglob("*.PNG"), *root.rglob("*.[jJ][pP][gG]"), *root.rglob("*.bmp")]:
            if not (layout.startswith("kolektor") and file.stem.endswith(("_label", "_GT"))):
                junk(file)
    # in a process of its own: with shapes checked, every property of a product is looked at
    code = "import sys; from pathlib import Path; from stream_ad.adapters.datasets import find_products as find;"
    code += "print(len(find(Path(sys.argv[1]))))"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 1 + 2 + 2 + 1 + 1 + 2 + 3


def test_plain_folders_come_in_alphabetical_order_with_their_kinds(tmp_path):
    for name in ("washer", "bolt", "nut_m8"):
        mvtec(tmp_path / name, kinds=("rust", "bent"))
    (tmp_path / "notes").mkdir()
    junk(tmp_path / "__MACOSX" / "bolt" / "train" / "good" / "._000.png")
    products = find_products(tmp_path)
    assert [product.id for product in products] == ["bolt", "nut_m8", "washer"]
    assert [product.class_name for product in products] == ["bolt", "nut m8", "washer"]
    assert {product.dataset for product in products} == {None}
    assert list(products[0].test.kinds) == ["bent", "good", "rust"]
    assert files(products[0].train) == ["good/000.png", "good/001.png"]


def test_one_product_can_be_the_folder_that_is_given(tmp_path, monkeypatch):
    mvtec(tmp_path / "bolt")
    monkeypatch.chdir(tmp_path / "bolt")
    assert [product.id for product in find_products(Path())] == ["bolt"]
    visa(tmp_path / "visa")
    (only,) = find_products(tmp_path / "visa" / "pcb1")
    assert (only.id, only.dataset, len(only.train)) == ("pcb1", "VisA", 2)
    dagm(tmp_path / "dagm")
    assert [product.id for product in find_products(tmp_path / "dagm" / "Class2")] == ["dagm_class2"]
    btad(tmp_path / "btad")
    assert [product.id for product in find_products(tmp_path / "btad" / "03")] == ["btad_03"]


@pytest.mark.parametrize(
    ("folder", "kinds", "dataset", "category", "noun"),
    [
        ("bottle", ("broken_large",), "MVTec AD", "bottle", "bottle"),
        ("bottle", ("leak",), None, None, "bottle"),  # somebody's own bottles
        ("mvtec_metal_nut", ("whatever",), "MVTec AD", "metal_nut", "metal nut"),
        ("mpdd_bracket_black", ("defect",), "MPDD", "bracket_black", "bracket black"),
        ("tubes", ("flattening",), "MPDD", "tubes", "tubes"),
        ("pcb3", ("bad",), "VisA", "pcb3", "printed circuit board"),
        ("visa_chewinggum", ("anomaly",), "VisA", "chewinggum", "chewing gum"),
        ("BTAD_02", ("ko",), "BTAD", "02", "industrial product"),
        ("Woven_104", ("anything",), "DTD-Synthetic", "Woven_104", "woven texture"),
        ("mvtec_gasket", ("bad",), None, None, "gasket"),
    ],
)
def test_a_published_category_is_known_by_its_name_and_kinds_in_mvtec_layout(
    tmp_path, folder, kinds, dataset, category, noun
):
    (product,) = find_products(mvtec(tmp_path / folder, kinds=kinds).parent)
    assert (product.id, product.dataset, product.category, product.class_name) == (folder, dataset, category, noun)
    assert not product.complete


def test_a_category_with_all_published_pictures_is_complete_until_one_is_missing(tmp_path):
    toothbrush = tmp_path / "toothbrush"
    for place, count in (("train/good", 60), ("test/good", 12), ("test/defective", 30)):
        for number in range(count):
            paint(toothbrush / place / f"{number:03}.png")
    for number in range(30):
        draw(toothbrush / "ground_truth" / "defective" / f"{number:03}_mask.png")
    (whole,) = find_products(tmp_path)
    assert (whole.complete, whole.dataset, whole.note) == (True, "MVTec AD", "")
    mask = toothbrush / "ground_truth" / "defective" / "007_mask.png"
    mask.unlink()
    (unmarked,) = find_products(tmp_path)
    assert not unmarked.complete
    assert unmarked.note == "1 of 30 defective pictures have no mask and do not count for pixels"
    draw(mask)
    (toothbrush / "train" / "good" / "000.png").unlink()
    (smaller,) = find_products(tmp_path)
    assert (smaller.complete, smaller.dataset) == (False, "MVTec AD")


def test_visa_is_split_by_its_table_and_every_label_but_0_is_a_defect(tmp_path):
    candle, board = find_products(visa(tmp_path))
    assert (candle.id, candle.dataset, candle.category) == ("candle", "VisA", "candle")
    assert board.class_name == "printed circuit board"
    assert files(candle.train) == ["Normal/0000.JPG", "Normal/0001.JPG"]
    assert sorted(files(candle.test)) == ["Anomaly/000.JPG", "Anomaly/001.JPG", "Normal/0002.JPG"]
    assert list(candle.test.kinds).count("anomaly") == 2


def test_visa_without_a_mask_is_read_but_not_complete(tmp_path):
    (visa(tmp_path) / "candle" / "Data" / "Masks" / "Anomaly" / "001.png").unlink()
    (candle,) = find_products(tmp_path, ["candle"])
    assert isinstance(candle.test, HeldoutFolder)
    assert candle.test.unmarked == 1
    assert "1 of 2 defective pictures have no mask" in candle.note


def test_half_of_visa_is_refused_with_what_is_missing(tmp_path):
    visa(tmp_path)
    (tmp_path / "candle" / "Data" / "Images" / "Normal" / "0001.JPG").unlink()
    with pytest.raises(DataError, match=r"1cls\.csv names, but 1 of 5 are missing, .*0001\.JPG for one; .*do it again"):
        find_products(tmp_path)
    assert [product.id for product in find_products(tmp_path, ["pcb1"])] == ["pcb1"]  # what is whole can be used

    split = tmp_path / "split_csv" / "1cls.csv"
    split.write_text("object,split,label,image\n")
    with pytest.raises(DataError, match="needed the columns object, split, label, image, mask; mask missing"):
        find_products(tmp_path)
    split.write_bytes(b"\xff\xfe\x00object")
    with pytest.raises(DataError, match=r"1cls\.csv is no table of commas"):
        find_products(tmp_path)
    split.unlink()
    with pytest.raises(DataError, match=r"needed .*1cls\.csv.*beside candle/Data; found candle, pcb1, split_csv"):
        find_products(tmp_path)


def test_the_table_of_visa_without_its_pictures_is_refused(tmp_path):
    split = visa(tmp_path / "whole") / "split_csv" / "1cls.csv"
    (tmp_path / "code" / "split_csv").mkdir(parents=True)
    split.rename(tmp_path / "code" / "split_csv" / "1cls.csv")
    junk(tmp_path / "code" / "VisA_20220922.tar")
    with pytest.raises(
        DataError, match=r"Data/Images.*found VisA_20220922\.tar, which is still packed: unpack it here"
    ):
        find_products(tmp_path / "code")


def test_btad_has_names_that_say_more_than_its_folders(tmp_path):
    products = find_products(btad(tmp_path))
    assert [product.id for product in products] == ["btad_01", "btad_02", "btad_03"]
    assert {product.class_name for product in products} == {"industrial product"}
    assert [product.category for product in products] == ["01", "02", "03"]
    assert set(products[2].test.kinds) == {"good", "ko"}


@pytest.mark.parametrize(
    ("pictures", "jsons"),
    [
        ("realiad_1024", "realiad_jsons"),
        ("realiad_256", "realiad_jsons/realiad_jsons"),
        ("realiad_raw", "realiad_jsons"),
        (".", "."),
    ],
)
def test_real_iad_is_read_in_every_size_and_both_ways_of_unpacking(tmp_path, pictures, jsons):
    products = find_products(real_iad(tmp_path, pictures=pictures, jsons=jsons))
    assert [product.id for product in products] == ["audiojack", "toy_brick"]
    assert products[1].class_name == "toy brick"
    assert sorted(products[0].test.kinds) == ["good", "scratch"]
    assert len(products[0].train) == 2


def test_real_iad_takes_the_largest_size_that_an_object_has(tmp_path):
    real_iad(real_iad(tmp_path), pictures="realiad_256")
    (product,) = find_products(tmp_path, ["audiojack"])
    assert isinstance(product.train, Named)
    assert all("realiad_1024" in name for name in product.train.named_ids)


def test_objects_of_real_iad_that_were_not_downloaded_are_passed_over(tmp_path):
    real_iad(tmp_path)
    (tmp_path / "realiad_jsons" / "zipper.json").write_text("{}")
    assert [product.id for product in find_products(tmp_path)] == ["audiojack", "toy_brick"]


def test_half_of_real_iad_is_refused_with_what_is_missing(tmp_path):
    real_iad(tmp_path / "a", train_kind="AK")
    with pytest.raises(DataError, match="is to be learnt but is not OK, so this is one of the contaminated splits"):
        find_products(tmp_path / "a")

    real_iad(tmp_path / "b")
    next((tmp_path / "b" / "realiad_1024" / "audiojack").rglob("*.jpg")).unlink()
    with pytest.raises(DataError, match=r"audiojack\.json names, but 1 of 4 are missing"):
        find_products(tmp_path / "b")
    for broken in ("no json", "[]", '{"train": [{}], "test": []}'):
        (tmp_path / "b" / "realiad_jsons" / "audiojack.json").write_text(broken)
        with pytest.raises(DataError, match=r"audiojack\.json: needed a json file with the lists train and test"):
            find_products(tmp_path / "b")

    (real_iad(tmp_path / "c") / "realiad_jsons").rename(tmp_path / "lost")
    with pytest.raises(
        DataError, match=r"needed .*realiad_jsons with a json file for each object.*beside realiad_1024"
    ):
        find_products(tmp_path / "c")

    (real_iad(tmp_path / "d") / "realiad_1024").rename(tmp_path / "lost too")
    junk(tmp_path / "d" / "realiad_512" / "audiojack.zip")
    with pytest.raises(
        DataError, match=r"audiojack/OK for one.*found in .*realiad_512: audiojack\.zip, which is still pack"
    ):
        find_products(tmp_path / "d")


def test_kolektor_sdd_keeps_every_third_commutator_and_all_cracks_for_the_test(tmp_path):
    (product,) = find_products(kolektor(tmp_path))
    assert (product.id, product.class_name, product.dataset) == ("kolektorsdd", "electrical commutator", "KolektorSDD")
    assert "split of this project" in product.note
    learnt = {name.split("/")[0] for name in files(product.train)}
    assert learnt == {"kos01", "kos02", "kos04", "kos05"}
    assert list(product.test.kinds).count("crack") == 3
    good = {
        name.split("/")[0] for name, bad in zip(files(product.test), product.test.defective, strict=True) if not bad
    }
    assert good == {"kos03", "kos06"}
    # the same division whoever reads it, whenever
    assert files(find_products(tmp_path)[0].test) == files(product.test)


def test_a_view_of_kolektor_sdd_without_its_label_is_refused(tmp_path):
    (kolektor(tmp_path) / "kos02" / "Part1_label.bmp").unlink()
    with pytest.raises(
        DataError, match=r"Part0_label\.bmp beside each Part0\.jpg, but 1 of 12 are missing, .*Part1_label"
    ):
        find_products(tmp_path)
    for file in (tmp_path / "kos03").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"needed Part0\.jpg and others in .*kos03, found an empty folder"):
        find_products(tmp_path)


def test_kolektor_sdd2_leaves_out_defective_training_pictures_and_the_copy_in_its_archive(tmp_path):
    kolektor2(tmp_path)
    for ending in ("", "_GT"):
        copy = tmp_path / "train" / f"10001{ending} (copy).png"
        copy.write_bytes((tmp_path / "train" / f"10001{ending}.png").read_bytes())
    (product,) = find_products(tmp_path)
    assert files(product.train) == [f"train/{number}.png" for number in range(10001, 10005)]
    assert list(product.test.defective) == [True, True, False, False, False]
    assert product.note == "1 defective training pictures are left out"


def test_half_of_kolektor_sdd2_is_refused(tmp_path):
    kolektor2(tmp_path)
    (tmp_path / "train" / "10002_GT.png").unlink()
    with pytest.raises(DataError, match=r"a mask \*_GT\.png beside each picture, but 1 of 5 are missing"):
        find_products(tmp_path)
    (tmp_path / "test").rename(tmp_path / "elsewhere")
    draw(tmp_path / "train" / "10002_GT.png", 0)
    with pytest.raises(
        DataError, match=r"beside their masks \*_GT\.png in .*test, found no such folder, but elsewhere, train"
    ):
        find_products(tmp_path)


def test_dagm_learns_the_good_half_of_train_and_counts_its_classes(tmp_path):
    second, tenth = find_products(dagm(tmp_path))
    assert (second.id, tenth.id, second.category) == ("dagm_class2", "dagm_class10", "Class2")
    assert files(second.train) == ["Train/0001.PNG", "Train/0002.PNG", "Train/0004.PNG"]
    assert list(second.test.defective) == [False, False, True, False]
    assert "wide ellipses" in second.note


def test_dagm_without_labels_is_refused_because_defects_would_pass_for_good(tmp_path):
    test = dagm(tmp_path, (1,)) / "Class1" / "Test"
    draw(test / "Label" / "0009_label.PNG")
    with pytest.raises(DataError, match=r"0009_label\.PNG belongs to no picture in .*Test; .*do it again"):
        find_products(tmp_path)
    for file in (test / "Label").glob("*.PNG"):
        file.unlink()
    with pytest.raises(DataError, match=r"0001_label\.PNG in Label, found 0001\.PNG, .* and Labels\.txt"):
        find_products(tmp_path)
    (test / "Label").rename(tmp_path / "gone")
    with pytest.raises(
        DataError, match=r"needed .*Test.Label with a label for each defective picture, found 0001\.PNG"
    ):
        find_products(tmp_path)


def test_data_sets_side_by_side_are_all_read_and_their_products_keep_apart(tmp_path):
    mvtec(tmp_path / "mvtec" / "zipper", kinds=("rough",))
    mvtec(tmp_path / "own" / "zipper", kinds=("teeth",))
    btad(tmp_path / "BTech_Dataset_transformed")
    visa(tmp_path / "archives" / "VisA_20220922", ("candle",))
    products = find_products(tmp_path)
    assert [product.id for product in products] == [
        *("btad_01", "btad_02", "btad_03", "candle", "mvtec_zipper", "own_zipper")
    ]
    assert [product.dataset for product in products] == ["BTAD"] * 3 + ["VisA", "MVTec AD", None]


def test_names_choose_products_and_their_order_and_leave_what_is_broken_alone(tmp_path):
    for name in ("a", "b", "c"):
        mvtec(tmp_path / name)
    (tmp_path / "b" / "test").rename(tmp_path / "b" / "tests")
    assert [product.id for product in find_products(tmp_path, ["c", "a"])] == ["c", "a"]
    with pytest.raises(DataError, match=r"needed pictures in .*test, found ground_truth, tests, train; .*do it again"):
        find_products(tmp_path)
    with pytest.raises(DataError, match="is called 'd'; products: a, b, c"):
        find_products(tmp_path, ["a", "d"])
    with pytest.raises(DataError, match="product 'a' is named twice"):
        find_products(tmp_path, ["a", "a"])


def test_a_folder_that_is_no_data_set_is_refused_with_what_was_looked_for_and_found(tmp_path):
    with pytest.raises(NoImages, match="does not exist; check the path"):
        find_products(tmp_path / "nowhere")
    with pytest.raises(DataError, match="Found an empty folder") as caught:
        find_products(tmp_path)
    assert all(reader.LOOKED_FOR in str(caught.value) for reader in READERS)
    for name in "abcdef":
        paint(tmp_path / f"{name}.png")
    with pytest.raises(DataError, match=r"Found a\.png, b\.png, c\.png, d\.png, e\.png and 1 more"):
        find_products(tmp_path)
    junk(tmp_path / "mvtec_anomaly_detection.tar.xz")
    with pytest.raises(DataError, match=r"mvtec_anomaly_detection\.tar\.xz, which is still packed: unpack it here"):
        find_products(tmp_path)


def test_a_product_needs_good_and_defective_test_pictures(tmp_path):
    paint(tmp_path / "bolt" / "train" / "good" / "000.png")
    paint(tmp_path / "bolt" / "test" / "good" / "000.png")
    with pytest.raises(DataError, match=r"needed good pictures to learn and .*found 1, 1 and 0"):
        find_products(tmp_path)


def test_a_product_that_is_only_learned_needs_good_pictures_alone(tmp_path):
    paint(tmp_path / "bolt" / "train" / "good" / "000.png")
    paint(tmp_path / "nut" / "train" / "good" / "000.png")
    paint(tmp_path / "nut" / "test" / "good" / "000.png")
    bolt, nut = find_products(tmp_path, to_judge=False)
    assert [(len(one.train), len(one.test)) for one in (bolt, nut)] == [(1, 0), (1, 1)]
    (tmp_path / "nut" / "train").rename(tmp_path / "nut" / "trains")
    with pytest.raises(DataError, match=r"needed pictures in .*train.good, found test, trains; .*do it again"):
        find_products(tmp_path, to_judge=False)


def test_what_cannot_be_read_is_no_stack_trace(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*: File name too long; check the path and its permissions"):
        find_products(tmp_path / ("a" * 300))


def test_volumes_of_pictures_with_depth_are_refused_by_name(tmp_path):
    mvtec(tmp_path / "bagel")
    (tmp_path / "bagel" / "train" / "good" / "xyz").mkdir()
    with pytest.raises(DataError, match=r"3D-AD .* is not read"):
        find_products(tmp_path)


def test_a_picture_in_both_halves_is_named_with_its_twin(tmp_path):
    twin = mvtec(tmp_path / "bolt") / "test" / "good" / "copy.png"
    twin.write_bytes((tmp_path / "bolt" / "train" / "good" / "000.png").read_bytes())
    (product,) = find_products(tmp_path)
    with pytest.raises(
        OverlappingSplits, match="1 pictures are in the training pictures of bolt and in the test"
    ) as told:
        check_disjoint(product.named_ids())
    assert str(twin) in str(told.value)


def test_masks_of_another_size_are_brought_to_their_picture_and_of_another_shape_refused(tmp_path):
    mvtec(tmp_path / "bolt")
    mask = tmp_path / "bolt" / "ground_truth" / "hole" / "000_mask.png"
    draw(mask, 1, (24, 20))
    (product,) = find_products(tmp_path)
    found = product.test[1].mask
    assert found is not None
    assert (found.shape, found.sum()) == (SIZE, 3)  # of four pixels touched, one is covered by a quarter
    draw(mask, 1, (20, 24))
    held = HeldoutFile(tmp_path / "bolt" / "test" / "hole" / "000.png", "hole", mask)
    with pytest.raises(DataError, match="needed a mask of its picture's size, 10 x 12, got 24 x 20"):
        len(HeldoutFolder([held], published=True))


def test_a_blank_mask_of_a_published_set_is_no_mask(tmp_path):
    draw(mvtec(tmp_path / "bolt", kinds=("hole", "rust")) / "ground_truth" / "hole" / "000_mask.png", 0)
    (product,) = find_products(tmp_path)
    assert isinstance(product.test, HeldoutFolder)
    assert [product.test[index].mask is None for index in range(3)] == [True, True, False]
    assert product.test.unmarked == 1
    assert list(product.test.defective) == [False, True, True]


def test_products_may_hold_pictures_that_are_no_files(tmp_path):
    mvtec(tmp_path / "bolt")
    (read,) = find_products(tmp_path)
    memory = Pictures([disc(seed) for seed in range(2)])
    product = Product("bolt", "bolt", "mvtec", None, memory, read.test, complete=False)
    learnt, judged = product.named_ids().values()
    assert list(learnt) == ["number 0", "number 1"]
    assert [Path(name).name for name in judged] == ["000.png", "000.png"]


@pytest.mark.needs_datasets
def test_the_real_folders_are_read_in_alphabetical_order():
    if not DATASETS.is_dir():
        pytest.skip(f"needs real images in {DATASETS}; name their folder by STREAM_AD_DATASETS")
    there = sorted(name for name in COUNTS if (DATASETS / name).is_dir())
    found = {product.id: product for product in find_products(DATASETS)}
    assert [name for name in found if name in COUNTS] == there
    known = {name: (found[name].dataset, found[name].category) for name in there if found[name].dataset}
    assert known == {
        name: pair
        for name, pair in {
            "mpdd_metal_plate": ("MPDD", "metal_plate"),
            "mvtec_bottle": ("MVTec AD", "bottle"),
            "mvtec_screw": ("MVTec AD", "screw"),
        }.items()
        if name in there
    }
    assert not any(product.complete for product in found.values())
    cookie = found.get("aws_cookie")
    if cookie is not None:
        assert (len(cookie.train), len(cookie.test)) == (31, 46)
