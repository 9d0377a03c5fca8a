"""The one protocol behind which every method stands."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stream_ad.backbones.views import Views
from stream_ad.domain.bank import BankEntry, FeatureSpec
from stream_ad.domain.images import ImageSet, Mask, Picture
from stream_ad.domain.ports import Progress
from stream_ad.domain.task import Task


class RawPrediction(NamedTuple):
    """Raw, unbounded scores and maps per branch; `detectors/calibrated.py` makes verdicts of them."""

    scores: Mapping[str, Float[Tensor, " batch"]]
    #: at the input size, blurred; -inf outside the region of interest
    maps: Mapping[str, Float[Tensor, "batch size size"]]

    def rows(self, chosen: Bool[np.ndarray, " batch"]) -> "RawPrediction":
        """Those of some images."""
        kept = torch.from_numpy(chosen)
        return RawPrediction(
            {branch: values[kept] for branch, values in self.scores.items()},
            {branch: values[kept] for branch, values in self.maps.items()},
        )


@runtime_checkable
class Detector(Protocol):
    """A way to learn what normal looks like, one task at a time.

    Both methods are pure: they read the frozen weights given to the constructor, never each other's leftovers.
    All that is learned is in the returned arrays.
    """

    #: name and version; what a bank entry names
    name: str
    #: 0 zero-shot, 1 few-shot, more for methods that train per task
    min_images: int
    #: each branch's weight in the fused score, summing to 1
    branches: Mapping[str, float]

    def adapt(
        self, task: Task, normals: ImageSet, *, roi: Mask | None, seed: int, progress: Progress
    ) -> Mapping[str, np.ndarray]:
        """Learn one task from normal images. Same arguments, same arrays, bit for bit (CPU).

        Nothing outside `roi` (a mask of any size, stretched over the picture) is learned.

        Raises:
            TooFewImages: `normals` holds fewer than `min_images`.
        """
        ...

    def predict(self, views: Views, entries: Sequence[BankEntry]) -> RawPrediction:
        """Score a batch, one entry per image. An image's result does not depend on its batch."""
        ...


@runtime_checkable
class Shared(Protocol):
    """A detector that scores by weights which all its tasks share."""

    @property
    def shared_weights(self) -> str:
        """Their hash, which every entry of the detector names. Raises: ConfigError: there are none."""
        ...


def uncalibrated(detector: Detector, task: Task, arrays: Mapping[str, np.ndarray], features: FeatureSpec) -> BankEntry:
    """What the detector adapted, before any threshold is known; it names the shared weights that it needs."""
    shared = detector.shared_weights if isinstance(detector, Shared) else None
    return BankEntry.uncalibrated(task, detector.name, arrays, features, shared)


@runtime_checkable
class Patchable(Protocol):
    """A detector whose memory can take in pictures later, without the ones that it was made of."""

    def patched(self, entry: BankEntry, pictures: Sequence[Picture]) -> Mapping[str, np.ndarray]:
        """The entry's arrays with what they lack of these pictures of good parts; its calibration stays valid.

        Raises:
            DataError: the pictures differ from what is known in too many places.
        """
        ...
