"""Two opinions as one, in which the lower counts most (AnoPLe's score)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def harmonic_log_odds(first: Float[Tensor, "*any"], second: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Log-odds of the harmonic mean of two probabilities, from theirs: unbounded, and without ties at 0 and 1.

    2 / (1/p + 1/q) has odds that are the harmonic mean of the odds of p and q, so log 2 - log(e^-a + e^-b).

    >>> p, q = torch.tensor(0.9), torch.tensor(0.6)
    >>> float(torch.sigmoid(harmonic_log_odds(torch.logit(p), torch.logit(q))))
    0.72
    """
    return math.log(2) - torch.logaddexp(-first, -second)
