"""What prompts are learned by."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def structure_loss(
    features: Float[Tensor, "batch patches width"],
    regions: Int[Tensor, "batch patches"],
    temperature: float = 0.1,
) -> Float[Tensor, ""]:
    """Patches of one region alike, patches of different regions unlike (CMPMB Eq. 11-13).

    paper: sums of cosines, over pairs that include a patch with itself; they explode with the grid and reward
    nothing but norm. Means over pairs of different patches, through a softplus of their difference in units of
    `temperature`, so that pairs already well apart stop pulling.
    """
    unit = F.normalize(features, dim=-1)
    cosine = unit @ unit.transpose(1, 2)  # (batch, patches, patches)
    same = regions[:, :, None] == regions[:, None, :]
    others = ~torch.eye(features.shape[1], dtype=torch.bool, device=features.device)
    alike, unlike = same & others, ~same
    mean_alike = (cosine * alike).sum((1, 2)) / alike.sum((1, 2)).clamp(min=1)
    mean_unlike = (cosine * unlike).sum((1, 2)) / unlike.sum((1, 2)).clamp(min=1)
    return F.softplus((mean_unlike - mean_alike) / temperature).mean()


def patch_mse(damaged: Float[Tensor, "batch patches"], share: Float[Tensor, "batch patches"]) -> Float[Tensor, ""]:
    """Mean squared error between a patch's probability of damage and its damaged share (CMPMB Eq. 7).

    paper: "label" is undefined there. Damaged and intact patches weigh the same, since intact ones are twenty times
    as many.
    """
    error = (damaged - share).square()
    hit = share > 0
    intact = error[~hit].mean() if (~hit).any() else error.new_zeros(())
    broken = error[hit].mean() if hit.any() else error.new_zeros(())
    return (intact + broken) / 2
