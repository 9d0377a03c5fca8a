"""Brain scans, with and without a finding, as their archives unpack. No mask: pixel metrics are not measured.

    no/1 no.jpeg, yes/Y1.jpg                        BrainMRI: 98 and 155 (Kaggle, N. Chakrabarty 2019)
    no/no0.jpg, yes/y0.jpg                          Br35H: 1500 and 1500 (Kaggle, A. Hamada 2020); pred is left out
    labels.csv, head_ct/head_ct/000.png             HeadCT: 100 and 100 (Kaggle, F. Kitamura 2018), bleeding

BrainMRI and Br35H are told apart by their files' names. Their pages split none of them for learning from healthy scans,
and zero-shot papers judge all: so all are test here, and nothing is learned.
"""

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from stream_ad.adapters.datasets.files import AGAIN, ProductFiles, contents, judged_alone
from stream_ad.adapters.datasets.published import MEDICAL
from stream_ad.adapters.heldout import HeldoutFile
from stream_ad.adapters.image_folders import find_pictures
from stream_ad.errors import DataError

LOOKED_FOR = "BrainMRI, Br35H (yes beside no), HeadCT (labels.csv beside head_ct)"
LABELS, SCANS = "labels.csv", "head_ct"


def categories(folder: Path) -> Mapping[str, str]:
    if (folder / LABELS).is_file() and (folder / SCANS).is_dir():
        return {"headct": "HeadCT"}
    if not all((folder / part).is_dir() for part in ("yes", "no")):
        return {}
    names = [file.stem for file in find_pictures(folder / "no")]
    numbered = sum(re.fullmatch(r"no\d+", name) is not None for name in names)
    return {"br35h": "Br35H"} if 2 * numbered > len(names) else {"brainmri": "BrainMRI"}


def read(folder: Path, category: str) -> ProductFiles:
    test = _head_ct(folder) if category == "HeadCT" else _tumours(folder)
    return judged_alone("brain", "brain", category, MEDICAL, test)


def _tumours(folder: Path) -> list[HeldoutFile]:
    test = []
    for part, kind in (("no", "good"), ("yes", "tumour")):
        found = find_pictures(folder / part)
        if not found:
            raise DataError(f"needed pictures in {folder / part}, found {contents(folder / part)}; {AGAIN}")
        test += [HeldoutFile(file, kind, None) for file in found]
    return test


def _head_ct(folder: Path) -> list[HeldoutFile]:
    """By the table: a picture's number, and 1 where there is bleeding. Its heading has blanks in it."""
    pictures = {int(file.stem): file for file in find_pictures(folder / SCANS) if file.stem.isdigit()}
    try:
        with (folder / LABELS).open(newline="", encoding="utf-8-sig") as file:
            heading, *rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
        number, label = heading.index("id"), heading.index("hemorrhage")
        labels = {int(row[number]): int(row[label]) for row in rows}
    except (IndexError, ValueError) as error:
        raise DataError(
            f"{folder / LABELS}: needed the columns id and hemorrhage with whole numbers, got {error}; {AGAIN}"
        ) from None
    if missing := sorted(labels.keys() - pictures.keys()):
        raise DataError(
            f"{folder / LABELS} names {len(labels)} pictures, but {len(missing)} are not in {folder / SCANS}, number"
            f" {missing[0]} for one; {AGAIN}"
        )
    return [HeldoutFile(pictures[id], "bleeding" if bleeds else "good", None) for id, bleeds in labels.items()]
