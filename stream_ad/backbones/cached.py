"""A backbone that remembers frozen features of pictures it has seen; the results are the same."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from stream_ad.backbones.base import Encoded, Reached
from stream_ad.backbones.vit import VitBackbone
from stream_ad.domain.images import Picture


class CachedBackbone:
    """Frozen passes looked up by the picture's pixels, the least recently used forgotten beyond a size.

    Adapting with out-of-fold calibration reads every picture six times, and each job evaluates all old tasks
    again: most frozen passes are repeats. Passes with prompts or gradients are never kept.
    """

    def __init__(self, backbone: VitBackbone, max_bytes: int = 1 << 30) -> None:
        self.backbone = backbone
        self.max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[bytes, str], Tensor] = OrderedDict()
        self.spec, self.caveat = backbone.spec, backbone.caveat
        self.depth, self.width, self.joint_width = backbone.depth, backbone.width, backbone.joint_width
        self.grid, self.text_width, self.text_depth = backbone.grid, backbone.text_width, backbone.text_depth
        self.device = backbone.device

    def preprocess(self, pictures: Sequence[Picture], *, scale: int = 1) -> Float[Tensor, "batch 3 size size"]:
        return self.backbone.preprocess(pictures, scale=scale)

    def prefixes(self, tokens: Float[Tensor, "layers length width"]) -> Float[Tensor, "layers 2 length width"]:
        return self.backbone.prefixes(tokens)

    def encode_text(
        self,
        texts: Sequence[str],
        *,
        context: Float[Tensor, "*each n_text text_width"] | None = None,
        deep: Float[Tensor, "blocks n_text text_width"] | None = None,
    ) -> Float[Tensor, "texts joint"]:
        return self.backbone.encode_text(texts, context=context, deep=deep)

    def encode(
        self,
        pixels: Float[Tensor, "batch 3 size size"],
        blocks: Sequence[int],
        *,
        prompts: Float[Tensor, "layers 2 length width"] | None = None,
        embedding: bool = False,
        dense: bool = False,
        reached: Reached | None = None,  # not needed: what was computed is remembered
    ) -> Encoded:
        if pixels.requires_grad or (prompts is not None and prompts.shape[2] > 0):
            return self.backbone.encode(pixels, blocks, prompts=prompts, embedding=embedding, dense=dense)
        names = [str(block) for block in blocks] + ["embedding"] * embedding + ["dense"] * dense
        keys = [hashlib.blake2b(image.cpu().numpy().tobytes(), digest_size=16).digest() for image in pixels]
        found = {(row, name): self._get((key, name)) for row, key in enumerate(keys) for name in names}
        missing = [row for row in range(len(keys)) if any(found[row, name] is None for name in names)]
        if missing:
            fresh = self.backbone.encode(pixels[missing], blocks, embedding=embedding, dense=dense)
            for place, row in enumerate(missing):
                for name in names:
                    source = {"embedding": fresh.embedding, "dense": fresh.dense}.get(name)
                    tensor = (fresh.blocks[int(name)] if source is None else source)[place].clone()
                    found[row, name] = tensor
                    self._put((keys[row], name), tensor)

        def stacked(name: str) -> Tensor:
            return torch.stack([tensor for row in range(len(keys)) if (tensor := found[row, name]) is not None])

        return Encoded(
            {block: stacked(str(block)) for block in blocks},
            stacked("embedding") if embedding else None,
            stacked("dense") if dense else None,
        )

    def _get(self, key: tuple[bytes, str]) -> Tensor | None:
        tensor = self._kept.get(key)
        if tensor is not None:
            self._kept.move_to_end(key)
        return tensor

    def _put(self, key: tuple[bytes, str], tensor: Tensor) -> None:
        if (old := self._kept.pop(key, None)) is not None:  # a part of what was asked for was known
            self._bytes -= old.nbytes
        self._kept[key] = tensor
        self._bytes += tensor.nbytes
        while self._bytes > self.max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.nbytes
