"""CMPMB + DSG-AFM (Zhou et al. 2026, arXiv 2603.21562): a memory of visual and textual prompts per task.

Symbols: `K` -> `keys` (made by `routing/keys.py`, alike for every detector), `P^T` -> `text_prompts`, `P^V` ->
`visual_prompts`, `F` -> `coreset`; `S_V` the visual branch, `S_T` the text branch. What differs from the paper:

- features keep the tower's own width (the paper pools 768 to 1024, which adds nothing and distorts distances);
- what is read out (`detectors/memory.py`): several blocks, tiles, whitened distances;
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
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from stream_ad.backbones.base import CONTEXT_PLACE, Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors.base import RawPrediction
from stream_ad.detectors.memory import (
    MemoryOptions,
    ReadOut,
    build_memory,
    by_entry,
    frozen,
    patch_distances,
    score_patches,
)
from stream_ad.detectors.patching import add_pictures
from stream_ad.detectors.text import damaged_logit, damaged_probability, pair
from stream_ad.domain.bank import BankEntry
from stream_ad.domain.images import ImageSet, Mask, Picture
from stream_ad.domain.ports import Progress
from stream_ad.domain.task import Task
from stream_ad.errors import TooFewImages
from stream_ad.functional.arrays import as_tensor
from stream_ad.functional.losses import patch_mse, structure_loss
from stream_ad.functional.perturbation import noisy, perturb
from stream_ad.functional.regions import superpixels

SYNTHETIC = 32  # pictures with painted defects that the text prompts are learned on
REMEMBERED = 1000  # pictures whose regions are kept
CONTEXT_SUFFIX = f" with {CONTEXT_PLACE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CmpmbOptions(MemoryOptions):
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
    #: how prompts are drawn: "small" N(0, 0.02); "paper" U(0, 1) visual, N(0, 1) textual
    prompt_init: str = "small"
    #: what text prompts are learned on: painted "regions", or noise of sigma 1 on the "whole" picture (paper)
    text_noise: str = "regions"
    #: channels that tokens are average-pooled to; 0: as many as they have. paper: 1024
    pooled_width: int = 0
    #: patches whose mean score is the image score
    top_k: int = 3


class Cmpmb:
    name = "cmpmb/2"
    min_images = 2

    def __init__(self, backbone: Backbone, options: CmpmbOptions = CmpmbOptions()) -> None:
        self.backbone = backbone
        self.options = options
        self._regions: OrderedDict[bytes, Int[Tensor, " patches"]] = OrderedDict()  # the folds share most pictures
        visual = 1 - options.text_weight
        self.branches: Mapping[str, float] = (
            {"visual": visual, "text": options.text_weight} if options.text_weight else {"visual": 1.0}
        )

    def adapt(
        self, task: Task, normals: ImageSet, *, roi: Mask | None, seed: int, progress: Progress
    ) -> Mapping[str, np.ndarray]:
        """A memory (`detectors/memory.py`) with `text_prompts` (N_t, text width), `text_embeddings` (2, D) and
        `visual_prompts` (blocks, 2, I, C).
        """
        if len(normals) < self.min_images:
            raise TooFewImages(task.id, self.min_images, len(normals))
        arrays: dict[str, np.ndarray] = {}
        if self.options.text_weight:
            prompts, embeddings = self._learn_text(task, normals, roi, seed, progress)
            arrays |= {"text_prompts": prompts, "text_embeddings": embeddings}
        visual = self._learn_visual(normals, seed, progress)
        memory = build_memory(
            self._read_out(visual), self.backbone, normals, self.options, roi=roi, seed=seed, progress=progress
        )
        return arrays | memory | {"visual_prompts": visual.cpu().numpy(), "top_k": np.array(self.options.top_k)}

    def predict(self, views: Views, entries: Sequence[BankEntry]) -> RawPrediction:
        branches = {"visual": self._visual(views, entries)}
        if any("text_embeddings" in entry.arrays for entry in entries):
            branches["text"] = self._text(views, entries)
        return score_patches(branches, entries, self.backbone.spec.image_size)

    def patched(self, entry: BankEntry, pictures: Sequence[Picture]) -> Mapping[str, np.ndarray]:
        prompts = as_tensor(entry.arrays["visual_prompts"], self.backbone.preprocess([pictures[0]]).device)
        return add_pictures(self._read_out(prompts), self.backbone, entry, pictures)

    def _visual(self, views: Views, entries: Sequence[BankEntry]) -> list[Float[Tensor, "_grid _grid"]]:
        """S_V: distance to the nearest rows of F, under the task's visual prompts."""

        def of_entry(views: Views, entry: BankEntry) -> list[Tensor]:
            prompts = as_tensor(entry.arrays["visual_prompts"], views.pixels.device)
            return patch_distances(self._read_out(prompts), views, entry)

        return by_entry(of_entry, views, entries)

    def _text(self, views: Views, entries: Sequence[BankEntry]) -> list[Float[Tensor, "grid grid"]]:
        """S_T: log-odds of "damaged"; zero where an entry was learned without text."""
        grid = self.backbone.grid

        def of_entry(views: Views, entry: BankEntry) -> list[Tensor]:
            if "text_embeddings" not in entry.arrays:
                return [views.pixels.new_zeros(grid, grid) for _ in range(len(views))]
            texts = as_tensor(entry.arrays["text_embeddings"], views.pixels.device)
            return [damaged_logit(dense, texts).unflatten(0, (grid, grid)) for dense in views.dense]

        return by_entry(of_entry, views, entries)

    def _read_out(self, prompts: Float[Tensor, "layers 2 length width"]) -> ReadOut:
        """Patch tokens under the prompts; the frozen ones where there are none."""

        def read_out(views: Views, scale: int, blocks: Sequence[int]) -> Mapping[int, Tensor]:
            if prompts.shape[2] == 0:
                found = frozen(views, scale, blocks)
            else:
                encoded = self.backbone.encode(views.at(scale).pixels, blocks, prompts=prompts)
                found = {block: views.assemble(encoded.blocks[block], scale) for block in blocks}
            if not self.options.pooled_width:
                return found
            return {block: F.adaptive_avg_pool1d(one, self.options.pooled_width) for block, one in found.items()}

        return read_out

    def _learn_visual(self, normals: ImageSet, seed: int, progress: Progress) -> Float[Tensor, "layers 2 length width"]:
        """P^V by the structure loss (Eq. 10-13) over superpixels; a fixed number of steps, the last ones kept."""
        options = self.options
        generator = torch.Generator().manual_seed(seed)
        layers = max(options.blocks) + 1  # later blocks are not read: their prompts would get no gradient
        shape = (layers, 2, options.prompt_length if options.prompt_steps else 0, self.backbone.width)
        if options.prompt_init == "paper":
            drawn = torch.rand(shape, generator=generator)
        else:
            drawn = torch.randn(shape, generator=generator) * 0.02
        device = self.backbone.preprocess([normals[0]]).device
        prompts = drawn.to(device)
        if not drawn.numel():
            return prompts
        prompts.requires_grad_(True)
        optimiser = torch.optim.Adam([prompts], lr=options.prompt_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.prompt_steps)
        for step in range(options.prompt_steps):
            chosen = torch.randint(len(normals), (options.batch_size,), generator=generator).tolist()
            pictures = [self._cut(normals[index], generator) for index in chosen]
            regions = torch.stack([self._regions_of(picture) for picture in pictures]).to(device)
            encoded = self.backbone.encode(self.backbone.preprocess(pictures), options.blocks, prompts=prompts)
            loss = torch.stack([structure_loss(tokens, regions) for tokens in encoded.blocks.values()]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            progress("visual prompts", step + 1, options.prompt_steps)
        return prompts.detach()

    def _cut(self, picture: Picture, generator: torch.Generator) -> Picture:
        """One of the views that the read-out takes of a picture: the whole, or a tile."""
        scales = self.options.scales
        scale = scales[int(torch.randint(len(scales), (), generator=generator))]
        row, column = torch.randint(scale, (2,), generator=generator).tolist()
        height, width = picture.shape[:2]
        return picture[
            row * height // scale : (row + 1) * height // scale, column * width // scale : (column + 1) * width // scale
        ]

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
            picture = normals[int(rng.integers(len(normals)))]
            picture, mask = noisy(picture, rng) if options.text_noise == "whole" else perturb(picture, rng, roi=roi)
            dense.append(Views(backbone, [picture]).inside(roi).dense[0])
            share = cv2.resize(mask.astype(np.float32), (backbone.grid, backbone.grid), interpolation=cv2.INTER_AREA)
            shares.append(torch.from_numpy(share.ravel()))
        features, target = torch.stack(dense), torch.stack(shares).to(dense[0].device)
        generator = torch.Generator().manual_seed(seed)
        spread = 1.0 if options.prompt_init == "paper" else 0.02  # CLIP's own token embeddings have 0.02
        context = torch.randn(options.context_tokens, backbone.text_width, generator=generator) * spread
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
