"""PromptMAD's network: normal features rebuilt under the guidance of words, what is left over judged, the map refined.

With x a patch's token at a level, m the rows of the product's memory there and u its unit:

    guide   = sum_t softmax_t(patch . text_t / T) V(text_t)        words by their likeness in the joint space
    r       = sum_m softmax_m(q(x, surroundings, guide) . k(m) - s |x - m|^2 / u^2) m
    coarse  = segmentor((x - r)^2 / the product's own, guide) + a (|x - r| / u - b)
    fine    = coarse, enlarged, + denoiser(noisy mask, coarse, segmentor's features, picture's detail)

As drawn it is a soft nearest neighbour: the last layers of query, segmentor and denoiser start at zero.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from stream_ad.detectors.layers import SpatialAttention, conv, zeroed
from stream_ad.detectors.text import TEMPERATURE
from stream_ad.functional.diffusion import denoised
from stream_ad.functional.perception import perceive


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptMadShape:
    """What the weights' sizes follow from, and which parts there are."""

    width: int = 48  # channels of the segmentor
    detail: int = 16  # and of the denoiser
    fine: int = 4  # cells along a patch's side of the refined map
    text: bool = True  # words guide, or are never looked at
    attention: bool = True  # the segmentor's patches look at all others, or at their surroundings alone


class Seen(NamedTuple):
    """Pictures of one product; `detail`: pixels less their surroundings, so that colours never seen say nothing."""

    tokens: Float[Tensor, "batch levels patches channels"]  # as the product's memory compares them
    dense: Float[Tensor, "batch patches joint"]
    detail: Float[Tensor, "batch 3 side side"]


class Reference(NamedTuple):
    """What is known of one product; `profile`: of how far normal patches are from what is known each channel's part."""

    known: Float[Tensor, "levels rows channels"]
    unit: Float[Tensor, " levels"]
    profile: Float[Tensor, "levels channels"]
    texts: Float[Tensor, "2 texts joint"]  # descriptions of good parts, and of damaged ones
    inside: Bool[Tensor, " patches"] | None = None  # the region of interest


class Judged(NamedTuple):
    rebuilt: Float[Tensor, "batch levels patches channels"]
    coarse: Float[Tensor, "batch 1 grid grid"]
    features: Float[Tensor, "batch width grid grid"]


class PromptMad(nn.Module):
    def __init__(self, shape: PromptMadShape, levels: int, channels: int, joint: int) -> None:
        super().__init__()
        self.shape, width, detail = shape, shape.width, shape.detail
        if shape.text:
            self.words, self.context = nn.Linear(joint, width), zeroed(nn.Linear(width, width))
            self.states = nn.Parameter(torch.randn(2, 1, width) * 0.02)
        self.query, self.around, self.key = (nn.Linear(channels, width) for _ in range(3))
        self.asked, self.sharpness = zeroed(nn.Linear(width, width)), nn.Parameter(torch.tensor(8.0))
        self.left_over = nn.Linear(levels * channels, width)
        self.scales = nn.ModuleList([conv(width, width // 3, dilation) for dilation in (1, 2, 3)])
        self.attend = SpatialAttention(width) if shape.attention else None
        self.mix, self.judge = conv(width, width), zeroed(nn.Conv2d(width, 1, 1))
        self.prior = nn.Parameter(torch.tensor([2.0, 2.5]))
        self.shrink, self.noise_level = nn.Conv2d(width, detail // 2, 1), nn.Linear(2, detail)
        self.denoise = nn.ModuleList([conv(detail // 2 + 5, detail), conv(detail, detail, 2), conv(detail, detail)])
        self.change = zeroed(nn.Conv2d(detail, 1, 1))

    def forward(self, seen: Seen, of: Reference) -> Judged:
        """Reconstruction and segmentor."""
        x, rows, unit = seen.tokens, of.known, of.unit.square()[:, None, None]
        square = (round(x.shape[2] ** 0.5),) * 2
        guide = self._guide(seen.dense, of.texts) if self.shape.text else x.new_zeros(1)
        query = self.asked(F.gelu(self.query(x) + self.around(perceive(x, 5)) + guide.unsqueeze(1)))
        squared = x.square().sum(-1, keepdim=True) - 2 * x @ rows.mT + rows.square().sum(-1)[:, None]
        match = query @ self.key(rows).mT / self.shape.width**0.5 - self.sharpness * squared / unit
        rebuilt = match.softmax(-1) @ rows
        error = (x - rebuilt).square() / unit  # (batch, levels, patches, channels)
        error = error if of.inside is None else error * of.inside[:, None]  # what is not inspected is blank
        distance = error.sum(-1).mean(1).clamp_min(1e-12).sqrt().unflatten(1, square)[:, None]
        error = torch.log1p(error * error.shape[-1] / of.profile[:, None])
        z = self.left_over(error.transpose(1, 2).flatten(2))
        z = F.gelu(z + self.context(guide) if self.shape.text else z).mT.unflatten(2, square)
        z = z + F.gelu(torch.cat([scale(z) for scale in self.scales], dim=1))
        z = z if self.attend is None else z + self.attend(z)
        z = z + F.gelu(self.mix(z))
        return Judged(rebuilt, self.judge(z) + self.prior[0] * (distance - self.prior[1]), z)

    def _guide(self, dense: Tensor, texts: Tensor) -> Float[Tensor, "batch patches width"]:
        """What the descriptions that a patch is like say; likeness is the frozen model's own, so fit for new words."""
        likeness = (dense @ texts.flatten(0, 1).mT / TEMPERATURE).softmax(-1)
        return likeness @ (self.words(texts) + self.states).flatten(0, 1)

    def denoised(
        self, judged: Judged, detail: Tensor, noisy: Float[Tensor, "batch 1 side side"], signal: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch 1 side side"]:
        """Log-odds of damage by cell, from a noisy mask and how much of it is left."""
        coarse = self.enlarged(judged.coarse)
        entry, *layers = self.denoise
        z = entry(torch.cat([noisy, coarse / 8, self.enlarged(self.shrink(judged.features)), detail], dim=1))
        z = F.gelu(z + self.noise_level(torch.stack([signal, 1 - signal], dim=1).sqrt())[:, :, None, None])
        for layer in layers:
            z = z + F.gelu(layer(z))
        return coarse + self.change(z)

    def refined(self, judged: Judged, detail: Tensor, steps: int) -> Float[Tensor, "batch 1 side side"]:
        """Log-odds of damage by cell, in a few steps from noise that is the same for every picture; 0: none."""
        if steps == 0:
            return self.enlarged(judged.coarse)
        noise = torch.randn(detail.shape[-2:], generator=torch.Generator().manual_seed(0)).to(detail)
        predict = partial(self.denoised, judged, detail)
        return denoised(predict, noise.expand(len(detail), 1, -1, -1), steps)

    def enlarged(self, coarse: Float[Tensor, "batch any grid grid"]) -> Float[Tensor, "batch any side side"]:
        return F.interpolate(coarse, scale_factor=self.shape.fine, mode="bilinear", align_corners=False)
