"""VisA as its archive `VisA_20220922.tar` unpacks.

    split_csv/1cls.csv                  object,split,label,image,mask
    candle/Data/Images/Normal/0000.JPG
    candle/Data/Images/Anomaly/000.JPG
    candle/Data/Masks/Anomaly/000.png   0 where nothing is wrong, 1, 2, ... by the kind of defect: never 255

Twelve objects. Zou et al., "SPot-the-Difference", ECCV 2022; CC BY 4.0. Split used: `1cls.csv`, the one-class split
of the authors, which nearly all publications use.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from stream_ad.adapters.datasets import published
from stream_ad.adapters.datasets.files import ProductFiles, contents, mask_note, require_all, subfolders, without_masks
from stream_ad.adapters.datasets.nouns import noun
from stream_ad.adapters.heldout import HeldoutFile
from stream_ad.adapters.image_folders import find_pictures
from stream_ad.errors import DataError

LOOKED_FOR = "VisA (split_csv/1cls.csv beside <object>/Data/Images)"
SPLIT = Path("split_csv") / "1cls.csv"
COLUMNS = ("object", "split", "label", "image", "mask")


class _Row(NamedTuple):
    object: str
    split: str
    label: str
    image: str
    mask: str


def categories(folder: Path) -> Mapping[str, str]:
    if (folder / "Data" / "Images").is_dir():  # one object: the split lies beside it
        above = categories(folder.resolve().parent)
        return {name: category for name, category in above.items() if name == folder.resolve().name}
    split = folder / SPLIT
    objects = [path.name for path in subfolders(folder) if (path / "Data" / "Images").is_dir()]
    if not objects and not split.is_file():
        return {}
    if not split.is_file():
        raise DataError(
            f"needed {split}, which says what to learn from, beside {objects[0]}/Data; found {contents(folder)}."
            " It is part of VisA's archive, and of its authors' repository amazon-science/spot-diff"
        )
    listed = {row.object for row in _rows(split)}
    if not listed & set(objects):
        raise DataError(
            f"needed folders <object>/Data/Images beside {SPLIT} in {folder}, found {contents(folder)}; unpack VisA's"
            " archive here"
        )
    return {name: name for name in objects if name in listed}


def read(folder: Path, category: str) -> ProductFiles:
    folder = folder.resolve().parent if (folder / "Data" / "Images").is_dir() else folder
    rows = [row for row in _rows(folder / SPLIT) if row.object == category]
    present = {*find_pictures(folder / category)}
    require_all([folder / row.image for row in rows], present, f"all pictures that {folder / SPLIT} names")
    train = [folder / row.image for row in rows if row.split == "train"]
    if any(row.split == "train" and row.label != "normal" for row in rows):
        raise DataError(f"{folder / SPLIT}: a training picture of {category} is not normal; use VisA's own 1cls.csv")
    test = [_heldout(folder, row, present) for row in rows if row.split == "test"]
    known = published.VISA.get(category)
    good = sum(file.kind == "good" for file in test)
    counts = published.Counts(len(train), good, len(test) - good)
    return ProductFiles(
        class_name=noun(category, "VisA"),
        layout="visa",
        dataset="VisA",
        category=category,
        train=sorted(train),
        test=test,
        complete=known is not None and counts == known.counts and not without_masks(test),
        note=mask_note(test),
    )


def _heldout(folder: Path, row: _Row, present: set[Path]) -> HeldoutFile:
    if row.label == "normal":
        return HeldoutFile(folder / row.image, "good", None)
    mask = folder / row.mask if row.mask else None
    return HeldoutFile(folder / row.image, "anomaly", mask if mask in present else None)


def _rows(split: Path) -> list[_Row]:
    try:
        with split.open(newline="", encoding="utf-8-sig") as opened:
            table = csv.DictReader(opened)
            if missing := set(COLUMNS) - set(table.fieldnames or ()):
                raise DataError(
                    f"{split}: needed the columns {', '.join(COLUMNS)}; {', '.join(sorted(missing))} missing"
                )
            return [_Row(*(row[name] or "" for name in COLUMNS)) for row in table]
    except (ValueError, csv.Error) as error:
        raise DataError(f"{split} is no table of commas: {error}; take it from VisA's archive again") from error
