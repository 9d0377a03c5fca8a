"""MPA's learned parts (paper 3.1) and MPAMA's (3.2), on features of a frozen backbone.

    L_c^p, V_1..V_S      `shared`   words that prompts of all perception levels begin with
    V^p_S+1..V^p_E       `own`      words of one level
    G_c                  `whole`    words of the prompts for whole pictures
    MLP                  `bridge`   whole prompts take in what is salient in those of the levels
    w, h^l               `router`, `learned` of the experts

A patch is compared with the texts of a level after it was averaged with its surroundings (`functional.perception`).
MPAMA sends the averaged patch through experts first; learned experts start as the frozen one, so that before its first
step MPAMA is MPA.

paper: experts stand in place of the visual projection and take tokens before it. Here they follow it, as maps of the
joint space that start as the identity: the router and every method see the same tokens, which are computed once. Where
the projection is square the two are the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stream_ad.backbones.base import CONTEXT_PLACE, Backbone
from stream_ad.detectors.text import damaged_logit
from stream_ad.functional.experts import combined, routed
from stream_ad.functional.perception import perceive

#: normal, damaged; "object" is a word here: the prompts are for any product
TEXTS = (f"{CONTEXT_PLACE} object", f"{CONTEXT_PLACE} damaged object")


@dataclass(frozen=True, slots=True, kw_only=True)
class MpaShape:
    """What the weights' sizes follow from."""

    #: sides of the windows that patches are averaged over
    levels: tuple[int, ...] = (1, 2, 3, 4)
    #: E and S, learned words of a prompt, and how many of them the levels share
    words: int = 12
    shared_words: int = 2
    #: learned experts; with the frozen and the zero one the paper's five
    experts: int = 3
    #: K, experts that a patch is sent to
    active: int = 2
    #: whole pictures have prompts of their own; False: the mean of the levels' texts (for ablations)
    decoupled: bool = True
    #: these take in what is salient in those of the levels
    bridge: bool = True


class Texts(NamedTuple):
    """Embeddings of the learned prompts, unit length; normal first."""

    levels: Float[Tensor, "levels 2 joint"]
    whole: Float[Tensor, "2 joint"]


class Prompts(nn.Module):
    """The text side, learned in stage 1."""

    def __init__(self, shape: MpaShape, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.decoupled, self.bridge = shape.decoupled, shape.bridge

        def drawn(*sizes: int, std: float = 0.02) -> nn.Parameter:
            # paper: silent; the spread of CLIP's own word embeddings
            return nn.Parameter(torch.randn(*sizes, generator=generator) * std)

        self.shared = drawn(2, shape.shared_words, width)
        self.own = drawn(len(shape.levels), 2, shape.words - shape.shared_words, width)
        self.whole = drawn(2, shape.words, width)
        self.bridge_in = drawn(2 * width, width, std=(2 * width) ** -0.5)
        # paper: the MLP's output alone is the prompt. Added to the prompt and small at first: it starts as words do
        self.bridge_out = drawn(width, width, std=0.02 * width**-0.5)

    def local(self) -> Float[Tensor, "levels 2 words width"]:
        return torch.cat([self.shared.expand(len(self.own), -1, -1, -1), self.own], dim=2)

    def bridged(self) -> Float[Tensor, "2 words width"]:
        """The prompts for whole pictures, with the element-wise maximum of the levels' taken in."""
        both = torch.cat([self.whole, self.local().amax(0)], dim=-1)
        return self.whole + F.relu(both @ self.bridge_in) @ self.bridge_out

    def texts(self, backbone: Backbone) -> Texts:
        """All prompts through the frozen text tower, as one batch."""
        contexts = self.local()  # (levels, 2, words, width)
        if self.decoupled:
            contexts = torch.cat([contexts, (self.bridged() if self.bridge else self.whole)[None]])
        found = backbone.encode_text(TEXTS * len(contexts), context=contexts.flatten(0, 1)).unflatten(0, (-1, 2))
        return Texts(found[:-1], found[-1]) if self.decoupled else Texts(found, F.normalize(found.mean(0), dim=-1))


class Experts(nn.Module):
    """The visual side, learned in stage 2: a frozen expert, some learned ones and one that says nothing."""

    def __init__(self, shape: MpaShape, joint: int, generator: torch.Generator) -> None:
        super().__init__()
        self.active = shape.active
        self.router = nn.Parameter(torch.randn(joint, shape.experts + 2, generator=generator) * joint**-0.5)
        self.learned = nn.Parameter(torch.eye(joint).repeat(shape.experts, 1, 1))

    def forward(self, tokens: Float[Tensor, "*tokens joint"]) -> Float[Tensor, "*tokens joint"]:
        return combined(tokens, routed(tokens @ self.router, self.active), self.learned)

    def asked(self, tokens: Float[Tensor, "*tokens joint"]) -> Float[Tensor, " pool"]:
        """How many of the tokens each expert is asked by: the frozen one first, the zero expert last."""
        return (routed(tokens @ self.router, self.active) > 0).flatten(0, -2).sum(0).float()


def patch_logits(
    dense: Float[Tensor, "*batch patches joint"],
    texts: Texts,
    levels: Sequence[int],
    experts: Experts | None = None,
) -> Float[Tensor, "*batch levels patches"]:
    """Log-odds of damage of each patch at each perception level: pooled, then routed (pre-aggregation), then compared.

    Log-odds of Eq. 1's softmax over the pair.
    """
    found = []
    for level, pair in zip(levels, texts.levels, strict=True):
        seen = perceive(dense, level)
        seen = F.normalize(seen if experts is None else experts(seen), dim=-1)
        found.append(damaged_logit(seen, pair))
    return torch.stack(found, dim=-2)
