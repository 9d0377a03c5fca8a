"""Two rendered products learned by `stream-ad worker`, here or on a Ray cluster."""

from pathlib import Path

from benchmarks.ray_jobs import Made, make
from stream_ad.demo import PRODUCTS, write_product

NAMES = ("cloth", "screw")


def rendered(folder: Path) -> list[Path]:
    """Small ones: that the two executors agree is shown as well by them."""
    return [write_product(folder, PRODUCTS[name], train=12, good=6, per_defect=2, seed=1, size=96) for name in NAMES]


def learned(folder: Path, products: list[Path], address: str | None) -> Made:
    return make(folder, products, backbone={"id": "tiny", "device": "cpu", "image_size": 64}, address=address)
