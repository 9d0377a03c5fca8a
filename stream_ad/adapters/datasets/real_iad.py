"""Real-IAD as its archives unpack, in any of the sizes that are offered.

    Real-IAD/realiad_1024/audiojack/OK/S0001/audiojack_0001_OK_C1_<time>.jpg
             realiad_1024/audiojack/NG/<kind>/S0001/..._NG_<kind>_C1_<time>.jpg and .png, its mask
             realiad_jsons/audiojack.json        or realiad_jsons/realiad_jsons/audiojack.json

A json holds `meta` (`prefix`, `normal_class`) and the lists `train` and `test`; each item has `image_path`,
`anomaly_class` and `mask_path`. Pictures are taken from realiad_1024, _512, _256 or _raw, whichever is there first, or
from folders beside the json files. Thirty objects, five views each. Wang et al., CVPR 2024; CC BY-NC-SA 4.0, on
request. Split used: `realiad_jsons`, all five views; the single-view and the contaminated ones are not read.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stream_ad.adapters.datasets.files import ProductFiles, contents, mask_note, require_all, without_masks
from stream_ad.adapters.datasets.nouns import noun
from stream_ad.adapters.heldout import HeldoutFile
from stream_ad.adapters.image_folders import find_pictures
from stream_ad.errors import DataError

LOOKED_FOR = "Real-IAD (realiad_jsons/<object>.json beside realiad_1024/<object>/OK and NG)"
PICTURES = ("realiad_1024", "realiad_512", "realiad_256", "realiad_raw", ".")
SPLITS = ("realiad_jsons/realiad_jsons", "realiad_jsons", ".")
#: what the two letters of a defect mean
KINDS = {
    **{"AK": "pit", "BX": "deformation", "CH": "abrasion", "HS": "scratch"},
    **{"PS": "damage", "QS": "missing parts", "YW": "foreign objects", "ZW": "contamination"},
}


def categories(folder: Path) -> Mapping[str, str]:
    named = [name for name in (*PICTURES[:-1], "realiad_jsons") if (folder / name).is_dir()]
    splits = next((folder / name for name in SPLITS if any((folder / name).glob("*.json"))), None)
    found = [file.stem for file in sorted(splits.glob("*.json"))] if splits else []
    there = [name for name in found if _pictures(folder, name)]
    if not named and not there:
        return {}
    if splits is None:
        raise DataError(
            f"needed {folder / 'realiad_jsons'} with a json file for each object, which says what to learn from, beside"
            f" {named[0]}; found {contents(folder)}"
        )
    if not there:
        place = next((folder / name for name in PICTURES[:-1] if (folder / name).is_dir()), folder)
        raise DataError(
            f"needed folders of pictures ({found[0]}/OK for one) in {folder / 'realiad_1024'}, or in realiad_512,"
            f" realiad_256 or realiad_raw, as {splits} names them; found in {place}: {contents(place)}"
        )
    return {name: name for name in there}


def read(folder: Path, category: str) -> ProductFiles:
    split = next(file for name in SPLITS if (file := folder / name / f"{category}.json").is_file())
    place = _pictures(folder, category)
    if place is None:
        raise DataError(f"needed {category}/OK and {category}/NG in {folder}, found {contents(folder)}; unpack them")
    listed = _parse(split)
    present = {*find_pictures(place)}
    require_all(
        [place / item.picture for item in (*listed.train, *listed.test)], present, f"all pictures that {split} names"
    )
    if bad := next((item for item in listed.train if item.kind != listed.normal), None):
        raise DataError(
            f"{split}: {bad.picture} is to be learnt but is not {listed.normal}, so this is one of the contaminated"
            " splits; give the folder realiad_jsons"
        )
    test = [_heldout(place, item, listed.normal, present) for item in listed.test]
    return ProductFiles(
        class_name=noun(category),
        layout="real-iad",
        dataset="Real-IAD",
        category=category,
        train=sorted(place / item.picture for item in listed.train),
        test=test,
        complete=not without_masks(test),
        note=mask_note(test),
    )


def _pictures(folder: Path, category: str) -> Path | None:
    """The folder that holds a product's OK and NG."""
    places = (folder / name / category for name in PICTURES)
    return next((place for place in places if (place / "OK").is_dir() or (place / "NG").is_dir()), None)


def _heldout(place: Path, item: "_Item", normal: str, present: set[Path]) -> HeldoutFile:
    if item.kind == normal:
        return HeldoutFile(place / item.picture, "good", None)
    mask = place / item.mask if item.mask else None
    return HeldoutFile(place / item.picture, KINDS.get(item.kind, item.kind), mask if mask in present else None)


class _Item(NamedTuple):
    picture: str
    #: "OK", or the letters of a defect
    kind: str
    mask: str | None


class _Listed(NamedTuple):
    normal: str
    train: Sequence[_Item]
    test: Sequence[_Item]


def _parse(split: Path) -> _Listed:
    try:
        loaded = json.loads(split.read_text(encoding="utf-8"))
        parts = {
            part: [_Item(item["image_path"], item["anomaly_class"], item.get("mask_path")) for item in loaded[part]]
            for part in ("train", "test")
        }
        normal = loaded.get("meta", {}).get("normal_class", "OK")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{split}: needed a json file with the lists train and test of image_path, anomaly_class and mask_path;"
            f" {type(error).__name__}: {error}. Take it from Real-IAD's archive again"
        ) from error
    return _Listed(normal, parts["train"], parts["test"])
