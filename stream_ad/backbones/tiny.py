"""`tiny`: a small image-text model that was never trained: fixed texture features under a seeded transformer.

Its stem is a first-order scattering transform (`backbones.texture`). The transformer above it mixes tokens by seeded
random weights, just enough that every path of a real one is there. It knows no object and no word. Good for tests,
because it takes milliseconds a picture and no file; not for judging a method, and not for a product.
"""

import math
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stream_ad.backbones.texture import PATCH, SEED, Textures

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
MIXING = 0.15  # of what the random blocks add to a token, so that texture stays what distances measure


class TextureStem(Textures):
    """Pictures to tokens: the place of a vision transformer's patch convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_channels = width
        self.kernel_size = (PATCH, PATCH)
        self.stride = (PATCH, PATCH)

    def forward(self, pixels: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch width gh gw"]:
        described = self.described(pixels)
        return F.pad(described, (0, 0, 0, 0, 0, self.out_channels - described.shape[1]))


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
