"""A method before it has learned anything, and a detector of the registry as one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors.base import Detector, uncalibrated
from stream_ad.domain.bank import BankEntry
from stream_ad.domain.images import ImageSet
from stream_ad.domain.ports import Progress
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import ConfigError
from stream_ad.evaluation.by_product.folds import Fold
from stream_ad.evaluation.continual.measure import Scored

Learn = Callable[[Fold, int, Progress], "Learned"]


class Learned(NamedTuple):
    """A method that has learned what it may of a fold."""

    #: a score and a map for each picture of a batch, whatever the batch; maps are square, of any size
    score: Callable[[Views], Sequence[Scored]]
    #: what the file should keep of it, as JSON has it; asked for after the last picture was scored
    said: Callable[[], Mapping[str, Any]] = dict


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method, the same for all folds."""

    name: str
    #: one line for a reader
    about: str
    #: all that its figures depend on beside code, backbone, fold and seed, as JSON has it
    options: Mapping[str, Any]
    #: what test pictures are seen through
    backbone: Backbone
    #: never looks at the fold's test pictures; equal arguments, equal scores
    learn: Learn
    #: False: draws nothing, so one seed is all seeds
    seeded: bool = True


def of_detector(
    name: str,
    about: str,
    options: Mapping[str, Any],
    detector: Detector,
    backbone: Backbone,
    *,
    normals: Callable[[Fold, int], ImageSet] = lambda fold, seed: fold.normals,
    seeded: bool = True,
) -> Method:
    """A detector of the registry, adapted to the normals of a fold and a seed; raw scores, without calibration.

    Raises:
        ConfigError: it has several branches, which only a calibration can put together.
    """
    if len(detector.branches) != 1:
        raise ConfigError(f"{name}: needed a detector with one branch, got {', '.join(detector.branches)}")

    def learn(fold: Fold, seed: int, progress: Progress) -> Learned:
        task = Task(id=TaskId(fold.product.id), class_name=fold.product.class_name)
        arrays = detector.adapt(task, normals(fold, seed), roi=None, seed=task.seed + seed, progress=progress)
        entry = uncalibrated(detector, task, arrays, backbone.spec)

        return Learned(scorer(detector, entry))

    return Method(name=name, about=about, options=options, backbone=backbone, learn=learn, seeded=seeded)


def scorer(detector: Detector, entry: BankEntry) -> Callable[[Views], list[Scored]]:
    """What a detector with one branch says of pictures of an entry."""
    (branch,) = detector.branches

    def score(views: Views) -> list[Scored]:
        raw = detector.predict(views, [entry] * len(views))
        pairs = zip(raw.scores[branch], raw.maps[branch], strict=True)
        return [Scored(float(score), one.cpu().numpy()) for score, one in pairs]

    return score
