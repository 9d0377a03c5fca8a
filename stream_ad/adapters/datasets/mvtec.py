"""The MVTec layout, one folder a product.

    <category>/train/good/000.png
    <category>/test/good/000.png
    <category>/test/<kind>/000.png
    <category>/ground_truth/<kind>/000_mask.png

So lie MVTec AD (Bergmann et al., CVPR 2019; CC BY-NC-SA 4.0), MPDD (Jezek et al., ICUMT 2021; CC BY-NC-SA 4.0),
DTD-Synthetic (Aota et al., WACV 2023; synthetic defects on textures of DTD, no licence printed), VisA once it is
converted, and most people's own folders. Split used: the folders'. A category is known by its name and its kinds of
defects, or by a name such as "mvtec_bottle"; it is complete when it has as many pictures as published.
"""

from collections.abc import Mapping
from pathlib import Path

from stream_ad.adapters.datasets import published
from stream_ad.adapters.datasets.files import ProductFiles, has_pictures, mask_note, no_pictures, without_masks
from stream_ad.adapters.datasets.nouns import noun
from stream_ad.adapters.heldout import HeldoutFile, heldout_files
from stream_ad.adapters.image_folders import find_pictures
from stream_ad.errors import DataError

LOOKED_FOR = "MVTec AD and what lies like it (<category>/train/good, test/good, test/<kind>, ground_truth/<kind>)"
SETS: Mapping[str, Mapping[str, published.Category]] = {
    "MVTec AD": published.MVTEC_AD,
    "VisA": published.VISA,
    "MPDD": published.MPDD,
    "BTAD": published.BTAD,
    "DTD-Synthetic": published.DTD_SYNTHETIC,
}
#: before a product's name where somebody put several sets into one folder; in lower case
PREFIXES = {
    **{"mvtec_ad_": "MVTec AD", "mvtec_": "MVTec AD", "visa_": "VisA", "mpdd_": "MPDD", "btad_": "BTAD"},
    **{"dtd_synthetic_": "DTD-Synthetic", "dtd_": "DTD-Synthetic"},
}


def categories(folder: Path) -> Mapping[str, str]:
    here = any((folder / part / "good").is_dir() for part in ("train", "test"))
    name = folder.resolve().name
    return {name: name} if here else {}


def read(folder: Path, category: str) -> ProductFiles:
    train, test = read_split(folder, "good")
    kinds = {file.kind for file in test} - {"good"}
    dataset, name = _known(category, kinds)
    stated = SETS[dataset][name].counts if dataset else None
    good = sum(file.kind == "good" for file in test)
    counts = published.Counts(len(train), good, len(test) - good)
    return ProductFiles(
        class_name=noun(name, dataset),
        layout="mvtec",
        dataset=dataset,
        category=name if dataset else None,
        train=train,
        test=test,
        complete=counts == stated and not without_masks(test),
        note=mask_note(test),
    )


def read_split(folder: Path, good: str) -> tuple[list[Path], list[HeldoutFile]]:
    """Training and test files of a category whose good parts are in folders called `good`.

    There may be none to test.

    Raises:
        DataError: there is none to learn, or masks do not have the names of their pictures.
    """
    train = folder / "train" / good
    if (train / "xyz").is_dir():
        raise DataError(f"{folder}: MVTec 3D-AD (rgb beside xyz) is not read; give a set of plain pictures")
    if not has_pictures(train):
        raise no_pictures(train, folder)
    return find_pictures(train), heldout_files(folder) if has_pictures(folder / "test") else []


def _known(name: str, kinds: set[str]) -> tuple[str | None, str]:
    """The published set and its name for a category; the set is None where nothing tells."""
    for prefix, dataset in PREFIXES.items():
        for known in SETS[dataset]:
            if name.lower() == prefix + known.lower():
                return dataset, known
    for dataset, known in SETS.items():
        if name in known and kinds <= (known[name].kinds or kinds):
            return dataset, name
    return None, _without_prefix(name)


def _without_prefix(name: str) -> str:
    prefix = next((prefix for prefix in PREFIXES if name.lower().startswith(prefix)), "")
    return name[len(prefix) :] or name
