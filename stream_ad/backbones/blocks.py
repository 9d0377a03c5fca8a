"""One block of an open_clip image tower, with the two changes that the methods need.

What differs from open_clip's own forward: prefixes to keys and values (CMPMB Algorithm 1), and a value-to-value
attention for tokens that stay comparable with text (CLIP Surgery, AnomalyCLIP's DPAM).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor

#: of queries, keys and values, each (batch, heads, tokens, width / heads)
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def block_forward(
    block: ResidualAttentionBlock,
    x: Float[Tensor, "batch tokens width"],
    prefix: Float[Tensor, "2 length width"] | None = None,
    *,
    attention: Attention = F.scaled_dot_product_attention,
) -> Float[Tensor, "batch tokens width"]:
    """Tokens after one block; with a prefix, every query also sees `length` learned keys and values.

    Without one it is the block's own forward. A prefix of zeros is not: it takes softmax mass, so "no prompt"
    must be None or zero length.
    """
    return _rest(block, x, _attend(block, *_project(block, block.ln_1(x)), prefix, attention))


def block_and_values(
    block: ResidualAttentionBlock,
    x: Float[Tensor, "batch tokens width"],
    prefix: Float[Tensor, "2 length width"] | None = None,
    *,
    attention: Attention = F.scaled_dot_product_attention,
) -> tuple[Float[Tensor, "batch tokens width"], Float[Tensor, "batch tokens width"]]:
    """As `block_forward`, and beside it its attention with values in place of queries and keys, without the prefix.

    There tokens look at their like. Query-key attention of the last blocks gathers the whole image in a few tokens, so
    that patches lose their place in the joint space; values keep it.
    """
    q, k, v = _project(block, block.ln_1(x))
    values = block.ls_1(_merge(block, attention(v, v, v)))
    return _rest(block, x, _attend(block, q, k, v, prefix, attention)), values


def prefix_of(block: ResidualAttentionBlock, tokens: Float[Tensor, "length width"]) -> Float[Tensor, "2 length width"]:
    """The prefix by which every query sees these tokens as if they stood beside its own.

    Deep prompts (VPT, MaPLe) are tokens that are thrown away after each block: then what they do to others is all that
    they do, and their own queries need not be computed.
    """
    _, k, v = _project(block, block.ln_1(tokens[None]))
    return torch.cat([k, v]).transpose(1, 2).flatten(2)


def _rest(block: ResidualAttentionBlock, x: Tensor, attended: Tensor) -> Tensor:
    x = x + block.ls_1(attended)
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def _attend(
    block: ResidualAttentionBlock, q: Tensor, k: Tensor, v: Tensor, prefix: Tensor | None, attention: Attention
) -> Tensor:
    if prefix is not None and prefix.shape[1] > 0:
        batch = len(q)
        # expand over the batch, never reshape: a reshape mixes batch and key/value axes, and an image's
        # features then depend on its place in the batch
        pk, pv = (_heads(block, p[None]).expand(batch, -1, -1, -1) for p in prefix)
        k, v = torch.cat([pk, k], dim=2), torch.cat([pv, v], dim=2)
    return _merge(block, attention(q, k, v))


def _project(block: ResidualAttentionBlock, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    attention = block.attn
    qkv = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)  # (batch, tokens, 3 width)
    q, k, v = (_heads(block, part) for part in qkv.chunk(3, dim=-1))
    return q, k, v


def _heads(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    return x.unflatten(-1, (block.attn.num_heads, -1)).transpose(1, 2)


def _merge(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    return block.attn.out_proj(x.transpose(1, 2).flatten(2))
