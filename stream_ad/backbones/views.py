"""A batch of pictures with its frozen features, computed once and shared by router and detector."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from stream_ad.backbones.base import Backbone
from stream_ad.domain.images import Picture


class Views:
    """Preprocessed pixels of a batch and, lazily, what the frozen backbone makes of them."""

    def __init__(self, backbone: Backbone, pictures: Sequence[Picture]) -> None:
        self.backbone = backbone
        self.pixels: Float[Tensor, "batch 3 size size"] = backbone.preprocess(pictures)
        self._blocks: dict[int, Tensor] = {}
        self._embedding: Tensor | None = None
        self._dense: Tensor | None = None

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
        return chosen

    def compute(self, blocks: Sequence[int], *, embedding: bool = False, dense: bool = False) -> None:
        """Run the frozen pass once for all that will be asked for; what is known already costs nothing."""
        missing = [block for block in blocks if block not in self._blocks]
        embedding = embedding and self._embedding is None
        dense = dense and self._dense is None
        if not (missing or embedding or dense):
            return
        encoded = self.backbone.encode(self.pixels, missing, embedding=embedding, dense=dense)
        self._blocks |= encoded.blocks
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
