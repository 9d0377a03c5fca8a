"""Every detector by the name that config.yaml uses. To add one: its file, and a line here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stream_ad.backbones.base import Backbone
from stream_ad.detectors.anople import Anople
from stream_ad.detectors.anople_fusion import AnopleMemoryOptions
from stream_ad.detectors.base import Detector
from stream_ad.detectors.by_weights import ByWeights
from stream_ad.detectors.cmpmb import Cmpmb, CmpmbOptions
from stream_ad.detectors.mpa import Mpa
from stream_ad.detectors.patchcore import PatchCore, PatchCoreOptions
from stream_ad.detectors.promptmad import PromptMadDetector
from stream_ad.detectors.shared_weights import SharedWeights
from stream_ad.detectors.zero_shot import ZeroShot
from stream_ad.errors import BankError, ConfigError


def _anople(backbone: Backbone, *, weights: SharedWeights | Path | None = None, **memory: Any) -> Anople:
    return Anople(backbone, weights, AnopleMemoryOptions(**memory))


DETECTORS: Mapping[str, Callable[[Backbone, Mapping[str, Any]], Detector]] = {
    "anople": lambda backbone, options: ByWeights("anople", _anople, backbone, options),
    "cmpmb": lambda backbone, options: Cmpmb(backbone, CmpmbOptions(**options)),
    "mpa": lambda backbone, options: ByWeights("mpa", Mpa, backbone, options),
    "patchcore": lambda backbone, options: PatchCore(backbone, PatchCoreOptions(**options)),
    "promptmad": lambda backbone, options: ByWeights("promptmad", PromptMadDetector, backbone, options),
    "zero-shot": lambda backbone, options: ZeroShot(backbone, **options),
}


def make_detector(name: str, backbone: Backbone, options: Mapping[str, Any] | None = None) -> Detector:
    """A detector by name.

    Raises:
        ConfigError: no such detector, or an option that it does not have.
    """
    if name not in DETECTORS:
        raise ConfigError(f"there is no detector {name!r}; choose one of {', '.join(DETECTORS)}")
    try:
        return DETECTORS[name](backbone, options or {})
    except TypeError as error:
        raise ConfigError(f"detector {name!r}: {error}") from None


def make_detectors(
    backbone: Backbone, options: Mapping[str, Mapping[str, Any]] | None = None
) -> Mapping[str, Detector]:
    """One of each, by name; `options` by name too."""
    return {name: make_detector(name, backbone, (options or {}).get(name)) for name in DETECTORS}


def detector_of(entry_detector: str, detectors: Mapping[str, Detector]) -> Detector:
    """The detector that an entry was made by.

    Raises:
        BankError: it is not here, or of another version than the entry's.
    """
    for detector in detectors.values():
        if detector.name == entry_detector:
            return detector
    known = ", ".join(detector.name for detector in detectors.values())
    raise BankError(f"the entry was made by detector {entry_detector!r}; this program has {known}: adapt it again")
