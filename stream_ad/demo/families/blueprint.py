"""What a kind of product has to say about one family: a noun, a way to draw it, the damage that makes sense."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from stream_ad.demo.surface import Surface

#: the words for damage; every family knows at least four of them
DEFECTS = (
    "scratch", "dent", "crack", "stain", "hole", "missing part", "bent", "misprint", "contamination", "colour shift",
)  # fmt: skip


class Damage(NamedTuple):
    """Which damage to do, how badly (above 0, to 1), and the random numbers that say where."""

    kind: str
    severity: float
    rng: np.random.Generator


def struck(damage: Damage | None, kind: str, count: int, most: int = 4) -> frozenset[int]:
    """Which of `count` equal pieces the damage hit, more of them if it is severe; none if it is of another kind."""
    if damage is None or damage.kind != kind or not count:
        return frozenset()
    hit = min(max(1, round(most * damage.severity)), count)
    return frozenset(int(index) for index in damage.rng.permutation(count)[:hit])


#: called with equal random numbers with and without damage: what damage changes must come from its own numbers
Draw = Callable[[np.random.Generator, int, Damage | None], Surface]


class Blueprint(NamedTuple):
    """One family of a kind, before light and camera."""

    noun: str
    draw: Draw
    #: what can happen to it
    defects: tuple[str, ...]
    #: of these, what `draw` does itself; the rest is done to the drawn surface
    own: tuple[str, ...] = ()
    #: it fills the picture; else it lies on something
    full_frame: bool = False
    #: how far it may be turned on the line, in degrees; None: anyhow
    turn: float | None = None
