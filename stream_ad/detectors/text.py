"""Patches against words: the share of "damaged" in a softmax over a pair of prompts."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stream_ad.backbones.base import Backbone

FLAWLESS, DAMAGED = "flawless", "damaged"
TEMPERATURE = 0.07  # CLIP's, before training
#: of good parts and of damaged ones, equally many: what an inspector might write
DESCRIPTIONS = (
    (
        *("a photo of a flawless {}", "a photo of a perfect {}", "a photo of an intact {}", "a photo of a clean {}"),
        *("a photo of a {} without defect", "a photo of a {} without damage"),
    ),
    (
        *("a photo of a damaged {}", "a photo of a broken {}", "a photo of a scratched {}", "a photo of a stained {}"),
        *("a photo of a {} with a hole", "a photo of a {} with a missing part"),
    ),
)

#: states and photographs as in WinCLIP's compositional ensemble (Jeong et al. 2023, appendix)
FLAWLESS_STATES = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
DAMAGED_STATES = ("damaged {}", "broken {}", "{} with flaw", "{} with defect", "{} with damage")
PHOTOGRAPHS = (
    "a photo of a {}",
    "a photo of the {}",
    "a cropped photo of the {}",
    "a close-up photo of a {}",
    "a bright photo of a {}",
    "a dark photo of the {}",
    "a blurry photo of a {}",
    "a low resolution photo of the {}",
    "a photo of a {} for visual inspection",
    "a photo of the {} for anomaly detection",
)


def pair(class_name: str, suffix: str = "") -> list[str]:
    """The two prompts of a class: flawless first."""
    return [f"a photo of a {state} {class_name}{suffix}" for state in (FLAWLESS, DAMAGED)]


def described(class_name: str) -> list[str]:
    """All of `DESCRIPTIONS` of a class: good ones first."""
    return [text.format(class_name) for texts in DESCRIPTIONS for text in texts]


def damaged_logit(
    dense: Float[Tensor, "*batch patches joint"], texts: Float[Tensor, "*pairs 2 joint"]
) -> Float[Tensor, "*batch patches"]:
    """Log-odds of "damaged" per patch; its sigmoid is the softmax over the pair; of a batch, each may have its own."""
    similarity = dense @ texts.mT / TEMPERATURE  # (..., patches, 2)
    return similarity[..., 1] - similarity[..., 0]


def damaged_probability(
    dense: Float[Tensor, "*batch patches joint"], texts: Float[Tensor, "2 joint"]
) -> Float[Tensor, "*batch patches"]:
    return torch.sigmoid(damaged_logit(dense, texts))


def ensemble(backbone: Backbone, class_name: str) -> Float[Tensor, "2 joint"]:
    """The mean embeddings of 70 texts for flawless and 50 for damaged; nothing learned."""
    means = []
    for states in (FLAWLESS_STATES, DAMAGED_STATES):
        texts = [photograph.format(state.format(class_name)) for state in states for photograph in PHOTOGRAPHS]
        means.append(F.normalize(backbone.encode_text(texts).mean(0), dim=0))
    return torch.stack(means)
