"""A task's test pictures with their frozen features and masks, in bounded memory.

Every method and every step scores the same pictures, so features are computed once and kept as long as they fit;
beyond that they are computed again, batch by batch. Prompted passes are kept in the same way.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stream_ad.backbones.base import Backbone, Encoded, Reached
from stream_ad.backbones.views import Views
from stream_ad.domain.images import HeldoutImage, HeldoutSet, Picture
from stream_ad.evaluation.metrics import mask_to_map_size

BATCH = 16
#: bytes of features of one task's test pictures that are kept, and of prompted passes
KEPT = 2 << 30


class TestSet:
    """The test pictures of one task.

    Masks are brought to `map_size` by area. Defective pictures without a mask count for image scores only.
    """

    __test__ = False  # not a class of tests

    def __init__(self, pictures: HeldoutSet, map_size: int, *, kept: int = KEPT) -> None:
        self.pictures = pictures
        self.map_size = map_size
        self.ids = list(pictures.ids)
        self.defective: Bool[np.ndarray, " images"] = np.array(pictures.defective, bool)
        self.kinds: list[str] = []
        self.synthetic = False
        self.unmarked = 0
        self._kept = kept
        self._views: dict[tuple[int, int], Views] = {}
        self._masks = self._read()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def masks(self) -> Bool[np.ndarray, "images size size"] | None:
        """Where the defects are; None where a defective picture has no mask, or none is defective."""
        return None if self.unmarked or not self.defective.any() else self._masks

    def batches(self, backbone: Backbone) -> Iterator[tuple[range, Views]]:
        """Places and views of all pictures."""
        for start in range(0, len(self), BATCH):
            rows = range(start, min(start + BATCH, len(self)))
            key = (id(backbone), start)
            views = self._views.get(key)
            if views is None:
                views = self._views[key] = Views(backbone, [self.pictures[row].pixels for row in rows])
            yield rows, views
            if sum(map(_bytes, self._views.values())) > self._kept:  # what it was asked for has been computed by now
                del self._views[key]

    def image(self, row: int) -> HeldoutImage:
        return self.pictures[row]

    def _read(self) -> Bool[np.ndarray, "images size size"]:
        masks = np.zeros((len(self), self.map_size, self.map_size), bool)
        for row in range(len(self)):
            image = self.pictures[row]
            self.kinds.append(image.kind)
            self.synthetic = self.synthetic or image.synthetic
            if image.mask is not None and image.mask.any():
                masks[row] = mask_to_map_size(image.mask, self.map_size)
            elif image.defective:
                self.unmarked += 1
        return masks


class Prompted:
    """A backbone that also keeps the passes with prompts, the least recently used forgotten beyond a size.

    For scoring alone: a budget scores a picture under the same prompts once per step. Passes that carry a gradient
    are never kept.
    """

    def __init__(self, backbone: Backbone, max_bytes: int = KEPT) -> None:
        self.backbone = backbone
        self.max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[bytes, ...], Tensor] = OrderedDict()
        self.spec, self.caveat = backbone.spec, backbone.caveat
        self.depth, self.width, self.joint_width = backbone.depth, backbone.width, backbone.joint_width
        self.grid, self.text_width, self.text_depth = backbone.grid, backbone.text_width, backbone.text_depth

    def preprocess(self, pictures: Sequence[Picture], *, scale: int = 1) -> Float[Tensor, "batch 3 _size _size"]:
        return self.backbone.preprocess(pictures, scale=scale)

    def prefixes(self, tokens: Float[Tensor, "layers length width"]) -> Float[Tensor, "layers 2 length width"]:
        return self.backbone.prefixes(tokens)

    def encode_text(self, *args: Any, **options: Any) -> Float[Tensor, "texts joint"]:
        return self.backbone.encode_text(*args, **options)

    def encode(
        self,
        pixels: Float[Tensor, "batch 3 size size"],
        blocks: Sequence[int],
        *,
        prompts: Float[Tensor, "layers 2 length width"] | None = None,
        embedding: bool = False,
        dense: bool = False,
        reached: Reached | None = None,
    ) -> Encoded:
        if prompts is None or prompts.shape[2] == 0 or prompts.requires_grad or embedding or dense:
            return self.backbone.encode(
                pixels, blocks, prompts=prompts, embedding=embedding, dense=dense, reached=reached
            )
        under = _hash(prompts)
        keys = [_hash(image) for image in pixels]
        for block in blocks:
            missing = [row for row, key in enumerate(keys) if (key, under, bytes([block])) not in self._kept]
            if missing:
                fresh = self.backbone.encode(pixels[missing], blocks, prompts=prompts)
                for name, tensors in fresh.blocks.items():
                    for row, tensor in zip(missing, tensors, strict=True):
                        self._put((keys[row], under, bytes([name])), tensor.clone())
                if any((key, under, bytes([block])) not in self._kept for key in keys):  # too many to keep at once
                    return self.backbone.encode(pixels, blocks, prompts=prompts)
        found = {block: [self._kept[key, under, bytes([block])] for key in keys] for block in blocks}
        for key in keys:
            for block in blocks:
                self._kept.move_to_end((key, under, bytes([block])))
        return Encoded({block: torch.stack(tensors) for block, tensors in found.items()}, None, None)

    def _put(self, key: tuple[bytes, ...], tensor: Tensor) -> None:
        if (old := self._kept.pop(key, None)) is not None:
            self._bytes -= old.nbytes
        self._kept[key] = tensor
        self._bytes += tensor.nbytes
        while self._bytes > self.max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.nbytes


def _hash(tensor: Tensor) -> bytes:
    return hashlib.blake2b(tensor.detach().cpu().numpy().tobytes(), digest_size=16).digest()


def _bytes(held: Any) -> int:
    """Bytes of all tensors and pictures that a batch holds."""
    if isinstance(held, Views):
        return sum(_bytes(value) for name, value in vars(held).items() if name != "backbone")
    if isinstance(held, dict):
        return sum(map(_bytes, held.values()))
    if isinstance(held, list):
        return sum(map(_bytes, held))
    return int(getattr(held, "nbytes", 0))


class Limited:
    """The first good and defective pictures of a set, half and half: for a quick look, never for a figure."""

    def __init__(self, pictures: HeldoutSet, count: int) -> None:
        flags = list(pictures.defective)
        bad = [row for row, defective in enumerate(flags) if defective]
        good = [row for row, defective in enumerate(flags) if not defective]
        few = bad[:: max(1, len(bad) // max(1, count // 2))][: count // 2]  # every so many: kinds are mixed
        self._pictures, self._rows = pictures, sorted([*few, *good[: count - len(few)]])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> HeldoutImage:
        return self._pictures[self._rows[index]]

    @property
    def ids(self) -> Sequence[str]:
        ids = self._pictures.ids
        return [ids[row] for row in self._rows]

    @property
    def defective(self) -> Sequence[bool]:
        flags = self._pictures.defective
        return [flags[row] for row in self._rows]
