"""A pool of experts of which each token asks a few (MPAMA 3.2)."""

import torch
from jaxtyping import Float
from torch import Tensor


def routed(scores: Float[Tensor, "*tokens experts"], active: int) -> Float[Tensor, "*tokens experts"]:
    """Each expert's share in a token: of the `active` highest scores, summing to 1; the others have none.

    paper: a softmax over all experts, cut to the highest. Over the highest alone, which is the same up to a factor that
    normalising the token takes away.
    """
    best = scores.topk(active, dim=-1)
    return torch.zeros_like(scores).scatter(-1, best.indices, torch.softmax(best.values, dim=-1))


def combined(
    tokens: Float[Tensor, "*tokens channels"],
    shares: Float[Tensor, "*tokens experts"],
    learned: Float[Tensor, "learned channels channels"],
) -> Float[Tensor, "*tokens channels"]:
    """What the experts make of the tokens: the frozen one first, then those learned, the zero expert last."""
    found = shares[..., :1] * tokens
    for place, expert in enumerate(learned, start=1):
        found = found + shares[..., place : place + 1] * (tokens @ expert)
    return found  # the zero expert adds nothing
