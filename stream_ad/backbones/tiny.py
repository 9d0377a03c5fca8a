"""`tiny`: a small image-text model that was never trained: fixed texture features under a seeded transformer.

Its stem is a first-order scattering transform (Bruna and Mallat 2013): magnitudes of oriented band-pass filters on
three scales, averaged over a patch, and the patch's mean colours. So distances between tokens are distances between
textures and colours, steady under small shifts. The transformer above them mixes tokens by seeded random weights,
just enough that every path of a real one is there. It knows no object and no word. Good for tests and for a first
look at the program where no weights are at hand; not for judging a method.
"""

import math
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SEED = 20260322
PATCH = 16
CONFIG: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {
        "image_size": 224,
        "layers": 8,
        "width": 96,
        "head_width": 32,
        "patch_size": PATCH,
        "mlp_ratio": 2.0,
        "pool_type": "avg",
        "no_ln_pre": True,
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
CAVEAT = "tiny is untrained: it sees texture and colour, no objects and no words; pull real weights for real work"

ORIENTATIONS = {"brightness": 6, "red-blue": 2, "green": 2}
SCALES = 3
MIXING = 0.15  # of what the random blocks add to a token, so that texture stays what distances measure


class TextureStem(nn.Module):
    """Pictures to tokens: the place of a vision transformer's patch convolution.

    Channels are standardised by their mean and spread on seeded fractal noise, whose spectrum is that of photographs.
    """

    filters: Tensor
    average: Tensor
    center: Tensor
    spread: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_channels = width
        self.kernel_size = (PATCH, PATCH)
        self.stride = (PATCH, PATCH)
        self.register_buffer("filters", _gabors(6))
        self.register_buffer("average", _gaussian(5.0))
        self.register_buffer("center", torch.zeros(1))
        self.register_buffer("spread", torch.ones(1))
        described = self._describe(_fractal_noise(64, 112))  # (64, channels, 7, 7)
        self.center = described.mean((0, 2, 3))[:, None, None]
        self.spread = described.std((0, 2, 3))[:, None, None]

    def forward(self, pixels: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch width gh gw"]:
        described = (self._describe(pixels) - self.center) / self.spread
        return F.pad(described, (0, 0, 0, 0, 0, self.out_channels - described.shape[1]))

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


def tiny_model() -> open_clip.CLIP:
    """The model, equal bit for bit on every machine of one torch version."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model: Any = open_clip.CLIP(**CONFIG)
        width = CONFIG["vision_cfg"]["width"]
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=1 / math.sqrt(parameter.shape[-1]))
            model.token_embedding.weight.normal_(std=0.02)
            model.positional_embedding.normal_(std=0.01)
            for block in model.visual.transformer.resblocks:
                block.attn.out_proj.weight.mul_(MIXING)
                block.mlp.c_proj.weight.mul_(MIXING)
            model.visual.positional_embedding.normal_(std=0.02)
            model.visual.class_embedding.normal_(std=0.02)
            model.visual.conv1 = TextureStem(width)
    return model


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
