"""Backbones for tests: `tiny` at 96 px, so that a picture takes milliseconds."""

from functools import lru_cache
from pathlib import Path

from stream_ad.backbones.cached import CachedBackbone
from stream_ad.backbones.registry import load_backbone
from stream_ad.backbones.vit import VitBackbone
from stream_ad.detectors.base import Detector
from stream_ad.detectors.registry import make_detectors
from stream_ad.domain.bank import BankEntry, MemoryBank
from stream_ad.domain.task import Task
from stream_ad.inspection import BankModel
from stream_ad.services.learning import learn
from tests.pictures import Pictures, quiet

FAST = {
    "cmpmb": {"prompt_steps": 2, "text_steps": 3, "coreset_rows": 64},
    "patchcore": {"coreset_rows": 64},
}


@lru_cache(maxsize=1)
def tiny() -> VitBackbone:
    return load_backbone("tiny", image_size=96, weights_dir=Path("nowhere"), device="cpu")


@lru_cache(maxsize=1)
def cached() -> CachedBackbone:
    return CachedBackbone(tiny())


@lru_cache(maxsize=1)
def detectors() -> dict[str, Detector]:
    return dict(make_detectors(cached(), FAST))


@lru_cache(maxsize=1)
def uncached_detectors() -> dict[str, Detector]:
    """For what a batch might change: the cache would hand out the same features again."""
    return dict(make_detectors(tiny(), FAST))


def learned(task: Task, pictures: Pictures, detector: str = "cmpmb", *, folds: int = 2, **options) -> BankEntry:
    """An entry; two folds, because each is one more adaptation."""
    return learn(task, pictures, detectors()[detector], cached(), folds=folds, progress=quiet, **options)


def model(*entries: BankEntry, refuse: bool = True) -> BankModel:
    bank = MemoryBank(0)
    for version, entry in enumerate(entries, start=1):
        bank = bank.with_entry(entry, version)
    return BankModel(cached(), detectors(), bank, refuse=refuse)
