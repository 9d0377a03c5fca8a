"""A batch of pictures with its frozen features, computed once and shared by router and detector."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stream_ad.backbones.base import Backbone, Reached
from stream_ad.domain.images import Mask, Picture
from stream_ad.functional.anomaly_map import resize_roi


class Views:
    """Preprocessed pixels of a batch and, lazily, what the frozen backbone makes of them."""

    def __init__(self, backbone: Backbone, pictures: Sequence[Picture]) -> None:
        self._start(backbone, backbone.preprocess(pictures))
        self._pictures = list(pictures)

    @classmethod
    def of_pixels(cls, backbone: Backbone, pixels: Float[Tensor, "batch 3 size size"]) -> "Views":
        """Of preprocessed pixels; when these want gradients, so do all features. Tiles are cut out of these pixels."""
        views = cls.__new__(cls)
        views._start(backbone, pixels)
        return views

    def _start(self, backbone: Backbone, pixels: Tensor) -> None:
        self.backbone = backbone
        self.pixels: Float[Tensor, "batch 3 size size"] = pixels
        self._pictures: list[Picture] | None = None
        self._roi: Mask | None = None
        self._blocks: dict[int, Tensor] = {}
        self._embedding: Tensor | None = None
        self._dense: Tensor | None = None
        self._reached: Reached | None = None
        self._tiles: dict[int, Views] = {}

    def __len__(self) -> int:
        return len(self.pixels)

    def select(self, rows: Sequence[int]) -> "Views":
        """Some of the images, with the features that are known already."""
        if list(rows) == list(range(len(self))):
            return self
        chosen = Views.__new__(Views)
        chosen.backbone = self.backbone
        index = list(rows)
        chosen.pixels = self.pixels[index]
        chosen._blocks = {block: features[index] for block, features in self._blocks.items()}
        chosen._embedding = None if self._embedding is None else self._embedding[index]
        chosen._dense = None if self._dense is None else self._dense[index]
        reached = self._reached
        chosen._reached = None if reached is None else Reached(reached.block, reached.tokens[index])
        chosen._roi = self._roi
        chosen._pictures = None if self._pictures is None else [self._pictures[row] for row in index]
        chosen._tiles = {
            scale: tiles.select([row * scale**2 + tile for row in index for tile in range(scale**2)])
            for scale, tiles in self._tiles.items()
        }
        return chosen

    def inside(self, roi: Mask | None) -> "Views":
        """The same pictures, blank (the mean colour of training) outside a region of interest; None: themselves.

        Attention reaches across the whole picture: what is not inspected must not be seen either.
        """
        if roi is None:
            return self
        blank = Views.of_pixels(self.backbone, _blanked(self.pixels, roi))
        blank._pictures, blank._roi = self._pictures, roi
        return blank

    def at(self, scale: int) -> "Views":
        """The pictures' scale x scale tiles, each at the input size: image by image, row by row. Scale 1: itself."""
        if scale == 1:
            return self
        if scale not in self._tiles:
            if self._pictures is None:
                fine = F.interpolate(self.pixels, scale_factor=scale, mode="bicubic", align_corners=False)
            else:
                fine = self.backbone.preprocess(self._pictures, scale=scale)
                fine = fine if self._roi is None else _blanked(fine, self._roi)
            tiles = fine.unflatten(3, (scale, -1)).unflatten(2, (scale, -1))  # (batch, 3, rows, h, columns, w)
            self._tiles[scale] = Views.of_pixels(self.backbone, tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2))
        return self._tiles[scale]

    def assemble(
        self, tokens: Float[Tensor, "tiles patches width"], scale: int
    ) -> Float[Tensor, "batch all_patches width"]:
        """Patch tokens of the tiles as those of whole pictures, row by row over the finer grid."""
        if scale == 1:
            return tokens
        grid = self.backbone.grid
        tiled = tokens.unflatten(1, (grid, grid)).unflatten(0, (-1, scale, scale))
        return tiled.permute(0, 1, 3, 2, 4, 5).flatten(1, 4)

    def compute(self, blocks: Sequence[int], *, embedding: bool = False, dense: bool = False) -> None:
        """Run the frozen pass once for all that will be asked for; what is known already costs nothing."""
        missing = [block for block in blocks if block not in self._blocks]
        embedding = embedding and self._embedding is None
        dense = dense and self._dense is None
        if not (missing or embedding or dense):
            return
        encoded = self.backbone.encode(self.pixels, missing, embedding=embedding, dense=dense, reached=self._reached)
        self._blocks |= encoded.blocks
        self._reached = encoded.reached or self._reached
        self._embedding = encoded.embedding if embedding else self._embedding
        self._dense = encoded.dense if dense else self._dense

    def block(self, index: int) -> Float[Tensor, "batch patches width"]:
        self.compute([index])
        return self._blocks[index]

    @property
    def embedding(self) -> Float[Tensor, "batch joint"]:
        self.compute([], embedding=True)
        assert self._embedding is not None
        return self._embedding

    @property
    def dense(self) -> Float[Tensor, "batch patches joint"]:
        self.compute([], dense=True)
        assert self._dense is not None
        return self._dense


def _blanked(pixels: Float[Tensor, "batch 3 side side"], roi: Mask) -> Float[Tensor, "batch 3 side side"]:
    return pixels * torch.from_numpy(resize_roi(roi, pixels.shape[-1])).to(pixels.device, pixels.dtype)
