"""DAGM 2007 as its archives unpack, with the labels of both halves.

    DAGM/Class1/Train/0576.PNG
         Class1/Train/Label/0576_label.PNG     one for each defective picture: an ellipse around the defect
         Class1/Test/0001.PNG
         Class1/Test/Label/0002_label.PNG

Ten artificial textures: Class1 to Class6 of 1,150 pictures with 150 defects, Class7 to Class10 of 2,300 with 300.
Wieler and Hahn, DAGM symposium, 2007; CC BY 4.0. The ellipses are drawn widely, so figures for pixels have a low
ceiling.

Split used: the folders'. Defective pictures of Train are left out, because only good parts are learnt.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from stream_ad.adapters.datasets.files import AGAIN, ProductFiles, contents, subfolders
from stream_ad.adapters.datasets.nouns import noun
from stream_ad.adapters.heldout import HeldoutFile
from stream_ad.adapters.image_folders import find_pictures
from stream_ad.errors import DataError

LOOKED_FOR = "DAGM 2007 (Class1/Train and Class1/Test, each with Label)"
NOTE = "masks are wide ellipses around the defects"
#: pictures of both halves, defective ones among them
SMALL, LARGE = (1150, 150), (2300, 300)
LAST_SMALL = 6


def categories(folder: Path) -> Mapping[str, str]:
    below = [path for path in (folder, *subfolders(folder)) if re.fullmatch(r"Class\d+", path.name)]
    found = [path.name for path in below if (path / "Train").is_dir() or (path / "Test").is_dir()]
    return {f"dagm_{name.lower()}": name for name in sorted(found, key=_number)}


def read(folder: Path, category: str) -> ProductFiles:
    home = folder if folder.name == category else folder / category
    learnt, judged = (_half(home / part) for part in ("Train", "Test"))
    train = [file for file, mask in learnt.items() if mask is None]
    test = [HeldoutFile(file, "defect" if mask else "good", mask) for file, mask in judged.items()]
    defective = sum(mask is not None for mask in (*learnt.values(), *judged.values()))
    left_out = len(learnt) - len(train)
    return ProductFiles(
        class_name=noun(category, "DAGM 2007"),
        layout="dagm",
        dataset="DAGM 2007",
        category=category,
        train=train,
        test=test,
        complete=(len(learnt) + len(judged), defective) == (SMALL if _number(category) <= LAST_SMALL else LARGE),
        note=f"{NOTE}; {left_out} defective training pictures are left out",
    )


def _half(folder: Path) -> dict[Path, Path | None]:
    """Pictures of Train or Test, each with its label where it has one."""
    # without labels every defective picture would pass for good
    if not (folder / "Label").is_dir():
        there = contents(folder) if folder.is_dir() else f"no such folder, but {contents(folder.parent)}"
        raise DataError(
            f"needed {folder / 'Label'} with a label for each defective picture, found {there}; take the edition with"
            " labels for both halves, and unpack all of it"
        )
    pictures = [file for file in find_pictures(folder) if file.parent == folder]
    labels = {file.stem.removesuffix("_label"): file for file in find_pictures(folder / "Label")}
    if not pictures or not labels.keys() & {file.stem for file in pictures}:
        raise DataError(
            f"needed pictures such as 0001.PNG in {folder} and 0001_label.PNG in Label, found {contents(folder)} and"
            f" {contents(folder / 'Label')}; unpack all of it"
        )
    if stray := labels.keys() - {file.stem for file in pictures}:
        raise DataError(f"{labels[min(stray)]} belongs to no picture in {folder}; {AGAIN}")
    return {file: labels.get(file.stem) for file in pictures}


def _number(name: str) -> int:
    return int(name.removeprefix("Class"))
