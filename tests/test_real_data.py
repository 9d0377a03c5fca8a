"""Real weights on real pictures: small enough for every run, where both are at hand."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from stream_ad.adapters.heldout import HeldoutFolder, read_heldout
from stream_ad.adapters.image_folders import ImageFolder
from stream_ad.backbones.cached import CachedBackbone
from stream_ad.backbones.registry import load_backbone
from stream_ad.detectors.registry import make_detector
from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.images import HeldoutImage, Subset
from stream_ad.domain.task import Task, TaskId
from stream_ad.evaluation.protocol import evaluate
from stream_ad.inspection import BankModel
from stream_ad.services.learning import learn
from tests.pictures import quiet

SHARED = Path(__file__).parents[2] / "shared"
DATASETS = Path(os.environ.get("STREAM_AD_DATASETS", SHARED / "datasets"))
WEIGHTS = Path(os.environ.get("STREAM_AD_WEIGHTS", SHARED / "weights"))
PRODUCTS = ("mvtec_bottle", "magnetic_tile")
LEARNED, GOOD, DEFECTIVE = 14, 6, 10


class Some:
    """The first good and defective pictures of a set."""

    def __init__(self, heldout: HeldoutFolder) -> None:
        rows = range(len(heldout))
        bad = [row for row in rows if heldout.defective[row]]
        # every few, so that kinds of defects are mixed
        chosen = [row for row in rows if not heldout.defective[row]][:GOOD] + bad[:: len(bad) // DEFECTIVE][:DEFECTIVE]
        self._heldout, self._rows = heldout, chosen

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> HeldoutImage:
        return self._heldout[self._rows[index]]

    @property
    def ids(self) -> Sequence[str]:
        return [self._heldout.ids[row] for row in self._rows]

    @property
    def defective(self) -> Sequence[bool]:
        return [self._heldout.defective[row] for row in self._rows]


@pytest.mark.needs_datasets
@pytest.mark.needs_weights
def test_real_products_are_told_apart_and_their_defects_found():
    if not all((DATASETS / name).is_dir() for name in PRODUCTS):
        pytest.skip(f"needs real images in {DATASETS}; name their folder by STREAM_AD_DATASETS")
    if not (WEIGHTS / "deit-tiny-clip").is_dir():
        pytest.skip(f"needs deit-tiny-clip in {WEIGHTS}; name its folder by STREAM_AD_WEIGHTS")
    backbone = CachedBackbone(
        load_backbone(f"local-dir:{WEIGHTS / 'deit-tiny-clip'}", image_size=224, weights_dir=WEIGHTS, device="cpu")
    )
    detector = make_detector("patchcore", backbone)
    bank = MemoryBank(0)
    for version, name in enumerate(PRODUCTS, start=1):
        task = Task(id=TaskId(name), class_name=name.replace("_", " "))
        normals = Subset(ImageFolder(DATASETS / name), range(LEARNED))
        bank = bank.with_entry(learn(task, normals, detector, backbone, folds=2, progress=quiet), version)
    heldout = {TaskId(name): Some(read_heldout(DATASETS / name)) for name in PRODUCTS}
    found = evaluate(BankModel(backbone, {"patchcore": detector}, bank), heldout, quiet)
    for name in PRODUCTS:
        assert found[TaskId(name)].routing_accuracy == 1.0
        assert found[TaskId(name)].routed["image_auroc"] > 0.75
    assert found[TaskId("mvtec_bottle")].routed["pixel_ap"] > 0.3
