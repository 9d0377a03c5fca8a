"""Pictures with captions and masks, as many as a training run wants, each a pure function of its number."""

from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

import numpy as np

from stream_ad.demo.families.captions import caption
from stream_ad.demo.families.chance import between, happens, pick
from stream_ad.demo.families.family import Split, family
from stream_ad.domain.images import Mask, Picture

#: how many families the examples of a split are of
FAMILIES = {Split.TRAIN: 8192, Split.VALIDATION: 512, Split.HELDOUT: 512}
FLAWLESS_SHARE = 0.5


class Example(NamedTuple):
    picture: Picture
    #: where the damage is; empty for a flawless part
    mask: Mask
    caption: str
    noun: str
    #: one of DEFECTS; None: flawless
    defect: str | None
    #: 0 for a flawless part
    severity: float
    family_index: int


def example(split: Split, index: int, *, size: int = 128) -> Example:
    """Example number `index` of a split: some family, about every second time flawless. The same arguments, the same
    example, whatever was asked for before."""
    rng = np.random.default_rng([crc32(split.encode()), index])
    number = int(rng.integers(FAMILIES[split]))
    chosen = family(split, number)
    defect = None if happens(rng, FLAWLESS_SHARE) else pick(rng, chosen.defects)
    severity = between(rng, 0.15, 1.0) if defect else 0.0
    picture, mask = chosen.render(int(rng.integers(2**31)), size=size, defect=defect, severity=severity or 0.5)
    return Example(
        picture, mask, caption(chosen.noun, defect, severity, rng, mask=mask), chosen.noun, defect, severity, number
    )


def examples(split: Split, start: int, count: int, *, size: int = 128) -> Iterator[Example]:
    """Examples `start` to `start + count`, one at a time."""
    return (example(split, index, size=size) for index in range(start, start + count))
