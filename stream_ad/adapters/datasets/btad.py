"""BTAD, the beanTech anomaly detection data set, as its archive `btad.zip` unpacks.

    BTech_Dataset_transformed/01/train/ok/0000.bmp
                                 test/ok, test/ko
                                 ground_truth/ko/0000.png      (02 and 03: also .bmp)

Three products. Mishra et al., "VT-ADL", ISIE 2021; CC BY-SA. Split used: the folders'. Other folders with
train/ok are read the same way.
"""

from collections.abc import Mapping
from pathlib import Path

from stream_ad.adapters.datasets import published
from stream_ad.adapters.datasets.files import ProductFiles, mask_note, without_masks
from stream_ad.adapters.datasets.mvtec import read_split
from stream_ad.adapters.datasets.nouns import noun

LOOKED_FOR = "BTAD (01|02|03/train/ok, test/ok, test/ko, ground_truth/ko)"


def categories(folder: Path) -> Mapping[str, str]:
    if not any((folder / part / "ok").is_dir() for part in ("train", "test")):
        return {}
    name = folder.resolve().name
    return {f"btad_{name}" if name in published.BTAD else name: name}


def read(folder: Path, category: str) -> ProductFiles:
    train, test = read_split(folder, "ok")
    known = published.BTAD.get(category)
    good = sum(file.kind == "good" for file in test)
    counts = published.Counts(len(train), good, len(test) - good)
    return ProductFiles(
        class_name=noun(category, "BTAD" if known else None),
        layout="btad",
        dataset="BTAD" if known else None,
        category=category if known else None,
        train=train,
        test=test,
        complete=known is not None and counts == known.counts and not without_masks(test),
        note=mask_note(test),
    )
