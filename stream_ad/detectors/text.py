"""Patches against words: the share of "damaged" in a softmax over a pair of prompts."""

import torch
from jaxtyping import Float
from torch import Tensor

FLAWLESS, DAMAGED = "flawless", "damaged"
TEMPERATURE = 0.07  # CLIP's, before training


def pair(class_name: str, suffix: str = "") -> list[str]:
    """The two prompts of a class: flawless first."""
    return [f"a photo of a {state} {class_name}{suffix}" for state in (FLAWLESS, DAMAGED)]


def damaged_logit(
    dense: Float[Tensor, "*batch patches joint"], texts: Float[Tensor, "2 joint"]
) -> Float[Tensor, "*batch patches"]:
    """Log-odds of "damaged" per patch; its sigmoid is the softmax over the pair."""
    similarity = dense @ texts.T / TEMPERATURE  # (..., patches, 2)
    return similarity[..., 1] - similarity[..., 0]


def damaged_probability(
    dense: Float[Tensor, "*batch patches joint"], texts: Float[Tensor, "2 joint"]
) -> Float[Tensor, "*batch patches"]:
    return torch.sigmoid(damaged_logit(dense, texts))
