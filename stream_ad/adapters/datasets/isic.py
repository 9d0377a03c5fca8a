"""ISIC 2016, task 1: moles under a dermatoscope with the lesion marked, as its two archives unpack side by side.

    ISBI2016_ISIC_Part1_Test_Data/ISIC_0000003.jpg
    ISBI2016_ISIC_Part1_Test_GroundTruth/ISIC_0000003_Segmentation.png

Gutman et al. 2016; CC-0. The test part, 379 pictures, is what zero-shot papers judge. **None is of healthy skin**:
judged by pixels alone, image metrics are not measured, see `polyps`.
"""

from collections.abc import Mapping
from pathlib import Path

from stream_ad.adapters.datasets.files import ProductFiles, judged_alone, require_all
from stream_ad.adapters.datasets.published import MEDICAL
from stream_ad.adapters.heldout import HeldoutFile
from stream_ad.adapters.image_folders import find_pictures

DATA, TRUTH = "ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth"
LOOKED_FOR = f"ISIC 2016 task 1 ({DATA} beside {TRUTH})"


def categories(folder: Path) -> Mapping[str, str]:
    return {"isic": "ISIC"} if (folder / DATA).is_dir() else {}


def read(folder: Path, category: str) -> ProductFiles:
    masks = {one: folder / TRUTH / f"{one.stem}_Segmentation.png" for one in find_pictures(folder / DATA)}
    require_all([*masks.values()], find_pictures(folder / TRUTH), f"a mask in {TRUTH} for each picture of {DATA}")
    test = [HeldoutFile(picture, "lesion", mask) for picture, mask in masks.items()]
    return judged_alone("skin", "isic", category, MEDICAL, test)
