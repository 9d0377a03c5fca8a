"""What the model is trained for, one function each; their weighted sum is the loss.

B pictures, L lines of S pictures each (B = L S), P patches, D joint width, C width of the image tower.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stream_ad.detectors.text import TEMPERATURE

#: damaged share of a patch from which on it counts as damaged; with less it is neither damaged nor flawless
SEEN = 0.1
TOP = 3  # patches whose mean is a picture's score


def captions(
    images: Float[Tensor, "b d"],
    texts: Float[Tensor, "b d"],
    same: Bool[Tensor, "b b"],
    scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """InfoNCE both ways (CLIP); `same`: pairs whose caption says the same, all of which are right."""
    logits = scale * images @ texts.T
    right = same.float() / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def balanced(
    logits: Float[Tensor, "*shape"], damaged: Bool[Tensor, "*shape"], flawless: Bool[Tensor, "*shape"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy in which damaged and flawless weigh the same, however few of one there are."""
    losses = F.binary_cross_entropy_with_logits(logits, damaged.float(), reduction="none")
    bad, good = losses[damaged], losses[flawless]
    return (bad.sum() / max(bad.numel(), 1) + good.sum() / max(good.numel(), 1)) / 2


def most_damaged(
    dense: Float[Tensor, "lines shots p d"], logits: Float[Tensor, "lines shots p"]
) -> Float[Tensor, "lines shots d"]:
    """Of each picture the mean feature of the patches that look most damaged."""
    top = logits.topk(TOP, dim=-1).indices
    return dense.gather(2, top[..., None].expand(-1, -1, -1, dense.shape[-1])).mean(2)


def kinds(
    features: Float[Tensor, "lines n d"],
    words: Float[Tensor, "lines kinds d"],
    kind: Int[Tensor, "lines n"],
) -> Float[Tensor, ""]:
    """Each damaged patch or picture against the words for defects; kind -1 is not asked about."""
    similarity = torch.einsum("lnd,lkd->lnk", features, words) / TEMPERATURE
    if not (kind >= 0).any():
        return similarity.sum() * 0
    return F.cross_entropy(similarity.flatten(0, 1), kind.flatten(), ignore_index=-1)


def comparison(
    tokens: Float[Tensor, "lines shots p c"],
    damaged: Bool[Tensor, "lines shots p"],
    flawless: Bool[Tensor, "lines shots p"],
    support: int,
    slope: Float[Tensor, ""],
    offset: Float[Tensor, ""],
) -> tuple[Float[Tensor, ""], Float[Tensor, "lines queries p"]]:
    """Nearest-patch scoring itself: the first `support` pictures of a line are its memory, the others are judged.

    A patch's distance is measured in the mean distance of the line's flawless patches, as a memory's `units` are.
    """
    memory = tokens[:, :support].flatten(1, 2)  # (lines, support p, c)
    queries = tokens[:, support:].flatten(1, 2)
    truth, sound = damaged[:, support:].flatten(1), flawless[:, support:].flatten(1)
    distance = (_squares(queries, memory).amin(-1).clamp_min(0) / tokens.shape[-1] + 1e-4).sqrt()
    unit = (distance * sound).sum(1, keepdim=True) / sound.sum(1, keepdim=True)
    relative = distance / unit
    loss = balanced(slope * (relative - offset), truth, sound)
    return loss, relative.unflatten(1, (tokens.shape[1] - support, -1))


def pictures(
    patches: Float[Tensor, "lines n p"], defective: Bool[Tensor, "lines n"], slope: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """A defective picture's highest patches lie above those of each good one of its line, as image AUROC counts."""
    score = patches.topk(TOP, dim=-1).values.mean(-1)
    margin = slope * (score[:, :, None] - score[:, None, :])  # (lines, defective, good)
    pairs = defective[:, :, None] & ~defective[:, None, :]
    return F.softplus(-margin[pairs]).mean() if pairs.any() else score.sum() * 0


def relation(tokens: Float[Tensor, "n c"], described: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """Self-supervised: two tokens are as far apart as the textures of their patches, in units of the mean distance."""
    ours, theirs = (_squares(points, points).clamp_min(1e-6).sqrt() for points in (tokens, described))
    return F.smooth_l1_loss(ours / ours.mean(), theirs / theirs.mean())


def _squares(ones: Float[Tensor, "*batch n c"], others: Float[Tensor, "*batch m c"]) -> Float[Tensor, "*batch n m"]:
    """Squared distances; by the expanded form a little off, below zero even, between equal points."""
    own, their = ones.square().sum(-1)[..., :, None], others.square().sum(-1)[..., None, :]
    return own + their - 2 * ones @ others.transpose(-2, -1)
