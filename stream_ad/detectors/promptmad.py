"""PromptMAD (McCain et al. 2026, arXiv 2601.22492): reconstruction guided by words, for products that need a fine map.

We know the paper's abstract alone. From it: frozen features are rebuilt under text embeddings of normal and of abnormal
class-specific descriptions (cross-attention); a segmentor that fuses multi-scale convolutions and spatial attention
learns synthetic defects by a focal loss; its map is refined by diffusion. All else is ours:

- the network is trained once, on *other* products (`promptmad_training`). What it made up of one never seen would be
  blurred, so a patch is rebuilt of rows of the product's own memory: the attention reaches words and what is known of
  the product, and what is not known cannot be rebuilt. What is left over is judged in the product's own units;
- the denoiser adds to the enlarged coarse map, and is trained on noisy masks of its own, not on true ones.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors import memory
from stream_ad.detectors.base import RawPrediction
from stream_ad.detectors.promptmad_network import PromptMad, PromptMadShape, Reference, Seen
from stream_ad.detectors.shared_weights import Named, SharedWeights
from stream_ad.detectors.text import described
from stream_ad.domain.bank import BankEntry
from stream_ad.domain.images import ImageSet, Mask
from stream_ad.domain.ports import Progress
from stream_ad.domain.task import Task
from stream_ad.errors import TooFewImages
from stream_ad.functional.anomaly_map import roi_patches
from stream_ad.functional.arrays import as_tensor

KIND = "promptmad"


class PromptMadDetector:
    """Raises: WeightsError: the weights are not there, are damaged, or belong to another backbone."""

    name = "promptmad/1"
    min_images = 1
    branches: Mapping[str, float] = {"visual": 1.0}

    def __init__(self, backbone: Backbone, weights: SharedWeights | Path | None = None, refinements: int = 4) -> None:
        """`weights`: trained ones or their folder; `refinements`: steps of diffusion; 0: none."""
        self.backbone, self.refinements = backbone, refinements
        self._weights = Named(KIND, weights, backbone.spec)
        self._networks: dict[torch.device, PromptMad] = {}

    @property
    def shared_weights(self) -> str:
        """The hash that entries name. Raises: NoSharedWeights: there are none."""
        return self._weights.trained.sha256

    def adapt(
        self, task: Task, normals: ImageSet, *, roi: Mask | None, seed: int, progress: Progress
    ) -> Mapping[str, np.ndarray]:
        """A memory (`detectors/memory.py`) with `profile` (levels, C) and `texts` (2, descriptions, D)."""
        about = self._weights.trained.about
        if len(normals) < self.min_images:
            raise TooFewImages(task.id, self.min_images, len(normals))
        how = {"roi": roi, "seed": seed, "progress": progress}
        known = reference_arrays(task, normals, self.backbone, memory_of(about), **how)
        top_k = np.array(3 * about["shape"]["fine"] ** 2)  # three patches' worth of cells, as memories take
        return known | {"refinements": np.array(self.refinements), "top_k": top_k}

    def predict(self, views: Views, entries: Sequence[BankEntry]) -> RawPrediction:
        self._weights.require_named(entries)

        @torch.no_grad()
        def of_entry(views: Views, entry: BankEntry) -> list[Float[Tensor, "side side"]]:
            network, of = self._network(views.pixels.device), reference(entry, views)
            pictures, grids = as_seen(views, entry, network.shape), []
            for row in range(len(views)):  # one by one: products of one picture and of several differ in their bits
                one = Seen(*(part[row : row + 1] for part in pictures))
                steps = int(entry.arrays["refinements"])
                grids.append(network.refined(network(one, of), one.detail, steps)[0, 0])
            return grids

        grids = {"visual": memory.by_entry(of_entry, views, entries)}
        return memory.score_patches(grids, entries, self.backbone.spec.image_size)

    def _network(self, device: torch.device) -> PromptMad:
        if device not in self._networks:
            about, arrays = self._weights.trained.about, self._weights.trained.arrays
            sizes = len(memory_of(about).blocks), self.backbone.width, self.backbone.joint_width
            network = PromptMad(PromptMadShape(**about["shape"]), *sizes)
            network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
            self._networks[device] = network.to(device)
        return self._networks[device]


def memory_of(about: Mapping[str, Any]) -> memory.MemoryOptions:
    """What memories the weights were trained against."""
    return memory.MemoryOptions(**{**about["memory"], "blocks": tuple(about["memory"]["blocks"]), "scales": (1,)})


def reference_arrays(
    task: Task, normals: ImageSet, backbone: Backbone, options: memory.MemoryOptions, **how: Any
) -> dict[str, np.ndarray]:
    """What the network needs to know of a product; `how` a memory is built: roi, seed, progress."""
    arrays = memory.build_memory(memory.frozen, backbone, normals, options, **how)
    inside = {} if how["roi"] is None else {"roi": how["roi"]}
    entry = BankEntry.uncalibrated(task, KIND, arrays | inside, backbone.spec)
    profile = memory.channel_profile(memory.frozen, backbone, normals, entry)
    with torch.no_grad():
        texts = backbone.encode_text(described(task.class_name)).unflatten(0, (2, -1)).cpu()
    return {**arrays, "profile": profile.clip(min=0.1), "texts": texts.numpy()}


def reference(entry: BankEntry, views: Views) -> Reference:
    """An entry as the network takes it."""
    device, roi = views.pixels.device, memory.entry_roi(entry)
    names = ("coreset", "units", "profile", "texts")
    known, unit, profile, texts = (as_tensor(entry.arrays[name], device) for name in names)
    inside = None if roi is None else torch.from_numpy(roi_patches(roi, views.backbone.grid)).to(device)
    return Reference(known.float().transpose(0, 1), unit, profile, texts, inside)


def as_seen(views: Views, entry: BankEntry, shape: PromptMadShape) -> Seen:
    """Pictures of one entry as the network takes them; `views` are inside its region of interest."""
    small = F.adaptive_avg_pool2d(views.pixels, shape.fine * views.backbone.grid)
    blurred = F.avg_pool2d(small, 7, 1, 3, count_include_pad=False)
    views.compute([int(block) for _, block in entry.arrays["levels"]], dense=shape.text)
    dense = views.dense if shape.text else small.new_zeros(len(views), views.backbone.grid**2, 1)
    levels = [torch.stack(level) for level in memory.level_features(memory.frozen, views, entry)]
    return Seen(torch.stack(levels, dim=1), dense, small - blurred)
