"""`tiny`: a small image-text model with seeded weights that was never trained.

It knows no picture and no word, yet it is no noise: its patch embedding is a cosine basis over brightness and two
colour axes, so distances between tokens are distances between textures. Good for tests and for a first look at
the program where no weights are at hand; not for judging a method.
"""

import math

import open_clip
import torch
from torch import Tensor

SEED = 20260322
CONFIG = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 224, "layers": 8, "width": 96, "head_width": 32, "patch_size": 16, "mlp_ratio": 2.0},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
CAVEAT = "tiny is untrained: it sees texture and colour, no objects and no words; pull real weights for real work"


def tiny_model() -> open_clip.CLIP:
    """The model, equal bit for bit on every machine of one torch version."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model: Any = open_clip.CLIP(**CONFIG)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.5 / math.sqrt(parameter.shape[-1]))
        with torch.no_grad():
            model.token_embedding.weight.normal_(std=0.02)
            model.positional_embedding.normal_(std=0.01)
            model.visual.positional_embedding.normal_(std=0.02)
            model.visual.class_embedding.normal_(std=0.02)
            model.visual.conv1.weight.copy_(_cosine_basis(CONFIG["vision_cfg"]["width"], 16))
    return model


def _cosine_basis(width: int, patch: int) -> Tensor:
    """(width, 3, patch, patch): cosines of rising frequency, two thirds on brightness, the rest on colour."""
    steps = (torch.arange(patch, dtype=torch.float64) + 0.5) * math.pi / patch
    waves = torch.stack([torch.cos(steps * frequency) for frequency in range(patch)])  # (frequency, patch)
    waves[0] /= math.sqrt(2)
    order = sorted(((u, v) for u in range(patch) for v in range(patch)), key=lambda uv: (uv[0] + uv[1], uv))
    axes = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float64)
    axes /= axes.norm(dim=1, keepdim=True)
    colour = width // 6
    kernels = []
    for axis, count in zip(axes, (width - 2 * colour, colour, colour), strict=True):
        for u, v in order[:count]:
            plane = torch.outer(waves[u], waves[v]) * (2 / patch)
            kernels.append(axis[:, None, None] * plane)
    return torch.stack(kernels).float()
