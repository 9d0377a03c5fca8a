"""Old entries go on by the shared weights that they were made with, also when newer ones are in use for new entries.

So weights can be trained again like anything else that is learned: what is adapted from then on has the new ones, each
product by its own job and past the gate, and what was published before scores the same bits as before.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors.base import Detector, RawPrediction, Shared
from stream_ad.detectors.shared_weights import DIGITS, SharedWeights, folder_of, load
from stream_ad.domain.bank import BankEntry
from stream_ad.domain.images import ImageSet, Mask
from stream_ad.domain.ports import Progress
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import BankError, OverlappingSplits


class ByWeights:
    """A detector of shared weights, and beside it one for each folder of older weights that an entry names.

    They are looked for beside the folder that settings name.
    """

    def __init__(
        self, kind: str, make: Callable[..., Detector], backbone: Backbone, options: Mapping[str, Any]
    ) -> None:
        self._kind, self._make, self._backbone, self._options = kind, make, backbone, options
        self._own = make(backbone, **options)
        self.name, self.min_images, self.branches = self._own.name, self._own.min_images, self._own.branches
        self._older: dict[str, Detector] = {}

    @property
    def shared_weights(self) -> str:
        """The hash that new entries name. Raises: NoSharedWeights: there are none."""
        assert isinstance(self._own, Shared)
        return self._own.shared_weights

    def adapt(
        self, task: Task, normals: ImageSet, *, roi: Mask | None, seed: int, progress: Progress
    ) -> Mapping[str, np.ndarray]:
        """By the weights in use. Raises: as the detector itself."""
        return self._own.adapt(task, normals, roi=roi, seed=seed, progress=progress)

    def require_unseen(self, task: TaskId, ids: Iterable[str], made_with: str | None = None) -> None:
        """Nothing, when the weights learned none of these pictures (sha256 of the decoded pixels).

        `made_with`: the hash that an entry names; None: the weights in use.

        Raises:
            OverlappingSplits: they did: figures on such pictures would flatter.
            NoSharedWeights, BankError, WeightsError: as `require`.
        """
        sha256 = made_with or self.shared_weights
        weights = self._weights(sha256, task)
        seen = (load(weights) if isinstance(weights, Path) else weights).learned_pictures
        if shared := sum(id[:DIGITS] in seen for id in ids):
            raise OverlappingSplits(
                f"{shared} of the held-out pictures of task {task!r} are among those that the shared weights"
                f" {sha256[:DIGITS]} were trained on; train {self._kind} on other products, or give other"
                " held-out pictures: figures on pictures that were learned mean nothing"
            )

    def predict(self, views: Views, entries: Sequence[BankEntry]) -> RawPrediction:
        """Raises: BankError: an entry's weights are not to be had; WeightsError: they are damaged."""
        made_with = [self._of(entry.shared_weights or "", entry.task.id) for entry in entries]
        used = {id(one): one for one in made_with}
        if len(used) == 1:
            return made_with[0].predict(views, entries)
        rows = {key: [row for row, one in enumerate(made_with) if id(one) == key] for key in used}
        parts = [used[key].predict(views.select(own), [entries[row] for row in own]) for key, own in rows.items()]
        back = torch.tensor([row for own in rows.values() for row in own]).argsort()
        return RawPrediction(
            {branch: torch.cat([part.scores[branch] for part in parts])[back] for branch in self.branches},
            {branch: torch.cat([part.maps[branch] for part in parts])[back] for branch in self.branches},
        )

    def require(self, entry: BankEntry) -> None:
        """Nothing, when the entry's weights are at hand; asked before a bank is taken into use.

        Raises:
            BankError: they are not; WeightsError: they are damaged; NoSharedWeights: settings name none at all.
        """
        self._of(entry.shared_weights or "", entry.task.id)

    def _of(self, sha256: str, task: TaskId) -> Detector:
        """What scores entries that name these. Raises: as `require`."""
        if sha256 == self.shared_weights:
            return self._own
        if sha256 not in self._older:
            options = {**self._options, "weights": self._weights(sha256, task)}
            self._older[sha256] = self._make(self._backbone, **options)
        return self._older[sha256]

    def _weights(self, sha256: str, task: TaskId) -> SharedWeights | Path:
        """Those of this hash, or their folder. Raises: NoSharedWeights, BankError: as `require`."""
        own = self.shared_weights  # says so where there are none
        weights = self._options["weights"]
        if sha256 == own:
            return weights
        folder = folder_of(self._kind, sha256, weights.parent if isinstance(weights, Path) else Path())
        if not isinstance(weights, Path) or not folder.is_dir():
            raise BankError(
                f"the entry of task {task!r} was made with the shared weights {folder.name}, but"
                f" {own[:DIGITS]} are in use, and no {folder.name} lies beside them: bring that"
                f" folder back, or set detector.{self._kind}.weights to it"
            )
        return folder
