"""Two rendered products learned by `stream-ad worker`, here or on a Ray cluster."""

from dataclasses import replace
from pathlib import Path

from benchmarks.ray_jobs import Made, figures_of, make
from stream_ad.adapters.ray_cluster import connect
from stream_ad.app import App, evaluated_there
from stream_ad.config import load_settings
from stream_ad.demo import PRODUCTS, write_product
from stream_ad.domain.evaluation import Half
from stream_ad.job_parts import Common
from stream_ad.services.heldout import heldout_of

NAMES = ("cloth", "screw")


def rendered(folder: Path) -> list[Path]:
    """Small ones: that the two executors agree is shown as well by them."""
    return [write_product(folder, PRODUCTS[name], train=12, good=6, per_defect=2, seed=1, size=96) for name in NAMES]


def learned(folder: Path, products: list[Path], address: str | None) -> Made:
    return make(folder, products, backbone={"id": "tiny", "device": "cpu", "image_size": 64}, address=address)


def measured_there(folder: Path, half: Half, address: str) -> str:
    """The bank's figures, each task's measured by a process of the cluster and by nobody else."""
    import ray

    connect(address)
    with App(load_settings(folder / "config.yaml")) as app:
        bank = app.database.banks.load()
        newest = app.database.evaluations.all(half)[-1]
        common = Common(app.settings, bank.version, [entry.sha256 for entry in bank], app.provenance())
        remote = ray.remote(evaluated_there)
        found = {}
        for task in bank.entries:
            images = heldout_of(task, app.storage, app.work())
            found[task] = ray.get(remote.remote(common, (task, getattr(images, half.value))))
        return figures_of(replace(newest, tasks=found))
