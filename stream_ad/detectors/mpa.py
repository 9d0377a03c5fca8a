"""MPA and MPAMA: scores of a product that has no training image, by what was learned on *other* products.

"Learning multi-granularity visual-textual alignment for zero-shot anomaly detection" (under review). Prompts and
experts are trained once (`mpa_training`). Which of the two it is follows from the weights: with experts MPAMA, without
MPA.

    A_s   map: the mean over perception levels of the patches' probability of damage
    A_c   picture: half the probability that the whole picture is damaged, half the map's maximum

What differs from the paper: raw scores are A_c's log-odds, which rank alike and have no ties at 1 (above 0: rather
damaged). Words and experts see the backbone's value-to-value tokens, as every text branch here (AnomalyCLIP's DPAM).
Maps are blurred as every map here. The rest is said where it is done, see `mpa_network` and `mpa_training`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors.base import RawPrediction
from stream_ad.detectors.memory import by_entry, entry_roi, score_patches
from stream_ad.detectors.mpa_network import Experts, MpaShape, Texts, patch_logits
from stream_ad.detectors.mpa_training import KIND
from stream_ad.detectors.shared_weights import Named, SharedWeights
from stream_ad.detectors.text import damaged_logit
from stream_ad.domain.bank import BankEntry
from stream_ad.domain.images import ImageSet, Mask
from stream_ad.domain.ports import Progress
from stream_ad.domain.task import Task
from stream_ad.functional.anomaly_map import top_mean
from stream_ad.functional.arrays import as_tensor
from stream_ad.functional.perception import perceive

BRANCH = "text"


class Mpa:
    """Raises: WeightsError: the weights are not there, are damaged, or belong to another backbone."""

    name = "mpa/1"
    min_images = 0
    branches: Mapping[str, float] = {BRANCH: 1.0}

    def __init__(self, backbone: Backbone, weights: SharedWeights | Path | None = None, top_k: int = 1) -> None:
        """`weights`: trained ones or their folder; None: every use of the detector says that it needs some."""
        self.backbone, self.top_k = backbone, top_k
        self._weights = Named(KIND, weights, backbone.spec)
        if self._weights.known is None:
            return
        shape = self._weights.trained.about["shape"]
        self._shape = MpaShape(**{**shape, "levels": tuple(shape["levels"])})
        self._networks: dict[torch.device, tuple[Texts, Experts | None]] = {}

    @property
    def shared_weights(self) -> str:
        """The hash that entries name. Raises: NoSharedWeights: there are none."""
        return self._weights.trained.sha256

    def adapt(
        self, task: Task, normals: ImageSet, *, roi: Mask | None, seed: int, progress: Progress
    ) -> Mapping[str, np.ndarray]:
        """Nothing is learned of the task, and no image is looked at; what scores it is in the shared weights.

        Raises:
            NoSharedWeights: there are none.
        """
        self._weights.trained  # noqa: B018 - reading it says that there are none
        return {"top_k": np.array(self.top_k)}

    def predict(self, views: Views, entries: Sequence[BankEntry]) -> RawPrediction:
        self._weights.require_named(entries)

        def of_entry(views: Views, entry: BankEntry) -> list[Tensor]:
            views.compute([], embedding=True, dense=True)
            # one by one: products of one picture and of several differ in their bits
            pictures = zip(views.dense, views.embedding, strict=True)
            return [torch.cat([whole[None], grid.flatten()]) for whole, grid in (self.seen(*one) for one in pictures)]

        found = by_entry(of_entry, views, entries)
        grids = [one[1:].unflatten(0, (self.backbone.grid,) * 2) for one in found]
        maps = score_patches({BRANCH: grids}, entries, self.backbone.spec.image_size).maps
        scores = [
            both(one[0], top_mean(grid, int(entry.arrays["top_k"]), entry_roi(entry)))
            for one, grid, entry in zip(found, grids, entries, strict=True)
        ]
        return RawPrediction({BRANCH: torch.stack(scores).cpu()}, maps)

    @torch.no_grad()
    def seen(
        self, dense: Float[Tensor, "patches joint"], embedding: Float[Tensor, " joint"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "grid grid"]]:
        """Of one picture's features the log-odds that the whole is damaged, and A_s."""
        texts, experts = self._network(dense.device)
        levels = patch_logits(dense, texts, self._shape.levels, experts)
        whole = damaged_logit(embedding[None], texts.whole)[0]
        return whole, torch.sigmoid(levels).mean(0).unflatten(0, (self.backbone.grid,) * 2)

    @torch.no_grad()
    def asked(self, dense: Float[Tensor, "patches joint"]) -> Float[Tensor, " pool"] | None:
        """How many of one picture's patches, at all levels, ask each expert; None: there are none (MPA)."""
        _, experts = self._network(dense.device)
        if experts is None:
            return None
        return torch.stack([experts.asked(perceive(dense, level)) for level in self._shape.levels]).sum(0)

    def _network(self, device: torch.device) -> tuple[Texts, Experts | None]:
        """The trained parts on a device."""
        if device not in self._networks:
            arrays = {name: as_tensor(array, device) for name, array in self._weights.trained.arrays.items()}
            experts = None
            if "experts.router" in arrays:
                experts = Experts(self._shape, self.backbone.joint_width, torch.Generator()).to(device)
                experts.load_state_dict({"router": arrays["experts.router"], "learned": arrays["experts.learned"]})
            self._networks[device] = Texts(arrays["texts.levels"], arrays["texts.whole"]), experts
        return self._networks[device]


def both(whole: Float[Tensor, ""], highest: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """A_c as log-odds, of those of the whole picture and of the probability of damage at its most damaged place.

    In double precision on the way: float32 has no number between 1 - 6e-8 and 1.
    """
    chance = (torch.sigmoid(whole.double()) + highest.double()) / 2
    return torch.logit(chance, eps=1e-15).float()
