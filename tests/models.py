"""Backbones for tests: `tiny` at 96 px, so that a picture takes milliseconds."""

from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from stream_ad.backbones.cached import CachedBackbone
from stream_ad.backbones.registry import load_backbone
from stream_ad.backbones.vit import VitBackbone
from stream_ad.detectors.anople_network import AnopleNetwork, AnopleShape
from stream_ad.detectors.anople_training import plain
from stream_ad.detectors.base import Detector
from stream_ad.detectors.memory import MemoryOptions
from stream_ad.detectors.mpa_network import Experts, MpaShape, Prompts
from stream_ad.detectors.promptmad_network import PromptMad, PromptMadShape
from stream_ad.detectors.registry import make_detectors
from stream_ad.detectors.shared_weights import SharedWeights
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
def untaught() -> SharedWeights:
    """MPAMA's weights as they are drawn, with experts that differ."""
    generator = torch.Generator().manual_seed(0)
    backbone, shape = tiny(), MpaShape()
    experts = Experts(shape, backbone.joint_width, generator)
    texts = Prompts(shape, backbone.text_width, generator).texts(backbone)
    arrays = {
        "texts.levels": texts.levels,
        "texts.whole": texts.whole,
        "experts.router": experts.router,
        "experts.learned": experts.learned + 0.1 * torch.randn(experts.learned.shape, generator=generator),
    }
    about = {"shape": asdict(shape), "backbone": {"name": "tiny", "weights_sha256": backbone.spec.weights_sha256}}
    return SharedWeights("mpa", about, {name: array.detach().numpy() for name, array in arrays.items()}, "a5" * 32)


@lru_cache(maxsize=1)
def untaught_promptmad() -> SharedWeights:
    """PromptMAD's weights as they are drawn: a soft nearest neighbour."""
    backbone, shape, memory = tiny(), PromptMadShape(), MemoryOptions(coreset_rows=64, blocks=(3, 5), whitening=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PromptMad(shape, len(memory.blocks), backbone.width, backbone.joint_width)
    made_for = {"name": "tiny", "weights_sha256": backbone.spec.weights_sha256}
    about = {"shape": asdict(shape), "memory": asdict(memory), "backbone": made_for}
    return SharedWeights("promptmad", about, {n: a.numpy() for n, a in network.state_dict().items()}, "b6" * 32)


@lru_cache(maxsize=1)
def untaught_anople() -> SharedWeights:
    """AnoPLe's weights as they are drawn."""
    network = AnopleNetwork(AnopleShape(), tiny(), torch.Generator().manual_seed(0))
    about = {
        "shape": plain(AnopleShape()),
        "backbone": {"name": "tiny", "weights_sha256": tiny().spec.weights_sha256},
    }
    return SharedWeights(
        "anople", about, {name: one.detach().numpy() for name, one in network.state_dict().items()}, "a6" * 32
    )


def options() -> dict[str, dict[str, Any]]:
    return {
        **FAST,
        "anople": {"weights": untaught_anople(), "coreset_rows": 64},
        "mpa": {"weights": untaught()},
        "promptmad": {"weights": untaught_promptmad()},
    }


@lru_cache(maxsize=1)
def tiny() -> VitBackbone:
    return load_backbone("tiny", image_size=96, weights_dir=Path("nowhere"), device="cpu")


@lru_cache(maxsize=1)
def cached() -> CachedBackbone:
    return CachedBackbone(tiny())


@lru_cache(maxsize=1)
def detectors() -> dict[str, Detector]:
    return dict(make_detectors(cached(), options()))


@lru_cache(maxsize=1)
def uncached_detectors() -> dict[str, Detector]:
    """For what a batch might change: the cache would hand out the same features again."""
    return dict(make_detectors(tiny(), options()))


def learned(task: Task, pictures: Pictures, detector: str = "cmpmb", *, folds: int = 2, **options) -> BankEntry:
    """An entry; two folds, because each is one more adaptation."""
    return learn(task, pictures, detectors()[detector], cached(), folds=folds, progress=quiet, **options)


def model(*entries: BankEntry, refuse: bool = True) -> BankModel:
    bank = MemoryBank(0)
    for version, entry in enumerate(entries, start=1):
        bank = bank.with_entry(entry, version)
    return BankModel(cached(), detectors(), bank, refuse=refuse)
