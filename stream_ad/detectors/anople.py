"""AnoPLe: a product of which one to four good pictures are at hand.

"Bidirectional multimodal prompt learning with scale-aware training for few-shot multi-class anomaly detection"
(arXiv 2408.13516). What is learned is learned once, on other products (`anople_training`); the k pictures of this one
fill a memory, which takes seconds.

    memory-bank similarity   distance of a patch to the nearest of the k pictures' (`memory`), as PatchCore has it
    decoder output           M_hat of D(z), pictures under the prompts of the whole picture's scale (`anople_network`)
    score                    their harmonic mean, per patch (`anople_fusion`); of a picture the mean of its highest

What differs from the paper. The memory holds the frozen backbone's features, which routing and every other detector
read too, and not those under the prompts: a picture costs the prompted pass more. Both sides of the harmonic mean are
odds against what is usual of the k pictures, and the decoder has a margin.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors.anople_fusion import AnopleMemoryOptions, even_distance, fused
from stream_ad.detectors.anople_network import FINE, WHOLE, AnopleNetwork, AnopleShape, Coupling, place_logits, read_out
from stream_ad.detectors.anople_training import KIND
from stream_ad.detectors.base import RawPrediction
from stream_ad.detectors.memory import (
    batches,
    build_memory,
    by_entry,
    frozen,
    patch_distances,
    score_patches,
)
from stream_ad.detectors.shared_weights import Named, SharedWeights
from stream_ad.domain.bank import BankEntry
from stream_ad.domain.images import ImageSet, Mask
from stream_ad.domain.ports import Progress
from stream_ad.domain.task import Task
from stream_ad.errors import TooFewImages
from stream_ad.functional.anomaly_map import roi_patches
from stream_ad.functional.arrays import as_tensor

BRANCH = "fused"


class Anople:
    """Raises: WeightsError: the weights are not there, are damaged, or belong to another backbone."""

    name = "anople/1"
    min_images = 1
    branches: Mapping[str, float] = {BRANCH: 1.0}

    def __init__(
        self,
        backbone: Backbone,
        weights: SharedWeights | Path | None = None,
        options: AnopleMemoryOptions = AnopleMemoryOptions(),
    ) -> None:
        """`weights`: trained ones or their folder; None: every use of the detector says that it needs some."""
        self.backbone, self.options = backbone, options
        self._weights = Named(KIND, weights, backbone.spec)
        self._networks: dict[torch.device, tuple[AnopleNetwork, Tensor]] = {}

    @property
    def shared_weights(self) -> str:
        """The hash that entries name. Raises: NoSharedWeights: there are none."""
        return self._weights.trained.sha256

    def adapt(
        self, task: Task, normals: ImageSet, *, roi: Mask | None, seed: int, progress: Progress
    ) -> Mapping[str, np.ndarray]:
        """A memory (`detectors/memory.py`) with the class's `texts` (2, D), `even`, `usual` and `margin`.

        Raises:
            NoSharedWeights: there are none.
        """
        self._weights.trained  # noqa: B018 - reading it says that there are none
        if len(normals) < self.min_images:
            raise TooFewImages(task.id, self.min_images, len(normals))
        memory = build_memory(frozen, self.backbone, normals, self.options, roi=roi, seed=seed, progress=progress)
        network, _ = self._network(self.backbone.preprocess([normals[0]]).device)
        with torch.no_grad():
            texts = network.texts(self.backbone, [task.class_name])[0]
        inside = None if roi is None else torch.from_numpy(roi_patches(roi, self.backbone.grid))
        said = []
        for views in batches(self.backbone, normals):
            grids = self.decoded(views.inside(roi), texts)
            said += [grid.flatten() if inside is None else grid.flatten()[inside] for grid in grids]
        return memory | {
            "texts": texts.cpu().numpy(),
            "even": np.array(even_distance(memory), np.float32),
            "usual": np.array(float(torch.cat(said).mean()), np.float32),
            "margin": np.array(self.options.margin, np.float32),
            "top_k": np.array(self.options.top_k),
        }

    def predict(self, views: Views, entries: Sequence[BankEntry]) -> RawPrediction:
        self._weights.require_named(entries)

        def of_entry(views: Views, entry: BankEntry) -> list[Tensor]:
            texts = as_tensor(entry.arrays["texts"], views.pixels.device)
            pairs = zip(patch_distances(frozen, views, entry), self.decoded(views, texts), strict=True)
            units = {name: float(entry.arrays[name]) for name in ("even", "usual", "margin")}
            return [fused(distance, said, **units) for distance, said in pairs]

        grids = by_entry(of_entry, views, entries)
        return score_patches({BRANCH: grids}, entries, self.backbone.spec.image_size)

    @torch.no_grad()
    def decoded(self, views: Views, texts: Float[Tensor, "2 joint"]) -> list[Float[Tensor, "grid grid"]]:
        """The decoder's log-odds of each patch, its cells' highest; the prompts are those of the whole picture."""
        network, prompts = self._network(views.pixels.device)
        blocks = network.read
        seen = read_out(self.backbone.encode(views.pixels, blocks, prompts=prompts, embedding=True, dense=True), blocks)
        grid = self.backbone.grid
        found = []
        for patches in seen.patches.split(1):  # one by one: products of one picture and of several differ in their bits
            logits = place_logits(network.decoder(patches)[0], texts)
            found.append(F.max_pool2d(logits.unflatten(0, (1, FINE * grid, FINE * grid)), FINE)[0])
        return found

    def _network(self, device: torch.device) -> tuple[AnopleNetwork, Float[Tensor, "layers 2 length width"]]:
        """The trained parts on a device, and the prompts of the whole picture."""
        if device not in self._networks:
            network = network_of(self._weights.trained, self.backbone).to(device)
            with torch.no_grad():
                self._networks[device] = network, network.prompts(self.backbone, WHOLE)
        return self._networks[device]


def network_of(weights: SharedWeights, backbone: Backbone) -> AnopleNetwork:
    """What weights hold, without gradients."""
    about = weights.about["shape"]
    shape = AnopleShape(**{**about, "read": tuple(about["read"]), "coupling": Coupling(about["coupling"])})
    network = AnopleNetwork(shape, backbone, torch.Generator())
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.arrays.items()})
    return network.requires_grad_(False)
