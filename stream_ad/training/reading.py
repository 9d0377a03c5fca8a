"""What the program reads out of a model, with gradients: the same three read-outs as `backbones.vit`."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stream_ad.backbones.blocks import block_and_values, block_forward


class Read(NamedTuple):
    """Of a batch of pictures."""

    #: patch tokens after the block that memories are made of, layer-normalised
    tokens: Float[Tensor, "batch patches width"]
    #: patch tokens in the joint space, unit length (value-to-value attention)
    dense: Float[Tensor, "batch patches joint"]
    #: unit length
    embedding: Float[Tensor, "batch joint"]


def read(
    visual: Any,
    pixels: Float[Tensor, "batch 3 size size"],
    textures: Float[Tensor, "batch patches channels"],
    block: int,
) -> Read:
    """One pass to the end. `textures`: as the stem describes the pixels."""
    x = _patches(pixels, visual.conv1.weight.shape[-1]) @ visual.conv1.weight.flatten(1).T  # (batch, patches, width)
    x = x + visual.conv1.mix(textures)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1).to(x.dtype), x], dim=1) + visual.positional_embedding
    x = visual.ln_pre(x)
    aligned, tokens = x, x
    blocks = visual.transformer.resblocks
    for index, one in enumerate(blocks):
        if index < len(blocks) // 2:
            x = aligned = block_forward(one, x, attention=_attention)
        else:
            x, values = block_and_values(one, x, attention=_attention)
            aligned = aligned + values
        if index == block:
            tokens = F.layer_norm(x[:, 1:].float(), x.shape[-1:])
    pooled, _ = visual._pool(x)
    dense = visual.ln_post(aligned)[:, 1:] @ visual.proj
    return Read(tokens, F.normalize(dense.float(), dim=-1), F.normalize((pooled @ visual.proj).float(), dim=-1))


def _patches(pixels: Tensor, side: int) -> Float[Tensor, "batch patches values"]:
    """The numbers of each patch: a convolution whose stride is its size is a product, which goes back sooner."""
    rows = pixels.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # (batch, 3, gh, side, gw, side)
    return rows.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Plain products: on a CPU the fused attention goes back several times slower."""
    return torch.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, dim=-1) @ v
