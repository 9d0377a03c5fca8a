"""From pictures of the pool to what the model sees: one cut and one colour for a line, another light for each picture.

All pictures of a line are cut alike, for what is normal must stay comparable.
"""

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from stream_ad.training.model import MEAN, SIZE, STD
from stream_ad.training.pool import Drawn

_MEAN = np.asarray(MEAN, np.float32) * 255
_STD = np.asarray(STD, np.float32) * 255


def views_of(
    drawn: Drawn, rng: np.random.Generator, *, size: int = SIZE
) -> tuple[Float[Tensor, "lines shots 3 size size"], Float[Tensor, "lines shots size size"]]:
    """Normalised pictures and their masks, 0 to 1."""
    pictures, masks = [], []
    for line, mask in zip(drawn.pictures, drawn.masks, strict=True):
        cut = _Cut(rng, line.shape[1])
        color = _Color(rng)
        pictures.append(np.stack([_developed(color(cut(one, size), rng), rng) for one in line]))
        masks.append(np.stack([cut(one.astype(np.float32), size) for one in mask]))
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 1, 4, 2, 3).contiguous()
    return pixels, torch.from_numpy(np.stack(masks))


class _Cut:
    """A square of the picture, turned and mirrored; often the whole."""

    def __init__(self, rng: np.random.Generator, side: int) -> None:
        share = 1.0 if rng.random() < 0.4 else float(rng.uniform(0.45, 1.0))
        self.extent = max(round(share * side), 32)
        self.left, self.top = (int(rng.integers(0, side - self.extent + 1)) for _ in range(2))
        self.turns = int(rng.integers(4)) if rng.random() < 0.5 else 0
        self.mirrored = bool(rng.random() < 0.5)

    def __call__(self, array: np.ndarray, size: int) -> np.ndarray:
        cut = array[self.top : self.top + self.extent, self.left : self.left + self.extent]
        if self.extent != size:
            shrinks = self.extent > size
            cut = cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        if self.mirrored:
            cut = cut[:, ::-1]
        return np.rot90(cut, self.turns)


class _Color:
    """Gain, offset and saturation: of the line, and a little of each picture."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.gain = float(np.exp(rng.normal(0, 0.25)))
        self.offset = float(rng.normal(0, 12))
        self.saturation = float(rng.choice([0.0, 1.0, rng.uniform(0.4, 1.4)], p=[0.15, 0.45, 0.4]))
        self.inverted = bool(rng.random() < 0.05)

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator) -> np.ndarray:
        seen = picture.astype(np.float32)
        if self.inverted:
            seen = 255 - seen
        if self.saturation != 1.0:
            grey = seen.mean(axis=2, keepdims=True)
            seen = grey + self.saturation * (seen - grey)
        gain = self.gain * float(np.exp(rng.normal(0, 0.04)))
        return (seen - 128) * gain + 128 + self.offset + float(rng.normal(0, 3))


def _developed(seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.3:
        seen = cv2.GaussianBlur(seen, (0, 0), float(rng.uniform(0.3, 1.0)))
    if rng.random() < 0.3:
        seen = seen + np.float32(rng.uniform(1, 5)) * rng.standard_normal(seen.shape, dtype=np.float32)
    return ((np.clip(seen, 0, 255) - _MEAN) / _STD).astype(np.float32)


def coverage(masks: Float[Tensor, "*batch size size"], patch: int) -> Float[Tensor, "*batch patches"]:
    """Damaged share of each patch, row by row."""
    side = masks.shape[-1]
    flat = masks.reshape(-1, 1, side, side)
    return torch.nn.functional.avg_pool2d(flat, patch).flatten(1).unflatten(0, masks.shape[:-2])
