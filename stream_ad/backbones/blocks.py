"""One block of an open_clip image tower, with the two changes that the methods need.

What differs from open_clip's own forward: prefixes to keys and values (CMPMB Algorithm 1), and a value-to-value
attention for tokens that stay comparable with text (CLIP Surgery, AnomalyCLIP's DPAM).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor


def block_forward(
    block: ResidualAttentionBlock,
    x: Float[Tensor, "batch tokens width"],
    prefix: Float[Tensor, "2 length width"] | None = None,
) -> Float[Tensor, "batch tokens width"]:
    """Tokens after one block; with a prefix, every query also sees `length` learned keys and values.

    Without one it is the block's own forward. A prefix of zeros is not: it takes softmax mass, so "no prompt"
    must be None or zero length.
    """
    x = x + block.ls_1(_attend(block, block.ln_1(x), prefix))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def value_attention(
    block: ResidualAttentionBlock, x: Float[Tensor, "batch tokens width"]
) -> Float[Tensor, "batch tokens width"]:
    """The block's attention with values in place of queries and keys: tokens look at their like.

    Query-key attention of the last blocks gathers the whole image in a few tokens, so that patches lose their
    place in the joint space; values keep it.
    """
    *_, v = _project(block, block.ln_1(x))
    return block.ls_1(_merge(block, F.scaled_dot_product_attention(v, v, v)))


def _attend(block: ResidualAttentionBlock, x: Tensor, prefix: Tensor | None) -> Tensor:
    q, k, v = _project(block, x)  # each (batch, heads, tokens, width / heads)
    if prefix is not None and prefix.shape[1] > 0:
        batch = len(x)
        # expand over the batch, never reshape: a reshape mixes batch and key/value axes, and an image's
        # features then depend on its place in the batch
        pk, pv = (_heads(block, p[None]).expand(batch, -1, -1, -1) for p in prefix)
        k, v = torch.cat([pk, k], dim=2), torch.cat([pv, v], dim=2)
    return _merge(block, F.scaled_dot_product_attention(q, k, v))


def _project(block: ResidualAttentionBlock, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    attention = block.attn
    qkv = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)  # (batch, tokens, 3 width)
    q, k, v = (_heads(block, part) for part in qkv.chunk(3, dim=-1))
    return q, k, v


def _heads(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    return x.unflatten(-1, (block.attn.num_heads, -1)).transpose(1, 2)


def _merge(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    return block.attn.out_proj(x.transpose(1, 2).flatten(2))
