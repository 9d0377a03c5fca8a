"""KolektorSDD, the Kolektor surface-defect data set, as its archive unpacks.

    KolektorSDD/kos01/Part0.jpg
                kos01/Part0_label.bmp     black where nothing is wrong

Surfaces of fifty electrical commutators, eight views each: 347 good, 52 cracked. Tabernik et al., Journal of
Intelligent Manufacturing, 2020; CC BY-NC-SA 4.0.

The folders hold no split for learning from good parts alone, so this one is ours. Every third commutator (kos03,
kos06, ...) is kept for the test; of the others the good views are learnt. Cracked views of all commutators are test,
so no figure here can be compared with a published one.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from stream_ad.adapters.datasets.files import ProductFiles, contents, require_all, subfolders
from stream_ad.adapters.datasets.labels import marked
from stream_ad.adapters.datasets.nouns import noun
from stream_ad.adapters.heldout import HeldoutFile
from stream_ad.adapters.image_folders import find_pictures
from stream_ad.errors import DataError

LOOKED_FOR = "KolektorSDD (kos01/Part0.jpg beside Part0_label.bmp)"
EVERY = 3
NOTE = "split of this project: every third commutator is kept for the test, cracked views of all are test"


def categories(folder: Path) -> Mapping[str, str]:
    return {"kolektorsdd": "kolektorsdd"} if _commutators(folder) else {}


def read(folder: Path, category: str) -> ProductFiles:
    commutators = _commutators(folder)
    views = {place: [file for file in find_pictures(place) if not _is_label(file)] for place in commutators}
    if empty := [place for place, found in views.items() if not found]:
        raise DataError(f"needed Part0.jpg and others in {empty[0]}, found {contents(empty[0])}; unpack it again")
    masks = {file: file.with_name(f"{file.stem}_label.bmp") for found in views.values() for file in found}
    require_all(
        [*masks.values()],
        {path for place in commutators for path in place.iterdir()},
        "Part0_label.bmp beside each Part0.jpg",
    )
    cracked = dict(zip(masks, marked([*masks.values()]), strict=True))
    train, test = [], []
    for number, place in enumerate(commutators, start=1):
        for file in views[place]:
            if cracked[file]:
                test.append(HeldoutFile(file, "crack", masks[file]))
            elif number % EVERY == 0:
                test.append(HeldoutFile(file, "good", None))
            else:
                train.append(file)
    return ProductFiles(
        class_name=noun(category, "KolektorSDD"),
        layout="kolektorsdd",
        dataset="KolektorSDD",
        category=category,
        train=train,
        test=test,
        complete=False,
        note=NOTE,
    )


def _commutators(folder: Path) -> list[Path]:
    return [path for path in subfolders(folder) if re.fullmatch(r"kos\d+", path.name)]


def _is_label(file: Path) -> bool:
    return file.stem.endswith("_label")
