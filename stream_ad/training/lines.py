"""What training learns from: lines, each one product in several photographs, good and damaged, with captions."""

from collections.abc import Sequence
from typing import NamedTuple

from stream_ad.domain.images import Mask, Picture


class Shot(NamedTuple):
    """One photograph."""

    picture: Picture
    #: the damage; empty in a good picture
    mask: Mask
    #: the defect's word; None: flawless
    defect: str | None
    #: what a person would say of the picture
    caption: str


class Line(NamedTuple):
    """One product: the good photographs first, then as many of damaged parts."""

    noun: str
    shots: Sequence[Shot]
