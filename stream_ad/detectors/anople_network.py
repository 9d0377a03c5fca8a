"""AnoPLe's learned parts: prompts of both towers that are coupled in every block, scale prefixes, and a light decoder.

    P^t_j, P^v_j         `words`, `marks`        learned tokens before block j of the text and of the image tower
    f_v2t, f_t2v         `to_words`, `to_marks`  linear maps; each tower also sees the other's tokens through them
    c_0, c_1 .. c_N      `scales`                the prefix of the whole picture, and one of each crop
    D                    `decoder`               patch tokens z to features of places in the joint space
    M_hat                `place_logits`          the share of "abnormal" in D(z) against the two texts

The towers may differ in depth (deit-tiny-clip has 12 and 4 blocks): a block is coupled with the one that lies as deep
in the other tower, and of towers equally deep with its own number.

paper: silent on how tokens enter a block, and on where the prefix does. Here both are prefixes to keys and values that
the block makes of them itself (`Backbone.prefixes`), which is what tokens that are dropped after each block come to.
paper: `s = sum M_hat * D(z)` is compared with an embedding, so D(z) is read as features, and the map as their
similarity with the texts. Its layers are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stream_ad.backbones.base import CONTEXT_PLACE, Backbone, Encoded
from stream_ad.detectors.text import damaged_logit

WHOLE = 0  # the scale of the whole picture: the only one at inference
CROPS = 2  # along a side: four crops of the picture at twice the size
FINE = 2  # cells along a patch's side of the decoder's maps


class Coupling(StrEnum):
    """Which tower sees the other's tokens."""

    BOTH = "both"
    TEXT_TO_IMAGE = "text to image"
    IMAGE_TO_TEXT = "image to text"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnopleShape:
    """What the weights' sizes follow from."""

    #: learned tokens of each tower in each block. paper: not said
    tokens: int = 4
    #: blocks that the decoder reads beside the last one's joint-space tokens, as shares of the tower's depth
    read: tuple[float, ...] = (0.25, 0.5, 0.75)
    #: channels of the decoder
    channels: int = 64
    coupling: Coupling = Coupling.BOTH
    #: a prefix of its own for each scale
    prefixes: bool = True
    #: off: two learned embeddings stand for the texts, whatever the product is called
    text: bool = True

    def blocks(self, depth: int) -> list[int]:
        return sorted({min(int(share * depth), depth - 1) for share in self.read})


class Seen(NamedTuple):
    """Pictures under the prompts."""

    #: z_0, unit length
    whole: Float[Tensor, "batch joint"]
    #: z: what the decoder reads, channels of all its blocks and the joint space
    patches: Float[Tensor, "batch patches channels"]


class Decoder(nn.Module):
    """Patch tokens to unit features of places, `FINE` x `FINE` of them in a patch."""

    def __init__(self, read: Sequence[int], joint: int, channels: int) -> None:
        super().__init__()
        #: channels of each part of z
        self.read = [*read, joint]
        self.first = nn.Linear(sum(self.read), channels)
        self.finer = nn.ConvTranspose2d(channels, channels, FINE, stride=FINE)
        self.last = nn.Conv2d(channels, joint, 3, padding=1)

    def forward(self, patches: Float[Tensor, "batch patches channels"]) -> Float[Tensor, "batch places joint"]:
        """Begins at the joint-space tokens as they are: what the decoder adds starts small."""
        grid = round(patches.shape[1] ** 0.5)
        hidden = F.gelu(self.first(patches)).transpose(1, 2).unflatten(2, (grid, grid))
        added = self.last(F.gelu(self.finer(hidden)))
        dense = patches[..., -self.read[-1] :].transpose(1, 2).unflatten(2, (grid, grid))
        # z's parts have channels of variance 1: a unit vector's are that divided by the root of their number
        dense = F.interpolate(dense, scale_factor=FINE, mode="nearest")
        return F.normalize((dense + added).flatten(2).transpose(1, 2), dim=-1)


class AnopleNetwork(nn.Module):
    """All that is learned; the backbone's towers are frozen and belong to the caller."""

    def __init__(self, shape: AnopleShape, backbone: Backbone, generator: torch.Generator) -> None:
        super().__init__()
        self.shape = shape
        depth, text_depth = backbone.depth, backbone.text_depth
        self.read = shape.blocks(depth)
        #: the text block that an image block is coupled with, and the other way round
        self.with_text = [block * text_depth // depth for block in range(depth)]
        self.with_image = [block * depth // text_depth for block in range(text_depth)]

        def drawn(*sizes: int, std: float = 0.02) -> nn.Parameter:
            # paper: silent; the spread of CLIP's own token embeddings
            return nn.Parameter(torch.randn(*sizes, generator=generator) * std)

        width, text_width = backbone.width, backbone.text_width
        self.words = drawn(text_depth, shape.tokens, text_width)
        self.marks = drawn(depth, shape.tokens, width)
        # a mapped token starts with the spread of a learned one
        self.to_words = drawn(text_depth, width, text_width, std=width**-0.5)
        self.to_marks = drawn(depth, text_width, width, std=text_width**-0.5)
        self.scales = drawn(1 + CROPS**2, width)
        self.pair = drawn(2, backbone.joint_width, std=1.0)
        self.decoder = Decoder([width] * len(self.read), backbone.joint_width, shape.channels)
        for parameter in self.decoder.parameters():
            fan = max(1, parameter[0].numel()) if parameter.ndim > 1 else 1
            spread = fan**-0.5 if parameter.ndim > 1 else 0.0
            parameter.data = torch.randn(parameter.shape, generator=generator) * spread
        self.decoder.last.weight.data *= 0.1

    def context(self) -> Float[Tensor, "blocks n_text text_width"]:
        """[P^t_j, f_v2t(P^v_j)] of every text block."""
        if self.shape.coupling in (Coupling.TEXT_TO_IMAGE, Coupling.NONE):
            return self.words
        return torch.cat([self.words, self.marks[self.with_image] @ self.to_words], dim=1)

    def prompts(self, backbone: Backbone, scale: int = WHOLE) -> Float[Tensor, "layers 2 length width"]:
        """[P^v_j, f_t2v(P^t_j)] of every image block behind the scale's prefix, as the backbone takes them."""
        parts: list[Tensor] = [self.scales[scale].expand(len(self.marks), 1, -1)] if self.shape.prefixes else []
        parts.append(self.marks)
        if self.shape.coupling in (Coupling.BOTH, Coupling.TEXT_TO_IMAGE):
            parts.append(self.words[self.with_text] @ self.to_marks)
        return backbone.prefixes(torch.cat(parts, dim=1))

    def texts(self, backbone: Backbone, class_names: Sequence[str]) -> Float[Tensor, "classes 2 joint"]:
        """Unit embeddings of "[class]" and "abnormal [class]" behind the learned words, normal first."""
        if not self.shape.text:
            return F.normalize(self.pair, dim=-1).expand(len(class_names), -1, -1)
        context = self.context()
        said = [f"{CONTEXT_PLACE} {state}{name}" for name in class_names for state in ("", "abnormal ")]
        return backbone.encode_text(said, context=context[0], deep=context[1:]).unflatten(0, (-1, 2))

    def seen(
        self, backbone: Backbone, pixels: Float[Tensor, "batch 3 size size"], prompts: Float[Tensor, "l 2 n width"]
    ) -> Seen:
        """Pictures under prompts: those of their scale."""
        return read_out(backbone.encode(pixels, self.read, prompts=prompts, embedding=True, dense=True), self.read)


def read_out(encoded: Encoded, blocks: Sequence[int]) -> Seen:
    """z_0 and z of a pass. Every part of z has channels of variance 1, so that none drowns the others."""
    assert encoded.embedding is not None
    assert encoded.dense is not None
    parts = [F.layer_norm(encoded.blocks[block], encoded.blocks[block].shape[-1:]) for block in blocks]
    parts.append(encoded.dense * encoded.dense.shape[-1] ** 0.5)
    return Seen(encoded.embedding, torch.cat(parts, dim=-1))


def place_logits(
    places: Float[Tensor, "*batch places joint"], texts: Float[Tensor, "*pairs 2 joint"]
) -> Float[Tensor, "*batch places"]:
    """Log-odds of M_hat: a place's features against the product's two texts."""
    return damaged_logit(places, texts)


def evidence(
    places: Float[Tensor, "*batch places joint"], logits: Float[Tensor, "*batch places"]
) -> Float[Tensor, "*batch joint"]:
    """s: the features of places, weighted by how abnormal they are, as a unit vector.

    paper: a sum; its length says how much is abnormal, and is nothing that a direction can be compared with.
    """
    return F.normalize((torch.sigmoid(logits)[..., None] * places).sum(-2), dim=-1)


def alignment_loss(
    whole: Float[Tensor, "*batch joint"], aggregated: Float[Tensor, "*batch joint"]
) -> Float[Tensor, ""]:
    """1 - <z_0, s>, in [0, 2] for unit vectors; the mean of all pictures."""
    return (1 - (whole * aggregated).sum(-1)).mean()
