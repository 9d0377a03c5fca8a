"""Any open_clip vision transformer as a frozen backbone: read-out of any block, prefix prompts, dense alignment.

What differs from calling open_clip: pictures are squashed instead of cropped; the pass stops after the last block
that somebody asked for.

On a CPU an image's features are bit-identical whatever its batch. Matrix products choose their kernels by size, so each
image goes through alone, on one thread; in groups of `GROUP`, or split over threads, only where that was seen to give
the very same bits on this machine. Kernels are chosen by shapes, not by values, so one look is enough.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from open_clip.transformer import VisionTransformer
from torch import Tensor

from stream_ad.backbones.base import Encoded, Reached
from stream_ad.backbones.blocks import block_and_values, block_forward, prefix_of
from stream_ad.backbones.spread import Spread
from stream_ad.backbones.text_tower import TextTower
from stream_ad.domain.bank import FeatureSpec
from stream_ad.domain.images import Picture
from stream_ad.errors import ConfigError, WeightsError

log = logging.getLogger(__name__)

GROUP = 4  # images at once: weights are read from memory once for all; more gain little


class _Wanted(NamedTuple):
    """What is asked of a pass."""

    blocks: tuple[int, ...]
    last: int
    embedding: bool
    dense: bool


class _Same(NamedTuple):
    """What gives the same bits as one image on one thread."""

    grouped: bool
    split: bool


#: by weights, threads and what is read out
_same: dict[tuple[object, ...], _Same] = {}


class VitBackbone:
    """A frozen open_clip model behind the `Backbone` protocol.

    Raises:
        WeightsError: the model's towers are of a kind that cannot be read out by block.
    """

    def __init__(
        self,
        model: open_clip.CLIP | open_clip.CustomTextCLIP,
        *,
        spec: FeatureSpec,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        caveat: str = "",
    ) -> None:
        # Any: torch types every attribute of a module as tensor or module
        visual = cast(Any, model.visual)
        if not isinstance(model.visual, VisionTransformer) or visual.attn_pool is not None:
            raise WeightsError(
                f"{spec.backbone}: needed an open_clip vision transformer with blocks of its own (ViT-...), got an "
                f"image tower of type {type(visual).__name__}; choose one of open_clip's ViT models"
            )
        self.model = model.to(device=device, dtype=torch.float32).eval().requires_grad_(False)
        self.visual = visual
        self.spec = spec
        self.device = device
        self.caveat = caveat
        self.depth = len(visual.transformer.resblocks)
        self.width = int(visual.conv1.out_channels)
        self.patch_size = int(visual.conv1.kernel_size[0])
        if spec.image_size % self.patch_size:
            raise ConfigError(
                f"backbone.image_size must be a multiple of the patch size {self.patch_size}, got {spec.image_size}"
            )
        self.grid = spec.image_size // self.patch_size
        self.joint_width = int(visual.output_dim)
        values = torch.arange(256, dtype=torch.float32) / 255
        #: what each of the 256 values of a channel becomes
        self._normalised = (values - torch.tensor(mean)[:, None]) / torch.tensor(std)[:, None]
        self._spread = Spread()
        self._positions = _resize_positions(visual.positional_embedding, self.grid)
        self.text = TextTower(model, spec.backbone)

    @property
    def text_width(self) -> int:
        """Width of a text token: the width of learned context."""
        return self.text.width

    @property
    def text_depth(self) -> int:
        """Blocks of the text tower."""
        return self.text.depth

    def preprocess(self, pictures: Sequence[Picture], *, scale: int = 1) -> Float[Tensor, "batch 3 size size"]:
        size = scale * self.spec.image_size
        squashed = self._spread.map(partial(_squashed, size=size, table=self._normalised.numpy()), pictures)
        return torch.from_numpy(np.stack(squashed)).to(self.device)

    def encode(
        self,
        pixels: Float[Tensor, "batch 3 size size"],
        blocks: Sequence[int],
        *,
        prompts: Float[Tensor, "layers 2 length width"] | None = None,
        embedding: bool = False,
        dense: bool = False,
        reached: Reached | None = None,
    ) -> Encoded:
        beyond = [block for block in blocks if not 0 <= block < self.depth]
        if beyond:
            raise ConfigError(
                f"{self.spec.backbone} has blocks 0 to {self.depth - 1}; asked for {beyond[0]} (feature_block)"
            )
        wanted = _Wanted(
            tuple(blocks), self.depth - 1 if embedding or dense else max(blocks, default=-1), embedding, dense
        )
        if pixels.requires_grad or (prompts is not None and prompts.requires_grad):
            return self._pass(pixels, wanted, prompts)._replace(reached=None)  # a graph is walked back once
        if reached is not None and (
            min([*blocks, self.depth]) <= reached.block or (dense and self._aligned_from <= reached.block)
        ):
            reached = None
        begun = None if reached is None else reached.block
        start = pixels if reached is None else reached.tokens

        def run(part: Tensor) -> Encoded:
            return self._pass(part, wanted, prompts, begun=begun)

        if self.device.type != "cpu":
            with torch.no_grad():
                return run(start)
        length = 0 if prompts is None else prompts.shape[2]
        key = (self.spec, self._spread.threads, wanted, length, begun)
        if key not in _same:
            _same[key] = self._look(run, start)
        if len(start) < self._spread.threads and _same[key].split:
            return _join([self._spread.alone(run, one) for one in start.split(1)])
        # whole groups, and as many parts as there are threads
        group = GROUP if _same[key].grouped and len(start) >= GROUP * self._spread.threads else 1
        whole = len(start) - len(start) % group
        return _join(self._spread.map(run, [*start[:whole].split(group), *start[whole:].split(1)]))

    def _look(self, run: Callable[[Tensor], Encoded], images: Tensor) -> _Same:
        """Whether a group, and an image split over threads, have the bits of one image on one thread."""
        four = images[torch.arange(GROUP) % len(images)]
        alone = _join(self._spread.map(run, four.split(1)))
        (group,) = self._spread.map(run, [four])
        split = _join([self._spread.alone(run, one) for one in four.split(1)])
        same = _Same(_equal(alone, group), _equal(alone, split))
        if not all(same):
            log.info("%s: bits differ (same in groups: %s, split: %s); pictures go alone", self.spec.backbone, *same)
        return same

    @property
    def _aligned_from(self) -> int:
        return self.depth // 2  # as in CLIP Surgery: the second half of the blocks

    def _pass(self, images: Tensor, wanted: "_Wanted", prompts: Tensor | None, *, begun: int | None = None) -> Encoded:
        """Through the tower from pixels, or from the tokens after block `begun`."""
        visual = self.visual
        x = self._embedded(images) if begun is None else images
        read: dict[int, Tensor] = {}
        aligned = None
        for index in range(0 if begun is None else begun + 1, wanted.last + 1):
            block = visual.transformer.resblocks[index]
            prefix = prompts[index] if prompts is not None and index < len(prompts) else None
            if wanted.dense and index >= self._aligned_from:
                before = x if aligned is None else aligned
                x, values = block_and_values(block, x, prefix)
                aligned = before + values
            else:
                x = block_forward(block, x, prefix)
            if index in wanted.blocks:
                read[index] = x[:, 1:]
        pooled = None
        if wanted.embedding:
            pooled, _ = visual._pool(x)
            # one by one: a product of a vector and one of a matrix differ in their bits
            each = pooled.split(1) if visual.proj is not None and x.device.type == "cpu" else [pooled]
            pooled = torch.cat([one if visual.proj is None else one @ visual.proj for one in each])
            pooled = F.normalize(pooled, dim=-1)
        if aligned is not None:
            aligned = visual.ln_post(aligned)[:, 1:]
            aligned = F.normalize(aligned if visual.proj is None else aligned @ visual.proj, dim=-1)
        on = 0 <= wanted.last < self.depth - 1 and prompts is None
        return Encoded(read, pooled, aligned, Reached(wanted.last, x) if on else None)

    def _embedded(self, pixels: Tensor) -> Float[Tensor, "batch tokens width"]:
        visual = self.visual
        x = visual.conv1(pixels).flatten(2).transpose(1, 2)  # (batch, patches, width)
        x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + self._positions
        return visual.ln_pre(x)

    def prefixes(self, tokens: Float[Tensor, "layers length width"]) -> Float[Tensor, "layers 2 length width"]:
        blocks = self.visual.transformer.resblocks
        return torch.stack([prefix_of(block, own) for block, own in zip(blocks, tokens, strict=False)])

    def encode_text(
        self,
        texts: Sequence[str],
        *,
        context: Float[Tensor, "*each n_text text_width"] | None = None,
        deep: Float[Tensor, "blocks n_text text_width"] | None = None,
    ) -> Float[Tensor, "texts joint"]:
        return self.text(texts, context, self.device, deep)


def _resize_positions(positions: Tensor, grid: int) -> Float[Tensor, "tokens width"]:
    """Positional embedding for a grid of another size than the one trained on, by bicubic interpolation."""
    native = round((len(positions) - 1) ** 0.5)
    if native == grid:
        return positions.detach()
    first, patches = positions[:1].detach(), positions[1:].detach()
    square = patches.T.reshape(1, -1, native, native)
    resized = F.interpolate(square, (grid, grid), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([first, resized.flatten(2)[0].T])


def _squashed(picture: Picture, size: int, table: Float32[np.ndarray, "3 256"]) -> Float32[np.ndarray, "3 size size"]:
    """A picture as the tower takes it.

    paper: unsaid. Squashed, never cropped: a crop throws away defects at the short ends. Bicubic with antialias, in 8
    bits: a fifth of Pillow's time, and of photographs at most 1 / 255 from it (2 where enlarged).
    """
    known = np.ascontiguousarray(picture)
    known = known if known.flags.writeable else known.copy()  # torch warns of what it must not write
    channels_last = torch.from_numpy(known).permute(2, 0, 1)[None]
    squashed = F.interpolate(channels_last, (size, size), mode="bicubic", antialias=True)[0].numpy()
    normalised = np.empty(squashed.shape, np.float32)
    for channel, row in enumerate(table):
        np.take(row, squashed[channel], out=normalised[channel], mode="clip")
    return normalised


def _equal(one: Encoded, other: Encoded) -> bool:
    pairs = [(tokens, other.blocks[block]) for block, tokens in one.blocks.items()]
    pairs += [
        (a, b)
        for a, b in ((one.embedding, other.embedding), (one.dense, other.dense))
        if a is not None and b is not None
    ]
    return all(torch.equal(a, b) for a, b in pairs)


def _join(parts: Sequence[Encoded]) -> Encoded:
    def cat(tensors: list[Tensor | None]) -> Tensor | None:
        present = [tensor for tensor in tensors if tensor is not None]
        return torch.cat(present) if present else None

    first = parts[0].reached
    return Encoded(
        {block: torch.cat([part.blocks[block] for part in parts]) for block in parts[0].blocks},
        cat([part.embedding for part in parts]),
        cat([part.dense for part in parts]),
        None if first is None else Reached(first.block, torch.cat([p.reached.tokens for p in parts if p.reached])),
    )
