"""Layers that networks of detectors are made of."""

from typing import TypeVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Module)


def conv(into: int, out: int, dilation: int = 1) -> nn.Conv2d:
    """3 x 3, the size stays."""
    return nn.Conv2d(into, out, 3, padding=dilation, dilation=dilation)


def zeroed(layer: Layer) -> Layer:
    """The layer with parameters of zero, so that what it is added to starts as it is."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class SpatialAttention(nn.Module):
    """Every place looks at all others; to be added to what goes in, and nothing at first."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.norm = heads, nn.LayerNorm(width)
        self.inward, self.outward = nn.Linear(width, 3 * width), zeroed(nn.Linear(width, width))

    def forward(self, z: Float[Tensor, "batch width grid grid"]) -> Float[Tensor, "batch width grid grid"]:
        tokens = self.inward(self.norm(z.flatten(2).mT))
        q, k, v = tokens.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.outward(seen).mT.unflatten(2, z.shape[2:])
