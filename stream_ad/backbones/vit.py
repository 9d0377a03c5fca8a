"""Any open_clip vision transformer as a frozen backbone: read-out of any block, prefix prompts, dense alignment.

What differs from calling open_clip: pictures are squashed instead of cropped; the pass stops after the last block
that somebody asked for; on a CPU every image goes through alone, so that its features are bit-identical whatever
its batch (matrix products choose their kernels by size).
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from open_clip.transformer import TextTransformer, VisionTransformer
from PIL import Image
from torch import Tensor

from stream_ad.backbones.base import CONTEXT_PLACE, Encoded
from stream_ad.backbones.blocks import block_forward, value_attention
from stream_ad.domain.bank import FeatureSpec
from stream_ad.domain.images import Picture
from stream_ad.errors import ConfigError, WeightsError


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
        self._mean = torch.tensor(mean, device=device)[:, None, None]
        self._std = torch.tensor(std, device=device)[:, None, None]
        self._positions = _resize_positions(visual.positional_embedding, self.grid)
        self.text = _TextTower(model, spec.backbone)

    @property
    def text_width(self) -> int:
        """Width of a text token: the width of learned context."""
        return self.text.width

    def preprocess(self, pictures: Sequence[Picture], *, scale: int = 1) -> Float[Tensor, "batch 3 size size"]:
        size = (scale * self.spec.image_size, scale * self.spec.image_size)
        # paper: unsaid. Squashed, never cropped: a crop throws away defects at the short ends
        squashed = [np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BICUBIC)) for p in pictures]
        stacked = torch.from_numpy(np.stack(squashed)).to(self.device)
        return (stacked.permute(0, 3, 1, 2).float() / 255 - self._mean) / self._std

    def encode(
        self,
        pixels: Float[Tensor, "batch 3 size size"],
        blocks: Sequence[int],
        *,
        prompts: Float[Tensor, "layers 2 length width"] | None = None,
        embedding: bool = False,
        dense: bool = False,
    ) -> Encoded:
        beyond = [block for block in blocks if not 0 <= block < self.depth]
        if beyond:
            raise ConfigError(
                f"{self.spec.backbone} has blocks 0 to {self.depth - 1}; asked for {beyond[0]} (feature_block)"
            )
        last = self.depth - 1 if embedding or dense else max(blocks, default=-1)
        if pixels.requires_grad or (prompts is not None and prompts.requires_grad):
            return self._pass(pixels, blocks, last, prompts, embedding, dense)
        with torch.no_grad():
            if self.device.type == "cpu":
                parts = [self._pass(one, blocks, last, prompts, embedding, dense) for one in pixels.split(1)]
                return _join(parts)
            return self._pass(pixels, blocks, last, prompts, embedding, dense)

    def _pass(
        self,
        pixels: Tensor,
        blocks: Sequence[int],
        last: int,
        prompts: Tensor | None,
        embedding: bool,
        dense: bool,
    ) -> Encoded:
        visual = self.visual
        x = visual.conv1(pixels).flatten(2).transpose(1, 2)  # (batch, patches, width)
        x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + self._positions
        x = visual.ln_pre(x)
        read: dict[int, Tensor] = {}
        aligned = None
        first_dense = self.depth // 2  # as in CLIP Surgery: the second half of the blocks
        for index in range(last + 1):
            block = visual.transformer.resblocks[index]
            if dense and index >= first_dense:
                aligned = (x if aligned is None else aligned) + value_attention(block, x)
            prefix = prompts[index] if prompts is not None and index < len(prompts) else None
            x = block_forward(block, x, prefix)
            if index in blocks:
                read[index] = x[:, 1:]
        pooled = None
        if embedding:
            pooled, _ = visual._pool(x)
            pooled = F.normalize(pooled if visual.proj is None else pooled @ visual.proj, dim=-1)
        if aligned is not None:
            aligned = visual.ln_post(aligned)[:, 1:]
            aligned = F.normalize(aligned if visual.proj is None else aligned @ visual.proj, dim=-1)
        return Encoded(read, pooled, aligned)

    def encode_text(
        self, texts: Sequence[str], *, context: Float[Tensor, "n_text text_width"] | None = None
    ) -> Float[Tensor, "texts joint"]:
        return self.text(texts, context, self.device)


class _TextTower:
    """The text side, with learned context tokens in place of "[P]"."""

    def __init__(self, model: open_clip.CLIP | open_clip.CustomTextCLIP, name: str) -> None:
        tower = cast(Any, model.text if isinstance(model, open_clip.CustomTextCLIP) else model)
        if isinstance(model, open_clip.CustomTextCLIP) and not isinstance(model.text, TextTransformer):
            raise WeightsError(f"{name}: needed open_clip's own text transformer, got {type(tower).__name__}")
        own = isinstance(model, open_clip.CLIP)
        pool = tower.text_pool_type if own else tower.pool_type
        if pool not in ("argmax", "eos"):
            raise WeightsError(f"{name}: needed a text tower that is read at the end token, got pooling {pool!r}")
        self.tower = tower
        self.tokens = open_clip.SimpleTokenizer()
        self.length = int(tower.context_length if own else tower.num_pos)
        self.width = int(tower.token_embedding.embedding_dim)

    def __call__(self, texts: Sequence[str], context: Tensor | None, device: torch.device) -> Tensor:
        tower = self.tower
        ids, places, ends = self._tokenize(texts, 0 if context is None else len(context))
        length = max(ends) + 1  # attention is causal: what comes after the end token changes nothing
        x = tower.token_embedding(ids[:, :length].to(device))  # (texts, length, width)
        if context is not None:
            rows = []
            for row, start in zip(x, places, strict=True):
                filled = row
                if start is not None:
                    filled = torch.cat([row[:start], context, row[start + len(context) :]])
                rows.append(filled)
            x = torch.stack(rows)
        x = x + tower.positional_embedding[:length]
        mask = tower.attn_mask[:length, :length]
        for block in tower.transformer.resblocks:
            x = block(x, attn_mask=mask)
        x = tower.ln_final(x)[torch.arange(len(x), device=device), torch.tensor(ends, device=device)]
        projection = tower.text_projection
        if isinstance(projection, torch.nn.Linear):
            x = projection(x)
        elif projection is not None:
            x = x @ projection
        return F.normalize(x, dim=-1)

    def _tokenize(
        self, texts: Sequence[str], count: int
    ) -> tuple[Int[Tensor, "texts length"], list[int | None], list[int]]:
        """Token ids, where the context starts in each, and where each ends."""
        ids = torch.zeros(len(texts), self.length, dtype=torch.long)
        places: list[int | None] = []
        ends = []
        for row, text in enumerate(texts):
            before, place, after = text.partition(CONTEXT_PLACE)
            head = [self.tokens.sot_token_id, *self.tokens.encode(before)]
            middle = [self.tokens.sot_token_id] * (count if place else 0)  # replaced after the embedding
            full = [*head, *middle, *self.tokens.encode(after), self.tokens.eot_token_id]
            if len(full) > self.length:
                raise ConfigError(
                    f"the prompt {text!r} has {len(full)} tokens, the text tower takes {self.length}; "
                    "choose a shorter class name"
                )
            ids[row, : len(full)] = torch.tensor(full)
            places.append(len(head) if place else None)
            ends.append(len(full) - 1)
        return ids, places, ends


def _resize_positions(positions: Tensor, grid: int) -> Float[Tensor, "tokens width"]:
    """Positional embedding for a grid of another size than the one trained on, by bicubic interpolation."""
    native = round((len(positions) - 1) ** 0.5)
    if native == grid:
        return positions.detach()
    first, patches = positions[:1].detach(), positions[1:].detach()
    square = patches.T.reshape(1, -1, native, native)
    resized = F.interpolate(square, (grid, grid), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([first, resized.flatten(2)[0].T])


def _join(parts: Sequence[Encoded]) -> Encoded:
    def cat(tensors: list[Tensor | None]) -> Tensor | None:
        present = [tensor for tensor in tensors if tensor is not None]
        return torch.cat(present) if present else None

    return Encoded(
        {block: torch.cat([part.blocks[block] for part in parts]) for block in parts[0].blocks},
        cat([part.embedding for part in parts]),
        cat([part.dense for part in parts]),
    )
