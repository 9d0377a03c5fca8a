"""What is learned: entries, one per task, and the numbered banks that hold them. All immutable."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import UnknownTask

# among an entry's splits
SUSPECTS = "suspects"
PATCHES = "patches"
#: among an entry's arrays: how many of the last rows of its memory came from patches
PATCHED_ROWS = "patched"


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """How pictures become features. Training and serving must agree, so every entry carries it."""

    backbone: str  # "ViT-B-16/openai", "local-dir:...", "small"
    weights_sha256: str
    image_size: int  # px, square
    resize: str = "squash/2"  # never cropped: a crop loses defects at the short ends; 2: by torch instead of Pillow
    decoder: str = "pillow-rgb8"

    def __str__(self) -> str:
        return f"{self.backbone}@{self.image_size}px {self.weights_sha256[:12]} {self.resize} {self.decoder}"


@dataclass(frozen=True, slots=True)
class BranchScale:
    """How one branch enters the fused score: sigmoid(1.5 (s - center) / scale) with a weight.

    CMPMB Eq. 15 (ANM: centre and scale, from calibration normals) and Eq. 16 (DFS: the weight).
    """

    center: float
    scale: float
    weight: float


def conformal_rank(n: int, alpha: float) -> int:
    """Which of `n` ascending scores of good images is the threshold: ceil((n + 1)(1 - alpha)), counted from 1.

    Above n, which is when n < 1 / alpha - 1, no score will do: `alpha` cannot be promised (split conformal).
    """
    return int(np.ceil((n + 1) * (1 - alpha) - 1e-9))


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What unseen normal images of a task score. Never fitted: only ranks and quantiles are taken.

    `scores` and `map_peaks` are ascending. With `out_of_fold`, they come from five memories that each
    left a fifth of the normals out, so the promise of a false-alarm rate is approximate.
    """

    score_scales: Mapping[str, BranchScale]
    map_scales: Mapping[str, BranchScale]
    scores: Float64[np.ndarray, " n"]
    #: highest value of each image's fused map inside the region of interest
    map_peaks: Float64[np.ndarray, " n"]
    #: distance to the task's keys, of the same images with a defect painted on (refusal)
    key_distances: Float64[np.ndarray, " n"]
    #: cosine distance to the task's nearest final embedding, of those (refusal)
    embedding_distances: Float64[np.ndarray, " n"]
    out_of_fold: bool

    def threshold(self, alpha: float) -> float:
        """The score above which at most a share `alpha` of good images lies (split conformal).

        The ceil((n + 1)(1 - alpha))-th smallest score; with too few images for `alpha` the largest, and then
        `can_promise` is false.
        """
        n = len(self.scores)
        return float(self.scores[min(conformal_rank(n, alpha), n) - 1])

    def map_threshold(self, alpha: float) -> float:
        """The map value that good images' peaks exceed with a share of at most `alpha`."""
        n = len(self.map_peaks)
        return float(self.map_peaks[min(conformal_rank(n, alpha), n) - 1])

    def can_promise(self, alpha: float) -> bool:
        """Whether `alpha` can be promised at all: that takes n >= 1 / alpha - 1 images."""
        return conformal_rank(len(self.scores), alpha) <= len(self.scores)

    def p_value(self, score: float) -> float:
        """Share of good images that score at least this, this one counted: (1 + #{s_i >= s}) / (n + 1)."""
        above = len(self.scores) - int(np.searchsorted(self.scores, score, side="left"))
        return (1 + above) / (len(self.scores) + 1)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class BankEntry:
    """What one detector keeps of one task, its calibration and what made it; known by its `sha256`."""

    task: Task
    #: name and version; entries of one bank may differ
    detector: str
    #: keys, text prompts, visual prompts, coreset ...: what the detector needs, by name; read-only
    arrays: Mapping[str, np.ndarray]
    calibration: Calibration
    features: FeatureSpec
    #: sha256 of weights common to all tasks
    shared_weights: str | None
    #: hash of the sorted picture ids of each split: fit, calibration, regression, test; and, where there are any, the
    #: ids of `suspects` and `patches` themselves
    splits: Mapping[str, str]
    #: content hash of all of the above, given by the store
    sha256: str = ""

    @classmethod
    def uncalibrated(
        cls,
        task: Task,
        detector: str,
        arrays: Mapping[str, np.ndarray],
        features: FeatureSpec,
        shared_weights: str | None = None,
    ) -> "BankEntry":
        """What a detector scores against before any threshold is known: raw scores mean something, verdicts do not."""
        nothing = np.zeros(0)
        return cls(
            task=task,
            detector=detector,
            arrays=arrays,
            calibration=Calibration(
                score_scales={},
                map_scales={},
                scores=nothing,
                map_peaks=nothing,
                key_distances=nothing,
                embedding_distances=nothing,
                out_of_fold=False,
            ),
            features=features,
            shared_weights=shared_weights,
            splits={},
        )

    @property
    def suspects(self) -> tuple[str, ...]:
        """Ids of the training pictures that were not learned, because they look defective among the others."""
        return tuple(self.splits.get(SUSPECTS, "").split())

    @property
    def patches(self) -> tuple[str, ...]:
        """Ids of the pictures of good parts that were called NG and taken in later."""
        return tuple(self.splits.get(PATCHES, "").split())

    @property
    def threshold(self) -> float:
        return self.calibration.threshold(self.task.false_alarm_rate)


@dataclass(frozen=True, slots=True, eq=False)
class MemoryBank:
    """Every task's entry at one version. Never changed; a change is a new bank."""

    version: int
    entries: Mapping[TaskId, BankEntry] = field(default_factory=lambda: MappingProxyType({}))

    def with_entry(self, entry: BankEntry, version: int) -> "MemoryBank":
        """This bank plus (or replacing) one task. The others are shared, and ordered by task."""
        entries = {**self.entries, entry.task.id: entry}
        return replace(self, version=version, entries=MappingProxyType(dict(sorted(entries.items()))))

    def without(self, task: TaskId, version: int) -> "MemoryBank":
        """This bank but one task. Raises: UnknownTask: the bank has no such task."""
        self.entry(task)
        left = {name: entry for name, entry in self.entries.items() if name != task}
        return replace(self, version=version, entries=MappingProxyType(left))

    def __iter__(self) -> Iterator[BankEntry]:
        return iter(self.entries.values())

    def __len__(self) -> int:
        return len(self.entries)

    def entry(self, task: str) -> BankEntry:
        """Raises: UnknownTask: the bank has no such task."""
        try:
            return self.entries[TaskId(task)]
        except KeyError:
            raise UnknownTask(task, list(self.entries)) from None

    @property
    def sha256(self) -> str:
        """Hash of the entries, whatever their order of arrival."""
        return hashlib.sha256("\n".join(sorted(e.sha256 for e in self)).encode()).hexdigest()


class LeftBehind(NamedTuple):
    """What one bank had and another has not."""

    #: tasks that are not in the other at all
    dropped: list[TaskId]
    #: tasks that the other has in another state, learned from other pictures, patched or squeezed
    otherwise: list[TaskId]

    def __bool__(self) -> bool:
        return bool(self.dropped or self.otherwise)

    def __str__(self) -> str:
        parts = [f"without {', '.join(self.dropped)}"] if self.dropped else []
        return ", ".join(parts + ([f"{', '.join(self.otherwise)} in another state"] if self.otherwise else []))


def left_behind(had: Mapping[TaskId, str], has: Mapping[TaskId, str]) -> LeftBehind:
    """Of two banks, each as the hashes of its entries by task."""
    return LeftBehind(
        dropped=[task for task in had if task not in has],
        otherwise=[task for task, sha256 in had.items() if has.get(task, sha256) != sha256],
    )
