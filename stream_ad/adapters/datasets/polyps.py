"""Colonoscopy pictures of polyps, each with a mask, as their archives unpack.

    CVC-ClinicDB/Original/1.tif        Ground Truth/1.tif      (also PNG/Original beside PNG/Ground Truth)
    CVC-ColonDB/images/1.png           masks/1.png             (as the collection TestDataset has it)
    Kvasir-SEG/images/cju....jpg       masks/cju....jpg
    Endotect_2020_Segmentation_Test_Dataset/images/*.jpg       masks/*.jpg, *.png
    CVC-300/images/149.png             masks/149.png           (EndoScene's test part)

Bernal et al. 2015 (ClinicDB, 612 pictures); Tajbakhsh et al. 2015 (ColonDB, 380); Jha et al. 2020 (Kvasir-SEG, 1000);
Hicks et al. 2021 (EndoTect, 200: the "Endo" of zero-shot papers); Vazquez et al. 2017 (EndoScene). For research; see
each one's page. Which it is follows from the folder's name.

**There is no healthy picture in any of them.** Such a product can be judged by pixels alone, and nothing can be learned
from good parts: image metrics are not measured, a false alarm is a pixel beside a polyp.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from stream_ad.adapters.datasets.files import ProductFiles, contents, judged_alone
from stream_ad.adapters.datasets.published import MEDICAL
from stream_ad.adapters.heldout import HeldoutFile
from stream_ad.adapters.image_folders import SUFFIXES, find_pictures
from stream_ad.errors import DataError

LOOKED_FOR = "CVC-ClinicDB, CVC-ColonDB, Kvasir-SEG, EndoTect, CVC-300 (a folder of that name with images and masks)"
#: parts of a folder's name, in small letters without signs, and the data set
NAMES = {
    "clinicdb": "CVC-ClinicDB",
    "colondb": "CVC-ColonDB",
    "kvasir": "Kvasir",
    "endotect": "Endo",
    "cvc300": "EndoScene",
    "endoscene": "EndoScene",
}
#: folders of pictures and of masks; the first that are there
PAIRS = (
    *(("images", "masks"), ("image", "masks"), ("Original", "Ground Truth")),
    *(("PNG/Original", "PNG/Ground Truth"), ("TIF/Original", "TIF/Ground Truth"), ("bbdd", "gtpolyp")),
)


def categories(folder: Path) -> Mapping[str, str]:
    dataset = _dataset(folder)
    return {dataset.lower(): dataset} if dataset and _pair(folder) else {}


def read(folder: Path, category: str) -> ProductFiles:
    pair = _pair(folder)
    assert pair is not None
    pictures, masks = (folder / part for part in pair)
    found = find_pictures(pictures)
    if not found:
        raise DataError(f"needed pictures of polyps in {pictures}, found {contents(pictures)}; unpack it again")
    return judged_alone(
        "colon", "polyps", category, MEDICAL, [HeldoutFile(one, "polyp", _mask(one, masks)) for one in found]
    )


def _dataset(folder: Path) -> str | None:
    name = re.sub(r"[^a-z0-9]", "", folder.resolve().name.lower())
    return next((dataset for part, dataset in NAMES.items() if part in name), None)


def _pair(folder: Path) -> tuple[str, str] | None:
    return next((pair for pair in PAIRS if all((folder / part).is_dir() for part in pair)), None)


def _mask(picture: Path, masks: Path) -> Path | None:
    return next((mask for suffix in SUFFIXES if (mask := masks / f"{picture.stem}{suffix}").is_file()), None)
