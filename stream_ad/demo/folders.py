"""Rendered products as folders that `add-task` reads."""

from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image

from stream_ad.demo.product import Product

TRAIN, GOOD = "train/good", "test/good"


def write_product(
    root: Path, product: Product, *, train: int, good: int, per_defect: int, seed: int, size: int = 256
) -> Path:
    """Folder `root`/<name> in MVTec layout, filled with new photographs.

    `train/good/000.png`..., `test/good/...`, `test/<defect>/...` and `ground_truth/<defect>/000_mask.png` (0 or 255).
    No photograph number occurs twice under one `seed`, so neither do part, place and light.
    """
    folder = root / product.name
    for split, count in ((TRAIN, train), (GOOD, good)):
        for index in range(count):
            rendered = product.render(photograph_number(seed, split, index), size=size)
            save(rendered.picture, folder / split / f"{index:03d}.png")
    for defect in product.defects:
        for index in range(per_defect):
            number = photograph_number(seed, f"test/{defect}", index)
            rendered = product.render(number, size=size, defect=defect)
            save(rendered.picture, folder / "test" / defect / f"{index:03d}.png")
            mask = rendered.mask.astype(np.uint8) * np.uint8(255)
            save(mask, folder / "ground_truth" / defect / f"{index:03d}_mask.png")
    return folder


def photograph_number(seed: int, split: str, index: int) -> int:
    """The `seed` for `Product.render` of picture `index` of a split; different for any two that a demo can ask for."""
    return (seed << 52) + (crc32(split.encode()) << 20) + index


def save(pixels: np.ndarray, path: Path) -> None:
    """A picture, in a folder that is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)
