"""What every backbone is: a frozen image-text encoder that is read out at any block."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from stream_ad.domain.bank import FeatureSpec
from stream_ad.domain.images import Picture

CONTEXT_PLACE = "[P]"  # stands in a text where learned context tokens go


class Reached(NamedTuple):
    """Where a pass stopped: a later one goes on from there."""

    block: int
    #: all tokens after that block
    tokens: Float[Tensor, "batch tokens width"]


class Encoded(NamedTuple):
    """What one pass through the image tower gave."""

    #: patch tokens after each block that was asked for, row by row over the grid
    blocks: dict[int, Float[Tensor, "batch patches width"]]
    #: final image embedding in the joint space, unit length; None: the pass stopped early
    embedding: Float[Tensor, "batch joint"] | None
    #: patch tokens in the joint space, unit length (value-to-value attention); None: not asked for
    dense: Float[Tensor, "batch patches joint"] | None
    #: None: a pass that nothing can go on from
    reached: Reached | None = None


@runtime_checkable
class Backbone(Protocol):
    """A frozen CLIP-like ViT. Its parameters never change and never get a gradient."""

    spec: FeatureSpec
    #: blocks of the image tower
    depth: int
    #: C, width of the image tower
    width: int
    #: D, joint width of image and text
    joint_width: int
    #: patches along each side
    grid: int
    #: what an operator should know: "tiny: untrained" for instance; empty when there is nothing to say
    caveat: str

    @property
    def text_width(self) -> int:
        """Width of a text token: the width of learned context."""
        ...

    @property
    def text_depth(self) -> int:
        """Blocks of the text tower."""
        ...

    def preprocess(self, pictures: Sequence[Picture], *, scale: int = 1) -> Float[Tensor, "batch 3 size size"]:
        """Pictures squashed (never cropped) to `scale` times the input size, normalised, on the backbone's device."""
        ...

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
        """Patch tokens after each of `blocks` (0-based), stopping after the last one that is needed.

        With `reached`, of the same pixels without prompts, the blocks up to there are not run again if none is asked
        for; the results are the same.

        `prompts` are prefixes to the keys ([:, 0]) and values ([:, 1]) of blocks 0 .. layers - 1 (CMPMB
        Algorithm 1); zero length is the same as None. Gradients are kept when the pixels or the prompts want one.
        Without, on a CPU, an image's result is bit-identical whatever its batch.
        """
        ...

    def prefixes(self, tokens: Float[Tensor, "layers length width"]) -> Float[Tensor, "layers 2 length width"]:
        """`prompts` that act as learned tokens put before each of the first blocks would (deep visual prompts).

        Each block's own norm and projections make keys and values of them.
        """
        ...

    def encode_text(
        self,
        texts: Sequence[str],
        *,
        context: Float[Tensor, "*each n_text text_width"] | None = None,
        deep: Float[Tensor, "blocks n_text text_width"] | None = None,
    ) -> Float[Tensor, "texts joint"]:
        """Unit-length embeddings. `context` replaces the tokens of every "[P]" in the texts (CMPMB 3.2).

        One for all texts, or stacked one for each. `deep` replaces them again, in all texts, before block 1, 2, ...
        """
        ...
