"""Masks under noise, and how to get them back in a few steps."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def signal_left(time: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Share of the mask in a noisy mask's variance: 1 at time 0, 0 at time 1 (cosine schedule, Nichol et al. 2021)."""
    return torch.cos(time * torch.pi / 2).square()


def noised(
    mask: Float[Tensor, "batch 1 side side"], signal: Float[Tensor, " batch"], noise: Float[Tensor, "batch 1 side side"]
) -> Float[Tensor, "batch 1 side side"]:
    """A mask (-1 good, 1 damaged) of which a share `signal` is left."""
    share = signal[:, None, None, None]
    return share.sqrt() * mask + (1 - share).sqrt() * noise


def denoised(
    predict: Callable[[Tensor, Tensor], Float[Tensor, "batch 1 side side"]],
    noise: Float[Tensor, "batch 1 side side"],
    steps: int,
) -> Float[Tensor, "batch 1 side side"]:
    """Log-odds of damage after at least one step from pure noise; nothing more is drawn (DDIM, Song et al. 2021).

    `predict`: a noisy mask and the share of signal in it to log-odds.
    """
    noisy, logit = noise, torch.zeros_like(noise)
    for step in range(steps):
        now, later = (
            signal_left(torch.full((len(noise),), 1 - at / steps, device=noise.device)) for at in (step, step + 1)
        )
        logit = predict(noisy, now)
        mask = torch.tanh(logit / 2)
        # the noise that is left when the mask is what was predicted
        noise = (noisy - now.sqrt()[:, None, None, None] * mask) / (1 - now).sqrt()[:, None, None, None]
        noisy = noised(mask, later, noise)
    return logit
