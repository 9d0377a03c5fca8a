"""`small`: the image-text model that is trained here, built of open_clip's own parts, but for its stem."""

import math
from collections.abc import Mapping
from typing import Any

import open_clip
import torch
from jaxtyping import Float
from torch import Tensor

from stream_ad.backbones.texture import textured

SIZE = 128  # pixels of a training picture's side; the program's backbones take any multiple of the patch
FEATURE_BLOCK = 5  # what memories read out (preset `fast`)
CONFIG: Mapping[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {
        "image_size": SIZE,
        "layers": 7,
        "width": 192,
        "head_width": 64,
        "patch_size": 16,
        "mlp_ratio": 2.0,
        "no_ln_pre": True,
    },
    # most of its numbers are the table of CLIP's 49,408 word pieces, so its width decides the file's size
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 48, "heads": 3, "layers": 3},
}
WORDS_APART, PLACES_APART = 0.3, 0.2
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def new_model(seed: int) -> open_clip.CLIP:
    """A model that knows nothing yet, but where a patch lies, its texture, and what its coarse structure is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = open_clip.CLIP(**CONFIG)
        # open_clip's 0.02 is for hundreds of millions of captions: all texts begin nearly alike
        torch.nn.init.normal_(model.token_embedding.weight, std=WORDS_APART)
        with torch.no_grad():
            visual = model.visual
            textured(model)
            visual.conv1.weight.copy_(_waves(visual.conv1.out_channels, visual.conv1.kernel_size[0]))
            visual.positional_embedding[1:] = PLACES_APART * _places(visual.grid_size[0], visual.conv1.out_channels)
        return model


def _waves(count: int, side: int) -> Float[Tensor, "count 3 side side"]:
    """The coarsest cosine waves of a patch, of brightness and of two differences of colours, about equally strong in
    photographs, whose spectrum falls with frequency. Random filters see little but brightness, and learn slowly."""
    line = (torch.arange(side) + 0.5) * math.pi / side
    colors = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
    colors = colors / colors.norm(dim=1, keepdim=True)
    # a colour's difference is seen about half as finely
    waves = sorted(
        (
            (math.hypot(u, v) * (1 if color == 0 else 2.2), u, v, color)
            for u in range(side)
            for v in range(side)
            for color in range(3)
        ),
    )[:count]
    made = []
    for _, u, v, color in waves:
        wave = torch.outer(torch.cos(v * line), torch.cos(u * line))
        gain = (1 + math.hypot(u, v)) / side * (1 if color == 0 else 3)
        made.append(gain * colors[color][:, None, None] * wave / wave.norm())
    return torch.stack(made)


def _places(side: int, width: int) -> Float[Tensor, "places width"]:
    """Sines and cosines of a place's row and column."""
    frequencies = 10_000 ** -(torch.arange(width // 4) / (width // 4))
    place = torch.arange(side)[:, None] * frequencies
    along = torch.cat([place.sin(), place.cos()], dim=1)  # (side, width / 2)
    rows, columns = along[:, None].expand(-1, side, -1), along[None].expand(side, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)
