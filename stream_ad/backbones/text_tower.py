"""The text side of an open_clip model, with learned context tokens in place of "[P]"."""

from collections.abc import Sequence
from typing import Any, cast

import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Int
from open_clip.transformer import TextTransformer
from torch import Tensor

from stream_ad.backbones.base import CONTEXT_PLACE
from stream_ad.errors import ConfigError, WeightsError


class TextTower:
    """Texts to unit-length embeddings.

    Raises:
        WeightsError: the model's text side is of a kind that cannot be read at its end token.
    """

    def __init__(self, model: open_clip.CLIP | open_clip.CustomTextCLIP, name: str) -> None:
        tower = cast(Any, model.text if isinstance(model, open_clip.CustomTextCLIP) else model)
        if isinstance(model, open_clip.CustomTextCLIP) and not isinstance(model.text, TextTransformer):
            raise WeightsError(f"{name}: needed open_clip's own text transformer, got {type(tower).__name__}")
        own = isinstance(model, open_clip.CLIP)
        pool = tower.text_pool_type if own else tower.pool_type
        if pool not in ("argmax", "eos"):
            raise WeightsError(f"{name}: needed a text tower that is read at the end token, got pooling {pool!r}")
        self.tower = tower
        self.tokens = open_clip.SimpleTokenizer()
        self.length = int(tower.context_length if own else tower.num_pos)
        self.width = int(tower.token_embedding.embedding_dim)
        self.depth = len(tower.transformer.resblocks)

    def __call__(
        self, texts: Sequence[str], context: Tensor | None, device: torch.device, deep: Tensor | None = None
    ) -> Tensor:
        tower = self.tower
        ids, places, ends = self._tokenize(texts, 0 if context is None else context.shape[-2])
        length = max(ends) + 1  # attention is causal: what comes after the end token changes nothing
        x = tower.token_embedding(ids[:, :length].to(device))  # (texts, length, width)
        if context is not None:
            x = _filled(x, places, context)
        x = x + tower.positional_embedding[:length]
        mask = tower.attn_mask[:length, :length]
        for index, block in enumerate(tower.transformer.resblocks):
            if deep is not None and 1 <= index <= len(deep):
                x = _filled(x, places, deep[index - 1])
            x = block(x, attn_mask=mask)
        x = tower.ln_final(x)[torch.arange(len(x), device=device), torch.tensor(ends, device=device)]
        projection = tower.text_projection
        if isinstance(projection, torch.nn.Linear):
            x = projection(x)
        elif projection is not None:
            x = x @ projection
        return F.normalize(x, dim=-1)

    def _tokenize(
        self, texts: Sequence[str], count: int
    ) -> tuple[Int[Tensor, "texts length"], list[int | None], list[int]]:
        """Token ids, where the context starts in each, and where each ends."""
        ids = torch.zeros(len(texts), self.length, dtype=torch.long)
        places: list[int | None] = []
        ends = []
        for row, text in enumerate(texts):
            before, place, after = text.partition(CONTEXT_PLACE)
            head = [self.tokens.sot_token_id, *self.tokens.encode(before)]
            middle = [self.tokens.sot_token_id] * (count if place else 0)  # replaced after the embedding
            full = [*head, *middle, *self.tokens.encode(after), self.tokens.eot_token_id]
            if len(full) > self.length:
                raise ConfigError(
                    f"the prompt {text!r} has {len(full)} tokens, the text tower takes {self.length}; "
                    "choose a shorter class name"
                )
            ids[row, : len(full)] = torch.tensor(full)
            places.append(len(head) if place else None)
            ends.append(len(full) - 1)
        return ids, places, ends


def _filled(x: Tensor, places: Sequence[int | None], context: Tensor) -> Tensor:
    """The tokens with the context, one for all texts or one for each, at each text's place."""
    rows = []
    contexts = context if context.ndim == 3 else context.expand(len(x), -1, -1)
    for row, start, own in zip(x, places, contexts, strict=True):
        rows.append(row if start is None else torch.cat([row[:start], own, row[start + len(own) :]]))
    return torch.stack(rows)
