"""CMPMB + DSG-AFM (Zhou et al. 2026, arXiv 2603.21562): a memory of visual and textual prompts per task.

Symbols: `K` -> `keys` (made by `routing/keys.py`, alike for every detector), `P^T` -> `text_prompts`, `P^V` ->
`visual_prompts`, `F` -> `coreset`; `S_V` the visual branch, `S_T` the text branch. What differs from the paper:

- features keep the tower's own width (the paper pools 768 to 1024, which adds nothing and distorts distances);
- prompts start at N(0, 0.02) and move at a rate that changes them (U(0, 1), N(0, 1) and Adam at 5e-5 leave them as
  they were drawn);
- two text prompts share the learned context, flawless and damaged: one prompt alone gives no anomaly score;
- the text branch reads last-block patch tokens in the joint space: a middle layer has no place there;
- visual prompts are prefixes to keys and values (Algorithm 1, not Eq. 10), only in blocks up to the read-out;
- regions are superpixels instead of SAM's, and the loss takes means instead of sums.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from stream_ad.backbones.base import CONTEXT_PLACE, Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors.base import RawPrediction
from stream_ad.detectors.memory import build_coreset, patch_distances, score_patches
from stream_ad.detectors.text import damaged_logit, damaged_probability, pair
from stream_ad.domain.bank import BankEntry
from stream_ad.domain.images import ImageSet, Mask, Picture
from stream_ad.domain.ports import Progress
from stream_ad.domain.task import Task
from stream_ad.errors import TooFewImages
from stream_ad.functional.arrays import as_tensor
from stream_ad.functional.losses import patch_mse, structure_loss
from stream_ad.functional.perturbation import perturb
from stream_ad.functional.regions import superpixels

SYNTHETIC = 32  # pictures with painted defects that the text prompts are learned on
REMEMBERED = 1000  # pictures whose regions are kept
CONTEXT_SUFFIX = f" with {CONTEXT_PLACE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CmpmbOptions:
    coreset_rows: int = 196
    #: 0-based; paper: "fifth" in 3.2 and "sixth" in 3.3, index 5 counted from 0 fits both
    feature_block: int = 5
    #: 1 - alpha of Eq. 16; 0 skips the text branch and the blocks that only it needs
    text_weight: float = 0.1
    #: N_t, learned tokens in the text prompts
    context_tokens: int = 5
    text_steps: int = 60
    text_rate: float = 5e-3
    #: I, learned keys and values per block; 0 steps: no visual prompts at all
    prompt_length: int = 1
    prompt_steps: int = 12
    prompt_rate: float = 2e-3
    batch_size: int = 4
    #: superpixels per image
    regions: int = 24
    #: patches whose mean score is the image score
    top_k: int = 3


class Cmpmb:
    name = "cmpmb/1"
    min_images = 2

    def __init__(self, backbone: Backbone, options: CmpmbOptions = CmpmbOptions()) -> None:
        self.backbone = backbone
        self.options = options
        self.top_k = options.top_k
        self._regions: OrderedDict[bytes, Int[Tensor, " patches"]] = OrderedDict()  # the folds share most pictures
        visual = 1 - options.text_weight
        self.branches: Mapping[str, float] = (
            {"visual": visual, "text": options.text_weight} if options.text_weight else {"visual": 1.0}
        )

    def adapt(
        self, task: Task, normals: ImageSet, *, roi: Mask | None, seed: int, progress: Progress
    ) -> Mapping[str, np.ndarray]:
        """`text_prompts` (N_t, text width), `text_embeddings` (2, D), `visual_prompts` (blocks, 2, I, C), `coreset`."""
        if len(normals) < self.min_images:
            raise TooFewImages(task.id, self.min_images, len(normals))
        arrays: dict[str, np.ndarray] = {}
        if self.options.text_weight:
            prompts, embeddings = self._learn_text(task, normals, roi, seed, progress)
            arrays |= {"text_prompts": prompts, "text_embeddings": embeddings}
        visual = self._learn_visual(normals, seed, progress)
        coreset = build_coreset(
            lambda views: self._features(views, visual),
            self.backbone,
            normals,
            self.options.coreset_rows,
            roi=roi,
            seed=seed,
            progress=progress,
        )
        return arrays | {"visual_prompts": visual.cpu().numpy(), "coreset": coreset}

    def predict(self, views: Views, entries: Sequence[BankEntry]) -> RawPrediction:
        branches = {"visual": self._visual(views, entries)}
        if any("text_embeddings" in entry.arrays for entry in entries):
            branches["text"] = self._text(views, entries)
        return score_patches(branches, entries, self.backbone.spec.image_size, self.top_k)

    def _visual(self, views: Views, entries: Sequence[BankEntry]) -> list[Float[Tensor, "grid grid"]]:
        """S_V: distance to the nearest row of F, under the task's visual prompts."""
        grids: list[Tensor | None] = [None] * len(entries)
        for entry in {id(entry): entry for entry in entries}.values():  # one pass per task in the batch
            rows = [row for row, other in enumerate(entries) if other is entry]
            prompts = as_tensor(entry.arrays["visual_prompts"], views.pixels.device)
            features = self._features(views, prompts, rows)
            for row, image in zip(rows, features, strict=True):
                grids[row] = patch_distances(image, entry, self.backbone.grid)
        return [grid for grid in grids if grid is not None]

    def _text(self, views: Views, entries: Sequence[BankEntry]) -> list[Float[Tensor, "grid grid"]]:
        """S_T: log-odds of "damaged"; zero where an entry was learned without text."""
        grid = self.backbone.grid
        grids = []
        for dense, entry in zip(views.dense, entries, strict=True):
            if "text_embeddings" in entry.arrays:
                texts = as_tensor(entry.arrays["text_embeddings"], dense.device)
                grids.append(damaged_logit(dense, texts).unflatten(0, (grid, grid)))
            else:
                grids.append(dense.new_zeros(grid, grid))
        return grids

    def _features(
        self, views: Views, prompts: Float[Tensor, "layers 2 length width"], rows: Sequence[int] | None = None
    ) -> Float[Tensor, "batch patches width"]:
        """Patch tokens after `feature_block` under the prompts; the frozen ones where there are none."""
        block = self.options.feature_block
        if prompts.shape[2] == 0:
            frozen = views.block(block)
            return frozen if rows is None else frozen[list(rows)]
        pixels = views.pixels if rows is None else views.pixels[list(rows)]
        return self.backbone.encode(pixels, [block], prompts=prompts).blocks[block]

    def _learn_visual(self, normals: ImageSet, seed: int, progress: Progress) -> Float[Tensor, "layers 2 length width"]:
        """P^V by the structure loss (Eq. 10-13) over superpixels; a fixed number of steps, the last ones kept."""
        options = self.options
        generator = torch.Generator().manual_seed(seed)
        layers = options.feature_block + 1  # later blocks are not read: their prompts would get no gradient
        length = options.prompt_length if options.prompt_steps else 0
        drawn = torch.randn(layers, 2, length, self.backbone.width, generator=generator) * 0.02
        device = self.backbone.preprocess([normals[0]]).device
        prompts = drawn.to(device)
        if not length:
            return prompts
        prompts.requires_grad_(True)
        optimiser = torch.optim.Adam([prompts], lr=options.prompt_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.prompt_steps)
        for step in range(options.prompt_steps):
            chosen = torch.randint(len(normals), (options.batch_size,), generator=generator).tolist()
            pictures = [normals[index] for index in chosen]
            regions = torch.stack([self._regions_of(picture) for picture in pictures]).to(device)
            encoded = self.backbone.encode(self.backbone.preprocess(pictures), [options.feature_block], prompts=prompts)
            loss = structure_loss(encoded.blocks[options.feature_block], regions)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            progress("visual prompts", step + 1, options.prompt_steps)
        return prompts.detach()

    def _regions_of(self, picture: Picture) -> Int[Tensor, " patches"]:
        """The superpixel of each patch; remembered for the last pictures, since labelling costs as much as a pass."""
        key = hashlib.blake2b(picture.tobytes(), digest_size=16).digest()
        if key not in self._regions:
            labels = superpixels(picture, self.backbone.grid, self.options.regions)
            self._regions[key] = torch.from_numpy(labels.astype(np.int64).ravel())
            if len(self._regions) > REMEMBERED:
                self._regions.popitem(last=False)
        return self._regions[key]

    def _learn_text(
        self, task: Task, normals: ImageSet, roi: Mask | None, seed: int, progress: Progress
    ) -> tuple[Float[np.ndarray, "n_text text_width"], Float[np.ndarray, "2 joint"]]:
        """P^T by telling painted defects from normal patches (Eq. 7-9): a synthetic objective, and no more."""
        options, backbone = self.options, self.backbone
        rng = np.random.default_rng(seed)
        dense, shares = [], []
        for _ in range(min(SYNTHETIC, max(8, len(normals)))):
            picture, mask = perturb(normals[int(rng.integers(len(normals)))], rng, roi=roi)
            dense.append(Views(backbone, [picture]).dense[0])
            share = cv2.resize(mask.astype(np.float32), (backbone.grid, backbone.grid), interpolation=cv2.INTER_AREA)
            shares.append(torch.from_numpy(share.ravel()))
        features, target = torch.stack(dense), torch.stack(shares).to(dense[0].device)
        generator = torch.Generator().manual_seed(seed)
        context = torch.randn(options.context_tokens, backbone.text_width, generator=generator) * 0.02
        context = context.to(features.device).requires_grad_(True)
        optimiser = torch.optim.Adam([context], lr=options.text_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.text_steps)
        prompts = pair(task.class_name, CONTEXT_SUFFIX)
        for step in range(options.text_steps):
            chosen = torch.randint(len(features), (4 * options.batch_size,), generator=generator)
            texts = backbone.encode_text(prompts, context=context)
            loss = patch_mse(damaged_probability(features[chosen], texts), target[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            progress("text prompts", step + 1, options.text_steps)
        with torch.no_grad():
            texts = backbone.encode_text(prompts, context=context)
        return context.detach().cpu().numpy(), texts.cpu().numpy()
