"""KolektorSDD2 as its archive unpacks.

    train/10000.png
    train/10000_GT.png     black where nothing is wrong
    test/20000.png
    test/20000_GT.png

Surfaces of one product: 2,085 good and 246 defective ones to train, 894 and 110 to test. Bozic et al., "Mixed
supervision", Computers in Industry, 2021; CC BY-NC-SA 4.0. The archive holds one picture twice, as "10301 (copy).png"
with its mask; copies are passed over.

Split used: the folders'. Defective training pictures are left out, because only good parts are learnt.
"""

from collections.abc import Mapping
from pathlib import Path

from stream_ad.adapters.datasets.files import ProductFiles, contents, require_all
from stream_ad.adapters.datasets.labels import marked
from stream_ad.adapters.datasets.nouns import noun
from stream_ad.adapters.heldout import HeldoutFile
from stream_ad.adapters.image_folders import find_pictures
from stream_ad.errors import DataError

LOOKED_FOR = "KolektorSDD2 (train and test with 10000.png beside 10000_GT.png)"
COUNTS = (2085, 894, 110)


def categories(folder: Path) -> Mapping[str, str]:
    here = any(next((folder / part).glob("*_GT.png"), None) for part in ("train", "test"))
    return {"kolektorsdd2": "kolektorsdd2"} if here else {}


def read(folder: Path, category: str) -> ProductFiles:
    learnt, judged = (_part(folder / part) for part in ("train", "test"))
    test = [HeldoutFile(file, "defect" if mask else "good", mask) for file, mask in judged.items()]
    train = [file for file, mask in learnt.items() if mask is None]
    good = sum(file.kind == "good" for file in test)
    left_out = len(learnt) - len(train)
    return ProductFiles(
        class_name=noun(category, "KolektorSDD2"),
        layout="kolektorsdd2",
        dataset="KolektorSDD2",
        category=category,
        train=train,
        test=test,
        complete=(len(train), good, len(test) - good) == COUNTS,
        note=f"{left_out} defective training pictures are left out" if left_out else "",
    )


def _part(folder: Path) -> dict[Path, Path | None]:
    """Pictures of one folder, each with its mask where that marks something."""
    found = [file for file in find_pictures(folder) if "(copy)" not in file.stem]
    pictures = {file: file.with_name(f"{file.stem}_GT.png") for file in found if not file.stem.endswith("_GT")}
    if not pictures:
        there = contents(folder) if folder.is_dir() else f"no such folder, but {contents(folder.parent)}"
        raise DataError(f"needed pictures beside their masks *_GT.png in {folder}, found {there}; unpack it again")
    require_all([*pictures.values()], found, "a mask *_GT.png beside each picture")
    defects = marked([*pictures.values()])
    return {file: mask if defect else None for (file, mask), defect in zip(pictures.items(), defects, strict=True)}
