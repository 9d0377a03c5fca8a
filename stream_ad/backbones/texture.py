"""Texture and colour of each patch, by fixed filters: a first-order scattering transform (Bruna and Mallat 2013).

Magnitudes of oriented band-pass filters on three scales, averaged over a patch, and the patch's mean colours. So
distances are distances between textures and colours, steady under small shifts. Pixels go from -1 to 1.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

PATCH = 16
SEED = 20260322

ORIENTATIONS = {"brightness": 6, "red-blue": 2, "green": 2}
SCALES = 3


class Textures(nn.Module):
    """What each patch looks like. Drawn numbers decide the channels' scale alone.

    Channels are standardised by their mean and spread on fractal noise, whose spectrum is that of photographs.
    """

    filters: Tensor
    average: Tensor
    center: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", _gabors(6))
        self.register_buffer("average", _gaussian(5.0))
        self.register_buffer("center", torch.zeros(1))
        self.register_buffer("spread", torch.ones(1))
        described = self._describe(_fractal_noise(64, 112))  # (64, channels, 7, 7)
        self.center = described.mean((0, 2, 3))[:, None, None]
        self.spread = described.std((0, 2, 3))[:, None, None]

    def described(self, pixels: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch channels gh gw"]:
        """Of each patch its texture and colour, standardised."""
        return (self._describe(pixels) - self.center) / self.spread

    def _describe(self, pixels: Tensor) -> Tensor:
        red, green, blue = pixels.unbind(1)
        planes = torch.stack([pixels.mean(1), red - blue, (red - 2 * green + blue) / 2], dim=1)
        # half the size: the finest structure is mostly sensor noise, and three quarters of the cost
        level = F.avg_pool2d(planes, 2)
        found = [self._patches(level, 2)]
        for octave in range(1, SCALES + 1):
            for plane, orientations in enumerate(ORIENTATIONS.values()):
                step = len(self.filters) // 2 // orientations  # every n-th orientation of the bank
                chosen = torch.cat([self.filters[2 * i : 2 * i + 2] for i in range(0, len(self.filters) // 2, step)])
                edge = chosen.shape[-1] // 2
                padded = F.pad(level[:, plane : plane + 1], (edge,) * 4, mode="reflect")
                even, odd = F.conv2d(padded, chosen).unflatten(1, (-1, 2)).unbind(2)
                # a root has no slope at zero, and a grey picture has no colour: without the floor its gradient is NaN
                magnitude = (even.square() + odd.square()).clamp_min(1e-30).sqrt()
                found.append(torch.log1p(10 * self._patches(magnitude, 2**octave)))
            level = F.avg_pool2d(level, 2)
        return torch.cat(found, dim=1)

    def _patches(self, planes: Tensor, reduced: int) -> Tensor:
        """A Gaussian average around each patch's centre, from planes reduced in size."""
        stride = PATCH // reduced
        window = self.average
        if reduced > 1:
            window = F.avg_pool1d(window[None], reduced, ceil_mode=True)[0] * reduced
            window = window / window.sum()
        edge = len(window[0]) // 2
        count = planes.shape[1]
        padded = F.pad(planes, (edge,) * 4, mode="reflect" if edge < planes.shape[-1] else "replicate")
        padded = padded[:, :, stride // 2 :, stride // 2 :]  # so that steps of `stride` meet the patches' centres
        across, down = window.view(1, 1, 1, -1), window.view(1, 1, -1, 1)
        rows = F.conv2d(padded, across.expand(count, -1, -1, -1), stride=(1, stride), groups=count)
        return F.conv2d(rows, down.expand(count, -1, -1, -1), stride=(stride, 1), groups=count)


class TexturedPatches(nn.Conv2d):
    """In the place of a vision transformer's patch convolution: that, and beside it a linear view of the textures.

    A transformer learns texture slowly, for nothing in it is shared between the places inside a patch. Here it is known
    from the first step, and fine structure is learned.
    """

    def __init__(self, width: int) -> None:
        super().__init__(3, width, PATCH, PATCH, bias=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            self.texture = Textures()
        for name in ("filters", "average"):  # are made, not learned
            self.texture.register_buffer(name, getattr(self.texture, name), persistent=False)
        for scale in (self.texture.center, self.texture.spread):  # weights are kept in half precision
            scale.copy_(scale.half())
        self.mix = nn.Linear(len(self.texture.center), width, bias=False)

    def forward(self, input: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch width gh gw"]:
        textures = self.texture.described(input)  # (batch, channels, gh, gw)
        return super().forward(input) + self.mix(textures.movedim(1, -1)).movedim(-1, 1)


def textured(model: Any) -> None:
    """Give a vision transformer of open_clip with patches of 16 pixels a stem that knows textures."""
    model.visual.conv1 = TexturedPatches(model.visual.conv1.out_channels)


def _gabors(orientations: int, sigma: float = 1.2, size: int = 9) -> Float[Tensor, "filters 1 size size"]:
    """Even and odd band-pass filters of unit norm, one pair per orientation."""
    axis = torch.arange(size, dtype=torch.float64) - size // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    pairs = []
    for step in range(orientations):
        angle = math.pi * step / orientations
        along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        window = torch.exp(-(along.square() + (0.6 * across).square()) / (2 * sigma**2))
        even, odd = window * torch.cos(1.7 / sigma * along), window * torch.sin(1.7 / sigma * along)
        even -= window * (even.sum() / window.sum())  # blind to brightness
        pairs += [even / even.norm(), odd / even.norm()]
    return torch.stack(pairs)[:, None].float()


def _gaussian(sigma: float) -> Float[Tensor, "1 size"]:
    offsets = torch.arange(-math.ceil(2.5 * sigma), math.ceil(2.5 * sigma) + 1)
    window = torch.exp(-offsets.square() / (2 * sigma**2))
    return (window / window.sum())[None]


def _fractal_noise(count: int, size: int) -> Float[Tensor, "count 3 size size"]:
    """Pictures whose amplitude falls with frequency, as that of photographs does; about -1 to 1."""
    frequencies = torch.fft.fftfreq(size)
    radius = torch.hypot(frequencies[:, None], frequencies[None]).clamp(min=1 / size)
    spectrum = torch.fft.fft2(torch.randn(count, 3, size, size)) / radius
    noise = torch.fft.ifft2(spectrum).real
    mixed = noise.mean(1, keepdim=True) * 1.5 + 0.3 * noise  # colours of a photograph go together
    return mixed / mixed.std((1, 2, 3), keepdim=True) * 0.4
