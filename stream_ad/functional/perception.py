"""Patches seen at several sizes: each with the mean of its surroundings (MPA Eq. 1)."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor


@lru_cache(maxsize=64)
def window_weights(grid: int, width: int) -> Float[Tensor, "grid grid"]:
    """Along one side, how much of a window `width` patches wide around each patch is of each other; rows sum to 1.

    paper: a p x p window centred at a patch, which an even p cannot be: such a window takes half of the patches at
    its two ends, so that no level's map is shifted. At the border of the picture a window is what is left of it.
    """
    place = torch.arange(grid, dtype=torch.float64)
    apart = (place[:, None] - place[None, :]).abs()
    overlap = (width / 2 - apart + 0.5).clamp(0, 1)  # of a unit cell with [-width / 2, width / 2]
    return (overlap / overlap.sum(1, keepdim=True)).float()


def perceive(tokens: Float[Tensor, "*batch patches channels"], width: int) -> Float[Tensor, "*batch patches channels"]:
    """Each patch of a square grid as the mean over a window of width x width patches around it. Width 1: itself."""
    if width == 1:
        return tokens
    grid = round(tokens.shape[-2] ** 0.5)
    weights = window_weights(grid, width).to(tokens.device, tokens.dtype)
    square = tokens.unflatten(-2, (grid, grid))
    down = torch.einsum("rs,...sjc->...rjc", weights, square)
    return torch.einsum("ij,...rjc->...ric", weights, down).flatten(-3, -2)
