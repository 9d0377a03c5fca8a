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


def focal_loss(logit: Float[Tensor, "*any"], truth: Float[Tensor, "*any"], focus: float = 2.0) -> Float[Tensor, ""]:
    """Mean cross-entropy in which what is judged right already counts little (Lin et al. 2017); no class weighs more.

    `logit`: log-odds that the truth is 1; nothing overflows, however sure they are.
    """
    missed = torch.sigmoid(torch.where(truth > 0.5, -logit, logit))  # probability given to the wrong side
    return -(missed**focus * F.logsigmoid(torch.where(truth > 0.5, logit, -logit))).mean()


def dice_loss(
    probability: Float[Tensor, "*maps height width"], truth: Float[Tensor, "*maps height width"]
) -> Float[Tensor, ""]:
    """One minus the overlap of each map with its truth, the mean of all maps (Li et al. 2019, smoothed by one pixel).

    A map whose truth is empty is asked to be empty too.
    """
    common = (probability * truth).sum((-2, -1))
    total = probability.sum((-2, -1)) + truth.sum((-2, -1))
    return (1 - (2 * common + 1) / (total + 1)).mean()


def hinge_loss(
    probability: Float[Tensor, "*any"], truth: Float[Tensor, "*any"], normal: float = 0.5, damaged: float = 0.5
) -> Float[Tensor, ""]:
    """By how much good pixels are above `normal` and damaged ones below `damaged`, each side by its own mean (MPA)."""
    hit = truth > 0.5
    above, below = (probability - normal).clamp(min=0), (damaged - probability).clamp(min=0)
    return (above * ~hit).sum() / (~hit).sum().clamp(min=1) + (below * hit).sum() / hit.sum().clamp(min=1)
