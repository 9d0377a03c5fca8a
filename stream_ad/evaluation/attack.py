"""White-box attacks on a task's score: projected gradient descent through the backbone (PGD, Madry et al. 2018).

The attacker knows everything and changes each channel of each pixel of the input by at most a few grey levels (an
L-infinity bound), to make a good part look defective or a defective one look good. What leaves is an 8-bit picture of
the input size that any camera could have sent, so it is scored by the ordinary code.

Each bound starts from the best picture within the next smaller one, and the best one ever seen is kept: before it is
rounded to whole grey levels, the attacked score moves one way only. Uniform noise of equal size is the reference: what
moves the score no further is no attack.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors.base import Detector
from stream_ad.domain.bank import BankEntry, BranchScale
from stream_ad.domain.images import Picture
from stream_ad.functional.calibration import STEEPNESS

BOUNDS = (1, 2, 4, 8)  # grey levels of 255
STEPS = 10
STEP_SHARE = 2.5  # all steps together could go so many times as far as the bound: every corner can be reached
BATCH = 4  # a pass with gradients keeps the activations of all blocks


def attacked(
    backbone: Backbone,
    detector: Detector,
    entry: BankEntry,
    pictures: Sequence[Picture],
    raised: Bool[np.ndarray, " pictures"],
    *,
    bounds: Sequence[int] = BOUNDS,
    steps: int = STEPS,
) -> Mapping[int, list[Picture]]:
    """For each bound (grey levels, rising) the pictures, at the input size, with their scores driven up or down.

    `raised` says which are to score higher. The task is taken as told: nothing is routed. Deterministic.

    Raises:
        ValueError: bounds that do not rise from at least 1, or fewer than one step.
    """
    if not bounds or steps < 1 or list(bounds) != sorted(set(bounds)) or bounds[0] < 1:
        raise ValueError(f"needed rising bounds of at least 1 grey level and a step, got {list(bounds)} and {steps}")
    found: dict[int, list[Picture]] = {bound: [] for bound in bounds}
    for start in range(0, len(pictures), BATCH):
        batch = _Batch(backbone, detector, entry, pictures[start : start + BATCH], raised[start : start + BATCH])
        for bound in bounds:
            batch.push(bound, steps)
            found[bound] += batch.pictures()
    return found


def noisy(backbone: Backbone, pictures: Sequence[Picture], bound: int, *, seed: int) -> list[Picture]:
    """The pictures at the input size, every channel of every pixel moved up or down by `bound`, at random.

    The corners of the box that an attack is bound to: no smaller noise is as strong.
    """
    pixels = backbone.preprocess(pictures)
    rng = np.random.default_rng(seed)
    signs = np.where(rng.random(tuple(pixels.shape)) < 0.5, -1, 1)
    moved = _grey_levels(backbone, pixels) + bound * torch.from_numpy(signs).to(pixels.device)
    return _as_pictures(moved)


def fused_score(
    scores: Mapping[str, Float[Tensor, " batch"]], scales: Mapping[str, BranchScale]
) -> Float[Tensor, " batch"]:
    """`functional.calibration.fuse` of image scores, with gradients."""
    chosen = {name: scale for name, scale in scales.items() if scale.weight > 0}
    logits = [STEEPNESS * (scores[name].double() - scale.center) / scale.scale for name, scale in chosen.items()]
    if len(logits) == 1:
        return logits[0]
    weights = torch.tensor([scale.weight for scale in chosen.values()], dtype=torch.float64).log()[:, None]
    stacked = torch.stack(logits)
    log_p = (weights + torch.nn.functional.logsigmoid(stacked)).logsumexp(0)
    log_q = (weights + torch.nn.functional.logsigmoid(-stacked)).logsumexp(0)
    return log_p - log_q


class _Batch:
    """Pictures under attack, in the units of the backbone's input."""

    def __init__(
        self,
        backbone: Backbone,
        detector: Detector,
        entry: BankEntry,
        pictures: Sequence[Picture],
        raised: Bool[np.ndarray, " pictures"],
    ) -> None:
        self.backbone, self.detector, self.entry = backbone, detector, entry
        self.start = backbone.preprocess(pictures)
        self.sign = torch.where(torch.from_numpy(raised), 1.0, -1.0).to(self.start.device)
        self.black, self.white = _black_and_white(backbone)
        self.level = (self.white - self.black) / 255
        self.best = self.start.clone()
        self.best_gain = torch.full((len(pictures),), -torch.inf, dtype=torch.float64)

    def push(self, bound: int, steps: int) -> None:
        """Look for a better picture within `bound` grey levels, from the best one so far."""
        reach = bound * self.level
        low = torch.maximum(self.start - reach, self.black)
        high = torch.minimum(self.start + reach, self.white)
        step = STEP_SHARE * reach / steps
        pixels = self.best
        for _ in range(steps):
            slope = self._look(pixels)
            pixels = (pixels + step * self.sign[:, None, None, None] * slope.sign()).clamp(low, high)
        self._look(pixels, with_slope=False)

    def pictures(self) -> list[Picture]:
        return _as_pictures(_grey_levels(self.backbone, self.best))

    def _look(self, pixels: Tensor, *, with_slope: bool = True) -> Tensor:
        """The slope of the score; what is better than all before is kept."""
        asked = pixels.detach().clone().requires_grad_(with_slope)
        views = Views.of_pixels(self.backbone, asked)
        raw = self.detector.predict(views, [self.entry] * len(views))
        score = fused_score(raw.scores, self.entry.calibration.score_scales)
        gain = (score * self.sign.cpu()).detach()
        better = gain > self.best_gain
        self.best_gain = torch.where(better, gain, self.best_gain)
        self.best = torch.where(better.to(pixels.device)[:, None, None, None], pixels.detach(), self.best)
        if not with_slope:
            return torch.zeros_like(pixels)
        score.sum().backward()
        assert asked.grad is not None
        return asked.grad


def _black_and_white(backbone: Backbone) -> tuple[Tensor, Tensor]:
    """What the darkest and the brightest pixel become; between them the input is straight."""
    black, white = backbone.preprocess([np.full((8, 8, 3), level, np.uint8) for level in (0, 255)]).split(1)
    return black, white


def _grey_levels(backbone: Backbone, pixels: Tensor) -> Float[Tensor, "batch 3 size size"]:
    """Input values as grey levels, whole numbers up to rounding where they were a picture's."""
    black, white = _black_and_white(backbone)
    return 255 * (pixels - black) / (white - black)


def _as_pictures(levels: Tensor) -> list[Picture]:
    whole = levels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    return [np.ascontiguousarray(one) for one in whole]
